//! Changing, trying and deleting webhooks.

use fake_upstream::{Expiry, Fault, TokenKind};
use serde_json::{Value, json};

use super::{Scene, bodies, message_ids};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

#[tokio::test]
async fn deliveries_wait_while_a_webhook_is_off_and_go_when_it_is_on() {
    let scene = Scene::start().await;
    // Another webhook keeps the session listening.
    let other = Receiver::start(Reply::status(204)).await;
    scene.bridge.register_with(&scene.token, &other, json!({})).await;
    let webhook = scene.register(json!({})).await;
    let path = format!("/webhooks/{webhook}");
    scene.receiver.script([Reply::status(500)]);
    let waiting = scene.bo_says("waits for its retry");
    let delivery = scene.delivery(&webhook, |delivery| delivery["state"] == "waiting" && delivery["attemptCount"] == 1).await;
    assert_eq!(delivery["attempts"][0]["status"], 500);
    let changed = scene.bridge.patch(&path, &scene.token, &json!({"enabled": false})).await.json();
    assert_eq!((&changed["enabled"], &changed["status"]), (&json!(false), &json!("disabled")));
    scene.bo_says("while it was off");
    bodies(&other, 2).await;
    assert_eq!(scene.receiver.count(), 1);
    let changed = scene.bridge.patch(&path, &scene.token, &json!({"enabled": true})).await.json();
    assert_eq!((&changed["enabled"], &changed["status"]), (&json!(true), &json!("enabled")));
    let events = scene.bodies(2).await;
    assert_eq!(message_ids(&events), [&waiting, &waiting]);
    scene.end().await;
}

#[tokio::test]
async fn a_new_address_is_used_from_then_on() {
    let scene = Scene::start().await;
    let webhook = scene.register(json!({"description": "old"})).await;
    let new = Receiver::start(Reply::status(204)).await;
    let change = json!({"url": new.url(), "description": null, "events": ["message.created"]});
    let changed = scene.bridge.patch(&format!("/webhooks/{webhook}"), &scene.token, &change).await.json();
    assert_eq!((&changed["url"], &changed["description"]), (&json!(new.url()), &Value::Null));
    assert_eq!(changed["events"], json!(["message.created"]));
    let id = scene.bo_says("to the new one");
    assert_eq!(message_ids(&bodies(&new, 1).await), [id]);
    assert_eq!(scene.receiver.count(), 0);
    scene.end().await;
}

#[tokio::test]
async fn a_change_that_will_not_do_changes_nothing() {
    let scene = Scene::start().await;
    let webhook = scene.register(json!({})).await;
    let path = format!("/webhooks/{webhook}");
    let before = scene.bridge.get(&path, &scene.token).await.json();
    for (change, pointer) in [
        (json!({"enabled": null}), "/enabled"),
        (json!({"url": "http://10.0.0.1/"}), "/url"),
        (json!({"events": [], "enabled": false}), "/events"),
        (json!({"colour": "red"}), "/colour"),
    ] {
        let answer = scene.bridge.patch(&path, &scene.token, &change).await;
        answer.assert_problem(422, "invalid_body");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{}", answer.text);
    }
    assert_eq!(scene.bridge.get(&path, &scene.token).await.json(), before);
    scene.end().await;
}

#[tokio::test]
async fn a_deleted_webhook_gets_nothing_more() {
    let scene = Scene::start().await;
    let other = Receiver::start(Reply::status(204)).await;
    scene.bridge.register_with(&scene.token, &other, json!({})).await;
    let webhook = scene.register(json!({})).await;
    scene.receiver.script([Reply::status(500)]);
    scene.bo_says("fails once");
    scene.delivery(&webhook, |delivery| delivery["attemptCount"] == 1 && delivery["state"] == "waiting").await;
    let path = format!("/webhooks/{webhook}");
    assert_eq!(scene.bridge.delete(&path, &scene.token).await.status, 204);
    scene.bridge.get(&path, &scene.token).await.assert_problem(404, "webhook_not_found");
    scene.bo_says("for the other one");
    bodies(&other, 2).await;
    assert_eq!(scene.receiver.count(), 1);
    scene.end().await;
}

