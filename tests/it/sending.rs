//! Sending over the real service: what callers get, whatever the upstream does.

mod availability;
mod confirming;
mod direct;
mod forms;
mod refusing;

use std::time::Duration;

use fake_upstream::{FakeUpstream, Token};
use reqwest::StatusCode;
use serde_json::Value;

use crate::support::bridge::{Bridge, Scene};
use crate::support::wait::eventually;

/// Long enough for everything that happens at all.
const SOON: Duration = Duration::from_secs(30);

fn messages(scene: &Scene) -> String {
    format!("/spaces/{}/messages", scene.space.as_ref())
}

/// Waits until the upstream has seen this many `SEND_MESSAGE`.
async fn sent(upstream: &FakeUpstream, count: usize) {
    upstream.wait_until(SOON, |seen| seen.emits_of("SEND_MESSAGE").count() >= count).await.expect("the sends");
}

/// A session that is online, subscribed and knows its user.
async fn warm_up(bridge: &Bridge, scene: &Scene) {
    assert_eq!(bridge.get("/me", &scene.token).await.status, StatusCode::OK);
    let answer = bridge.say(&scene.token, &scene.space, "warm-up").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
}

/// Waits until `location` tells that the message is confirmed.
async fn confirmed_later(bridge: &Bridge, token: &Token, location: &str) -> Value {
    eventually("the late echo", async || {
        let state = bridge.get(location, token).await.json();
        (state["status"] == "confirmed").then_some(state)
    })
    .await
}
