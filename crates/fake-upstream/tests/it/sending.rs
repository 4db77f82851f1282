//! Messages by socket: echoes, refusals, and what befalls them.

use fake_upstream::{EchoFault, EventFault, Fault, Limits, Options, OverLimit, Place, SendRefusal, TextStyle};
use http::Method;
use serde_json::{Value, json};

use crate::support::{LATE, Scene, call};

#[tokio::test]
async fn a_sent_message_comes_back_complete_and_with_its_loopback_to_its_socket_only() {
    let scene = Scene::new().await;
    let mut ana = scene.subscribe(&scene.anas).await;
    let mut also_ana = scene.subscribe(&scene.anas).await;
    let mut bo = scene.subscribe(&scene.bos).await;
    ana.chat(&scene.ops.id, "hi").await;
    let echo = ana.event("MESSAGE_SENT").await;
    let events = [also_ana.event("MESSAGE_SENT").await, bo.event("MESSAGE_SENT").await];
    assert_eq!(echo["loopbackMetadata"], json!({"ref": "hi"}));
    for message in events.iter().chain([&echo]) {
        assert_eq!(message["_id"], echo["_id"]);
        assert_eq!(message["_id"].as_str().map(str::len), Some(24));
        assert_eq!(message["topicTitle"], "Ops");
        assert_eq!(message["topicType"], "group");
        assert_eq!(message["sender"], scene.ana.as_sender());
        assert_eq!(message["content"]["bodyText"], "hi");
        assert!(message["created"].is_string());
    }
    assert!(events.iter().all(|event| event.get("loopbackMetadata").is_none()));
    let stored = scene.upstream.with_world(|world| world.messages_in(&scene.ops.id).len());
    assert_eq!(stored, 1);
}

#[tokio::test]
async fn posts_tasks_and_comments_are_stored_with_their_fields() {
    let scene = Scene::new().await;
    let mut ana = scene.subscribe(&scene.anas).await;
    let task = json!({"category": "task", "topicId": scene.ops.id, "chatMessages": {}, "version": "1.1",
        "content": {"bodyText": "Rotate keys", "assignees": [{"_id": scene.bo.id}], "dueDate": "2031-03-14T17:00:00.000Z"}});
    ana.emit("SEND_MESSAGE", &task).await;
    let task = ana.event("MESSAGE_SENT").await;
    assert_eq!(task["content"]["status"], "pending");
    assert_eq!(task["content"]["cid"], scene.ana.id.as_str());
    let comment =
        json!({"category": "chat", "topicId": scene.ops.id, "parentMsg": {"_id": task["_id"]}, "content": {"bodyText": "done"}});
    ana.emit("SEND_MESSAGE", &comment).await;
    let comment = ana.event("MESSAGE_SENT").await;
    assert_eq!(comment["parentMsg"], json!({"_id": task["_id"], "bodyText": "Rotate keys", "category": "task"}));
}

#[tokio::test]
async fn a_message_sent_over_rest_reaches_subscribers() {
    let scene = Scene::new().await;
    let mut bo = scene.subscribe(&scene.bos).await;
    let path = format!("/api/spaces/{}/chats", scene.ops.id);
    let body = json!({"content": {"bodyText": "by REST"}});
    let reply = call(&scene.upstream, &scene.anas, Method::POST, &path, Some(body)).await;
    assert_eq!(reply.status, 200);
    assert_eq!(bo.event("MESSAGE_SENT").await["_id"], reply.json()["_id"]);
}

#[tokio::test]
async fn direct_messages_reach_the_peer_without_subscription() {
    let scene = Scene::new().await;
    let direct = scene.upstream.direct_space(&scene.ana, &scene.bo);
    let mut ana = scene.subscribe(&scene.anas).await;
    let mut bo = scene.join(&scene.bos).await;
    ana.subscribe(&direct.id).await;
    ana.chat(&direct.id, "psst").await;
    ana.event("MESSAGE_SENT").await;
    let event = bo.event("MESSAGE_SENT").await;
    assert_eq!((event["topicType"].as_str(), event["topicId"].as_str()), (Some("direct"), Some(direct.id.as_str())));
    // A subscribed peer gets one copy.
    bo.subscribe(&direct.id).await;
    ana.chat(&direct.id, "again").await;
    assert_eq!(bo.texts(1).await, ["again"]);
    bo.nothing_came().await;
}

