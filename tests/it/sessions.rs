//! Sessions over the real service: opened, lost, found again, refused, closed.

mod connecting;
mod life;
mod refusals;
mod subscribing;

use std::time::Duration;

use fake_upstream::{FakeUpstream, Seen, Token};
use reqwest::StatusCode;
use serde_json::Value;

use crate::support::bridge::Bridge;
use crate::support::wait::eventually;

/// Long enough for everything that happens at all.
const SOON: Duration = Duration::from_secs(30);

async fn seen(upstream: &FakeUpstream, what: impl FnMut(&Seen) -> bool) {
    upstream.wait_until(SOON, what).await.expect("to be seen");
}

fn subscription(space: impl AsRef<str>) -> String {
    format!("/spaces/{}/subscription", space.as_ref())
}

/// Waits until the only session is in this state.
async fn state(bridge: &Bridge, state: &str) -> Value {
    eventually(state, async || {
        let session = bridge.session().await;
        (session["state"] == state).then_some(session)
    })
    .await
}

/// Sends, which must work.
async fn say(bridge: &Bridge, token: &Token, space: impl AsRef<str>, text: &str) {
    let answer = bridge.say_within(60, token, space, text).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{text}: {}", answer.text);
}
