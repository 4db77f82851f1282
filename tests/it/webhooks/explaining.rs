//! What became of an event at each webhook, and why.

use fake_upstream::TokenKind;
use serde_json::{Value, json};

use super::{Scene, bodies};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

impl Scene {
    /// What is said of the event `event` at the webhook `webhook`.
    async fn outcome(&self, event: &str, webhook: &str) -> Value {
        let answer = self.bridge.get(&format!("/events/{event}"), &self.token).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let explained = answer.json();
        let found = explained["webhooks"].as_array().expect("a list").iter().find(|entry| entry["webhookId"] == webhook);
        found.expect("every webhook is told of").clone()
    }

    /// Registers a webhook at a receiver of its own, which does `reply`.
    async fn at(&self, reply: Reply, settings: Value) -> (String, Receiver) {
        let receiver = Receiver::start(reply).await;
        (self.bridge.register_with(&self.token, &receiver, settings).await, receiver)
    }
}

#[tokio::test]
async fn every_webhook_is_told_of_with_what_became_of_the_event_there_and_why() {
    let scene = Scene::start().await;
    let fine = scene.register(json!({})).await;
    let ok = || Reply::status(204);
    let (other_type, _a) = scene.at(ok(), json!({"events": ["space.*"]})).await;
    let (other_space, _b) = scene.at(ok(), json!({"spaces": ["direct"]})).await;
    let (filtered, _c) = scene.at(ok(), json!({"filter": {"all": [{"category": "chat"}, {"mention": "me"}]}})).await;
    let (off, _d) = scene.at(ok(), json!({"enabled": false})).await;
    let (failing, _e) = scene.at(Reply::status(500), json!({})).await;
    let (gone, _f) = scene.at(Reply::status(410), json!({})).await;
    let (hanging, hung) = scene.at(Reply::Hang, json!({})).await;
    let text = scene.bo_says("hello");
    let envelope = scene.bodies(1).await.remove(0);
    let event = envelope["data"]["eventId"].as_str().expect("an id").to_owned();
    bodies(&hung, 1).await;

    let settled = |webhook: &str, outcome: &'static str| {
        let (scene, event, webhook) = (&scene, event.clone(), webhook.to_owned());
        async move {
            eventually(outcome, async || {
                let found = scene.outcome(&event, &webhook).await;
                (found["outcome"] == outcome).then_some(found)
            })
            .await
        }
    };
    let delivered = settled(&fine, "delivered").await;
    assert!(delivered["deliveryId"].is_string() && delivered["deliveredAt"].is_string(), "{delivered}");
    let waiting = settled(&failing, "waiting").await;
    assert!(waiting["nextAttemptAt"].is_string() && waiting["deliveredAt"].is_null(), "{waiting}");
    assert!(waiting["detail"].as_str().is_some_and(|detail| detail.contains("1 attempt")), "{waiting}");
    settled(&hanging, "in_flight").await;
    for (webhook, outcome, reason) in [
        (&other_type, "not_matched", "type"),
        (&other_space, "not_matched", "space"),
        (&filtered, "not_matched", "filter"),
        (&off, "disabled", "disabled"),
        (&gone, "dead", "gone"),
    ] {
        let found = settled(webhook, outcome).await;
        assert_eq!(found["reason"], reason, "{found}");
    }
    assert!(scene.outcome(&event, &filtered).await["detail"].as_str().is_some_and(|detail| detail.contains("/all/1/mention")));

    let explained = scene.bridge.get(&format!("/events/{event}"), &scene.token).await.json();
    assert_eq!((&explained["event"], &explained["type"]), (&envelope, &json!("message.created")));
    assert_eq!((&explained["id"], &explained["spaceId"]), (&json!(event), &json!(scene.space.as_ref())));
    assert_eq!(explained["event"]["data"]["message"]["id"], text);

    let (late, _g) = scene.at(ok(), json!({})).await;
    assert_eq!(scene.outcome(&event, &late).await["reason"], "not_yet_registered");
    // What it would not get in a replay either is not for it.
    let (late_and_other, _h) = scene.at(ok(), json!({"events": ["session.*"]})).await;
    assert_eq!(scene.outcome(&event, &late_and_other).await["reason"], "type");
    // Switched off with a delivery that waits.
    scene.bridge.patch(&format!("/webhooks/{failing}"), &scene.token, &json!({"enabled": false})).await;
    let held = scene.outcome(&event, &failing).await;
    assert_eq!((&held["outcome"], &held["reason"]), (&json!("disabled"), &json!("disabled")));
    assert!(held["deliveryId"].is_string() && held["nextAttemptAt"].is_null(), "{held}");
    // Would be wanted now, and was not then.
    scene.bridge.patch(&format!("/webhooks/{other_type}"), &scene.token, &json!({"events": ["*"]})).await;
    assert_eq!(scene.outcome(&event, &other_type).await["reason"], "no_delivery");
    drop(hung);
    scene.end().await;
}

#[tokio::test]
async fn own_messages_that_a_webhook_ignores_are_explained() {
    let scene = Scene::start().await;
    let everything = scene.register(json!({})).await;
    let (others, _receiver) = scene.at(Reply::status(204), json!({"ignoreOwn": true})).await;
    scene.bridge.say(&scene.token, &scene.space, "from here").await;
    let event = scene.bodies(1).await[0]["data"]["eventId"].as_str().expect("an id").to_owned();
    assert_eq!(scene.outcome(&event, &others).await["reason"], "own_message");
    assert!(scene.outcome(&event, &everything).await["deliveryId"].is_string());
    scene.end().await;
}

#[tokio::test]
async fn an_event_is_explained_to_its_own_account_only() {
    let scene = Scene::start().await;
    scene.register(json!({})).await;
    scene.bo_says("hello");
    let event = scene.bodies(1).await[0]["data"]["eventId"].as_str().expect("an id").to_owned();
    let bos = scene.upstream.token_for(&scene.bo, TokenKind::Jwt);
    scene.bridge.get(&format!("/events/{event}"), &bos).await.assert_problem(404, "event_not_found");
    scene.bridge.get("/events/evt_none", &scene.token).await.assert_problem(404, "event_not_found");
    scene.bridge.get("/events/7", &scene.token).await.assert_problem(400, "invalid_path");
    scene.end().await;
}
