//! `POST /sessions/{id}/restart`.

use std::time::Duration;

use fake_upstream::{Refusal, Seen};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::bridge::{Bridge, Scene};
use crate::support::wait::eventually;

async fn path(bridge: &Bridge) -> String {
    format!("/sessions/{}/restart", bridge.session().await["id"].as_str().expect("an id"))
}

#[tokio::test]
async fn the_operator_restarts_a_session_and_nobody_else_does() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    assert_eq!(bridge.say(&scene.token, &scene.space, "before").await.status, StatusCode::CREATED);
    let path = path(&bridge).await;
    bridge.post(&path, &scene.token, &json!({})).await.assert_problem(403, "operator_required");
    bridge.operator(Method::POST, "/sessions/ses_unknown/restart").await.assert_problem(404, "session_not_found");
    for round in 2..5 {
        let answer = bridge.operator(Method::POST, &path).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
        scene
            .upstream
            .wait_until(Duration::from_secs(30), |seen| seen.opened_with(&scene.token) == round)
            .await
            .expect("another");
        assert_eq!(bridge.say(&scene.token, &scene.space, &format!("after {round}")).await.status, StatusCode::CREATED);
    }
    assert_eq!(scene.upstream.seen(|seen| seen.peak_with(&scene.token)), 1, "one connection comes after the other");
    assert_eq!(bridge.session().await["reconnects"], 3);
    bridge.stop().await;
}

#[tokio::test]
async fn a_session_that_waits_is_restarted_at_once() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.refuse.next(1, Refusal::Text("Too many connections".to_owned()));
    });
    let bridge = Bridge::start(&scene.upstream).await;
    bridge.say_within(1, &scene.token, &scene.space, "not now").await.assert_problem(503, "not_connected");
    assert_eq!(bridge.operator(Method::POST, &path(&bridge).await).await.status, StatusCode::ACCEPTED);
    assert_eq!(bridge.say_within(60, &scene.token, &scene.space, "now").await.status, StatusCode::CREATED);
    assert_eq!(scene.texts(), ["now"]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_refused_session_is_tried_again_when_the_operator_says_so() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.refuse.next(1, Refusal::Text("Not authorized".to_owned()));
    });
    let bridge = Bridge::start(&scene.upstream).await;
    bridge.say(&scene.token, &scene.space, "refused").await.assert_problem(401, "token_refused");
    assert_eq!(bridge.operator(Method::POST, &path(&bridge).await).await.status, StatusCode::ACCEPTED);
    eventually("the session", async || (bridge.session().await["state"] == "online").then_some(())).await;
    assert_eq!(bridge.say(&scene.token, &scene.space, "taken").await.status, StatusCode::CREATED);
    assert_eq!(scene.upstream.seen(Seen::refused), 1);
    bridge.stop().await;
}
