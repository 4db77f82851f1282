//! Receivers that answer in words.

use fake_upstream::{EchoFault, Fault, TokenKind, Who};
use serde_json::{Value, json};

use super::{Scene, bodies};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

fn says(body: &Value) -> Reply {
    Reply::Answer(200, vec![("content-type", "application/json".to_owned())], body.to_string().into_bytes())
}

impl Scene {
    /// What stands in the space, in order.
    fn texts(&self) -> Vec<String> {
        self.upstream.with_world(|world| {
            let messages = world.messages_in(self.space.as_ref());
            messages.into_iter().map(|message| message.text().to_owned()).collect()
        })
    }

    async fn has_texts(&self, count: usize) -> Vec<String> {
        eventually("the messages", async || Some(self.texts()).filter(|texts| texts.len() >= count)).await
    }

    /// Waits until as many answers have come to this end.
    async fn replies_are(&self, outcome: &str, count: f64) {
        let name = format!("spaces_bridge_replies_total{{outcome=\"{outcome}\"}}");
        eventually("the count of answers", async || (self.bridge.metric(&name).await >= count).then_some(())).await;
    }
}

#[tokio::test]
async fn an_answer_is_posted_to_the_space_and_shown_with_its_delivery() {
    let scene = Scene::start().await;
    scene.receiver.reply(says(&json!({"text": "on it & <fine>", "username": "bot"})));
    let webhook = scene.register(json!({"reply": true})).await;
    scene.bo_says("deploy");
    let texts = scene.has_texts(2).await;
    assert_eq!(texts, ["deploy", "on it &amp; &lt;fine&gt;"]);
    let delivery = scene.delivery(&webhook, |delivery| delivery["eventType"] == "message.created").await;
    let id = delivery["id"].as_str().expect("an id").to_owned();
    // The answer's own event comes back marked as own, is delivered, and is not answered.
    let received = scene.bodies(2).await;
    assert_eq!((&received[0]["data"]["own"], &received[1]["data"]["own"]), (&json!(false), &json!(true)));
    let first = eventually("the answer", async || {
        for delivery in scene.bridge.deliveries(&scene.token, &webhook).await {
            let detail = scene.bridge.get(&format!("/deliveries/{}", delivery["id"].as_str()?), &scene.token).await.json();
            if detail["reply"]["status"] == "posted" {
                return Some(detail);
            }
        }
        None
    })
    .await;
    assert_eq!(first["eventId"], received[0]["data"]["eventId"]);
    assert_eq!(first["reply"]["messageId"], received[1]["data"]["message"]["id"]);
    assert!(!id.is_empty());
    let last = scene.bridge.restart().await;
    // Nothing is posted again by a start.
    assert_eq!(last.metric("spaces_bridge_replies_total{outcome=\"posted\"}").await.to_bits(), 0.0_f64.to_bits());
    last.stop().await;
}

#[tokio::test]
async fn a_comment_is_answered_in_its_thread() {
    let scene = Scene::start().await;
    scene.receiver.reply(says(&json!({"text": "noted"})));
    scene.register(json!({"reply": true})).await;
    let post = scene.bo_says("Release 41");
    scene.replies_are("posted", 1.0).await;
    let comment = json!({"_id": "c1", "category": "chat", "topicId": scene.space.as_ref(), "sender": {"_id": scene.bo.as_ref()},
        "content": {"bodyText": "nice"}, "parentMsg": {"_id": post}});
    assert_eq!(scene.upstream.inject(&Who::token(&scene.token), "MESSAGE_SENT", &comment), 1);
    scene.replies_are("posted", 2.0).await;
    let parents: Vec<_> = scene.upstream.with_world(|world| {
        let messages = world.messages_in(scene.space.as_ref());
        messages
            .into_iter()
            .filter(|message| message.text() == "noted")
            .map(|message| message.to_json()["parentMsg"]["_id"].clone())
            .collect()
    });
    assert_eq!(parents, [Value::Null, json!(post)]);
    scene.end().await;
}

