//! Incoming hooks over the real service: anything that can post becomes a message in a space.

mod calling;
mod checking;
mod hostile;
mod owning;
mod templating;

use fake_upstream::Space;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::bridge::{Answer, Bridge, Scene, send};
use crate::support::wait::eventually;

/// Ana's bridge, and incoming hooks of hers.
pub(crate) struct Hooks {
    pub(crate) scene: Scene,
    pub(crate) bridge: Bridge,
}

/// A hook, as its maker got it.
pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) url: String,
}

impl Made {
    pub(crate) fn of(answer: &Answer) -> Self {
        assert!(answer.status.is_success(), "{}", answer.text);
        let body = answer.json();
        let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {body}")).to_owned();
        Self { id: text("id"), url: text("url") }
    }

    /// What of the address nobody else may see.
    pub(crate) fn secret(&self) -> &str {
        self.url.rsplit('/').next().expect("a last segment")
    }

    pub(crate) fn path(&self) -> String {
        format!("/incoming-hooks/{}", self.id)
    }
}

impl Hooks {
    pub(crate) async fn new() -> Self {
        let scene = Scene::new().await;
        let bridge = Bridge::start(&scene.upstream).await;
        Self { scene, bridge }
    }

    /// Makes a hook for the space.
    pub(crate) async fn make(&self, settings: Value) -> Made {
        Made::of(&self.create(&self.scene.space, settings).await)
    }

    pub(crate) async fn create(&self, space: &Space, settings: Value) -> Answer {
        let mut body = json!({"spaceId": space.as_ref()});
        body.as_object_mut().expect("an object").extend(settings.as_object().expect("settings").clone());
        self.bridge.post("/incoming-hooks", &self.scene.token, &body).await
    }

    pub(crate) fn call(&self, hook: &Made) -> RequestBuilder {
        self.bridge.plain(Method::POST, &hook.url)
    }

    pub(crate) async fn post(&self, hook: &Made, body: &Value) -> Answer {
        send(self.call(hook).json(body)).await
    }

    /// The hook as its owner sees it.
    pub(crate) async fn shown(&self, hook: &Made) -> Value {
        let answer = self.bridge.get(&hook.path(), &self.scene.token).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    /// The texts in the space once there are so many.
    pub(crate) async fn texts(&self, count: usize) -> Vec<String> {
        eventually("the messages", async || Some(self.scene.texts()).filter(|texts| texts.len() >= count)).await
    }

    /// The first event of a type in the account's log.
    pub(crate) async fn event(&self, event_type: &str) -> Value {
        eventually(event_type, async || {
            let path = format!("/events?type={event_type}");
            let answer = self.bridge.get(&path, &self.scene.token).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            answer.json()["data"].as_array().and_then(|events| events.first().cloned())
        })
        .await
    }
}
