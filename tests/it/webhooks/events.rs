//! Which events reach a webhook, and what they look like.

use fake_upstream::{EchoFault, EventFault, Fault, TokenKind, Who};
use http::HeaderMap;
use serde_json::{Value, json};

use super::{Scene, bodies, message_ids};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

/// Waits for the clock to move on: Spaces tells changes apart by milliseconds.
async fn next_millisecond() {
    let before = jiff::Timestamp::now().as_millisecond();
    eventually("the next millisecond", async || (jiff::Timestamp::now().as_millisecond() > before).then_some(())).await;
}

#[tokio::test]
async fn what_another_user_posts_arrives_signed_and_in_the_documented_envelope() {
    let scene = Scene::start().await;
    let (webhook, secret) = scene.bridge.register(&scene.token, &scene.receiver).await;
    scene.listening().await;
    let id = scene.bo_says("<p>it&#x27;s <b>down</b></p>");
    let body = scene.bodies(1).await.remove(0);

    let request = scene.receiver.recorded().remove(0);
    let mut headers = HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, request.header(name).parse().expect("a header value"));
    }
    let verifier = standardwebhooks::Webhook::new(&secret).expect("a secret");
    verifier.verify(&request.body, &headers).expect("the signature is right");

    assert_eq!(body["type"], "message.created");
    let (data, message) = (&body["data"], &body["data"]["message"]);
    assert_eq!(request.header("webhook-id"), data["eventId"]);
    assert_eq!(data["spaceId"], scene.space.as_ref());
    assert_eq!((&data["category"], &data["own"], &data["recovered"]), (&json!("chat"), &json!(false), &json!(false)));
    assert!(data["account"].as_str().is_some_and(|account| account.ends_with(scene.ana.as_ref())), "{data}");
    assert_eq!(message["id"], id);
    assert_eq!((&message["text"], &message["html"]), (&json!("it's down"), &json!("<p>it&#x27;s <b>down</b></p>")));
    assert_eq!(message["sender"]["id"], scene.bo.as_ref());
    assert_eq!(message["sender"]["displayName"], "Bo");
    assert_eq!((&message["attachments"], &message["replyTo"]), (&json!([]), &Value::Null));
    assert_eq!(message["createdAt"], body["timestamp"]);
    assert!(message.get("modifiedAt").is_some());
    let stored = scene.upstream.with_world(|world| world.find_message(&id).map(fake_upstream::Message::to_json));
    assert_eq!(Some(&data["upstream"]), stored.as_ref());

    let delivery = scene.delivery(&webhook, |delivery| delivery["state"] == "delivered").await;
    assert_eq!((&delivery["eventId"], &delivery["attemptCount"]), (&data["eventId"], &json!(1)));
    assert_eq!(delivery["attempts"][0]["status"], 204);
    scene.end().await;
}

#[tokio::test]
async fn own_messages_are_marked_and_left_out_on_request() {
    let scene = Scene::start().await;
    let others_only = Receiver::start(Reply::status(204)).await;
    scene.register(json!({})).await;
    scene.bridge.register_with(&scene.token, &others_only, json!({"ignoreOwn": true})).await;
    let sent = scene.bridge.say(&scene.token, &scene.space, "from here").await.json();
    let theirs = scene.bo_says("from there");
    let events = scene.bodies(2).await;
    let own = |id: &str| {
        let event = events.iter().find(|event| event["data"]["message"]["id"] == id).expect("the event");
        event["data"]["own"].as_bool()
    };
    assert_eq!((own(sent["id"].as_str().expect("an id")), own(&theirs)), (Some(true), Some(false)));
    assert_eq!(message_ids(&bodies(&others_only, 1).await), [theirs]);
    scene.end().await;
}

#[tokio::test]
async fn what_ana_writes_elsewhere_is_not_marked_as_sent_through_the_bridge() {
    let scene = Scene::start().await;
    scene.register(json!({"ignoreOwn": true})).await;
    scene.upstream.post_as(&scene.ana, &scene.space, "from my phone").expect("Ana is a member");
    assert_eq!(scene.bodies(1).await[0]["data"]["own"], false);
    scene.end().await;
}