#[tokio::test]
async fn a_send_is_refused_in_each_shape() {
    let scene = Scene::new().await;
    let mut ana = scene.subscribe(&scene.anas).await;
    let word = json!("app.event.channel.subscription.required");
    let object = SendRefusal::Object { code: "x.y".to_owned(), message: "no".to_owned() };
    let cases: [(SendRefusal, &str, Value); 8] = [
        (SendRefusal::policy(), "/error", json!("not.authorized.by.topic.policy")),
        (object, "/error/code", json!("x.y")),
        (SendRefusal::Bare, "/content/bodyText", json!("hi")),
        (SendRefusal::SubscriptionRequired(Place::Error), "/error", word.clone()),
        (SendRefusal::SubscriptionRequired(Place::ErrorCode), "/error/code", word.clone()),
        (SendRefusal::SubscriptionRequired(Place::Category), "/category", word.clone()),
        (SendRefusal::SubscriptionRequired(Place::Type), "/type", word.clone()),
        (SendRefusal::SubscriptionRequired(Place::Code), "/code", word),
    ];
    for (refusal, pointer, expected) in cases {
        let bare = refusal == SendRefusal::Bare;
        scene.upstream.script(|script| {
            script.send_refusal.next(1, refusal);
        });
        ana.chat(&scene.ops.id, "hi").await;
        let failure = ana.event("SEND_MESSAGE_FAILED").await;
        assert_eq!(failure.pointer(pointer), Some(&expected));
        assert_eq!(failure["loopbackMetadata"], json!({"ref": "hi"}));
        assert_eq!(failure.get("sender").is_some(), !bare);
        assert_eq!(failure.get("error").is_some(), pointer.starts_with("/error"));
    }
    scene.upstream.script(|script| {
        script.send_refusal.next(1, SendRefusal::policy()).next(1, SendRefusal::Silence);
        script.failure_without_loopback.next(1, ());
    });
    ana.chat(&scene.ops.id, "hi").await;
    assert!(ana.event("SEND_MESSAGE_FAILED").await.get("loopbackMetadata").is_none());
    ana.chat(&scene.ops.id, "hi").await;
    ana.nothing_came().await;
    assert_eq!(scene.upstream.with_world(|world| world.messages_in(&scene.ops.id).len()), 0);
}

#[tokio::test]
async fn a_send_without_subscription_membership_of_speakers_or_content_is_refused() {
    let scene = Scene::new().await;
    let mut ana = scene.join(&scene.anas).await;
    ana.chat(&scene.ops.id, "hi").await;
    assert_eq!(ana.event("SEND_MESSAGE_FAILED").await["error"], "app.event.channel.subscription.required");
    scene.upstream.script(|script| {
        script.subscription_required.always(Place::Code);
    });
    ana.chat(&scene.ops.id, "hi").await;
    assert_eq!(ana.event("SEND_MESSAGE_FAILED").await["code"], "app.event.channel.subscription.required");

    ana.subscribe(&scene.ops.id).await;
    for payload in [json!({"category": "chat"}), json!({"category": "odd", "content": {"bodyText": "x"}})] {
        let mut payload = payload;
        payload["topicId"] = scene.ops.id.clone().into();
        ana.emit("SEND_MESSAGE", &payload).await;
        assert_eq!(ana.event("SEND_MESSAGE_FAILED").await["error"]["code"], "invalid.parameters");
    }
    let change = |change: fn(&mut fake_upstream::Space, &str)| {
        scene.upstream.with_world(|world| world.change_space(&scene.ops.id, |space| change(space, &scene.ana.id)));
    };
    change(|space, ana| {
        space.muted.insert(ana.to_owned());
    });
    ana.chat(&scene.ops.id, "hi").await;
    assert_eq!(ana.event("SEND_MESSAGE_FAILED").await["error"], "not.authorized.by.topic.policy");
    change(|space, _| {
        space.muted.clear();
        space.archived = true;
    });
    ana.chat(&scene.ops.id, "hi").await;
    assert_eq!(ana.event("SEND_MESSAGE_FAILED").await["error"], "topic.invalid_acesss_to_archived_topic");
}

