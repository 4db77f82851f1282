//! Events that are pulled: pages, long polls, streams and consumers, over the real service.

mod catalogue;
mod consumers;
mod pulling;
mod streams;

use fake_upstream::{Limits, Options};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::bridge::{Answer, Bridge, Scene, send};
use crate::support::wait::eventually;

/// Bo talks in a space that Ana's session listens to.
struct Talk {
    scene: Scene,
    bridge: Bridge,
}

impl Talk {
    async fn start() -> Self {
        let scene = Scene::with(Options { limits: Limits::none(), ..Options::default() }).await;
        let bridge = Bridge::start(&scene.upstream).await;
        Self::on(scene, bridge).await
    }

    async fn on(scene: Scene, bridge: Bridge) -> Self {
        let path = format!("/spaces/{}/subscription", scene.space.as_ref());
        let answer = bridge.put(&path, &scene.token).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        Self { scene, bridge }
    }

    /// Lets Bo say something. Answers the message's id.
    fn bo_says(&self, text: &str) -> String {
        let message = self.scene.upstream.post_as(&self.scene.bo, &self.scene.space, text).expect("Bo is a member");
        message["_id"].as_str().expect("an id").to_owned()
    }

    /// Asks for events with this query.
    async fn events(&self, query: &str) -> Value {
        self.page(&format!("/events?{query}")).await
    }

    async fn page(&self, path: &str) -> Value {
        let answer = self.bridge.get(path, &self.scene.token).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json()
    }

    /// Waits until the log has `count` messages. Answers the page of them.
    async fn stored(&self, count: usize) -> Value {
        eventually("the events", async || {
            let page = self.events("type=message.*&limit=200").await;
            (page["data"].as_array().expect("a list").len() >= count).then_some(page)
        })
        .await
    }

    /// The cursor of the present.
    async fn now(&self) -> String {
        text(&self.events("since=now").await["nextCursor"])
    }

    async fn put(&self, path: &str, body: &Value) -> Answer {
        send(self.bridge.request(Method::PUT, path, &self.scene.token).json(body)).await
    }

    /// Waits until so many streams and long polls are open.
    async fn listeners(&self, count: u8) {
        eventually("the listeners", async || {
            let open = self.bridge.metric("spaces_bridge_event_listeners").await;
            ((open - f64::from(count)).abs() < 0.5).then_some(())
        })
        .await;
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// The ids of the messages that the events of a page are about.
fn messages(page: &Value) -> Vec<String> {
    page["data"].as_array().expect("a list").iter().map(|event| text(&event["data"]["message"]["id"])).collect()
}
