//! Formats, headers, authorization and signatures as owners set them and see them.

use serde_json::{Value, json};

use super::Scene;

#[tokio::test]
async fn headers_and_authorization_are_taken_and_never_shown() {
    let scene = Scene::start().await;
    let settings = json!({
        "headers": {"X-Tenant": "hidden-tenant", "Api-Key": "hidden-key"},
        "authorization": {"basic": {"username": "bridge", "password": "hidden-password"}},
    });
    let webhook = scene.register(settings).await;
    let path = format!("/webhooks/{webhook}");
    let shown = scene.bridge.get(&path, &scene.token).await;
    assert_eq!(shown.json()["headers"], json!(["api-key", "x-tenant"]));
    assert_eq!(shown.json()["authorization"], "basic");
    scene.bo_says("hello");
    scene.bodies(1).await;
    let request = scene.receiver.recorded().remove(0);
    assert_eq!((request.header("x-tenant"), request.header("api-key")), ("hidden-tenant", "hidden-key"));
    assert_eq!(request.header("authorization"), "Basic YnJpZGdlOmhpZGRlbi1wYXNzd29yZA==");

    let change = json!({"headers": {}, "authorization": {"bearer": "hidden-token"}});
    let changed = scene.bridge.patch(&path, &scene.token, &change).await;
    assert_eq!((&changed.json()["headers"], &changed.json()["authorization"]), (&json!([]), &json!("bearer")));
    let removed = scene.bridge.patch(&path, &scene.token, &json!({"authorization": null})).await;
    assert_eq!(removed.json()["authorization"], Value::Null);
    let delivery = scene.delivery(&webhook, |delivery| delivery["state"] == "delivered").await;
    for text in [shown.text, changed.text, removed.text, delivery.to_string()] {
        assert!(!text.contains("hidden"), "{text}");
    }
    scene.end().await;
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_with_a_pointer_to_it() {
    let scene = Scene::start().await;
    let many: serde_json::Map<_, _> = (0..21).map(|number| (format!("x-{number}"), json!("v"))).collect();
    let large: serde_json::Map<_, _> = (0..4).map(|number| (format!("x-{number}"), json!("v".repeat(2000)))).collect();
    for (change, pointer) in [
        (json!({"headers": {"Webhook-Id": "x"}}), "/headers/Webhook-Id"),
        (json!({"headers": {"Authorization": "x"}}), "/headers/Authorization"),
        (json!({"headers": {"x/y~z": "x"}}), "/headers/x~1y~0z"),
        (json!({"headers": {"x-a": "a\r\nb: c"}}), "/headers/x-a"),
        (json!({"headers": {"X-A": "1", "x-a": "2"}}), "/headers/x-a"),
        (json!({"headers": {"x-a": 7}}), "/headers/x-a"),
        (json!({"headers": many}), "/headers"),
        (json!({"headers": large}), "/headers"),
        (json!({"headers": null}), "/headers"),
        (json!({"headers": ["x-a"]}), "/headers"),
        (json!({"authorization": {"basic": {"username": "a:b", "password": "p"}}}), "/authorization/basic/username"),
        (json!({"authorization": {"basic": {"username": "a", "password": "p\n"}}}), "/authorization/basic/password"),
        (json!({"authorization": {"basic": {"username": "a"}}}), "/authorization/basic"),
        (json!({"authorization": {"bearer": "a b"}}), "/authorization/bearer"),
        (json!({"authorization": {"digest": "a"}}), "/authorization"),
        (json!({"format": "xml"}), "/format"),
        (json!({"handshake": "yes"}), "/handshake"),
        (json!({"signing": "rsa"}), "/signing"),
    ] {
        let mut body = change.clone();
        body["url"] = scene.receiver.url().into();
        let answer = scene.bridge.post("/webhooks", &scene.token, &body).await;
        answer.assert_problem(422, "invalid_body");
        let shown = answer.json()["errors"][0]["pointer"].clone();
        assert_eq!(shown, pointer, "{change}: {}", answer.text);
    }
    for both in [json!({"basic": {"username": "a", "password": "b"}, "bearer": "c"}), json!("basic"), json!({})] {
        let body = json!({"url": scene.receiver.url(), "authorization": both});
        let answer = scene.bridge.post("/webhooks", &scene.token, &body).await;
        assert!(answer.status.is_client_error(), "{}", answer.text);
    }
    assert_eq!(scene.bridge.get("/webhooks", &scene.token).await.json()["data"], json!([]));
    scene.end().await;
}

#[tokio::test]
async fn a_raw_webhook_gets_the_objects_of_spaces_and_tests_as_they_are() {
    let scene = Scene::start().await;
    let webhook = scene.register(json!({"format": "raw"})).await;
    let id = scene.bo_says("hello");
    let object = scene.bodies(1).await.remove(0);
    assert_eq!((&object["_id"], &object["content"]["bodyText"]), (&json!(id), &json!("hello")));
    let path = format!("/webhooks/{webhook}");
    assert_eq!(scene.bridge.get(&path, &scene.token).await.json()["format"], "raw");
    scene.bridge.post(&format!("{path}/test"), &scene.token, &json!({})).await;
    assert_eq!(scene.bodies(2).await[1]["type"], "webhook.test");
    let changed = scene.bridge.patch(&path, &scene.token, &json!({"format": "cloudevents"})).await;
    assert_eq!(changed.json()["format"], "cloudevents");
    scene.bo_says("again");
    let event = scene.bodies(3).await.remove(2);
    assert_eq!((&event["specversion"], &event["data"]["message"]["text"]), (&json!("1.0"), &json!("again")));
    scene.end().await;
}

#[tokio::test]
async fn a_secret_is_rotated_with_an_overlap_and_shown_once_more() {
    let scene = Scene::start().await;
    let (webhook, old) = scene.bridge.register(&scene.token, &scene.receiver).await;
    scene.listening().await;
    let path = format!("/webhooks/{webhook}/rotate-secret");
    // Without a body: a random secret and a day.
    let answer = scene.bridge.request(reqwest::Method::POST, &path, &scene.token);
    let rotated = crate::support::bridge::send(answer).await;
    assert_eq!((rotated.status.as_u16(), rotated.header("cache-control")), (200, "no-store"), "{}", rotated.text);
    let rotated = rotated.json();
    assert_eq!(rotated["signing"], "hmac");
    assert!(rotated["secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_") && secret != old), "{rotated}");
    assert_eq!(rotated["previous"].as_array().map(Vec::len), Some(1), "{rotated}");
    assert!(!rotated.to_string().contains(&old), "the old secret is shown");
    let shown = scene.bridge.get(&format!("/webhooks/{webhook}/secret"), &scene.token).await.json();
    assert_eq!(shown, rotated);
    scene.bo_says("signed twice");
    scene.bodies(1).await;
    let entries = scene.receiver.recorded()[0].header("webhook-signature").split(' ').count();
    assert_eq!(entries, 2);

    let own = "whsec_YSBzZWNyZXQgb2YgdGhlIHRlc3RzLCAzMiBieXRlcy4=";
    let rotation = json!({"secret": own, "overlapSeconds": 0});
    let rotated = scene.bridge.post(&path, &scene.token, &rotation).await.json();
    assert_eq!(rotated, json!({"signing": "hmac", "secret": own, "previous": []}));
    assert_eq!(scene.bridge.post(&path, &scene.token, &rotation).await.json(), rotated);
    for _ in 0..7 {
        assert_eq!(scene.bridge.post(&path, &scene.token, &json!({})).await.status, 200);
    }
    scene.bridge.post(&path, &scene.token, &json!({})).await.assert_problem(409, "webhook_secret_limit_reached");
    for (rotation, pointer) in [
        (json!({"overlapSeconds": 604_801}), "/overlapSeconds"),
        (json!({"overlapSeconds": -1}), "/overlapSeconds"),
        (json!({"secret": "whsec_c2hvcnQ="}), "/secret"),
        (json!({"overlap": 1}), "/overlap"),
    ] {
        let answer = scene.bridge.post(&path, &scene.token, &rotation).await;
        answer.assert_problem(422, "invalid_body");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{}", answer.text);
    }
    let bo = scene.upstream.token_for(&scene.bo, fake_upstream::TokenKind::Jwt);
    scene.bridge.post(&path, &bo, &json!({})).await.assert_problem(404, "webhook_not_found");
    scene.end().await;
}

