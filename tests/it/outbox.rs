//! Sends that are on disk before anything of them leaves, whatever the upstream and the process do.

mod asking;
mod crashes;
mod doubt;
mod second_path;

use reqwest::Method;
use serde_json::{Value, json};
use spaces_bridge::config::Config;

use crate::support::bridge::{Answer, Bridge, Scene, send};
use crate::support::wait::eventually;

/// Waits that are as short as they can be.
fn impatient(config: &mut Config) {
    config.outbox.confirm_seconds = 1;
    config.outbox.settle_seconds = 1;
    config.outbox.silence_seconds = 1;
    config.upstream.rest_fallback_seconds = 0;
}

fn messages(scene: &Scene) -> String {
    format!("/spaces/{}/messages", scene.space.as_ref())
}

/// Says something with further headers.
async fn say_with(bridge: &Bridge, scene: &Scene, text: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = bridge.request(Method::POST, &messages(scene), &scene.token);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request.json(&json!({ "text": text }))).await
}

/// Puts a text into the outbox. Answers where to read what becomes of it.
async fn queue(bridge: &Bridge, scene: &Scene, text: &str) -> String {
    queue_message(bridge, scene, &json!({ "text": text })).await
}

/// Puts a message into the outbox. Answers where to read what becomes of it.
async fn queue_message(bridge: &Bridge, scene: &Scene, message: &Value) -> String {
    let request = bridge.request(Method::POST, &messages(scene), &scene.token).header("prefer", "respond-async");
    let answer = send(request.json(message)).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.header("location").to_owned()
}

/// Waits until the message at `location` has come to `status`.
async fn comes_to(bridge: &Bridge, scene: &Scene, location: &str, status: &str) -> Value {
    eventually(&format!("a message that is {status}"), async || {
        let state = bridge.get(location, &scene.token).await.json();
        (state["status"] == status).then_some(state)
    })
    .await
}

/// The references of the messages whose failure was told: at least so many, which follow the end of the message.
async fn told_failures(bridge: &Bridge, scene: &Scene, least: usize) -> Vec<Value> {
    eventually(&format!("{least} failures that are told"), async || {
        let told = bridge.get("/events?type=send.failed", &scene.token).await.json();
        let told: Vec<_> = told["data"].as_array().expect("a list").iter().map(|event| event["data"]["ref"].clone()).collect();
        (told.len() >= least).then_some(told)
    })
    .await
}

/// The steps of a message, in words.
fn steps(state: &Value) -> Vec<&str> {
    state["steps"].as_array().expect("steps").iter().map(|step| step["status"].as_str().expect("a status")).collect()
}

/// Waits until a metric has this value.
async fn shows(bridge: &Bridge, line: &str) {
    eventually(line, async || bridge.shows(line).await.then_some(())).await;
}
