//! What Spaces allows its users: read, kept to, shared, and told to callers.

use std::time::Duration;

use fake_upstream::{Fault, Limits, Options, OverLimit, RestFault, Space, Token, TokenKind};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::bridge::{Answer, Bridge, Scene, send};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

/// Limits on emits, and none on anything else that these tests do.
fn emits(count: u32, interval: u32) -> Limits {
    Limits { emits: Some(count), emit_interval: interval, rest_calls: None, ..Limits::default() }
}

async fn scene(limits: Limits) -> Scene {
    Scene::with(Options { limits, ..Options::default() }).await
}

/// A session of the token that knows its limits from this source. It has emitted nothing. Answers its limits.
async fn with_limits(bridge: &Bridge, token: &Token, source: &str) -> Value {
    let me = bridge.get("/me", token).await;
    assert_eq!(me.status, StatusCode::OK, "{}", me.text);
    let path = format!("/sessions/{}", me.json()["sessionId"].as_str().expect("an id"));
    eventually("limits", async || {
        let session = bridge.get(&path, token).await.json();
        (session["limits"]["source"] == source && session["state"] == "online").then(|| session["limits"].clone())
    })
    .await
}

/// The three numbers that tell how a limit stands.
fn told(answer: &Answer) -> [u64; 3] {
    ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]
        .map(|name| answer.header(name).parse().unwrap_or_else(|_| panic!("{name} of {}", answer.text)))
}

/// Texts in the order in which the upstream got them.
fn emitted(scene: &Scene) -> Vec<String> {
    let sends = scene.upstream.seen(fake_upstream::Seen::sends);
    sends.iter().map(|send| send["content"]["bodyText"].as_str().expect("a text").to_owned()).collect()
}

#[tokio::test]
async fn the_limits_that_spaces_tells_hold_and_are_shown() {
    let scene = scene(Limits { payload_kib: Some(7), connections: Some(5), ..Limits::default() }).await;
    let bridge = Bridge::start(&scene.upstream).await;
    let limits = with_limits(&bridge, &scene.token, "live").await;
    assert_eq!((&limits["payloadBytes"], &limits["maxConnections"]), (&json!(7 << 10), &json!(5)));
    let of_emits = json!({"limit": 600, "perSeconds": 60, "remaining": 600, "resetAt": null});
    assert_eq!(limits["emits"], of_emits);
    assert_eq!((&limits["restCalls"]["limit"], &limits["restCalls"]["perSeconds"]), (&json!(600), &json!(300)));
    assert!(limits["restCalls"]["remaining"].as_u64().is_some_and(|left| (1..600).contains(&left)), "{limits}");
    assert!(limits["restCalls"]["resetAt"].is_string(), "{limits}");

    let answer = bridge.say(&scene.token, &scene.space, "one").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    // The message and the subscription before it.
    let [limit, remaining, reset] = told(&answer);
    assert_eq!((limit, remaining), (600, 598));
    assert!((1..=62).contains(&reset), "{reset}");
    // Also where the message is on disk first, and where its answer is given again.
    let path = format!("/spaces/{}/messages", scene.space.as_ref());
    let message = json!({"text": "two"});
    for _ in 0..2 {
        let keyed = bridge.request(Method::POST, &path, &scene.token).header("idempotency-key", "two").json(&message);
        let answer = send(keyed).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        let [limit, remaining, _] = told(&answer);
        assert!(limit == 600 && remaining < 598, "{limit} {remaining}");
    }
    let later =
        bridge.request(Method::POST, &path, &scene.token).header("prefer", "respond-async").json(&json!({"text": "three"}));
    let answer = send(later).await;
    assert_eq!((answer.status, told(&answer)[0]), (StatusCode::ACCEPTED, 600), "{}", answer.text);
    bridge.stop().await;
}