#[tokio::test]
async fn an_echo_suffers_each_fault_while_others_get_the_event() {
    let scene = Scene::new().await;
    let mut ana = scene.subscribe(&scene.anas).await;
    let mut bo = scene.subscribe(&scene.bos).await;
    scene.upstream.script(|script| {
        script.echo.next(1, EchoFault::Missing).next(1, EchoFault::WithoutLoopback).next(1, EchoFault::Twice);
        script.echo.next(1, EchoFault::Held).next(1, EchoFault::Late(LATE));
    });
    ana.chat(&scene.ops.id, "missing").await;
    ana.nothing_came().await;
    ana.chat(&scene.ops.id, "bare").await;
    assert!(ana.event("MESSAGE_SENT").await.get("loopbackMetadata").is_none());
    ana.chat(&scene.ops.id, "twice").await;
    assert_eq!(ana.texts(2).await, ["twice", "twice"]);
    ana.chat(&scene.ops.id, "held").await;
    ana.nothing_came().await;
    assert_eq!(scene.upstream.release(), 1);
    assert_eq!(ana.event("MESSAGE_SENT").await["loopbackMetadata"], json!({"ref": "held"}));
    ana.chat(&scene.ops.id, "late").await;
    ana.nothing_came().await;
    assert_eq!(ana.texts(1).await, ["late"]);
    ana.nothing_came().await;
    assert_eq!(bo.texts(5).await, ["missing", "bare", "twice", "held", "late"]);
    bo.nothing_came().await;
}

#[tokio::test]
async fn events_suffer_each_fault_for_everybody() {
    let scene = Scene::new().await;
    let mut bo = scene.subscribe(&scene.bos).await;
    scene.upstream.script(|script| {
        script.events.next(1, EventFault::Missing).next(1, EventFault::Twice).next(2, EventFault::Overtaken);
    });
    let post = |text: &str| scene.upstream.post_as(&scene.ana, &scene.ops, text).expect("a known space");
    for text in ["missing", "twice", "1", "2", "3", "4"] {
        post(text);
    }
    assert_eq!(bo.texts(6).await, ["twice", "twice", "3", "2", "1", "4"]);
    scene.upstream.script(|script| {
        script.events.next(1, EventFault::Held).next(1, EventFault::Overtaken).next(1, EventFault::Late(LATE));
    });
    for text in ["held", "overtaken", "late"] {
        post(text);
    }
    assert_eq!(bo.texts(1).await, ["late"]);
    assert_eq!(scene.upstream.release(), 2);
    assert_eq!(bo.texts(2).await, ["held", "overtaken"]);
    assert_eq!(scene.upstream.with_world(|world| world.messages_in(&scene.ops.id).len()), 9);
}

#[tokio::test]
async fn texts_come_back_wrapped_and_escaped() {
    let scene = Scene::new().await;
    let mut ana = scene.subscribe(&scene.anas).await;
    scene.upstream.script(|script| {
        script.text.next(1, TextStyle::Paragraph).next(1, TextStyle::Entities);
        script.text.next(1, TextStyle::ParagraphAndEntities).next(1, TextStyle::Escaped);
    });
    for _ in 0..5 {
        ana.chat(&scene.ops.id, "<b>it's</b>").await;
    }
    let expected =
        ["<p><b>it's</b></p>", "<b>it&#x27;s</b>", "<p><b>it&#x27;s</b></p>", "&lt;b&gt;it&#x27;s&lt;/b&gt;", "<b>it's</b>"];
    assert_eq!(ana.texts(5).await, expected);
}

#[tokio::test]
async fn emits_beyond_the_limits_suffer_what_is_scripted() {
    let limits = Limits { emits: Some(3), payload_kib: Some(1), ..Limits::default() };
    let scene = Scene::with(Options { limits, ..Options::default() }).await;
    let mut ana = scene.subscribe(&scene.anas).await;
    let large = "x".repeat(1024);
    ana.chat(&scene.ops.id, &large).await;
    ana.nothing_came().await;
    scene.upstream.script(|script| {
        script.over_payload.next(1, OverLimit::Failed("too.large".to_owned()));
        script.over_emits.next(1, OverLimit::Silence).next(1, OverLimit::Failed("too.fast".to_owned()));
        script.over_emits.next(1, OverLimit::Fault(Fault::Kick));
    });
    ana.chat(&scene.ops.id, &large).await;
    assert_eq!(ana.event("SEND_MESSAGE_FAILED").await["error"], "too.large");
    for text in ["1", "2"] {
        ana.chat(&scene.ops.id, text).await;
    }
    assert_eq!(ana.texts(2).await, ["1", "2"]);
    ana.chat(&scene.ops.id, "dropped").await;
    ana.nothing_came().await;
    ana.chat(&scene.ops.id, "failed").await;
    assert_eq!(ana.event("SEND_MESSAGE_FAILED").await["error"], "too.fast");
    ana.chat(&scene.ops.id, "kicked").await;
    assert_eq!(ana.frame().await, "41/chat");
}
