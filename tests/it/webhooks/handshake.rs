//! Receivers that are asked for their permission first.

use serde_json::{Value, json};

use super::Scene;
use crate::support::bridge::{Answer, Bridge};
use crate::support::receiver::{Receiver, Reply};

/// An answer to the question, with this permission.
fn permission(origin: &str) -> Reply {
    Reply::Answer(200, vec![("WebHook-Allowed-Origin", origin.to_owned())], Vec::new())
}

/// Registers a webhook whose receiver is asked first.
async fn register(scene: &Scene, settings: Value) -> Answer {
    let mut body = json!({"url": scene.receiver.url(), "handshake": true});
    if let (Some(body), Value::Object(settings)) = (body.as_object_mut(), settings) {
        body.extend(settings);
    }
    scene.bridge.post("/webhooks", &scene.token, &body).await
}

fn lines(receiver: &Receiver) -> Vec<String> {
    receiver.recorded().into_iter().map(|request| request.line).collect()
}

const ASKED: &str = "OPTIONS /hook?a=b HTTP/1.1";
const DELIVERED: &str = "POST /hook?a=b HTTP/1.1";

#[tokio::test]
async fn a_receiver_that_permits_it_is_registered_and_told_who_sends() {
    for allowed in ["*", "spaces-bridge", "Spaces-Bridge"] {
        let scene = Scene::start().await;
        scene.receiver.script([permission(allowed)]);
        let answer = register(&scene, json!({})).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["handshake"]), (201, &json!(true)), "{}", answer.text);
        scene.listening().await;
        scene.bo_says("hello");
        super::eventually("the delivery", async || (scene.receiver.count() == 2).then_some(())).await;
        assert_eq!(lines(&scene.receiver), [ASKED, DELIVERED]);
        for request in scene.receiver.recorded() {
            assert_eq!(request.header("webhook-request-origin"), "spaces-bridge");
        }
        assert!(scene.receiver.recorded()[0].header("webhook-signature").is_empty());
        scene.end().await;
    }
}

#[tokio::test]
async fn the_name_of_the_service_is_a_setting() {
    let scene = Scene::start().await;
    let bridge = Bridge::start_with(&scene.upstream, |config| "bridge.example.com".clone_into(&mut config.webhooks.origin)).await;
    scene.receiver.script([permission("bridge.example.com"), permission("spaces-bridge")]);
    let body = json!({"url": scene.receiver.url(), "handshake": true});
    assert_eq!(bridge.post("/webhooks", &scene.token, &body).await.status, 201);
    bridge.post("/webhooks", &scene.token, &body).await.assert_problem(422, "handshake_refused");
    assert_eq!(scene.receiver.recorded()[0].header("webhook-request-origin"), "bridge.example.com");
    bridge.stop().await;
    scene.end().await;
}

#[tokio::test]
async fn a_receiver_that_does_not_permit_it_is_not_registered() {
    let scene = Scene::start().await;
    let limited = vec![("WebHook-Allowed-Origin", "*".to_owned()), ("WebHook-Allowed-Rate", "10".to_owned())];
    for (reply, detail) in [
        (permission("someone-else"), "WebHook-Allowed-Origin"),
        (Reply::status(200), "WebHook-Allowed-Origin"),
        (Reply::status(405), "405"),
        (Reply::Answer(403, vec![("WebHook-Allowed-Origin", "*".to_owned())], Vec::new()), "403"),
        (Reply::Answer(307, vec![("Location", scene.receiver.url())], Vec::new()), "307"),
        (Reply::Answer(200, limited, Vec::new()), "WebHook-Allowed-Rate"),
    ] {
        scene.receiver.script([reply.clone()]);
        let answer = register(&scene, json!({})).await;
        answer.assert_problem(422, "handshake_refused");
        assert!(answer.json()["detail"].as_str().is_some_and(|text| text.contains(detail)), "{reply:?}: {}", answer.text);
    }
    assert_eq!(scene.receiver.count(), 6, "a redirect was followed");
    assert_eq!(scene.bridge.get("/webhooks", &scene.token).await.json()["data"], json!([]));
    scene.end().await;
}

