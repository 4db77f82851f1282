//! Sends while the service stops, is busy or has no connection.

use fake_upstream::{EchoFault, Refusal, Seen};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{messages, sent, warm_up};
use crate::support::bridge::{Answer, Bridge, Scene, send};
use crate::support::wait::eventually;

#[tokio::test]
async fn a_send_under_way_when_the_service_stops_is_still_confirmed() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    warm_up(&bridge, &scene).await;
    scene.upstream.script(|script| {
        script.echo.next(1, EchoFault::Held);
    });
    let request = bridge.request(Method::POST, &messages(&scene), &scene.token).json(&json!({"text": "last words"}));
    let sending = tokio::spawn(send(request));
    sent(&scene.upstream, 2).await;
    let address = bridge.api.trim_start_matches("http://").to_owned();
    let stopping = tokio::spawn(bridge.stop());
    eventually("a closed listener", async || tokio::net::TcpStream::connect(&address).await.err()).await;
    scene.upstream.release();
    let answer = sending.await.expect("no panic");
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    stopping.await.expect("no panic");
    assert_eq!(scene.upstream.seen(Seen::open_now), 0);
}

#[tokio::test]
async fn a_full_queue_tells_callers_to_come_again() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.refuse.always(Refusal::Unanswered);
    });
    let bridge = Bridge::start(&scene.upstream).await;
    let answers = join_all((0..300).map(|_| bridge.say_within(3, &scene.token, &scene.space, "crowd"))).await;
    let (busy, waited): (Vec<&Answer>, Vec<&Answer>) =
        answers.iter().partition(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS);
    assert!(!busy.is_empty() && !waited.is_empty());
    for answer in busy {
        answer.assert_problem(429, "session_busy");
        assert_eq!(answer.header("retry-after"), "1");
    }
    for answer in waited {
        answer.assert_problem(503, "not_connected");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn an_upstream_that_is_down_at_the_first_call_gets_nothing_later() {
    let scene = Scene::new().await;
    scene.upstream.stop().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let answer = bridge.say_within(1, &scene.token, &scene.space, "too early").await;
    answer.assert_problem(503, "not_connected");
    assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0));
    let session = bridge.session().await;
    assert_eq!(session["state"], "connecting");
    assert!(session["reason"].is_string(), "{session}");
    scene.upstream.restart().await.expect("the same port");
    let answer = bridge.say_within(60, &scene.token, &scene.space, "in time").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(scene.texts(), ["in time"]);
    bridge.stop().await;
}
