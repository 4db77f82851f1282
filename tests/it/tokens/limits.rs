//! A further connection that Spaces does not let the user have: no refused token, and nothing to fight over.

use std::time::Duration;

use fake_upstream::{Limits, Options, Refusal, Seen, TokenKind};
use reqwest::StatusCode;
use serde_json::json;
use spaces_bridge::domain::{Clock as _, SystemClock};

use super::rig::{Rig, credential};
use crate::support::bridge::{Bridge, Scene};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

fn shapes() -> Vec<Refusal> {
    let object = json!({"message": "refused", "data": {"code": 429}});
    let too_many = || "Too many connections".to_owned();
    vec![
        Refusal::Text(too_many()),
        Refusal::RootText(too_many()),
        Refusal::Object(object),
        Refusal::http(403, &too_many()),
        Refusal::http(429, "slow down"),
        Refusal::Http { status: 429, body: too_many(), retry_after: Some(120) },
    ]
}

fn limited_to(connections: u32) -> Limits {
    Limits { connections: Some(connections), ..Limits::default() }
}

#[tokio::test]
async fn a_connection_too_many_is_waited_for_and_says_nothing_against_the_token() {
    for shape in shapes() {
        let scene = Scene::with(Options { limits: limited_to(0), ..Options::default() }).await;
        scene.upstream.script(|script| {
            script.over_connections.always(shape.clone());
        });
        let bridge = Bridge::start(&scene.upstream).await;
        let answer = bridge.say_within(1, &scene.token, &scene.space, "let me in").await;
        answer.assert_problem(503, "not_connected");
        assert!(
            answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("no further connection")),
            "{}",
            answer.text
        );
        let wait: u64 = answer.header("retry-after").parse().expect("seconds");
        assert!((100..=400).contains(&wait), "{shape:?}: {wait}");
        bridge.say_within(1, &scene.token, &scene.space, "let me in").await.assert_problem(503, "not_connected");
        assert_eq!(scene.upstream.seen(Seen::refused), 1, "{shape:?}: it is not fought over");
        assert_eq!(bridge.session().await["state"], "connecting");
        let class = bridge.metric("spaces_bridge_session_connect_failures_total{class=\"limit\"}").await;
        assert!((class - 1.0).abs() < f64::EPSILON, "{shape:?}: {class}");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_session_comes_in_once_there_is_room() {
    let scene = Scene::with(Options { limits: limited_to(0), ..Options::default() }).await;
    let bridge = Bridge::start_with(&scene.upstream, |config| config.session.limit_retry_seconds = 1).await;
    let waiting = async {
        scene.upstream.wait_until(Duration::from_secs(30), |seen| seen.refused() > 0).await.expect("a refusal");
        scene.upstream.set_limits(limited_to(3));
    };
    let (answer, ()) = tokio::join!(bridge.say_within(60, &scene.token, &scene.space, "at last"), waiting);
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(scene.upstream.seen(|seen| seen.peak_with(&scene.token)), 1);
    bridge.stop().await;
}

#[tokio::test]
async fn without_room_for_two_the_old_session_goes_before_the_new_one_comes() {
    let rig = Rig::on(Scene::with(Options { limits: limited_to(1), ..Options::default() }).await).await;
    rig.wants(&[&rig.scene.space]);
    let before = rig.adopt(&rig.scene.token).await;
    let newer = rig.another_token();
    let after = rig.sessions.adopt(rig.ana(), credential(&newer)).await.expect("a session");
    rig.serves(&after).await;
    rig.seen(|seen| seen.is_subscribed(&newer, rig.scene.space.as_ref())).await;
    assert!(!before.state().is_usable());
    assert_eq!(rig.scene.upstream.seen(|seen| (seen.open_now(), seen.open_now_with(&newer))), (1, 1));
    assert!(rig.events("session.auth_failed").await.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn a_fresher_token_finds_room_in_the_place_of_the_stored_one() {
    let scene = Scene::with(Options { limits: limited_to(1), ..Options::default() }).await;
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    bridge.register(&scene.token, &receiver).await;
    let ends = SystemClock.now().as_millis() + 48 * 3_600_000;
    let fresher = scene.upstream.with_world(|world| world.token_until(&scene.ana, TokenKind::Jwt, ends));
    let answer = bridge.say_within(60, &fresher, &scene.space, "hello").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    eventually("the delivery", async || (receiver.count() == 1).then_some(())).await;
    assert_eq!(scene.upstream.seen(Seen::open_now), 1);
    bridge.stop().await;
}
