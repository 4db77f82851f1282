//! Acting as somebody else, and what is the same in every run.

use fake_upstream::{ChangeStyle, FakeUpstream, Options, UnknownTarget};
use serde_json::json;

use crate::support::Scene;

#[tokio::test]
async fn others_post_edit_delete_and_rename() {
    let scene = Scene::new().await;
    let mut ana = scene.subscribe(&scene.anas).await;
    let posted = scene.upstream.post_as(&scene.bo, &scene.ops, "<p>hi</p>").expect("a known space");
    let id = posted["_id"].as_str().expect("an id");
    scene.upstream.edit(id, "ho").expect("a message");
    scene.upstream.delete(id).expect("a message");
    scene.upstream.rename_space(&scene.bo, &scene.ops, "Operations").expect("a space");
    scene.upstream.post_as(&scene.bo, &scene.ops, "new name").expect("a known space");
    assert_eq!(ana.event("MESSAGE_SENT").await, posted);
    let edited = ana.event("MESSAGE_SENT").await;
    assert_eq!((&edited["_id"], &edited["content"]["bodyText"]), (&posted["_id"], &json!("ho")));
    assert_eq!(ana.event("MESSAGE_SENT").await["isDeleted"], true);
    let renamed = ana.event("MESSAGE_SENT").await;
    assert_eq!((&renamed["category"], &renamed["topicTitle"]), (&json!("topic.updated"), &json!("Operations")));
    assert_eq!(ana.event("MESSAGE_SENT").await["topicTitle"], "Operations");
    assert_eq!(scene.upstream.edit(id, "too late"), Err(UnknownTarget));
    assert_eq!(scene.upstream.post_as("nobody", &scene.ops, "x"), Err(UnknownTarget));
    assert_eq!(scene.upstream.post_as(&scene.bo, "nowhere", "x"), Err(UnknownTarget));
}

#[tokio::test]
async fn edits_and_deletions_can_come_under_another_category() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.edits.always(ChangeStyle::Category("chat.edited".to_owned()));
        script.deletions.always(ChangeStyle::Category("chat.deleted".to_owned()));
    });
    let mut ana = scene.subscribe(&scene.anas).await;
    let posted = scene.upstream.post_as(&scene.bo, &scene.ops, "hi").expect("a known space");
    let id = posted["_id"].as_str().expect("an id");
    scene.upstream.edit(id, "ho").expect("a message");
    scene.upstream.delete(id).expect("a message");
    for category in ["chat", "chat.edited", "chat.deleted"] {
        assert_eq!(ana.event("MESSAGE_SENT").await["category"], category);
    }
}

#[tokio::test]
async fn presence_and_media_events_are_relayed() {
    let scene = Scene::new().await;
    let mut ana = scene.subscribe(&scene.anas).await;
    let mut bo = scene.subscribe(&scene.bos).await;
    let typing =
        json!({"category": "party.typing", "topicId": scene.ops.id, "content": {"mediaSession": {}}, "loopbackMetadata": 1});
    ana.emit("SEND_PRESENCE_EVENT", &typing).await;
    for client in [&mut ana, &mut bo] {
        let event = client.event("PRESENCE_EVENT_RESPONSE").await;
        assert_eq!((&event["category"], &event["sender"]), (&json!("party.typing"), &scene.ana.as_sender()));
        assert_eq!(event["receivers"], json!([]));
    }
    ana.emit("SEND_PRESENCE_EVENT", &json!({"category": "party.typing", "topicId": "elsewhere"})).await;
    assert_eq!(ana.event("PRESENCE_EVENT_RESPONSE").await["category"], "media.session.invalid");

    ana.emit("SEND_MEDIA_SESSION_EVENTS", &json!({"category": "tracksstatus", "topicId": scene.ops.id, "content": {}})).await;
    assert_eq!(bo.event("MEDIA_SESSION_RESPONSE").await["category"], "tracksstatus");
    ana.nothing_came().await;

    assert_eq!(scene.upstream.presence_as(&scene.bo, &scene.ops, "app.event.presence.party.online"), Ok(2));
    assert_eq!(scene.upstream.media(&scene.ops, "app.event.meeting.started"), 2);
    assert_eq!(ana.event("PRESENCE_EVENT_RESPONSE").await["sender"]["displayname"], "Bo");
    assert_eq!(ana.event("MEDIA_SESSION_RESPONSE").await["sender"]["type"], "spaceserver");
}

#[tokio::test]
async fn the_demo_world_is_the_same_every_time() {
    let one = FakeUpstream::start(Options::default()).await.expect("a free port").demo_world();
    let other = FakeUpstream::start(Options::default()).await.expect("a free port").demo_world();
    assert_eq!(one.ana.id, other.ana.id);
    assert_eq!((&one.operations.id, &one.lounge.id, &one.direct.id), (&other.operations.id, &other.lounge.id, &other.direct.id));
    let seeded = FakeUpstream::start(Options { seed: 2, ..Options::default() }).await.expect("a free port").demo_world();
    assert_ne!(one.ana.id, seeded.ana.id);
}