#[tokio::test]
async fn edits_deletions_and_new_titles_are_events_of_their_own() {
    let scene = Scene::start().await;
    scene.register(json!({"events": ["message.*", "space.*"], "ordering": "space"})).await;
    let id = scene.bo_says("first");
    next_millisecond().await;
    scene.upstream.edit(&id, "second").expect("the message exists");
    scene.upstream.delete(&id).expect("the message exists");
    scene.upstream.rename_space(&scene.bo, &scene.space, "Operations").expect("the space exists");
    let events = scene.bodies(4).await;
    let types: Vec<_> = events.iter().map(|event| event["type"].as_str().expect("a type")).collect();
    assert_eq!(types, ["message.created", "message.updated", "message.deleted", "space.updated"]);
    assert_eq!(events[1]["data"]["message"]["text"], "second");
    assert_eq!(events[2]["data"]["message"]["id"], id);
    assert_eq!(events[3]["data"]["upstream"]["topicTitle"], "Operations");
    scene.end().await;
}

#[tokio::test]
async fn patterns_choose_the_events() {
    let scene = Scene::start().await;
    let wanted = [json!(["message.created"]), json!(["message.*"]), json!(["MESSAGE_SENT"]), json!(["space.*"])];
    let mut receivers = Vec::new();
    for events in &wanted {
        let receiver = Receiver::start(Reply::status(204)).await;
        scene.bridge.register_with(&scene.token, &receiver, json!({"events": events, "ordering": "space"})).await;
        receivers.push(receiver);
    }
    scene.listening().await;
    let id = scene.bo_says("first");
    next_millisecond().await;
    scene.upstream.edit(&id, "second").expect("the message exists");
    scene.upstream.rename_space(&scene.bo, &scene.space, "Operations").expect("the space exists");
    let last = scene.bo_says("last");
    next_millisecond().await;
    scene.upstream.rename_space(&scene.bo, &scene.space, "Ops").expect("the space exists");
    for (receiver, expected) in receivers.iter().zip([
        vec!["message.created", "message.created"],
        vec!["message.created", "message.updated", "message.created"],
        vec!["message.created", "message.updated", "space.updated", "message.created", "space.updated"],
        vec!["space.updated", "space.updated"],
    ]) {
        let events = bodies(receiver, expected.len()).await;
        let types: Vec<_> = events.iter().map(|event| event["type"].as_str().expect("a type")).collect();
        assert_eq!(types, expected);
        if expected.last() == Some(&"message.created") {
            assert_eq!(message_ids(&events).last(), Some(&last.as_str()));
        }
    }
    scene.end().await;
}

#[tokio::test]
async fn spaces_are_chosen_by_id_all_groups_or_direct() {
    let scene = Scene::start().await;
    let lounge = scene.upstream.space("Lounge", &[&scene.ana, &scene.bo]);
    let direct = scene.upstream.direct_space(&scene.ana, &scene.bo);
    let mut receivers = Vec::new();
    for spaces in [json!([lounge.as_ref()]), json!(["*"]), json!(["direct"])] {
        let receiver = Receiver::start(Reply::status(204)).await;
        scene.bridge.register_with(&scene.token, &receiver, json!({"spaces": spaces})).await;
        receivers.push(receiver);
    }
    for space in [&scene.space, &lounge, &direct] {
        scene.listening_to(space).await;
    }
    for space in [&scene.space, &lounge, &direct] {
        scene.upstream.post_as(&scene.bo, space, "hello").expect("Bo is a member");
    }
    let expected = [vec![lounge.as_ref()], vec![scene.space.as_ref(), lounge.as_ref()], vec![direct.as_ref()]];
    for (receiver, expected) in receivers.iter().zip(expected) {
        let events = bodies(receiver, expected.len()).await;
        let mut spaces: Vec<_> = events.iter().map(|event| event["data"]["spaceId"].as_str().expect("a space")).collect();
        spaces.sort_by_key(|space| expected.iter().position(|wanted| wanted == space));
        assert_eq!(spaces, expected);
    }
    scene.end().await;
}

#[tokio::test]
async fn a_category_that_nobody_knows_is_delivered_all_the_same() {
    let scene = Scene::start().await;
    scene.register(json!({})).await;
    let strange = json!({"_id": "m9", "category": "meeting.recap", "topicId": scene.space.as_ref(), "content": {"score": 7}});
    assert_eq!(scene.upstream.inject(&Who::space(&scene.space), "MESSAGE_SENT", &strange), 1);
    let event = scene.bodies(1).await.remove(0);
    assert_eq!((&event["type"], &event["data"]["category"]), (&json!("message.other"), &json!("meeting.recap")));
    assert_eq!(event["data"]["upstream"], strange);
    scene.end().await;
}

