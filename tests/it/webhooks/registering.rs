//! Registering: what is refused, and who sees what.

use fake_upstream::TokenKind;
use serde_json::json;

use super::Scene;
use crate::support::bridge::Bridge;
use crate::support::receiver::{Receiver, Reply};

#[tokio::test]
async fn an_address_that_will_not_do_is_refused_with_a_pointer_to_it() {
    let scene = Scene::start().await;
    let bridge = Bridge::start_with(&scene.upstream, |config| config.webhooks.allow_networks.clear()).await;
    for url in [
        "http://127.0.0.1/hook",
        "http://localhost/hook",
        "http://10.1.2.3/",
        "http://192.168.0.1:8080/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[fd00::1]/",
        "http://0x7f000001/",
        "http://2130706433/",
        "https://ana:pass@example.com/",
        "https://ana@example.com/",
        "https://example.com:22/",
        "https://example.com:0/",
        "ftp://example.com/",
        "javascript:alert(1)",
        "example.com/hook",
        "https://example.com/#part",
        "https://exa mple.com/",
        "",
    ] {
        let answer = bridge.post("/webhooks", &scene.token, &json!({"url": url})).await;
        answer.assert_problem(422, "invalid_body");
        assert_eq!(answer.json()["errors"][0]["pointer"], "/url", "{url}: {}", answer.text);
    }
    assert_eq!(bridge.get("/webhooks", &scene.token).await.json()["data"], json!([]));
    bridge.stop().await;
    scene.end().await;
}

#[tokio::test]
async fn a_wrong_field_is_named() {
    let scene = Scene::start().await;
    let many: Vec<_> = (0..101).map(|number| format!("message.x{number}")).collect();
    for (field, value, pointer) in [
        ("events", json!([]), "/events"),
        ("events", json!(many), "/events"),
        ("events", json!(["message.created", "mess*"]), "/events/1"),
        ("events", json!("message.created"), "/events"),
        ("spaces", json!([]), "/spaces"),
        ("spaces", json!(["*", "../etc"]), "/spaces/1"),
        ("ordering", json!("strict"), "/ordering"),
        ("ignoreOwn", json!("yes"), "/ignoreOwn"),
        ("description", json!("x".repeat(501)), "/description"),
        ("enabled", json!(null), "/enabled"),
        ("secret", json!("whsec_mine"), "/secret"),
        ("url", json!(7), "/url"),
    ] {
        let mut body = json!({"url": scene.receiver.url()});
        body[field] = value;
        let answer = scene.bridge.post("/webhooks", &scene.token, &body).await;
        answer.assert_problem(422, "invalid_body");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{body}: {}", answer.text);
    }
    let answer = scene.bridge.post("/webhooks", &scene.token, &json!({})).await;
    answer.assert_problem(422, "invalid_body");
    assert!(answer.text.contains("url"), "{}", answer.text);
    scene.end().await;
}

#[tokio::test]
async fn an_account_has_only_as_many_webhooks_as_it_may() {
    let scene = Scene::start().await;
    let bridge = Bridge::start_with(&scene.upstream, |config| config.webhooks.max_per_account = 2).await;
    let first = bridge.register_with(&scene.token, &scene.receiver, json!({})).await;
    bridge.register_with(&scene.token, &scene.receiver, json!({})).await;
    let third = bridge.post("/webhooks", &scene.token, &json!({"url": scene.receiver.url()})).await;
    third.assert_problem(409, "webhook_limit_reached");
    assert_eq!(bridge.delete(&format!("/webhooks/{first}"), &scene.token).await.status, 204);
    bridge.register_with(&scene.token, &scene.receiver, json!({})).await;
    bridge.stop().await;
    scene.end().await;
}

#[tokio::test]
async fn another_accounts_webhook_is_as_good_as_none() {
    let scene = Scene::start().await;
    let webhook = scene.register(json!({})).await;
    scene.bo_says("for Ana");
    let delivery = scene.delivery(&webhook, |_| true).await["id"].as_str().expect("an id").to_owned();
    let bo = scene.upstream.token_for(&scene.bo, TokenKind::Jwt);
    let path = format!("/webhooks/{webhook}");
    let bridge = &scene.bridge;
    bridge.get(&path, &bo).await.assert_problem(404, "webhook_not_found");
    bridge.patch(&path, &bo, &json!({"enabled": false})).await.assert_problem(404, "webhook_not_found");
    bridge.delete(&path, &bo).await.assert_problem(404, "webhook_not_found");
    bridge.get(&format!("{path}/secret"), &bo).await.assert_problem(404, "webhook_not_found");
    bridge.post(&format!("{path}/test"), &bo, &json!({})).await.assert_problem(404, "webhook_not_found");
    bridge.get(&format!("{path}/deliveries"), &bo).await.assert_problem(404, "webhook_not_found");
    bridge.get(&format!("/deliveries/{delivery}"), &bo).await.assert_problem(404, "delivery_not_found");
    assert_eq!(bridge.get("/webhooks", &bo).await.json()["data"], json!([]));
    assert_eq!(bridge.get(&path, &scene.token).await.json()["enabled"], true);
    scene.end().await;
}

#[tokio::test]
async fn the_secret_is_shown_at_creation_and_by_its_own_path_only() {
    let scene = Scene::start().await;
    let (webhook, secret) = scene.bridge.register(&scene.token, &scene.receiver).await;
    let path = format!("/webhooks/{webhook}");
    let shown = scene.bridge.get(&format!("{path}/secret"), &scene.token).await;
    assert_eq!((&shown.json()["secret"], shown.header("cache-control")), (&json!(secret), "no-store"));
    for answer in [scene.bridge.get(&path, &scene.token).await, scene.bridge.get("/webhooks", &scene.token).await] {
        assert_eq!(answer.status, 200);
        assert!(!answer.text.contains("whsec_"), "{}", answer.text);
    }
    scene.end().await;
}

#[tokio::test]
async fn every_webhook_of_an_account_gets_the_event_with_its_own_secret() {
    let scene = Scene::start().await;
    let other = Receiver::start(Reply::status(204)).await;
    let (_, first) = scene.bridge.register(&scene.token, &scene.receiver).await;
    let (_, second) = scene.bridge.register(&scene.token, &other).await;
    assert_ne!(first, second);
    scene.listening().await;
    scene.bo_says("for both");
    let (one, two) = (scene.bodies(1).await, super::bodies(&other, 1).await);
    assert_eq!(one, two);
    let signature = |receiver: &Receiver| receiver.recorded()[0].header("webhook-signature").to_owned();
    assert_ne!(signature(&scene.receiver), signature(&other));
    scene.end().await;
}
