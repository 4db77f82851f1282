//! Tokens that are refused, from the start or after a while.

use fake_upstream::{Expiry, Fault, Refusal, RestFault, Seen, TokenKind};
use reqwest::StatusCode;
use serde_json::json;

use super::{say, seen, state, subscription};
use crate::support::bridge::{Bridge, Scene};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

/// Every shape in which the upstream may refuse a join.
fn refusals() -> Vec<Refusal> {
    let object = json!({"message": "jwt expired", "data": {"code": 401}});
    vec![
        Refusal::Text("Not authorized".to_owned()),
        Refusal::Object(object),
        Refusal::RootText("Not authorized".to_owned()),
        Refusal::http(401, "Unauthorized"),
        Refusal::http(403, "Forbidden"),
    ]
}

/// Shapes that say nothing of the reason.
fn silent_refusals() -> Vec<Refusal> {
    vec![Refusal::Kick, Refusal::Close, Refusal::Silence]
}

#[tokio::test]
async fn a_bad_token_is_refused_in_every_shape_and_not_tried_again() {
    let other = [Refusal::http(400, "Bad request"), Refusal::Hangup, Refusal::Unanswered, Refusal::Mute];
    for shape in refusals().into_iter().chain(silent_refusals()).chain(other) {
        let scene = Scene::new().await;
        scene.upstream.script(|script| {
            script.bad_token.always(shape.clone());
        });
        let bridge = Bridge::start(&scene.upstream).await;
        bridge.say("aaa.bbb.ccc", &scene.space, "let me in").await.assert_problem(401, "token_refused");
        let calls = |seen: &Seen| (seen.opened(), seen.rest_total(), seen.refused());
        let before = scene.upstream.seen(calls);
        assert!(before.0 <= 1 && before.1 <= 1, "{shape:?}: {before:?}");
        for path in ["/me", "/sessions", "/subscriptions"] {
            let answer = bridge.get(path, "aaa.bbb.ccc").await;
            answer.assert_problem(401, "token_refused");
            assert!(answer.header("www-authenticate").contains("invalid_token"));
        }
        bridge.say("aaa.bbb.ccc", &scene.space, "let me in").await.assert_problem(401, "token_refused");
        assert_eq!(scene.upstream.seen(calls), before, "{shape:?}");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_token_that_only_the_socket_refuses_is_refused() {
    for shape in refusals() {
        let scene = Scene::new().await;
        scene.upstream.script(|script| {
            script.refuse.always(shape.clone());
            script.rest.on("/api/users/me").always(RestFault::Hang);
        });
        let bridge = Bridge::start(&scene.upstream).await;
        for _ in 0..2 {
            bridge.say(&scene.token, &scene.space, "let me in").await.assert_problem(401, "token_refused");
        }
        assert_eq!(scene.upstream.seen(Seen::refused), 1, "{shape:?}");
        let session = bridge.session().await;
        assert_eq!(session["state"], "auth_failed");
        assert!(session["reason"].is_string(), "{session}");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_token_that_is_turned_away_without_a_word_is_refused_after_three_tries() {
    for shape in silent_refusals() {
        let scene = Scene::new().await;
        scene.upstream.script(|script| {
            script.refuse.always(shape.clone());
            script.rest.on("/api/users/me").always(RestFault::Hang);
        });
        let bridge = Bridge::start_with(&scene.upstream, |config| {
            config.upstream.connect_timeout_seconds = 1;
            config.upstream.rest_fallback_seconds = 0;
        })
        .await;
        for _ in 0..2 {
            bridge.say_within(60, &scene.token, &scene.space, "let me in").await.assert_problem(401, "token_refused");
        }
        assert_eq!(scene.upstream.seen(Seen::refused), 3, "{shape:?}");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_is_no_socket_server_says_nothing_against_the_token() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.refuse.always(Refusal::http(400, "Transport unknown"));
    });
    let bridge = Bridge::start(&scene.upstream).await;
    bridge.say_within(2, &scene.token, &scene.space, "hello?").await.assert_problem(503, "not_connected");
    let session = bridge.session().await;
    assert_eq!(session["state"], "connecting");
    assert_eq!(scene.upstream.seen(Seen::refused), 1);
    bridge.stop().await;
}

#[tokio::test]
async fn a_refused_token_is_tried_again_after_its_time() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.refuse.next(1, Refusal::Text("Not authorized".to_owned()));
    });
    let bridge = Bridge::start_with(&scene.upstream, |config| config.session.refusal_seconds = 1).await;
    bridge.say(&scene.token, &scene.space, "too early").await.assert_problem(401, "token_refused");
    eventually("another try", async || {
        let answer = bridge.say(&scene.token, &scene.space, "later").await;
        (answer.status == StatusCode::CREATED).then_some(())
    })
    .await;
    assert_eq!(scene.upstream.seen(|seen| seen.peak_with(&scene.token)), 1);
    bridge.stop().await;
}

