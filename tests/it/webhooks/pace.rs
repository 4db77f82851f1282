//! The pace and the health of a webhook as its owner sees and sets them.

use fake_upstream::TokenKind;
use serde_json::{Value, json};

use super::{Scene, bodies};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

#[tokio::test]
async fn a_webhook_shows_the_pace_that_it_was_given() {
    let scene = Scene::start().await;
    let plain = scene.bridge.register_with(&scene.token, &scene.receiver, json!({})).await;
    let shown = scene.bridge.get(&format!("/webhooks/{plain}"), &scene.token).await.json();
    assert_eq!((&shown["retry"], &shown["timeout"], &shown["rateLimit"]), (&json!("standard"), &Value::Null, &Value::Null));

    let exponential = json!({"exponential": {"first": 10, "factor": 1.5, "max": 3600, "attempts": 6}});
    let pace = json!({"retry": exponential, "timeout": 20, "rateLimit": {"count": 30, "perSeconds": 60}});
    let id = scene.bridge.register_with(&scene.token, &scene.receiver, pace.clone()).await;
    let path = format!("/webhooks/{id}");
    let shown = scene.bridge.get(&path, &scene.token).await.json();
    for field in ["retry", "timeout", "rateLimit"] {
        assert_eq!(shown[field], pace[field], "{shown}");
    }
    let change = json!({"retry": {"steps": [1, 2, 3]}, "timeout": null, "rateLimit": null});
    let changed = scene.bridge.patch(&path, &scene.token, &change).await.json();
    for field in ["retry", "timeout", "rateLimit"] {
        assert_eq!(changed[field], change[field], "{changed}");
    }
    // What a change leaves out stays.
    let changed = scene.bridge.patch(&path, &scene.token, &json!({"description": "other"})).await.json();
    assert_eq!(changed["retry"], change["retry"], "{changed}");
    scene.end().await;
}

#[tokio::test]
async fn a_pace_out_of_bounds_is_refused_with_its_place() {
    let scene = Scene::start().await;
    let id = scene.bridge.register_with(&scene.token, &scene.receiver, json!({})).await;
    let growing = |field: &str, value: Value| {
        let mut exponential = json!({"first": 10, "factor": 2, "max": 3600, "attempts": 6});
        exponential[field] = value;
        json!({"retry": {"exponential": exponential}})
    };
    for (fields, pointer) in [
        (json!({"timeout": 0}), "/timeout"),
        (json!({"timeout": 61}), "/timeout"),
        (json!({"timeout": "5 s"}), "/timeout"),
        (json!({"rateLimit": {"count": 0, "perSeconds": 1}}), "/rateLimit/count"),
        (json!({"rateLimit": {"count": 1, "perSeconds": 3601}}), "/rateLimit/perSeconds"),
        (json!({"rateLimit": {"count": 1}}), "/rateLimit"),
        (json!({"rateLimit": {"count": 1, "perSeconds": 1, "burst": 3}}), "/rateLimit/burst"),
        (json!({"retry": "often"}), "/retry"),
        (json!({"retry": null}), "/retry"),
        (json!({"retry": {"steps": [5, 0]}}), "/retry/steps/1"),
        (json!({"retry": {"steps": vec![1; 20]}}), "/retry/steps"),
        (growing("first", json!(0)), "/retry/exponential/first"),
        (growing("factor", json!(0.5)), "/retry/exponential/factor"),
        (growing("factor", json!(10.5)), "/retry/exponential/factor"),
        (growing("max", json!(86_401)), "/retry/exponential/max"),
        (growing("attempts", json!(21)), "/retry/exponential/attempts"),
        (growing("jitter", json!(1)), "/retry/exponential/jitter"),
    ] {
        let mut creation = fields.clone();
        creation["url"] = scene.receiver.url().into();
        let created = scene.bridge.post("/webhooks", &scene.token, &creation).await;
        let changed = scene.bridge.patch(&format!("/webhooks/{id}"), &scene.token, &fields).await;
        for answer in [created, changed] {
            answer.assert_problem(422, "invalid_body");
            assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{fields}: {}", answer.text);
        }
    }
    scene.end().await;
}