#[tokio::test]
async fn without_leave_or_without_words_nothing_is_posted() {
    let scene = Scene::start().await;
    scene.receiver.reply(says(&json!({"text": "not allowed to"})));
    scene.register(json!({})).await;
    let silent = Receiver::start(says(&json!({"ok": true}))).await;
    let whispering = Receiver::start(says(&json!({"text": "psst", "response_type": "ephemeral"}))).await;
    let accepted = Receiver::start(Reply::Answer(202, Vec::new(), br#"{"text": "only 200 counts"}"#.to_vec())).await;
    for receiver in [&silent, &whispering, &accepted] {
        scene.bridge.register_with(&scene.token, receiver, json!({"reply": true})).await;
    }
    let edits = Receiver::start(says(&json!({"text": "new messages only"}))).await;
    scene.bridge.register_with(&scene.token, &edits, json!({"reply": true, "events": ["space.*"]})).await;
    scene.listening().await;
    scene.bo_says("hello");
    scene.upstream.rename_space(&scene.bo, &scene.space, "Operations").expect("the space exists");
    for receiver in [&scene.receiver, &silent, &whispering, &accepted, &edits] {
        bodies(receiver, 1).await;
    }
    scene.replies_are("dropped", 1.0).await;
    // What had to be posted would be by the time that all deliveries are settled.
    eventually("the end of all deliveries", async || {
        (scene.bridge.metric("spaces_bridge_deliveries_total{outcome=\"delivered\"}").await >= 5.0).then_some(())
    })
    .await;
    let Scene { upstream, bridge, space, .. } = scene;
    bridge.stop().await;
    let count = upstream.with_world(|world| world.messages_in(space.as_ref()).len());
    assert_eq!(count, 1);
}

#[tokio::test]
async fn two_accounts_whose_webhooks_answer_everything_do_not_answer_each_other() {
    let scene = Scene::start().await;
    let carl = scene.upstream.user("Carl");
    let space = scene.upstream.space("Bots", &[&scene.ana, &scene.bo, &carl]);
    scene.receiver.reply(says(&json!({"text": "Ana's bot"})));
    let others = Receiver::start(says(&json!({"text": "Bo's bot"}))).await;
    let bos = scene.upstream.token_for(&scene.bo, TokenKind::Jwt);
    scene.bridge.register_with(&scene.token, &scene.receiver, json!({"reply": true})).await;
    scene.bridge.register_with(&bos, &others, json!({"reply": true})).await;
    scene.listening_to(&space).await;
    scene.upstream.wait_until(super::DEADLINE, |seen| seen.is_subscribed(&bos, space.as_ref())).await.expect("Bo listens");
    scene.upstream.post_as(&carl, &space, "hello, bots").expect("Carl is a member");
    scene.replies_are("posted", 2.0).await;
    // Each sees the other's answer, answers it, and that is not posted.
    scene.replies_are("dropped", 2.0).await;
    let mut texts: Vec<_> = scene
        .upstream
        .with_world(|world| world.messages_in(space.as_ref()).into_iter().map(|message| message.text().to_owned()).collect());
    texts.sort();
    assert_eq!(texts, ["Ana's bot", "Bo's bot", "hello, bots"].map(|text| text.replace('\'', "&#x27;")));
    scene.end().await;
}

#[tokio::test]
async fn an_answer_that_spaces_does_not_confirm_is_in_doubt_and_said_to_be() {
    let scene = Scene::start().await;
    scene.receiver.reply(says(&json!({"text": "lost?"})));
    let webhook = scene.register(json!({"reply": true})).await;
    scene.upstream.script(|script| {
        script.echo.next(1, EchoFault::Missing);
    });
    scene.bo_says("hello");
    scene.has_texts(2).await;
    scene.upstream.fault(&Who::token(&scene.token), &Fault::Cut);
    scene.replies_are("unconfirmed", 1.0).await;
    let delivery = scene.delivery(&webhook, |delivery| delivery["state"] == "delivered").await;
    let reply = &delivery["reply"];
    assert_eq!(reply["status"], "unconfirmed", "{delivery}");
    let reference = reply["ref"].as_str().expect("a reference");
    let message = eventually("the record of the send", async || {
        let answer = scene.bridge.get(&format!("/messages/{reference}"), &scene.token).await;
        (answer.status == 200).then(|| answer.json())
    });
    assert_eq!(message.await["status"], "unconfirmed");
    scene.end().await;
}