#[tokio::test]
async fn with_the_last_webhook_goes_the_stored_token() {
    let scene = Scene::start().await;
    let webhook = scene.register(json!({})).await;
    assert_eq!(scene.bridge.session().await["durable"], true);
    assert_eq!(scene.bridge.delete(&format!("/webhooks/{webhook}"), &scene.token).await.status, 204);
    assert_eq!(scene.bridge.session().await["durable"], false);
    scene.end().await;
}

#[tokio::test]
async fn a_test_goes_the_way_of_every_event_to_that_webhook_alone() {
    let scene = Scene::start().await;
    let other = Receiver::start(Reply::status(204)).await;
    scene.bridge.register_with(&scene.token, &other, json!({"events": ["message.*", "webhook.*"]})).await;
    let webhook = scene.register(json!({"events": ["message.deleted"]})).await;
    let path = format!("/webhooks/{webhook}");
    let answer = scene.bridge.post(&format!("{path}/test"), &scene.token, &json!({})).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let event = scene.bodies(1).await.remove(0);
    assert_eq!((&event["type"], &event["data"]["eventId"]), (&json!("webhook.test"), &answer.json()["eventId"]));
    scene.bo_says("for the other one");
    assert_eq!(bodies(&other, 1).await[0]["type"], "message.created");
    scene.bridge.patch(&path, &scene.token, &json!({"enabled": false})).await;
    let refused = scene.bridge.post(&format!("{path}/test"), &scene.token, &json!({})).await;
    refused.assert_problem(409, "webhook_not_enabled");
    scene.end().await;
}

#[tokio::test]
async fn deliveries_come_in_pages_newest_first_and_by_state() {
    let scene = Scene::start().await;
    let webhook = scene.register(json!({})).await;
    for number in 0..5 {
        scene.bo_says(&format!("message {number}"));
    }
    let path = format!("/webhooks/{webhook}/deliveries");
    eventually("five deliveries", async || {
        let deliveries = scene.bridge.deliveries(&scene.token, &webhook).await;
        (deliveries.iter().filter(|delivery| delivery["state"] == "delivered").count() == 5).then_some(())
    })
    .await;
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = scene.bridge.get(&format!("{path}?limit=2{cursor}"), &scene.token).await.json();
        ids.extend(page["data"].as_array().expect("a list").iter().map(|delivery| delivery["id"].clone()));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let all: Vec<_> =
        scene.bridge.deliveries(&scene.token, &webhook).await.iter().map(|delivery| delivery["id"].clone()).collect();
    assert_eq!((ids.len(), &ids), (5, &all));
    let waiting = scene.bridge.get(&format!("{path}?state=waiting"), &scene.token).await.json();
    assert_eq!(waiting["data"], json!([]));
    scene.bridge.get(&format!("{path}?state=lost"), &scene.token).await.assert_problem(400, "invalid_query");
    scene.end().await;
}

#[tokio::test]
async fn deliveries_outlive_the_token_and_a_fresh_one_takes_over() {
    let scene = Scene::start().await;
    let webhook = scene.register(json!({})).await;
    scene.receiver.script([Reply::status(500)]);
    let stored = scene.bo_says("stored before the token ended");
    scene.delivery(&webhook, |delivery| delivery["attemptCount"] == 1 && delivery["state"] == "waiting").await;
    scene.upstream.script(|script| {
        script.expiry.always(Expiry::Fault(Fault::Cut));
    });
    scene.upstream.expire(&scene.token);
    eventually("the refusal", async || (scene.bridge.session().await["state"] == "auth_failed").then_some(())).await;
    scene.bridge.get("/me", &scene.token).await.assert_problem(401, "token_refused");
    assert_eq!(message_ids(&scene.bodies(2).await), [&stored, &stored]);

    let fresh = scene.upstream.token_for(&scene.ana, TokenKind::Jwt);
    assert_eq!(scene.bridge.get("/webhooks", &fresh).await.json()["data"][0]["id"], webhook);
    let listening = scene.upstream.wait_until(super::DEADLINE, |seen| seen.is_subscribed(&fresh, scene.space.as_ref()));
    listening.await.expect("the new session listens");
    let id = scene.bo_says("heard with the new token");
    assert_eq!(message_ids(&scene.bodies(3).await)[2], id);
    scene.end().await;
}
