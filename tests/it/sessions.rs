//! Sessions over the real service: opened, lost, found again, refused, closed.

use std::time::Duration;

use fake_upstream::{
    AckStyle, Expiry, FakeUpstream, Fault, Limits, Options, Refusal, RestFault, RootConnect, Seen, SubscribeFault, Token,
    TokenKind, Who,
};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Scene};
use crate::support::receiver::{Receiver, Reply};
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
async fn a_lost_connection_comes_back_with_its_subscriptions() {
    let options =
        || Options { ping_interval: Duration::from_millis(500), ping_timeout: Duration::from_secs(2), ..Options::default() };
    for fault in [Fault::Kick, Fault::Disconnect, Fault::Close, Fault::CloseWith(1001), Fault::Cut, Fault::Reset, Fault::Freeze] {
        let scene = Scene::with(options()).await;
        let bridge = Bridge::start(&scene.upstream).await;
        assert_eq!(bridge.put(&subscription(&scene.space), &scene.token).await.status, StatusCode::OK);
        scene.upstream.fault(&Who::token(&scene.token), &fault);
        eventually("a reconnect", async || {
            let session = bridge.session().await;
            (session["state"] == "online" && session["reconnects"] == 1).then_some(())
        })
        .await;
        seen(&scene.upstream, |seen| seen.is_subscribed(&scene.token, scene.space.as_ref())).await;
        say(&bridge, &scene.token, &scene.space, "back").await;
        assert_eq!(scene.upstream.seen(|seen| seen.peak_with(&scene.token)), 1, "{fault:?}");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_kick_right_after_the_join_is_survived() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.after_join.next(2, Fault::Kick);
    });
    let bridge = Bridge::start(&scene.upstream).await;
    say(&bridge, &scene.token, &scene.space, "at last").await;
    assert_eq!(scene.upstream.seen(|seen| (seen.opened_with(&scene.token), seen.peak_with(&scene.token))), (3, 1));
    assert_eq!(scene.texts(), ["at last"]);
    bridge.stop().await;
}

