//! Gaps: what happens in Spaces while a session is not connected, and how it comes into the log after all.

mod cuts;
mod direct;
mod gaps;
mod histories;
mod many;
mod since;

use std::time::Duration;

use fake_upstream::{Fault, Limits, Options, Refusal, Space, Who};
use reqwest::StatusCode;
use serde_json::{Value, json};
use spaces_bridge::config::Config;

use crate::support::bridge::{Bridge, Scene};
use crate::support::receiver::Receiver;
use crate::support::wait::eventually;

/// Far more than anything takes.
const DEADLINE: Duration = Duration::from_secs(30);

/// Ana's session listens to a space in which Bo talks.
struct Talk {
    scene: Scene,
    bridge: Bridge,
}

impl Talk {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let scene = Scene::with(Options { limits: Limits::none(), ..Options::default() }).await;
        let bridge = Bridge::start_with(&scene.upstream, change).await;
        let talk = Self { scene, bridge };
        talk.subscribe(&talk.scene.space).await;
        talk
    }

    async fn subscribe(&self, space: &Space) {
        let answer = self.bridge.put(&format!("/spaces/{}/subscription", space.as_ref()), &self.scene.token).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }

    /// Registers a webhook with these settings.
    async fn register(&self, receiver: &Receiver, settings: Value) -> String {
        self.bridge.register_with(&self.scene.token, receiver, settings).await
    }

    /// Lets Bo say something. Answers the message's id.
    fn bo_says(&self, text: &str) -> String {
        bo_says(&self.scene, &self.scene.space, text)
    }

    /// Waits until the session listens to `space`.
    async fn listening_to(&self, space: &Space) {
        let token = &self.scene.token;
        let subscribed = self.scene.upstream.wait_until(DEADLINE, |seen| seen.is_subscribed(token, space.as_ref()));
        subscribed.await.expect("the session listens");
    }

    /// Cuts the connection and lets nobody in until something has happened meanwhile.
    async fn while_cut(&self, meanwhile: impl AsyncFnOnce()) {
        self.cut().await;
        meanwhile().await;
        self.scene.upstream.script(|script| {
            script.refuse.off();
        });
    }

    async fn cut(&self) {
        let upstream = &self.scene.upstream;
        upstream.script(|script| {
            script.refuse.always(Refusal::Hangup);
        });
        upstream.fault(&Who::Everybody, &Fault::Cut);
        upstream.wait_until(DEADLINE, |seen| seen.open_now() == 0).await.expect("the connection ends");
    }

    /// The events of the log with this query.
    async fn events(&self, query: &str) -> Vec<Value> {
        events(&self.bridge, &self.scene, query).await
    }

    /// Waits until the log has so many messages of the space; answers their texts, those that were recovered with a `+` before.
    async fn texts(&self, count: usize) -> Vec<String> {
        self.texts_in(&self.scene.space, count).await
    }

    async fn texts_in(&self, space: &Space, count: usize) -> Vec<String> {
        let query = format!("type=message.*&space={}", space.as_ref());
        let found = eventually("the messages", async || {
            let events = self.events(&query).await;
            (events.len() >= count).then_some(events)
        });
        found.await.iter().map(text).collect()
    }

    /// Waits until nothing is being recovered.
    async fn recovered(&self) -> Value {
        eventually("the end of the recovery", async || {
            let session = self.bridge.session().await;
            let recovery = session["recovery"].clone();
            (session["state"] == "online" && recovery["spacesLeft"] == 0).then_some(recovery)
        })
        .await
    }

    /// Waits until a gap was told of; answers what was said of each.
    async fn told(&self, count: usize) -> Vec<Value> {
        let found = eventually("the gaps", async || {
            let events = self.events("type=session.gap").await;
            (events.len() >= count).then_some(events)
        });
        found.await.into_iter().map(|event| event["data"].clone()).collect()
    }
}

async fn events(bridge: &Bridge, scene: &Scene, query: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = bridge.get(&format!("/events?{query}&limit=200{cursor}"), &scene.token).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let page = answer.json();
        all.extend(page["data"].as_array().expect("a list").iter().cloned());
        if page["hasMore"] != json!(true) {
            return all;
        }
        cursor = format!("&cursor={}", page["nextCursor"].as_str().expect("a cursor"));
    }
}

fn bo_says(scene: &Scene, space: &Space, text: &str) -> String {
    let message = scene.upstream.post_as(&scene.bo, space, text).expect("Bo is a member");
    message["_id"].as_str().expect("an id").to_owned()
}

/// What a message says, with a `+` before it if it was recovered.
fn text(event: &Value) -> String {
    let data = &event["data"];
    let mark = if data["recovered"] == true { "+" } else { "" };
    format!("{mark}{}", data["message"]["text"].as_str().expect("a text"))
}

/// Waits for the clock to move on: Spaces tells changes apart by milliseconds.
async fn next_millisecond() {
    let before = jiff::Timestamp::now().as_millisecond();
    eventually("the next millisecond", async || (jiff::Timestamp::now().as_millisecond() > before).then_some(())).await;
}

/// Milliseconds since 1970 of the present, less `seconds`.
fn ago(seconds: i64) -> i64 {
    jiff::Timestamp::now().as_millisecond() - seconds * 1_000
}
