//! Sessions opened, seen, shared and closed.

use fake_upstream::{Fault, Limits, Options, TokenKind, Who};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{say, seen, state, subscription};
use crate::support::bridge::{Bridge, Scene};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

#[tokio::test]
async fn a_session_is_seen_by_its_account_and_the_operator_alone() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    say(&bridge, &scene.token, &scene.space, "hi").await;
    let own = bridge.get("/sessions", &scene.token).await.json();
    let session = &own["data"][0];
    let id = session["id"].as_str().expect("an id").to_owned();
    assert_eq!(own["data"].as_array().map(Vec::len), Some(1));
    assert_eq!((&session["state"], &session["tokenKind"], &session["reason"]), (&json!("online"), &json!("jwt"), &Value::Null));
    assert_eq!((&session["userId"], &session["displayName"]), (&json!(scene.ana.id), &json!("Ana")));
    assert_eq!(session["spaces"], json!([{"spaceId": scene.space.id, "state": "subscribed"}]));
    assert!(!own.to_string().contains(scene.token.as_ref()), "no token is ever shown");

    let (bo, path) = (scene.bos_token(), format!("/sessions/{id}"));
    let foreign = bridge.get("/sessions", &bo).await.json();
    assert!(foreign["data"].as_array().is_some_and(|all| all.iter().all(|session| session["id"] != id)), "{foreign}");
    bridge.get(&path, &bo).await.assert_problem(404, "session_not_found");
    bridge.delete(&path, &bo).await.assert_problem(404, "session_not_found");
    assert_eq!(bridge.operator(Method::GET, &path).await.json()["state"], "online");
    assert_eq!(bridge.operator(Method::GET, "/sessions").await.json()["data"].as_array().map(Vec::len), Some(2));
    say(&bridge, &scene.token, &scene.space, "still there").await;
    assert_eq!(scene.upstream.seen(|seen| seen.opened_with(&scene.token)), 1);
    bridge.stop().await;
}

#[tokio::test]
async fn closing_a_session_closes_its_connection_and_the_next_call_opens_another() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    say(&bridge, &scene.token, &scene.space, "one").await;
    let path = format!("/sessions/{}", bridge.session().await["id"].as_str().expect("an id"));
    assert_eq!(bridge.delete(&path, &scene.token).await.status, StatusCode::NO_CONTENT);
    seen(&scene.upstream, |seen| seen.open_now() == 0).await;
    bridge.operator(Method::GET, &path).await.assert_problem(404, "session_not_found");
    say(&bridge, &scene.token, &scene.space, "two").await;
    assert_eq!(scene.upstream.seen(|seen| (seen.opened_with(&scene.token), seen.peak_with(&scene.token))), (2, 1));
    bridge.stop().await;
}

#[tokio::test]
async fn calls_while_a_session_closes_get_a_session_that_stays() {
    let scene = Scene::with(Options { limits: Limits::none(), ..Options::default() }).await;
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    bridge.register(&scene.token, &receiver).await;
    for round in 0..10 {
        say(&bridge, &scene.token, &scene.space, &format!("before {round}")).await;
        let path = format!("/sessions/{}", bridge.session().await["id"].as_str().expect("an id"));
        let texts: Vec<_> = (0..4).map(|number| format!("during {round}.{number}")).collect();
        let sends = join_all(texts.iter().map(|text| bridge.say(&scene.token, &scene.space, text)));
        let (_, sends) = tokio::join!(bridge.operator(Method::DELETE, &path), sends);
        for answer in sends {
            assert!([StatusCode::CREATED, StatusCode::ACCEPTED].contains(&answer.status), "{}", answer.text);
        }
    }
    say(&bridge, &scene.token, &scene.space, "after").await;
    assert_eq!(bridge.session().await["state"], "online");
    assert_eq!(scene.upstream.seen(|seen| seen.peak_with(&scene.token)), 1, "one connection of a token at a time");
    bridge.stop().await;
}