#[tokio::test]
async fn an_expired_token_that_keeps_its_connection_goes_on_sending() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    say(&bridge, &scene.token, &scene.space, "before").await;
    scene.upstream.script(|script| {
        script.expiry.always(Expiry::Kept);
    });
    scene.upstream.expire(&scene.token);
    say(&bridge, &scene.token, &scene.space, "after").await;
    bridge.get("/spaces", &scene.token).await.assert_problem(401, "token_refused");
    assert_eq!(scene.upstream.seen(|seen| seen.opened_with(&scene.token)), 1);
    bridge.stop().await;
}

#[tokio::test]
async fn an_expired_token_that_loses_its_connection_is_refused_without_a_storm() {
    for fault in [
        Fault::Kick,
        Fault::Disconnect,
        Fault::Close,
        Fault::CloseWith(4001),
        Fault::Cut,
        Fault::Frame("44/chat,\"jwt expired\"".to_owned()),
    ] {
        let scene = Scene::new().await;
        let bridge = Bridge::start(&scene.upstream).await;
        say(&bridge, &scene.token, &scene.space, "before").await;
        scene.upstream.script(|script| {
            script.expiry.always(Expiry::Fault(fault.clone()));
        });
        scene.upstream.expire(&scene.token);
        let session = state(&bridge, "auth_failed").await;
        assert!(session["reason"].is_string(), "{session}");
        let opened = scene.upstream.seen(|seen| seen.opened_with(&scene.token));
        assert!(opened <= 2, "{fault:?}: {opened}");
        for _ in 0..3 {
            bridge.say(&scene.token, &scene.space, "after").await.assert_problem(401, "token_refused");
        }
        assert_eq!(scene.upstream.seen(|seen| (seen.opened_with(&scene.token), seen.peak_with(&scene.token))), (opened, 1));
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_fresh_token_takes_over_from_a_refused_one() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    bridge.register(&scene.token, &receiver).await;
    seen(&scene.upstream, |seen| seen.is_subscribed(&scene.token, scene.space.as_ref())).await;
    scene.upstream.script(|script| {
        script.expiry.always(Expiry::Fault(Fault::Cut));
    });
    scene.upstream.expire(&scene.token);
    state(&bridge, "auth_failed").await;
    let fresh = scene.upstream.token_for(&scene.ana, TokenKind::Jwt);
    assert_eq!(bridge.get("/me", &fresh).await.status, StatusCode::OK);
    seen(&scene.upstream, |seen| seen.is_subscribed(&fresh, scene.space.as_ref())).await;
    scene.upstream.post_as(&scene.bo, &scene.space, "hello again").expect("a message");
    eventually("the delivery", async || (receiver.count() == 1).then_some(())).await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_stored_token_that_expired_meanwhile_is_refused_after_a_restart() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    assert_eq!(bridge.put(&subscription(&scene.space), &scene.token).await.status, StatusCode::OK);
    let opened = scene.upstream.seen(|seen| seen.opened_with(&scene.token));
    scene.upstream.expire(&scene.token);
    let bridge = bridge.restart().await;
    let session = state(&bridge, "auth_failed").await;
    assert_eq!((&session["durable"], &session["userId"]), (&json!(true), &json!(scene.ana.id)));
    assert_eq!(scene.upstream.seen(|seen| seen.opened_with(&scene.token)), opened + 1);
    let fresh = scene.upstream.token_for(&scene.ana, TokenKind::Jwt);
    let listed = bridge.get("/subscriptions", &fresh).await.json();
    assert_eq!(listed["data"][0]["spaceId"], scene.space.id.as_str(), "{listed}");
    seen(&scene.upstream, |seen| seen.is_subscribed(&fresh, scene.space.as_ref())).await;
    bridge.stop().await;
}
