//! Direct spaces that someone else opens.

use fake_upstream::{RestFault, Space, User, Who};
use serde_json::{Value, json};

use super::{Talk, bo_says, text};
use crate::support::receiver::{Receiver, Recorded, Reply};
use crate::support::wait::eventually;

/// A webhook for direct spaces only.
async fn direct_only(talk: &Talk) -> Receiver {
    let receiver = Receiver::start(Reply::status(204)).await;
    talk.register(&receiver, json!({"spaces": ["direct"]})).await;
    // Until the spaces are listed, none of them is new.
    let listed =
        |seen: &fake_upstream::Seen| seen.rest_calls().any(|call| call.path.ends_with("/me/spaces") && call.status.is_some());
    talk.scene.upstream.wait_until(super::DEADLINE, listed).await.expect("the spaces are listed");
    receiver
}

/// Someone whom Ana has never talked to, and the direct space that he opens.
fn stranger(talk: &Talk) -> (User, Space) {
    let cleo = talk.scene.upstream.user("Cleo");
    let space = talk.scene.upstream.direct_space(&cleo, &talk.scene.ana);
    (cleo, space)
}

async fn received(receiver: &Receiver, count: usize) -> Vec<Value> {
    eventually("the deliveries", async || (receiver.count() >= count).then_some(())).await;
    receiver.recorded().iter().map(Recorded::json).collect()
}

#[tokio::test]
async fn the_first_message_of_a_direct_space_that_someone_opens_reaches_the_webhook() {
    let talk = Talk::start().await;
    let receiver = direct_only(&talk).await;
    let (cleo, space) = stranger(&talk);
    talk.scene.upstream.post_as(&cleo, &space, "hello").expect("Cleo is a member");
    let events = received(&receiver, 1).await;
    assert_eq!((&events[0]["data"]["spaceType"], &events[0]["data"]["spaceId"]), (&json!("direct"), &json!(space.as_ref())));
    talk.listening_to(&space).await;
    talk.while_cut(async || {
        talk.scene.upstream.post_as(&cleo, &space, "are you there?").expect("Cleo is a member");
    })
    .await;
    received(&receiver, 2).await;
    talk.recovered().await;
    talk.scene.upstream.post_as(&cleo, &space, "good").expect("Cleo is a member");
    let events = received(&receiver, 3).await;
    let mut texts: Vec<String> = events.iter().map(text).collect();
    texts.sort();
    assert_eq!(texts, ["+are you there?", "good", "hello"]);
    assert_eq!(talk.texts_in(&space, 3).await, ["hello", "+are you there?", "good"]);
    drop(receiver);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_direct_space_that_someone_opens_while_nobody_is_connected_is_found() {
    let talk = Talk::start().await;
    let receiver = direct_only(&talk).await;
    let (cleo, space) = stranger(&talk);
    talk.while_cut(async || {
        talk.scene.upstream.post_as(&cleo, &space, "anyone?").expect("Cleo is a member");
    })
    .await;
    let events = received(&receiver, 1).await;
    assert_eq!((text(&events[0]), &events[0]["data"]["spaceType"]), ("+anyone?".to_owned(), &json!("direct")));
    drop(receiver);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_message_that_does_not_say_what_kind_of_space_it_is_from_waits_until_that_is_known() {
    let talk = Talk::start().await;
    let receiver = direct_only(&talk).await;
    let (cleo, space) = stranger(&talk);
    for number in 1..=2 {
        let message = json!({"_id": format!("m{number}"), "category": "chat", "topicId": space.as_ref(),
            "sender": cleo.as_sender(), "content": {"bodyText": number.to_string()}, "created": jiff::Timestamp::now().to_string()});
        assert_eq!(talk.scene.upstream.inject(&Who::token(&talk.scene.token), "MESSAGE_SENT", &message), 1);
    }
    let events = received(&receiver, 2).await;
    assert!(events.iter().all(|event| event["data"]["spaceType"] == "direct"), "{events:?}");
    let path = format!("/api/spaces/{}", space.as_ref());
    assert_eq!(talk.scene.upstream.seen(|seen| seen.rest_count("GET", &path)), 1);
    talk.listening_to(&space).await;
    assert_eq!(talk.texts_in(&space, 2).await, ["1", "2"]);
    drop(receiver);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_space_that_cannot_be_looked_up_keeps_no_message_back() {
    let talk = Talk::start().await;
    let receiver = direct_only(&talk).await;
    let (_, space) = stranger(&talk);
    talk.scene.upstream.script(|script| {
        script.rest.on("/api/spaces/*").always(RestFault::status(403, "not.authorized", "no"));
    });
    for number in 1..=2 {
        let message = json!({"_id": format!("m{number}"), "category": "chat", "topicId": space.as_ref(),
            "content": {"bodyText": number.to_string()}, "created": jiff::Timestamp::now().to_string()});
        talk.scene.upstream.inject(&Who::token(&talk.scene.token), "MESSAGE_SENT", &message);
    }
    assert_eq!(talk.texts_in(&space, 2).await, ["1", "2"]);
    let path = format!("/api/spaces/{}", space.as_ref());
    assert_eq!(talk.scene.upstream.seen(|seen| seen.rest_count("GET", &path)), 1, "it is asked for once");
    assert_eq!(receiver.count(), 0);
    drop(receiver);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_new_group_space_is_no_business_of_a_webhook_for_direct_ones() {
    let talk = Talk::start().await;
    let receiver = direct_only(&talk).await;
    let lounge = talk.scene.upstream.space("Lounge", &[&talk.scene.ana, &talk.scene.bo]);
    talk.while_cut(async || {
        bo_says(&talk.scene, &lounge, "not for her");
        talk.bo_says("missed");
    })
    .await;
    assert_eq!(talk.texts(1).await, ["+missed"]);
    talk.recovered().await;
    let heard = talk.events(&format!("type=message.*&space={}", lounge.as_ref())).await;
    assert_eq!((receiver.count(), heard.len()), (0, 0));
    drop(receiver);
    talk.bridge.stop().await;
}
