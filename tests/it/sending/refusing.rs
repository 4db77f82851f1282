//! Messages that Spaces or the service refuses.

use std::time::Duration;

use fake_upstream::{Fault, Place, Seen, SendRefusal, Who};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{messages, warm_up};
use crate::support::bridge::{Bridge, Scene};
use crate::support::wait::eventually;

#[tokio::test]
async fn every_shape_of_refusal_is_a_problem_with_the_upstreams_code() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    warm_up(&bridge, &scene).await;
    let object = SendRefusal::Object { code: "too.odd".to_owned(), message: "too odd for us".to_owned() };
    let archived = SendRefusal::Text("topic.invalid_acesss_to_archived_topic".to_owned());
    for without_loopback in [false, true] {
        for (refusal, status, code, upstream_code) in [
            (SendRefusal::policy(), 403, "message_forbidden", json!("not.authorized.by.topic.policy")),
            (object.clone(), 422, "message_refused", json!("too.odd")),
            (archived.clone(), 422, "message_refused", json!("topic.invalid_acesss_to_archived_topic")),
            (SendRefusal::Bare, 422, "message_refused", Value::Null),
        ] {
            scene.upstream.script(|script| {
                script.send_refusal.next(1, refusal.clone());
                if without_loopback {
                    script.failure_without_loopback.next(1, ());
                }
            });
            let answer = bridge.say(&scene.token, &scene.space, "it's \"refused\"").await;
            answer.assert_problem(status, code);
            assert_eq!(answer.json()["upstreamCode"], upstream_code, "{refusal:?}");
        }
    }
    assert_eq!(scene.texts(), ["warm-up"]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_refusal_after_the_deadline_is_told_by_the_reference() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    warm_up(&bridge, &scene).await;
    scene.upstream.script(|script| {
        script.send_refusal.next(1, SendRefusal::Silence);
    });
    let answer = bridge.say_within(1, &scene.token, &scene.space, "slowly refused").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    let mut refused = scene.upstream.seen(Seen::sends).pop().expect("a send");
    refused["error"] = "not.authorized.by.topic.policy".into();
    scene.upstream.inject(&Who::token(&scene.token), "SEND_MESSAGE_FAILED", &refused);
    let state = eventually("the refusal", async || {
        let state = bridge.get(answer.header("location"), &scene.token).await.json();
        (state["status"] == "failed").then_some(state)
    });
    assert_eq!(state.await["upstreamCode"], "not.authorized.by.topic.policy");
    bridge.stop().await;
}

#[tokio::test]
async fn a_lost_subscription_is_renewed_and_the_message_sent_once_more() {
    for without_loopback in [false, true] {
        for place in [Place::Error, Place::ErrorCode, Place::Category, Place::Type, Place::Code] {
            let scene = Scene::new().await;
            let bridge = Bridge::start(&scene.upstream).await;
            warm_up(&bridge, &scene).await;
            scene.upstream.script(|script| {
                script.subscription_required.next(1, place);
                if without_loopback {
                    script.failure_without_loopback.next(1, ());
                }
            });
            scene.upstream.fault(&Who::token(&scene.token), &Fault::Unsubscribe(scene.space.id.clone()));
            let answer = bridge.say(&scene.token, &scene.space, "again").await;
            assert_eq!(answer.status, StatusCode::CREATED, "{place:?}: {}", answer.text);
            assert_eq!(scene.texts(), ["warm-up", "again"]);
            let counts = scene.upstream.seen(|seen| (seen.sends().len(), seen.emits_of("SUBSCRIBE_CHANNEL").count()));
            assert_eq!(counts, (3, 2), "{place:?}");
            bridge.stop().await;
        }
    }
}

#[tokio::test]
async fn a_subscription_that_does_not_help_is_a_conflict_after_one_more_try() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    scene.upstream.script(|script| {
        script.send_refusal.always(SendRefusal::SubscriptionRequired(Place::Error));
    });
    bridge.say(&scene.token, &scene.space, "never").await.assert_problem(409, "subscription_required");
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 2);
    bridge.stop().await;
}

#[tokio::test]
async fn messages_that_wait_for_a_renewed_subscription_keep_their_order() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    scene.upstream.script(|script| {
        // All are accepted before the first one can leave.
        script.ack_delay.next(1, Duration::from_secs(1));
        script.send_refusal.next(5, SendRefusal::SubscriptionRequired(Place::Error));
    });
    let texts: Vec<_> = (0..5).map(|number| format!("message {number}")).collect();
    let answers = join_all(texts.iter().map(|text| bridge.say(&scene.token, &scene.space, text))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::CREATED));
    let mut order: Vec<String> = Vec::new();
    for send in scene.upstream.seen(Seen::sends) {
        let text = send["content"]["bodyText"].as_str().expect("a text").to_owned();
        if !order.contains(&text) {
            order.push(text);
        }
    }
    assert_eq!(scene.texts(), order);
    bridge.stop().await;
}

#[tokio::test]
async fn a_message_that_spaces_would_not_take_is_refused_with_both_sizes() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    for body in [
        json!({"text": "x".repeat(20_000)}),
        json!({"text": "<".repeat(5_000)}),
        json!({"html": "<p>x</p>".repeat(10_000)}),
        json!({"content": {"bodyText": "x", "extra": "y".repeat(20_000)}}),
    ] {
        let answer = bridge.post(&messages(&scene), &scene.token, &body).await;
        answer.assert_problem(413, "message_too_large");
        let problem = answer.json();
        assert_eq!(problem["limit"], 16 << 10);
        assert!(problem["size"].as_u64() > problem["limit"].as_u64(), "{problem}");
    }
    assert_eq!(scene.upstream.seen(|seen| (seen.opened(), seen.emits_total())), (0, 0));
    bridge.stop().await;
}

#[tokio::test]
async fn a_subscription_that_the_budget_holds_is_told_so_too() {
    let scene = Scene::new().await;
    let other = scene.upstream.space("Other", &[&scene.ana]);
    let bridge = Bridge::start_with(&scene.upstream, |config| config.upstream.emits_per_minute = Some(1)).await;
    let path = |space: &str| format!("/spaces/{space}/subscription");
    assert_eq!(bridge.put(&path(scene.space.as_ref()), &scene.token).await.status, StatusCode::OK);
    for answer in [
        bridge.say_within(1, &scene.token, &scene.space, "held").await,
        bridge.say_within(1, &scene.token, &other, "held").await,
        bridge.put(&path(other.as_ref()), &scene.token).await,
    ] {
        answer.assert_problem(429, "emit_budget_exhausted");
        let seconds: u64 = answer.header("retry-after").parse().expect("seconds");
        assert!((1..=62).contains(&seconds), "{seconds}");
    }
    assert_eq!(scene.upstream.seen(Seen::emits_total), 1);
    bridge.stop().await;
}