#[tokio::test]
async fn the_documented_limits_hold_where_spaces_tells_none() {
    let scene = scene(Limits::default()).await;
    for odd in [json!("odd"), json!({}), json!({"global": {"socketio": {"rate_limit": 0, "rate_interval": "soon"}}})] {
        scene.upstream.report_limits(Some(odd.clone()));
        let bridge = Bridge::start(&scene.upstream).await;
        let limits = with_limits(&bridge, &scene.token, "default").await;
        assert_eq!((&limits["emits"]["limit"], &limits["payloadBytes"]), (&json!(200), &json!(16 << 10)), "{odd}");
        assert_eq!(limits["maxConnections"], 3);
        bridge.stop().await;
    }
    scene.upstream.report_limits(None);
    scene.upstream.script(|script| {
        script.rest.on("/api/limit").always(RestFault::status(500, "oops", "not today"));
    });
    let bridge = Bridge::start(&scene.upstream).await;
    assert_eq!(bridge.say(&scene.token, &scene.space, "one").await.status, StatusCode::CREATED);
    assert_eq!(with_limits(&bridge, &scene.token, "default").await["emits"]["limit"], 200);
    bridge.stop().await;
}

#[tokio::test]
async fn a_setting_lowers_limits_and_never_raises_them() {
    let scene = scene(Limits::default()).await;
    for (emits_per_minute, max_event_bytes, source, expected) in
        [(Some(50), Some(4_000), "setting", (50, 4_000)), (Some(100_000), Some(1 << 20), "live", (600, 16 << 10))]
    {
        let bridge = Bridge::start_with(&scene.upstream, |config| {
            config.upstream.emits_per_minute = emits_per_minute;
            config.upstream.max_event_bytes = max_event_bytes;
        })
        .await;
        eventually("the live limits", async || {
            let limits = with_limits(&bridge, &scene.token, source).await;
            ((limits["emits"]["limit"].as_u64(), limits["payloadBytes"].as_u64()) == (Some(expected.0), Some(expected.1)))
                .then_some(())
        })
        .await;
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_used_up_budget_is_told_with_the_time_until_there_is_more() {
    let scene = scene(emits(3, 5)).await;
    let bridge = Bridge::start(&scene.upstream).await;
    with_limits(&bridge, &scene.token, "live").await;
    for (text, left) in [("one", 1), ("two", 0)] {
        let answer = bridge.say(&scene.token, &scene.space, text).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        assert_eq!(told(&answer)[..2], [3, left]);
    }
    let answer = bridge.say_within(1, &scene.token, &scene.space, "three").await;
    answer.assert_problem(429, "emit_budget_exhausted");
    let [limit, remaining, reset] = told(&answer);
    let retry_after: u64 = answer.header("retry-after").parse().expect("seconds");
    assert_eq!((limit, remaining, answer.json()["retryAfter"].as_u64()), (3, 0, Some(retry_after)));
    assert!((1..=6).contains(&retry_after) && (retry_after..=6).contains(&reset), "{retry_after} {reset}");
    assert_eq!(bridge.session().await["limits"]["emits"]["remaining"], 0);
    // The next one goes when the budget allows it; the one given up never does.
    let answer = bridge.say_within(60, &scene.token, &scene.space, "four").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(scene.texts(), ["one", "two", "four"]);
    assert!(bridge.metric(r#"spaces_bridge_limit_waits_total{limit="emits"}"#).await >= 1.0);
    assert!(bridge.shows(r#"spaces_bridge_limit_refusals_total{limit="emits"} 1"#).await);
    bridge.stop().await;
}

#[tokio::test]
async fn a_flood_goes_as_fast_as_spaces_allows_and_never_faster() {
    let scene = scene(emits(10, 1)).await;
    // Whatever goes beyond the limit costs the connection.
    scene.upstream.script(|script| {
        script.over_emits.always(OverLimit::Fault(Fault::Cut));
    });
    let bridge = Bridge::start(&scene.upstream).await;
    with_limits(&bridge, &scene.token, "live").await;
    let texts: Vec<String> = (0..45).map(|number| number.to_string()).collect();
    let answers = join_all(texts.iter().map(|text| bridge.say_within(30, &scene.token, &scene.space, text))).await;
    for answer in &answers {
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    }
    assert_eq!(scene.texts().len(), texts.len());
    assert_eq!(bridge.session().await["reconnects"], 0);
    bridge.stop().await;
}

#[tokio::test]
async fn all_sessions_of_a_user_share_what_spaces_allows_the_user() {
    let scene = scene(emits(8, 60)).await;
    let other = scene.upstream.token_for(&scene.ana, TokenKind::Jwt);
    let bridge = Bridge::start(&scene.upstream).await;
    for token in [&scene.token, &other] {
        with_limits(&bridge, token, "live").await;
    }
    // Each session subscribes, and each sends three.
    let mut last = Vec::new();
    for number in 0..3 {
        for token in [&scene.token, &other] {
            let answer = bridge.say(token, &scene.space, &number.to_string()).await;
            assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
            last.push(told(&answer)[1]);
        }
    }
    assert_eq!(last, [6, 4, 3, 2, 1, 0]);
    for token in [&scene.token, &other] {
        bridge.say_within(1, token, &scene.space, "too much").await.assert_problem(429, "emit_budget_exhausted");
    }
    // Another user has limits of its own.
    let answer = bridge.say(&scene.bos_token(), &scene.space, "from Bo").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    bridge.stop().await;
}

#[tokio::test]
async fn a_flood_into_one_space_does_not_keep_another_waiting() {
    let scene = scene(emits(10, 2)).await;
    let other = scene.upstream.space("Other", &[&scene.ana]);
    let bridge = Bridge::start(&scene.upstream).await;
    with_limits(&bridge, &scene.token, "live").await;
    for space in [&scene.space, &other] {
        assert_eq!(bridge.say(&scene.token, space, "warm-up").await.status, StatusCode::CREATED);
    }
    let flood = join_all((0..30).map(|number| {
        let (bridge, scene) = (&bridge, &scene);
        async move { bridge.say_within(30, &scene.token, &scene.space, &format!("flood {number}")).await }
    }));
    let single = async {
        // Behind all of the flood that could not go at once.
        eventually("a flood that waits", async || (emitted(&scene).len() >= 8).then_some(())).await;
        bridge.say_within(30, &scene.token, &other, "single").await
    };
    let (flood, single) = tokio::join!(flood, single);
    assert!(flood.iter().all(|answer| answer.status == StatusCode::CREATED));
    assert_eq!(single.status, StatusCode::CREATED, "{}", single.text);
    let order = emitted(&scene);
    let place = order.iter().position(|text| text == "single").expect("it was sent");
    // Eight went at once, two of them the warm-up; with its turn it is among the first of the next ten.
    assert!(place <= 10, "{place} of {order:?}");
    bridge.stop().await;
}

#[tokio::test]
async fn subscriptions_leave_a_part_to_messages_and_go_on_as_the_budget_allows() {
    let scene = scene(emits(20, 4)).await;
    scene.upstream.script(|script| {
        script.over_emits.always(OverLimit::Fault(Fault::Cut));
    });
    let spaces: Vec<Space> = (0..30).map(|number| scene.upstream.space(&number.to_string(), &[&scene.ana])).collect();
    let receiver = Receiver::start(Reply::status(204)).await;
    let bridge = Bridge::start(&scene.upstream).await;
    with_limits(&bridge, &scene.token, "live").await;
    assert_eq!(bridge.say(&scene.token, &scene.space, "warm-up").await.status, StatusCode::CREATED);
    let ids: Vec<&str> = spaces.iter().map(AsRef::as_ref).collect();
    let webhook = bridge.register_with(&scene.token, &receiver, json!({"spaces": ids})).await;
    let waiting = async || (bridge.metric(r#"spaces_bridge_limit_waits_total{limit="emits"}"#).await >= 1.0).then_some(());
    eventually("subscriptions that wait", waiting).await;
    let before = emitted_subscriptions(&scene);
    assert!(before < ids.len(), "{before}");
    let answer = bridge.say_within(1, &scene.token, &scene.space, "in between").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let subscribed = |wanted: usize| {
        let (scene, ids) = (&scene, &ids);
        async move || {
            let seen = scene.upstream.seen(|seen| ids.iter().filter(|id| seen.is_subscribed(&scene.token, id)).count());
            (seen == wanted).then_some(())
        }
    };
    eventually("all subscriptions", subscribed(ids.len())).await;
    // Letting them go costs as many emits again.
    assert_eq!(bridge.delete(&format!("/webhooks/{webhook}"), &scene.token).await.status, StatusCode::NO_CONTENT);
    eventually("no subscription", subscribed(0)).await;
    assert_eq!(bridge.session().await["reconnects"], 0, "nothing went beyond the limit");
    bridge.stop().await;
}

fn emitted_subscriptions(scene: &Scene) -> usize {
    scene.upstream.seen(|seen| seen.emits_of("SUBSCRIBE_CHANNEL").count())
}

#[tokio::test]
async fn the_largest_message_is_as_large_as_spaces_says() {
    for (kib, bytes, fits) in [(1, 2_000, false), (1, 500, true), (64, 40_000, true), (64, 70_000, false)] {
        let scene = scene(Limits { payload_kib: Some(kib), ..Limits::default() }).await;
        let bridge = Bridge::start(&scene.upstream).await;
        with_limits(&bridge, &scene.token, "live").await;
        let answer = bridge.say(&scene.token, &scene.space, &"x".repeat(bytes)).await;
        if fits {
            assert_eq!(answer.status, StatusCode::CREATED, "{kib} {bytes} {}", answer.text);
        } else {
            answer.assert_problem(413, "message_too_large");
            let problem = answer.json();
            let number = |name: &str| problem[name].as_u64().expect("a number");
            assert_eq!(number("limit"), u64::from(kib) * 1024);
            assert_eq!(number("excess"), number("size") - number("limit"));
            assert!(bridge.shows(r#"spaces_bridge_limit_refusals_total{limit="payload"} 1"#).await);
        }
        bridge.stop().await;
    }
}

#[tokio::test]
async fn no_call_is_made_while_spaces_wants_none() {
    let scene = scene(Limits::default()).await;
    let bridge = Bridge::start(&scene.upstream).await;
    with_limits(&bridge, &scene.token, "live").await;
    scene.upstream.script(|script| {
        script.rest.on("/api/users/me/spaces").next(1, RestFault::too_many(3));
    });
    let answer = bridge.get("/spaces", &scene.token).await;
    answer.assert_problem(429, "upstream_rate_limited");
    assert_eq!((answer.header("retry-after"), &answer.json()["upstreamCode"]), ("3", &json!("too.many.requests")));
    let answer = bridge.get("/spaces", &scene.token).await;
    answer.assert_problem(429, "call_budget_exhausted");
    let [limit, remaining, _] = told(&answer);
    let seconds: u64 = answer.header("retry-after").parse().expect("seconds");
    assert!(limit == 600 && remaining == 0 && (1..=3).contains(&seconds), "{limit} {remaining} {seconds}");
    assert_eq!(scene.upstream.seen(|seen| seen.rest_count("GET", "/api/users/me/spaces")), 1);
    // Another user is not concerned.
    assert_eq!(bridge.get("/spaces", scene.bos_token()).await.status, StatusCode::OK);
    let again = async || (bridge.get("/spaces", &scene.token).await.status == StatusCode::OK).then_some(());
    eventually("calls again", again).await;
    assert!(bridge.shows(r#"spaces_bridge_limit_refusals_total{limit="upstream"} 1"#).await);
    bridge.stop().await;
}

#[tokio::test]
async fn calls_stay_within_what_spaces_allows() {
    let scene = scene(Limits { rest_calls: Some(10), rest_interval: 2, ..Limits::default() }).await;
    let bridge = Bridge::start(&scene.upstream).await;
    with_limits(&bridge, &scene.token, "live").await;
    let mut refused = 0;
    for _ in 0..30 {
        let answer = bridge.get("/spaces", &scene.token).await;
        if answer.status != StatusCode::OK {
            answer.assert_problem(429, "call_budget_exhausted");
            refused += 1;
        }
    }
    assert!(refused > 0);
    let again = async || (bridge.get("/spaces", &scene.token).await.status == StatusCode::OK).then_some(());
    eventually("calls again", again).await;
    let refusals = scene.upstream.seen(|seen| seen.rest_calls().filter(|call| call.status == Some(429)).count());
    assert_eq!(refusals, 0, "Spaces never had to say no");
    bridge.stop().await;
}

#[tokio::test]
async fn nobody_waits_for_the_limits_and_one_session_of_a_user_reads_them() {
    let scene = scene(Limits::default()).await;
    scene.upstream.script(|script| {
        script.rest.on("/api/limit").next(1, RestFault::Slow(Duration::from_millis(200)));
    });
    let bridge = Bridge::start(&scene.upstream).await;
    // Nobody waits for the limits.
    assert_eq!(bridge.say(&scene.token, &scene.space, "at once").await.status, StatusCode::CREATED);
    with_limits(&bridge, &scene.token, "live").await;
    let other = scene.upstream.token_for(&scene.ana, TokenKind::Jwt);
    with_limits(&bridge, &other, "live").await;
    assert_eq!(scene.upstream.seen(|seen| seen.rest_count("GET", "/api/limit")), 1, "once for a user");
    bridge.stop().await;
}
