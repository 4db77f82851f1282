//! Webhooks over the real service: what receivers get, and what their owners see and change.

mod changes;
mod events;
mod explaining;
mod filters;
mod receivers;
mod recovering;
mod registering;
mod replies;

use std::time::Duration;

use fake_upstream::{FakeUpstream, Limits, Options, Space, Token, TokenKind, User};
use serde_json::Value;

use crate::support::bridge::Bridge;
use crate::support::receiver::{Receiver, Recorded, Reply};
use crate::support::wait::eventually;

/// Ana, who has webhooks, Bo, who posts, and a space that they share.
struct Scene {
    upstream: FakeUpstream,
    bridge: Bridge,
    receiver: Receiver,
    ana: User,
    bo: User,
    token: Token,
    space: Space,
}

impl Scene {
    async fn start() -> Self {
        let options = Options { limits: Limits::none(), ..Options::default() };
        let upstream = FakeUpstream::start(options).await.expect("a fake upstream");
        let (ana, bo) = (upstream.user("Ana"), upstream.user("Bo"));
        let token = upstream.token_for(&ana, TokenKind::Jwt);
        let space = upstream.space("Ops", &[&ana, &bo]);
        let (bridge, receiver) = (Bridge::start(&upstream).await, Receiver::start(Reply::status(204)).await);
        Self { upstream, bridge, receiver, ana, bo, token, space }
    }

    /// Registers a webhook with further settings, and waits until the session listens. Answers its id.
    async fn register(&self, settings: Value) -> String {
        let id = self.bridge.register_with(&self.token, &self.receiver, settings).await;
        self.listening().await;
        id
    }

    /// Waits until Ana's session listens to the space.
    async fn listening(&self) {
        self.listening_to(&self.space).await;
    }

    async fn listening_to(&self, space: &Space) {
        let subscribed = self.upstream.wait_until(DEADLINE, |seen| seen.is_subscribed(&self.token, space.as_ref()));
        subscribed.await.expect("the session listens to the space");
    }

    /// Lets Bo say something. Answers the message's id.
    fn bo_says(&self, html: &str) -> String {
        let message = self.upstream.post_as(&self.bo, &self.space, html).expect("Bo is a member");
        message["_id"].as_str().expect("an id").to_owned()
    }

    /// Waits for `count` requests at the receiver and answers their bodies.
    async fn bodies(&self, count: usize) -> Vec<Value> {
        bodies(&self.receiver, count).await
    }

    /// Waits until the newest delivery of `webhook` satisfies `wanted`, and answers it with its attempts.
    async fn delivery(&self, webhook: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let id = eventually("the delivery", async || {
            let deliveries = self.bridge.deliveries(&self.token, webhook).await;
            let delivery = deliveries.iter().find(|delivery| wanted(delivery))?;
            Some(delivery["id"].as_str().expect("an id").to_owned())
        });
        self.bridge.get(&format!("/deliveries/{}", id.await), &self.token).await.json()
    }

    async fn end(self) {
        // Without its receiver, no attempt holds the end up.
        drop(self.receiver);
        self.bridge.stop().await;
    }
}

/// Far more than anything takes.
const DEADLINE: Duration = Duration::from_secs(30);

async fn bodies(receiver: &Receiver, count: usize) -> Vec<Value> {
    eventually("the deliveries", async || {
        let recorded = receiver.recorded();
        (recorded.len() >= count).then(|| recorded.iter().map(Recorded::json).collect())
    })
    .await
}

/// The ids of the messages that events are about.
fn message_ids(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["data"]["message"]["id"].as_str()).collect()
}