#[tokio::test]
async fn every_way_of_acknowledging_a_join_is_understood() {
    let late = Duration::from_secs(1);
    let data = AckStyle::WithData(json!({"sid": "x"}));
    for (root, ack, delay) in [
        (RootConnect::Before, AckStyle::Comma, None),
        (RootConnect::Never, AckStyle::Comma, None),
        (RootConnect::After, AckStyle::Bare, None),
        (RootConnect::Late(late), AckStyle::Bare, None),
        (RootConnect::Never, data, Some(late)),
    ] {
        let scene = Scene::new().await;
        scene.upstream.script(|script| {
            script.root_connect.always(root);
            script.ack_style.always(ack.clone());
            if let Some(delay) = delay {
                script.ack_delay.always(delay);
            }
        });
        let bridge = Bridge::start(&scene.upstream).await;
        say(&bridge, &scene.token, &scene.space, "joined").await;
        assert_eq!(scene.upstream.seen(|seen| seen.opened_with(&scene.token)), 1, "{root:?} {ack:?}");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_late_or_repeated_word_on_a_subscription_is_understood() {
    for fault in [SubscribeFault::Late(Duration::from_secs(1)), SubscribeFault::AnsweredTwice] {
        let scene = Scene::new().await;
        scene.upstream.script(|script| {
            script.subscribe.next(1, fault.clone());
        });
        let bridge = Bridge::start(&scene.upstream).await;
        say(&bridge, &scene.token, &scene.space, "subscribed").await;
        assert_eq!(scene.upstream.seen(|seen| seen.emits_of("SUBSCRIBE_CHANNEL").count()), 1, "{fault:?}");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_subscription_that_is_not_answered_is_asked_for_once_more() {
    for fault in [SubscribeFault::Ignored, SubscribeFault::Unanswered] {
        let scene = Scene::new().await;
        scene.upstream.script(|script| {
            script.subscribe.next(1, fault.clone());
        });
        let bridge = Bridge::start(&scene.upstream).await;
        let answer = bridge.say_within(1, &scene.token, &scene.space, "given up").await;
        answer.assert_problem(503, "not_connected");
        assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("subscription")), "{}", answer.text);
        say(&bridge, &scene.token, &scene.space, "sent").await;
        assert_eq!(scene.texts(), ["sent"], "{fault:?}");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_space_that_wants_a_join_first_is_joined_and_asked_for_again() {
    for with_channel in [true, false] {
        let scene = Scene::new().await;
        scene.upstream.script(|script| {
            let (code, message) = ("join.first".to_owned(), "join the space first".to_owned());
            script.subscribe.next(1, SubscribeFault::Refused { code, message, with_channel });
        });
        let bridge = Bridge::start(&scene.upstream).await;
        say(&bridge, &scene.token, &scene.space, "joined").await;
        let path = format!("/api/spaces/{}/join", scene.space.as_ref());
        assert_eq!(scene.upstream.seen(|seen| seen.rest_count("GET", &path)), 1);
        bridge.stop().await;
    }
}

#[tokio::test]
async fn spaces_that_may_not_be_entered_are_clear_problems() {
    let scene = Scene::new().await;
    let (foreign, with_pin) = (scene.upstream.space("Foreign", &[&scene.bo]), scene.upstream.space("Pin", &[&scene.ana]));
    scene.upstream.with_world(|world| world.change_space(with_pin.as_ref(), |space| space.pin = Some("1234".to_owned())));
    let bridge = Bridge::start(&scene.upstream).await;
    for (space, status, code) in [
        ("64f0a1b2c3d4e5f601020399", 404, "space_not_found"),
        (foreign.as_ref(), 403, "space_forbidden"),
        (with_pin.as_ref(), 403, "space_forbidden"),
    ] {
        bridge.say(&scene.token, space, "hi").await.assert_problem(status, code);
        let emits = scene.upstream.seen(Seen::emits_total);
        bridge.say(&scene.token, space, "hi").await.assert_problem(status, code);
        bridge.put(&subscription(space), &scene.token).await.assert_problem(status, code);
        assert_eq!(scene.upstream.seen(Seen::emits_total), emits, "a refusal stands for a while");
        let channels = bridge.session().await["spaces"].clone();
        let channel = channels.as_array().and_then(|all| all.iter().find(|channel| channel["spaceId"] == space)).cloned();
        let channel = channel.expect("the space is shown");
        assert_eq!(channel["state"], "refused");
        assert!(channel["detail"].is_string(), "{channel}");
    }
    say(&bridge, &scene.token, &scene.space, "elsewhere").await;
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 1);
    assert_eq!(bridge.get("/subscriptions", &scene.token).await.json()["data"], json!([]));
    bridge.stop().await;
}

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
async fn a_subscription_whose_session_is_closed_meanwhile_comes_about_in_the_next() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.subscribe.next(1, SubscribeFault::Ignored);
    });
    let bridge = Bridge::start(&scene.upstream).await;
    let closed = async {
        seen(&scene.upstream, |seen| seen.emits_of("SUBSCRIBE_CHANNEL").count() == 1).await;
        let path = format!("/sessions/{}", bridge.session().await["id"].as_str().expect("an id"));
        assert_eq!(bridge.operator(Method::DELETE, &path).await.status, StatusCode::NO_CONTENT);
    };
    let path = subscription(&scene.space);
    let (put, ()) = tokio::join!(bridge.put(&path, &scene.token), closed);
    assert_eq!((put.status, &put.json()["state"]), (StatusCode::OK, &json!("subscribed")), "{}", put.text);
    assert!(scene.upstream.seen(|seen| seen.is_subscribed(&scene.token, scene.space.as_ref())));
    assert_eq!(scene.upstream.seen(|seen| seen.peak_with(&scene.token)), 1);
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
async fn subscriptions_are_kept_over_a_restart_until_they_are_ended() {
    let scene = Scene::new().await;
    let other = scene.upstream.space("Other", &[&scene.ana]);
    let bridge = Bridge::start(&scene.upstream).await;
    for space in [&scene.space, &other] {
        let answer = bridge.put(&subscription(space), &scene.token).await;
        assert_eq!((answer.status, &answer.json()["state"]), (StatusCode::OK, &json!("subscribed")));
    }
    assert!(scene.upstream.seen(|seen| seen.is_subscribed(&scene.token, other.as_ref())));
    assert_eq!(bridge.session().await["durable"], true);

    let bridge = bridge.restart().await;
    seen(&scene.upstream, |seen| {
        seen.is_subscribed(&scene.token, other.as_ref()) && seen.is_subscribed(&scene.token, scene.space.as_ref())
    })
    .await;
    let listed = bridge.get("/subscriptions", &scene.token).await.json();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(2), "{listed}");

    assert_eq!(bridge.delete(&subscription(&other), &scene.token).await.status, StatusCode::NO_CONTENT);
    bridge.delete(&subscription(&other), &scene.token).await.assert_problem(404, "subscription_not_found");
    seen(&scene.upstream, |seen| !seen.is_subscribed(&scene.token, other.as_ref())).await;
    assert_eq!(bridge.delete(&subscription(&scene.space), &scene.token).await.status, StatusCode::NO_CONTENT);

    let opened = scene.upstream.seen(|seen| seen.opened_with(&scene.token));
    let bridge = bridge.restart().await;
    assert_eq!(bridge.get("/subscriptions", scene.bos_token()).await.json()["data"], json!([]));
    assert_eq!(scene.upstream.seen(|seen| seen.opened_with(&scene.token)), opened, "nothing brings the session back");
    bridge.stop().await;
}