#[tokio::test]
async fn a_webhook_tells_how_its_endpoint_does() {
    let scene = Scene::start().await;
    let webhook = scene.register(json!({})).await;
    let path = format!("/webhooks/{webhook}");
    let health = async |wanted: &str| {
        eventually(&format!("an endpoint that is {wanted}"), async || {
            let health = scene.bridge.get(&path, &scene.token).await.json()["health"].clone();
            (health["state"] == wanted).then_some(health)
        })
        .await
    };
    let nothing = json!({"state": "healthy", "failingSince": null, "heldUntil": null, "waiting": 0, "oldestWaitingAt": null});
    assert_eq!(health("healthy").await, nothing);

    scene.receiver.reply(Reply::status(404));
    scene.bo_says("refused");
    let failing = health("failing").await;
    assert!(failing["failingSince"].is_string() && failing["oldestWaitingAt"].is_string(), "{failing}");
    assert_eq!((&failing["heldUntil"], &failing["waiting"]), (&Value::Null, &json!(1)));

    scene.receiver.reply(Reply::Close);
    for number in 0..10 {
        scene.bo_says(&format!("nobody takes {number}"));
    }
    let open = health("open").await;
    assert!(open["heldUntil"].is_string(), "{open}");
    assert_eq!(open["failingSince"], failing["failingSince"]);
    assert!(scene.bridge.shows(r#"spaces_bridge_webhook_breakers{state="open"} 1"#).await);
    assert!(scene.bridge.metric("spaces_bridge_delivery_queue{state=\"waiting\"}").await >= 1.0);

    // Its owner mends it and says so.
    scene.receiver.reply(Reply::status(204));
    let enabled = send_enable(&scene, &path).await;
    assert_eq!((&enabled["status"], &enabled["id"]), (&json!("enabled"), &json!(webhook)));
    scene.bo_says("all is well");
    let well = health("healthy").await;
    assert_eq!((&well["failingSince"], &well["heldUntil"]), (&Value::Null, &Value::Null));
    scene.end().await;
}

async fn send_enable(scene: &Scene, path: &str) -> Value {
    let answer =
        crate::support::bridge::send(scene.bridge.request(reqwest::Method::POST, &format!("{path}/enable"), &scene.token)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[tokio::test]
async fn a_receiver_that_wants_no_more_is_switched_off_and_the_account_is_told() {
    let scene = Scene::start().await;
    let watch = Receiver::start(Reply::status(204)).await;
    scene.bridge.register_with(&scene.token, &watch, json!({"events": ["webhook.disabled"]})).await;
    let webhook = scene.register(json!({})).await;
    let path = format!("/webhooks/{webhook}");
    scene.receiver.script([Reply::Answer(200, vec![("webhook-delivery", "disable".to_owned())], vec![])]);
    scene.bo_says("the last one");
    let told = bodies(&watch, 1).await.remove(0);
    let data = &told["data"];
    assert_eq!(
        (&told["type"], &data["webhookId"], &data["reason"]),
        (&json!("webhook.disabled"), &json!(webhook), &json!("steered"))
    );
    let shown = eventually("the webhook to be off", async || {
        let shown = scene.bridge.get(&path, &scene.token).await.json();
        (shown["enabled"] == false).then_some(shown)
    })
    .await;
    assert_eq!(shown["status"], "steered");
    assert!(scene.bridge.shows(r#"spaces_bridge_webhooks_disabled_total{reason="steered"} 1"#).await);
    scene.delivery(&webhook, |delivery| delivery["state"] == "delivered").await;
    let delivered = format!(r#"spaces_bridge_webhook_attempts_total{{outcome="delivered",webhook="{webhook}"}} 1"#);
    assert!(scene.bridge.shows(&delivered).await);
    // Others see none of it, and cannot switch it on.
    let bo = scene.upstream.token_for(&scene.bo, TokenKind::Jwt);
    let refused = scene.bridge.post(&format!("{path}/enable"), &bo, &json!({})).await;
    refused.assert_problem(404, "webhook_not_found");
    send_enable(&scene, &path).await;
    scene.listening().await;
    scene.bo_says("back again");
    scene.bodies(2).await;
    scene.end().await;
}

#[tokio::test]
async fn switching_on_makes_up_for_what_was_missed_if_asked() {
    let scene = Scene::start().await;
    let watch = Receiver::start(Reply::status(204)).await;
    scene.bridge.register_with(&scene.token, &watch, json!({})).await;
    let webhook = scene.register(json!({"retry": {"steps": []}})).await;
    let path = format!("/webhooks/{webhook}");
    scene.receiver.script([Reply::status(204), Reply::status(404)]);
    scene.bo_says("delivered");
    scene.delivery(&webhook, |delivery| delivery["state"] == "delivered").await;
    let dead = scene.bo_says("dead");
    scene.delivery(&webhook, |delivery| delivery["state"] == "dead").await;
    scene.bridge.patch(&path, &scene.token, &json!({"enabled": false})).await;
    let missed = scene.bo_says("missed");
    bodies(&watch, 3).await;
    let wrong = scene.bridge.post(&format!("{path}/enable"), &scene.token, &json!({"recoverSince": "yesterday"})).await;
    wrong.assert_problem(422, "invalid_body");
    assert_eq!(scene.bridge.get(&path, &scene.token).await.json()["enabled"], false);

    let since = json!({"recoverSince": "2020-01-01T00:00:00Z"});
    let enabled = scene.bridge.post(&format!("{path}/enable"), &scene.token, &since).await.json();
    assert_eq!((&enabled["enabled"], &enabled["recovered"]), (&json!(true), &json!({"dead": 1, "missed": 1})));
    let events = scene.bodies(4).await;
    let mut again: Vec<_> = super::message_ids(&events[2..]).into_iter().map(str::to_owned).collect();
    again.sort();
    let mut expected = vec![dead, missed];
    expected.sort();
    assert_eq!(again, expected);
    let plain = send_enable(&scene, &path).await;
    assert_eq!(plain["recovered"], Value::Null);
    scene.end().await;
}

#[tokio::test]
async fn a_receiver_may_give_up_one_delivery() {
    let scene = Scene::start().await;
    let webhook = scene.register(json!({})).await;
    scene.receiver.script([Reply::Answer(422, vec![("webhook-delivery", "abort".to_owned())], vec![])]);
    scene.bo_says("I cannot read this");
    let dead = scene.delivery(&webhook, |delivery| delivery["state"] == "dead").await;
    assert_eq!((&dead["reason"], &dead["attemptCount"]), (&json!("aborted"), &json!(1)));
    scene.bo_says("but this");
    scene.delivery(&webhook, |delivery| delivery["state"] == "delivered").await;
    assert_eq!(scene.receiver.count(), 2);
    scene.end().await;
}

#[tokio::test]
async fn metrics_name_only_so_many_webhooks() {
    let mut scene = Scene::start().await;
    scene.bridge = scene.bridge.restart_with(|config| config.webhooks.metric_labels = 1).await;
    for _ in 0..3 {
        scene.register(json!({})).await;
    }
    scene.bo_says("for all three");
    scene.bodies(3).await;
    eventually("the counts", async || {
        let others = r#"spaces_bridge_webhook_attempts_total{outcome="delivered",webhook="other"} 2"#;
        scene.bridge.shows(others).await.then_some(())
    })
    .await;
    scene.end().await;
}
