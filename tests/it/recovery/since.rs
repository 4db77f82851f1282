//! Webhooks and subscriptions that want what happened before them.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{DEADLINE, Talk, ago, text};
use crate::support::bridge::send;
use crate::support::receiver::{Receiver, Recorded, Reply};
use crate::support::wait::eventually;

fn time(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).expect("a time").to_string()
}

impl Talk {
    /// Puts messages into the space's past: the text, and how many seconds ago.
    fn past(&self, messages: &[(&str, i64)]) {
        for (text, seconds) in messages {
            let stored = self.scene.upstream.backdate_as(&self.scene.bo, &self.scene.space, text, ago(*seconds));
            stored.expect("Bo is a member");
        }
    }
}

async fn texts(receiver: &Receiver, count: usize) -> Vec<String> {
    eventually("the deliveries", async || (receiver.count() >= count).then_some(())).await;
    receiver.recorded().iter().map(Recorded::json).map(|event| text(&event)).collect()
}

#[tokio::test]
async fn a_webhook_gets_what_happened_since_the_time_that_it_names() {
    for spaces in [json!(["*"]), json!(["*", "direct"]), Value::Null] {
        let talk = Talk::start().await;
        talk.past(&[("too old", 7_200), ("an hour ago", 3_600), ("a minute ago", 60)]);
        let receiver = Receiver::start(Reply::status(204)).await;
        let spaces = if spaces.is_null() { json!([talk.scene.space.as_ref()]) } else { spaces };
        let settings = json!({"spaces": spaces, "since": time(ago(4_000)), "ordering": "space"});
        talk.register(&receiver, settings).await;
        assert_eq!(texts(&receiver, 2).await, ["+an hour ago", "+a minute ago"], "{spaces}");
        talk.recovered().await;
        talk.bo_says("now");
        assert_eq!(texts(&receiver, 3).await.last().map(String::as_str), Some("now"), "{spaces}");
        drop(receiver);
        talk.bridge.stop().await;
    }
}

#[tokio::test]
async fn what_is_wanted_from_the_past_is_not_forgotten_by_a_restart() {
    let talk = Talk::start().await;
    talk.past(&[("an hour ago", 3_600)]);
    let receiver = Receiver::start(Reply::status(204)).await;
    talk.cut().await;
    talk.register(&receiver, json!({"since": time(ago(4_000))})).await;
    let bridge = talk.bridge.restart().await;
    talk.scene.upstream.script(|script| {
        script.refuse.off();
    });
    assert_eq!(texts(&receiver, 1).await, ["+an hour ago"]);
    let calls = |talk: &crate::support::bridge::Scene| {
        talk.upstream.seen(|seen| seen.rest_count("GET", "/api/activitiesrecord/messages"))
    };
    let before = calls(&talk.scene);
    assert!(before > 0);
    drop(receiver);
    let bridge = bridge.restart().await;
    let listens =
        talk.scene.upstream.wait_until(DEADLINE, |seen| seen.is_subscribed(&talk.scene.token, talk.scene.space.as_ref()));
    listens.await.expect("the session listens");
    bridge.stop().await;
}

#[tokio::test]
async fn a_subscription_gets_what_happened_since_the_time_that_it_names() {
    let talk = Talk::start().await;
    talk.past(&[("too old", 7_200), ("an hour ago", 3_600)]);
    talk.bo_says("known");
    talk.texts(1).await;
    let path = format!("/spaces/{}/subscription", talk.scene.space.as_ref());
    let request = talk.bridge.request(Method::PUT, &path, &talk.scene.token).json(&json!({"since": time(ago(4_000))}));
    assert_eq!(send(request).await.status, StatusCode::OK);
    assert_eq!(talk.texts(2).await, ["known", "+an hour ago"], "what is known does not come again");
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_time_that_makes_no_sense_is_refused() {
    let talk = Talk::start().await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let path = format!("/spaces/{}/subscription", talk.scene.space.as_ref());
    for since in [json!(time(ago(-60))), json!(time(ago(3_600 * 24 * 365))), json!("yesterday"), json!(7)] {
        let webhook = json!({"url": receiver.url(), "since": since});
        talk.bridge.post("/webhooks", &talk.scene.token, &webhook).await.assert_problem(422, "invalid_body");
        let request = talk.bridge.request(Method::PUT, &path, &talk.scene.token).json(&json!({"since": since}));
        send(request).await.assert_problem(422, "invalid_body");
    }
    let off = json!({"url": receiver.url(), "since": time(ago(60)), "enabled": false});
    talk.bridge.post("/webhooks", &talk.scene.token, &off).await.assert_problem(422, "invalid_body");
    let unknown = talk.bridge.request(Method::PUT, &path, &talk.scene.token).json(&json!({"sinse": "x"}));
    send(unknown).await.assert_problem(422, "invalid_body");
    talk.bridge.stop().await;
}