#[tokio::test]
async fn of_ed25519_only_the_public_key_is_shown() {
    let scene = Scene::start().await;
    let body = json!({"url": scene.receiver.url(), "signing": "ed25519"});
    let created = scene.bridge.post("/webhooks", &scene.token, &body).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let webhook = created.json();
    assert!(webhook["publicKey"].as_str().is_some_and(|key| key.starts_with("whpk_")), "{webhook}");
    assert_eq!((&webhook["signing"], webhook.get("secret")), (&json!("ed25519"), None));
    let path = format!("/webhooks/{}", webhook["id"].as_str().expect("an id"));
    let shown = scene.bridge.get(&format!("{path}/secret"), &scene.token).await.json();
    assert_eq!(shown, json!({"signing": "ed25519", "publicKey": webhook["publicKey"], "previous": []}));
    let own = json!({"secret": "whsec_YSBzZWNyZXQgb2YgdGhlIHRlc3RzLCAzMiBieXRlcy4="});
    let refused = scene.bridge.post(&format!("{path}/rotate-secret"), &scene.token, &own).await;
    refused.assert_problem(422, "invalid_body");
    let rotated = scene.bridge.post(&format!("{path}/rotate-secret"), &scene.token, &json!({})).await.json();
    assert_eq!(rotated["previous"][0]["publicKey"], webhook["publicKey"]);
    for text in [created.text, shown.to_string(), rotated.to_string()] {
        assert!(!text.contains("whsk_"), "{text}");
    }
    scene.listening().await;
    scene.bo_says("hello");
    scene.bodies(1).await;
    let recorded = scene.receiver.recorded();
    let entries: Vec<_> = recorded[0].header("webhook-signature").split(' ').collect();
    assert!(entries.len() == 2 && entries.iter().all(|entry| entry.starts_with("v1a,")), "{entries:?}");
    scene.end().await;
}