#[tokio::test]
async fn an_event_with_missing_or_odd_fields_is_delivered_or_counted() {
    let scene = Scene::start().await;
    scene.register(json!({})).await;
    let space = scene.space.as_ref();
    let delivered = [
        json!({"topicId": space}),
        json!({"topicId": space, "category": "chat"}),
        json!({"topicId": space, "category": "chat", "_id": 7, "content": "text", "sender": []}),
        json!({"topicId": space, "category": "chat", "_id": "m1", "created": "yesterday", "modified": {}, "content": {"bodyText": null}}),
        json!({"topicId": space, "category": ["chat"], "_id": "m2", "parentMsg": 1, "loopbackMetadata": "x"}),
    ];
    let counted = [
        json!({"category": "chat", "_id": "m3"}),
        json!({"topicId": "", "category": "chat"}),
        json!([1, 2]),
        json!("x"),
        json!(null),
    ];
    for payload in delivered.iter().chain(&counted) {
        assert_eq!(scene.upstream.inject(&Who::token(&scene.token), "MESSAGE_SENT", payload), 1);
    }
    let connection = Who::token(&scene.token);
    scene.upstream.fault(&connection, &Fault::Frame("42/chat,[\"MESSAGE_SENT\"]".to_owned()));
    let last = scene.bo_says("still here");
    let events = scene.bodies(delivered.len() + 1).await;
    let mut objects: Vec<_> = events.iter().map(|event| event["data"]["upstream"].clone()).collect();
    for payload in &delivered {
        let place = objects.iter().position(|object| object == payload).unwrap_or_else(|| panic!("{payload} is missing"));
        objects.swap_remove(place);
    }
    assert_eq!(objects[0]["_id"], last);
    eventually("the count of unreadable events", async || {
        let unreadable = scene.bridge.metric("spaces_bridge_events_total{result=\"unreadable\"}").await;
        (unreadable >= 5.0).then_some(())
    })
    .await;
    assert_eq!(scene.upstream.seen(|seen| seen.opened_with(&scene.token)), 1);
    scene.end().await;
}

#[tokio::test]
async fn a_repeated_or_overtaken_event_is_delivered_once() {
    let scene = Scene::start().await;
    let webhook = scene.register(json!({})).await;
    scene.upstream.script(|script| {
        script.events.next(1, EventFault::Twice).next(2, EventFault::Overtaken);
        script.echo.next(1, EchoFault::Twice);
    });
    let mut ids = vec![scene.bo_says("one"), scene.bo_says("two"), scene.bo_says("three"), scene.bo_says("four")];
    let sent = scene.bridge.say(&scene.token, &scene.space, "five").await.json();
    ids.push(sent["id"].as_str().expect("an id").to_owned());
    // One more, and everything before it has been through the log.
    ids.push(scene.bo_says("six"));
    let events = scene.bodies(ids.len()).await;
    let mut got: Vec<String> = message_ids(&events).into_iter().map(str::to_owned).collect();
    got.sort();
    ids.sort();
    assert_eq!(got, ids);
    assert!(scene.bridge.metric("spaces_bridge_events_total{result=\"repeated\"}").await >= 1.0);
    assert_eq!(scene.bridge.deliveries(&scene.token, &webhook).await.len(), ids.len());
    scene.end().await;
}

#[tokio::test]
async fn after_a_lost_connection_the_session_listens_again_by_itself() {
    let scene = Scene::start().await;
    scene.register(json!({})).await;
    assert_eq!(scene.upstream.fault(&Who::token(&scene.token), &Fault::Cut), 1);
    let reconnected = scene.upstream.wait_until(super::DEADLINE, |seen| {
        seen.opened_with(&scene.token) == 2 && seen.is_subscribed(&scene.token, scene.space.as_ref())
    });
    reconnected.await.expect("a new connection that listens");
    let id = scene.bo_says("back again");
    assert_eq!(message_ids(&scene.bodies(1).await), [id]);
    assert_eq!(scene.upstream.seen(|seen| seen.peak_with(&scene.token)), 1);
    scene.end().await;
}

#[tokio::test]
async fn an_account_with_two_sessions_gets_each_event_once() {
    let scene = Scene::start().await;
    scene.register(json!({})).await;
    let second = scene.upstream.token_for(&scene.ana, TokenKind::Jwt);
    let mut expected = Vec::new();
    for number in 0..20 {
        let sent = scene.bridge.say(&second, &scene.space, &format!("own {number}")).await;
        assert_eq!(sent.status, 201, "{}", sent.text);
        expected.push(sent.json()["id"].as_str().expect("an id").to_owned());
        expected.push(scene.bo_says(&format!("theirs {number}")));
    }
    let events = scene.bodies(expected.len()).await;
    let mut ids = message_ids(&events);
    ids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ids, expected);
    scene.end().await;
}
