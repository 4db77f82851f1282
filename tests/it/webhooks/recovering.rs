//! Deliveries made again on request: one, all that failed, or everything since a time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{Scene, bodies, message_ids};
use crate::support::receiver::{Receiver, Recorded, Reply};
use crate::support::wait::eventually;

/// A time before everything.
const EVER: &str = "2020-01-01T00:00:00Z";

impl Scene {
    /// Lets Bo say something that the receiver answers with 410, and switches the webhook on again. Answers the message's id.
    async fn kill_one(&self, webhook: &str, html: &str) -> String {
        self.receiver.script([Reply::status(410)]);
        let message = self.bo_says(html);
        eventually("the end of the webhook", async || {
            let shown = self.bridge.get(&format!("/webhooks/{webhook}"), &self.token).await.json();
            (shown["status"] == "gone").then_some(())
        })
        .await;
        self.switch(webhook, true).await;
        message
    }

    async fn switch(&self, webhook: &str, enabled: bool) {
        let answer = self.bridge.patch(&format!("/webhooks/{webhook}"), &self.token, &json!({"enabled": enabled})).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }

    async fn ask(&self, path: &str, body: &Value) -> Value {
        let answer = self.bridge.post(path, &self.token, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json()
    }

    async fn dead_letters(&self) -> Vec<Value> {
        let answer = self.bridge.get("/dead-letters", &self.token).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json()["data"].as_array().expect("a list").clone()
    }
}

fn cursor(place: &Value) -> String {
    URL_SAFE_NO_PAD.encode(place.to_string())
}

fn webhook_ids(recorded: &[Recorded]) -> Vec<String> {
    recorded.iter().map(|request| request.header("webhook-id").to_owned()).collect()
}

#[tokio::test]
async fn a_dead_delivery_is_listed_and_tried_once_more_under_the_same_id() {
    let scene = Scene::start().await;
    let webhook = scene.register(json!({})).await;
    assert_eq!(scene.dead_letters().await, [] as [Value; 0]);
    scene.kill_one(&webhook, "lost").await;
    let letters = scene.dead_letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!((&letters[0]["state"], &letters[0]["reason"]), (&json!("dead"), &json!("gone")));
    assert_eq!(letters[0]["lastAttempt"]["status"], 410);
    let path = format!("/deliveries/{}/retry", letters[0]["id"].as_str().expect("an id"));
    let answer = scene.bridge.post(&path, &scene.token, &json!({})).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    scene.bodies(2).await;
    let ids = webhook_ids(&scene.receiver.recorded());
    assert_eq!(ids[0], ids[1], "the receiver can tell that it is the same event");
    scene.delivery(&webhook, |delivery| delivery["state"] == "delivered").await;
    assert_eq!(scene.dead_letters().await, [] as [Value; 0]);
    scene.end().await;
}

#[tokio::test]
async fn a_waiting_delivery_is_tried_before_its_time() {
    let scene = Scene::start().await;
    let webhook = scene.register(json!({})).await;
    scene.receiver.script([Reply::Answer(503, vec![("retry-after", "3600".to_owned())], Vec::new())]);
    scene.bo_says("later");
    let delivery = scene.delivery(&webhook, |delivery| delivery["attemptCount"] == 1 && delivery["state"] == "waiting").await;
    let path = format!("/deliveries/{}/retry", delivery["id"].as_str().expect("an id"));
    assert_eq!(scene.bridge.post(&path, &scene.token, &json!({})).await.status, StatusCode::ACCEPTED);
    scene.delivery(&webhook, |delivery| delivery["state"] == "delivered").await;
    scene.end().await;
}

#[tokio::test]
async fn all_that_failed_since_a_time_is_recovered() {
    let scene = Scene::start().await;
    let webhook = scene.register(json!({})).await;
    let lost = [scene.kill_one(&webhook, "one").await, scene.kill_one(&webhook, "two").await];
    scene.bo_says("three");
    scene.delivery(&webhook, |delivery| delivery["state"] == "delivered").await;
    let path = format!("/webhooks/{webhook}/recover");
    let before = scene.ask(&path, &json!({"since": EVER, "until": "2020-01-02T00:00:00Z"})).await;
    assert_eq!((&before["count"], &before["nextCursor"]), (&json!(0), &Value::Null));
    let recovered = scene.ask(&path, &json!({"since": EVER})).await;
    assert_eq!((&recovered["count"], &recovered["nextCursor"]), (&json!(2), &Value::Null));
    assert!(recovered["replayableSince"].is_string(), "{recovered}");
    let events = scene.bodies(5).await;
    let mut again = message_ids(&events[3..]);
    again.sort_unstable();
    let mut expected: Vec<&str> = lost.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(again, expected);
    assert_eq!(scene.ask(&path, &json!({"since": EVER})).await["count"], 0, "a repeat finds nothing");
    scene.end().await;
}

#[tokio::test]
async fn a_replay_reaches_events_older_than_the_webhook_in_order_and_by_its_rules() {
    let scene = Scene::start().await;
    scene.register(json!({})).await;
    let said: Vec<String> = (0..5).map(|number| scene.bo_says(&format!("message {number}"))).collect();
    scene.bodies(5).await;
    let late = Receiver::start(Reply::status(204)).await;
    let ordered = json!({"ordering": "space", "events": ["message.created"]});
    let webhook = scene.bridge.register_with(&scene.token, &late, ordered).await;
    let path = format!("/webhooks/{webhook}/replay");
    assert_eq!(scene.ask(&path, &json!({"since": EVER, "dryRun": true})).await["count"], 5);
    // A cursor that says that more were made than can be.
    let place = json!(["replay", {"after": 0, "began": EVER, "made": u64::MAX}]);
    let forged = json!({"since": EVER, "until": "2100-01-01T00:00:00Z", "dryRun": true, "rate": 1, "cursor": cursor(&place)});
    assert_eq!(scene.ask(&path, &forged).await["count"], 5);
    let recover = format!("/webhooks/{webhook}/recover");
    let foreign = scene.bridge.post(&recover, &scene.token, &json!({"since": EVER, "cursor": cursor(&place)})).await;
    assert_eq!(foreign.status, StatusCode::UNPROCESSABLE_ENTITY, "the cursor of a replay means nothing to a recovery");
    assert_eq!(late.count(), 0, "asking how many sends none");
    assert_eq!(scene.ask(&path, &json!({"since": EVER})).await["count"], 5);
    assert_eq!(message_ids(&bodies(&late, 5).await), said);
    let mut ids = [webhook_ids(&late.recorded()), webhook_ids(&scene.receiver.recorded())];
    for ids in &mut ids {
        ids.sort_unstable();
    }
    assert_eq!(ids[0], ids[1], "an event has one id wherever and whenever it is delivered");
    let changes = json!({"events": ["message.deleted"]});
    assert_eq!(scene.bridge.patch(&format!("/webhooks/{webhook}"), &scene.token, &changes).await.status, StatusCode::OK);
    assert_eq!(scene.ask(&path, &json!({"since": EVER, "dryRun": true})).await["count"], 0);
    scene.end().await;
}

#[tokio::test]
async fn a_replay_with_a_rate_brings_everything_to_a_webhook_that_is_on() {
    let scene = Scene::start().await;
    scene.register(json!({})).await;
    (0..3).for_each(|number| drop(scene.bo_says(&format!("message {number}"))));
    scene.bodies(3).await;
    let late = Receiver::start(Reply::status(204)).await;
    let webhook = scene.bridge.register_with(&scene.token, &late, json!({"enabled": false})).await;
    let path = format!("/webhooks/{webhook}/replay");
    scene.bridge.post(&path, &scene.token, &json!({"since": EVER})).await.assert_problem(409, "webhook_not_enabled");
    scene.switch(&webhook, true).await;
    assert_eq!(scene.ask(&path, &json!({"since": EVER, "rate": 1})).await["count"], 3);
    assert_eq!(bodies(&late, 3).await.len(), 3);
    scene.end().await;
}

#[tokio::test]
async fn a_replay_to_a_receiver_that_hangs_leaves_the_live_traffic_of_others_alone() {
    let scene = Scene::start().await;
    scene.register(json!({})).await;
    (0..300).for_each(|number| drop(scene.bo_says(&format!("message {number}"))));
    scene.bodies(300).await;
    let hanging = Receiver::start(Reply::Hang).await;
    let webhook = scene.bridge.register_with(&scene.token, &hanging, json!({})).await;
    let path = format!("/webhooks/{webhook}/replay");
    assert_eq!(scene.ask(&path, &json!({"since": EVER})).await["count"], 300);
    eventually("the first attempts", async || (hanging.count() > 0).then_some(())).await;
    (0..20).for_each(|number| drop(scene.bo_says(&format!("live {number}"))));
    assert_eq!(scene.bodies(320).await.len(), 320);
    drop(hanging);
    scene.end().await;
}

#[tokio::test]
async fn odd_requests_are_refused_and_those_of_others_find_nothing() {
    let scene = Scene::start().await;
    let webhook = scene.register(json!({})).await;
    let (replay, recover) = (format!("/webhooks/{webhook}/replay"), format!("/webhooks/{webhook}/recover"));
    for (path, body) in [
        (&replay, json!({})),
        (&replay, json!({"since": "yesterday"})),
        (&replay, json!({"since": EVER, "until": EVER})),
        (&replay, json!({"since": EVER, "rate": 0})),
        (&replay, json!({"since": EVER, "rate": 10_001})),
        (&replay, json!({"since": EVER, "cursor": "x"})),
        (&recover, json!({"since": EVER, "dryRun": true})),
        (&recover, json!({"since": EVER, "cursor": ""})),
    ] {
        let answer = scene.bridge.post(path, &scene.token, &body).await;
        assert!([StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY].contains(&answer.status), "{body}: {}", answer.text);
    }
    let bo = scene.upstream.token_for(&scene.bo, fake_upstream::TokenKind::Jwt);
    for path in [&replay, &recover] {
        scene.bridge.post(path, &bo, &json!({"since": EVER})).await.assert_problem(404, "webhook_not_found");
    }
    scene.bridge.post("/deliveries/dlv_99/retry", &scene.token, &json!({})).await.assert_problem(404, "delivery_not_found");
    scene.end().await;
}

#[tokio::test]
async fn deliveries_are_found_by_type_and_time() {
    let scene = Scene::start().await;
    let webhook = scene.register(json!({})).await;
    scene.bo_says("hello");
    scene.delivery(&webhook, |delivery| delivery["state"] == "delivered").await;
    for (filter, expected) in [
        ("type=message.created", 1),
        ("type=message.deleted", 0),
        ("since=2020-01-01T00:00:00Z", 1),
        ("until=2020-01-01T00:00:00Z", 0),
        ("type=message.created&state=delivered&since=2020-01-01T00:00:00Z", 1),
    ] {
        let answer = scene.bridge.get(&format!("/webhooks/{webhook}/deliveries?{filter}"), &scene.token).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!(answer.json()["data"].as_array().map(Vec::len), Some(expected), "{filter}");
    }
    scene.end().await;
}