#[tokio::test]
async fn a_webhook_for_everything_subscribes_to_every_group_space() {
    let scene = Scene::new().await;
    let spaces: Vec<_> =
        (0..60).map(|number| scene.upstream.space(&format!("Space {number}"), &[&scene.ana, &scene.bo])).collect();
    let direct = scene.upstream.direct_space(&scene.ana, &scene.bo);
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let body = json!({"url": receiver.url(), "spaces": ["*"]});
    assert_eq!(bridge.post("/webhooks", &scene.token, &body).await.status, StatusCode::CREATED);
    seen(&scene.upstream, |seen| spaces.iter().all(|space| seen.is_subscribed(&scene.token, space.as_ref()))).await;
    assert!(!scene.upstream.seen(|seen| seen.is_subscribed(&scene.token, direct.as_ref())));
    scene.upstream.post_as(&scene.bo, &direct, "private").expect("a message");
    scene.upstream.post_as(&scene.bo, &spaces[59], "for all").expect("a message");
    eventually("the delivery", async || (receiver.count() > 0).then_some(())).await;
    let body: Value = serde_json::from_slice(&receiver.recorded()[0].body).expect("JSON");
    assert_eq!(body["data"]["spaceId"], spaces[59].id.as_str(), "{body}");
    bridge.stop().await;
}

#[tokio::test]
async fn direct_messages_reach_webhooks_for_them_also_in_spaces_made_later() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let body = json!({"url": receiver.url(), "spaces": ["direct"]});
    assert_eq!(bridge.post("/webhooks", &scene.token, &body).await.status, StatusCode::CREATED);
    seen(&scene.upstream, |seen| seen.open_with(&scene.token).any(|connection| connection.joined_at.is_some())).await;
    let direct = scene.upstream.direct_space(&scene.ana, &scene.bo);
    scene.upstream.post_as(&scene.bo, &direct, "psst").expect("a message");
    eventually("the delivery", async || (receiver.count() > 0).then_some(())).await;
    let body: Value = serde_json::from_slice(&receiver.recorded()[0].body).expect("JSON");
    assert_eq!(body["data"]["message"]["text"], "psst", "{body}");
    bridge.stop().await;
}

#[tokio::test]
async fn every_session_rejoins_after_the_upstream_restarts() {
    let scene = Scene::with(Options { limits: Limits::none(), ..Options::default() }).await;
    let bridge = Bridge::start(&scene.upstream).await;
    let users: Vec<_> = (0..8).map(|number| scene.upstream.user(&format!("User {number}"))).collect();
    let space = scene.upstream.space("All", &users.iter().collect::<Vec<_>>());
    let tokens: Vec<_> = users.iter().map(|user| scene.upstream.token_for(user, TokenKind::Jwt)).collect();
    for token in &tokens {
        assert_eq!(bridge.put(&subscription(&space), token).await.status, StatusCode::OK);
    }
    scene.upstream.restart().await.expect("the same port");
    seen(&scene.upstream, |seen| tokens.iter().all(|token| seen.is_subscribed(token, space.as_ref()))).await;
    for token in &tokens {
        say(&bridge, token, &space, "back").await;
        assert_eq!(scene.upstream.seen(|seen| (seen.opened_with(token), seen.peak_with(token))), (2, 1));
    }
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