#[tokio::test]
async fn a_process_full_of_sessions_tells_callers_to_come_again() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, |config| config.session.max_sessions = 1).await;
    say(&bridge, &scene.token, &scene.space, "first").await;
    let bo = scene.bos_token();
    let answer = bridge.say(&bo, &scene.space, "second").await;
    answer.assert_problem(429, "session_busy");
    assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0));
    let path = format!("/sessions/{}", bridge.session().await["id"].as_str().expect("an id"));
    assert_eq!(bridge.operator(Method::DELETE, &path).await.status, StatusCode::NO_CONTENT);
    say(&bridge, &bo, &scene.space, "now").await;
    assert_eq!(scene.texts(), ["first", "now"]);
    bridge.stop().await;
}

#[tokio::test]
async fn an_idle_session_closes_and_the_next_call_opens_another() {
    let scene = Scene::with(Options { limits: Limits::none(), ..Options::default() }).await;
    let bridge = Bridge::start_with(&scene.upstream, |config| config.session.idle_timeout_seconds = 1).await;
    let kept = scene.bos_token();
    assert_eq!(bridge.put(&subscription(&scene.space), &kept).await.status, StatusCode::OK);
    say(&bridge, &scene.token, &scene.space, "one").await;
    seen(&scene.upstream, |seen| seen.open_now_with(&scene.token) == 0).await;
    assert_eq!(scene.upstream.seen(|seen| seen.open_now_with(&kept)), 1, "a session with a subscription stays");
    say(&bridge, &scene.token, &scene.space, "two").await;
    assert_eq!(scene.upstream.seen(|seen| (seen.opened_with(&scene.token), seen.peak_with(&scene.token))), (2, 1));
    assert_eq!(scene.texts(), ["one", "two"]);
    bridge.stop().await;
}

#[tokio::test]
async fn two_tokens_of_one_user_see_one_event() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let (receiver, second) = (Receiver::start(Reply::status(204)).await, scene.upstream.token_for(&scene.ana, TokenKind::Jwt));
    bridge.register(&scene.token, &receiver).await;
    say(&bridge, &second, &scene.space, "mine").await;
    for token in [&scene.token, &second] {
        seen(&scene.upstream, |seen| seen.is_subscribed(token, scene.space.as_ref())).await;
    }
    for text in ["one", "two", "three"] {
        scene.upstream.post_as(&scene.bo, &scene.space, text).expect("a message");
    }
    eventually("all deliveries", async || (receiver.count() >= 4).then_some(())).await;
    assert_eq!(bridge.say(&second, &scene.space, "last").await.status, StatusCode::CREATED);
    eventually("the last delivery", async || (receiver.count() >= 5).then_some(())).await;
    let mut ids: Vec<_> = receiver.recorded().iter().map(|request| request.header("webhook-id").to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), receiver.count()), (5, 5));
    bridge.stop().await;
}

#[tokio::test]
async fn what_sessions_and_sends_do_is_counted() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    say(&bridge, &scene.token, &scene.space, "one").await;
    scene.upstream.fault(&Who::token(&scene.token), &Fault::Cut);
    state(&bridge, "reconnecting").await;
    say(&bridge, &scene.token, &scene.space, "two").await;
    bridge.say("aaa.bbb.ccc", &scene.space, "three").await.assert_problem(401, "token_refused");
    for (name, expected) in [
        ("spaces_bridge_sessions{state=\"online\"}", 1.0),
        ("spaces_bridge_sessions{state=\"reconnecting\"}", 0.0),
        ("spaces_bridge_session_reconnects_total", 1.0),
        ("spaces_bridge_sends_total{outcome=\"confirmed\"}", 2.0),
        ("spaces_bridge_emits_total", 4.0),
        ("spaces_bridge_send_confirmation_seconds_count", 2.0),
    ] {
        let value = bridge.metric(name).await;
        assert!((value - expected).abs() < f64::EPSILON, "{name}: {value}");
    }
    // An ended session is in no state.
    eventually("the end of the refused session", async || {
        (bridge.metric("spaces_bridge_sessions{state=\"auth_failed\"}").await < 0.5).then_some(())
    })
    .await;
    bridge.stop().await;
}