#[tokio::test]
async fn a_rate_is_asked_for_and_has_to_be_permitted() {
    let scene = Scene::start().await;
    let allow = |rate: &str| {
        let headers = vec![("WebHook-Allowed-Origin", "*".to_owned()), ("WebHook-Allowed-Rate", rate.to_owned())];
        Reply::Answer(200, headers, Vec::new())
    };
    let limit = |count: u32, seconds: u32| json!({"rateLimit": {"count": count, "perSeconds": seconds}});
    for (settings, asked, allowed, status) in [
        (json!({}), "", "*", 201),
        (json!({}), "", "1000000", 422),
        (limit(10, 60), "10", "10", 201),
        (limit(10, 60), "10", "*", 201),
        (limit(10, 60), "10", "9", 422),
        (limit(10, 60), "10", "many", 422),
        (limit(10, 60), "10", "-1", 422),
        (limit(1, 3600), "1", "1", 201),
        (limit(3, 1), "180", "180", 201),
    ] {
        scene.receiver.script([allow(allowed)]);
        let answer = register(&scene, settings.clone()).await;
        assert_eq!(answer.status, status, "{settings} {allowed}: {}", answer.text);
        let question = scene.receiver.recorded().pop().expect("a question");
        assert_eq!(question.header("webhook-request-rate"), asked, "{settings}");
    }
    scene.receiver.script([allow("60")]);
    let created = register(&scene, limit(1, 1)).await.json();
    let path = format!("/webhooks/{}", created["id"].as_str().expect("an id"));
    scene.receiver.script([allow("60")]);
    scene.bridge.patch(&path, &scene.token, &limit(2, 1)).await.assert_problem(422, "handshake_refused");
    scene.receiver.script([allow("60")]);
    assert_eq!(scene.bridge.patch(&path, &scene.token, &limit(1, 2)).await.status, 200);
    scene.end().await;
}

#[tokio::test]
async fn a_receiver_that_cannot_be_asked_is_not_registered() {
    let scene = Scene::start().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let nobody = json!({"url": format!("http://{free}/"), "handshake": true});
    let answer = scene.bridge.post("/webhooks", &scene.token, &nobody).await;
    answer.assert_problem(422, "handshake_failed");
    for reply in [Reply::Close, Reply::Nonsense] {
        scene.receiver.script([reply]);
        register(&scene, json!({})).await.assert_problem(422, "handshake_failed");
    }
    assert_eq!(scene.bridge.get("/webhooks", &scene.token).await.json()["data"], json!([]));
    scene.end().await;
}

#[tokio::test]
async fn it_is_asked_again_when_the_address_changes_or_the_webhook_is_switched_on() {
    let scene = Scene::start().await;
    scene.receiver.reply(permission("*"));
    let id = register(&scene, json!({})).await.json()["id"].as_str().expect("an id").to_owned();
    let path = format!("/webhooks/{id}");
    let change_to = async |change: Value| scene.bridge.patch(&path, &scene.token, &change).await;
    for (change, asked) in [
        (json!({"description": "nothing to ask for"}), 1),
        (json!({"url": scene.receiver.url()}), 1),
        (json!({"enabled": true}), 1),
        (json!({"enabled": false}), 1),
        (json!({"enabled": true}), 2),
        (json!({"handshake": false}), 2),
        (json!({"handshake": true}), 3),
    ] {
        assert_eq!(change_to(change.clone()).await.status, 200);
        assert_eq!(scene.receiver.count(), asked, "{change}");
    }
    let unwilling = Receiver::start(Reply::status(405)).await;
    let before = scene.bridge.get(&path, &scene.token).await.json();
    change_to(json!({"url": unwilling.url()})).await.assert_problem(422, "handshake_refused");
    assert_eq!((unwilling.count(), scene.receiver.count()), (1, 3));
    assert_eq!(scene.bridge.get(&path, &scene.token).await.json(), before);
    scene.receiver.reply(Reply::status(404));
    assert_eq!(change_to(json!({"enabled": false})).await.status, 200);
    change_to(json!({"enabled": true})).await.assert_problem(422, "handshake_refused");
    let enable = format!("{path}/enable");
    scene.bridge.post(&enable, &scene.token, &json!({})).await.assert_problem(422, "handshake_refused");
    assert_eq!(scene.bridge.get(&path, &scene.token).await.json()["enabled"], false);
    scene.end().await;
}
