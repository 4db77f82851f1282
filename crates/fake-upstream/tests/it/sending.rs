//! Messages by socket and by REST.

use crate::support::{Scene, call};
use http::Method;
use serde_json::json;

#[tokio::test]
async fn a_sent_message_comes_back_complete_and_with_its_loopback_to_its_socket_only() {
    let scene = Scene::new().await;
    let mut ana = scene.subscribe(&scene.anas).await;
    let mut bo = scene.subscribe(&scene.bos).await;
    ana.chat(&scene.ops.id, "hi").await;
    let (echo, event) = (ana.event("MESSAGE_SENT").await, bo.event("MESSAGE_SENT").await);
    assert_eq!(echo["loopbackMetadata"], json!({"ref": "hi"}));
    assert!(event.get("loopbackMetadata").is_none());
    for message in [&echo, &event] {
        assert_eq!(message["_id"].as_str().map(str::len), Some(24));
        assert_eq!(message["topicTitle"], "Ops");
        assert_eq!(message["topicType"], "group");
        assert_eq!(message["sender"], scene.ana.as_sender());
        assert_eq!(message["content"]["bodyText"], "hi");
        assert!(message["created"].is_string());
    }
    assert_eq!(echo["_id"], event["_id"]);
}

#[tokio::test]
async fn a_message_sent_over_rest_reaches_subscribers() {
    let scene = Scene::new().await;
    let mut bo = scene.subscribe(&scene.bos).await;
    let path = format!("/api/spaces/{}/chats", scene.ops.id);
    let body = json!({"content": {"bodyText": "by REST"}});
    let reply = call(&scene.upstream, &scene.anas, Method::POST, &path, Some(body)).await;
    assert_eq!(reply.status, 200);
    let event = bo.event("MESSAGE_SENT").await;
    assert_eq!(event["_id"], reply.json()["_id"]);
}
