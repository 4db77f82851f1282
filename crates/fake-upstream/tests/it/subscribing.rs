//! `SUBSCRIBE_CHANNEL` and its answers.

use fake_upstream::{SubscribeFault, TokenKind, UserKind};
use serde_json::json;

use crate::support::{LATE, Scene};

#[tokio::test]
async fn a_subscription_is_answered_with_its_channel_and_session() {
    let scene = Scene::new().await;
    let mut client = scene.join(&scene.anas).await;
    client.ask_to_subscribe(&scene.ops.id).await;
    let answer = client.event("CHANNEL_SUBSCRIBED").await;
    assert_eq!(answer["channel"], json!({"_id": scene.ops.id, "type": "topic"}));
    assert!(answer["dtsid"].is_string());
    assert_eq!(answer["sessionId"].as_str().map(str::len), Some(36));
    assert!(scene.upstream.seen(|seen| seen.is_subscribed(&scene.anas, &scene.ops.id)));
    client.emit("UNSUBSCRIBE_CHANNEL", &json!({"channel": {"type": "topic", "_id": scene.ops.id}})).await;
    assert_eq!(client.event("CHANNEL_UNSUBSCRIBED").await, json!({"channel": {"_id": scene.ops.id, "type": "topic"}}));
    assert!(!scene.upstream.seen(|seen| seen.is_subscribed(&scene.anas, &scene.ops.id)));
    scene.upstream.post_as(&scene.bo, &scene.ops, "unheard").expect("a known space");
    client.nothing_came().await;
}

#[tokio::test]
async fn a_subscription_without_right_fails_with_the_original_payload() {
    let scene = Scene::new().await;
    let stranger = scene.upstream.user("Stranger");
    let theirs = scene.upstream.space("Theirs", &[&stranger]);
    let locked = scene.upstream.space("Locked", &[&scene.ana]);
    scene.upstream.with_world(|world| world.change_space(&locked.id, |space| space.pin = Some("1234".to_owned())));
    let mut client = scene.join(&scene.anas).await;
    let cases = [
        (json!({"x": 1}), "invalid.parameters"),
        (json!({"channel": {"type": "topic", "_id": "nope"}}), "topic.not.found"),
        (json!({"channel": {"type": "topic", "_id": theirs.id}}), "not.authorized"),
        (json!({"channel": {"type": "topic", "_id": locked.id, "password": null}}), "invalid.password"),
    ];
    for (payload, code) in cases {
        client.emit("SUBSCRIBE_CHANNEL", &payload).await;
        let failure = client.event("SUBSCRIBE_CHANNEL_FAILED").await;
        assert_eq!(failure["error"]["code"], code);
        assert_eq!(failure.get("channel"), payload.get("channel"));
    }
    client.emit("SUBSCRIBE_CHANNEL", &json!({"channel": {"type": "topic", "_id": locked.id, "password": "1234"}})).await;
    client.event("CHANNEL_SUBSCRIBED").await;
}

#[tokio::test]
async fn a_guest_subscribes_to_an_open_space() {
    let scene = Scene::new().await;
    scene.upstream.with_world(|world| world.change_space(&scene.ops.id, |space| space.open = true));
    let guest = scene.upstream.with_world(|world| world.add_user("Guest7", "guest7", UserKind::Anonymous));
    let token = scene.upstream.token_for(&guest, TokenKind::Anonymous);
    let mut client = scene.subscribe(&token).await;
    client.chat(&scene.ops.id, "hello").await;
    assert_eq!(client.event("MESSAGE_SENT").await["sender"]["type"], "anonymous");
}

#[tokio::test]
async fn subscriptions_suffer_each_fault() {
    let scene = Scene::new().await;
    let refused = |with_channel| SubscribeFault::Refused { code: "busy".to_owned(), message: "later".to_owned(), with_channel };
    scene.upstream.script(|script| {
        script.subscribe.next(1, refused(true)).next(1, refused(false)).next(1, SubscribeFault::Ignored);
        script.subscribe.next(1, SubscribeFault::Late(LATE));
        script.subscribe.next(1, SubscribeFault::AnsweredTwice).next(1, SubscribeFault::Unanswered);
    });
    let mut client = scene.join(&scene.anas).await;
    for with_channel in [true, false] {
        client.ask_to_subscribe(&scene.ops.id).await;
        let failure = client.event("SUBSCRIBE_CHANNEL_FAILED").await;
        assert_eq!(failure["error"], json!({"code": "busy", "message": "later"}));
        assert_eq!(failure.get("channel").is_some(), with_channel);
    }
    // Ignored: no answer, no events.
    client.ask_to_subscribe(&scene.ops.id).await;
    client.nothing_came().await;
    scene.upstream.post_as(&scene.bo, &scene.ops, "unheard").expect("a known space");
    client.nothing_came().await;
    // Late.
    client.ask_to_subscribe(&scene.ops.id).await;
    client.nothing_came().await;
    client.event("CHANNEL_SUBSCRIBED").await;
    // Answered twice; subscribed once all the same.
    client.subscribe(&scene.ops.id).await;
    client.event("CHANNEL_SUBSCRIBED").await;
    scene.upstream.post_as(&scene.bo, &scene.ops, "once").expect("a known space");
    assert_eq!(client.texts(1).await, ["once"]);
    client.nothing_came().await;
    // Unanswered, yet subscribed.
    let mut other = scene.join(&scene.bos).await;
    other.ask_to_subscribe(&scene.ops.id).await;
    other.nothing_came().await;
    scene.upstream.post_as(&scene.bo, &scene.ops, "heard").expect("a known space");
    assert_eq!(other.texts(1).await, ["heard"]);
}
