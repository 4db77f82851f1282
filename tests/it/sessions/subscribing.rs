//! How a session listens to spaces.

use std::time::Duration;

use fake_upstream::{Seen, SubscribeFault};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{say, seen, subscription};
use crate::support::bridge::{Bridge, Scene};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

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
async fn many_subscriptions_at_once_let_none_of_each_other_go() {
    let scene = Scene::new().await;
    let spaces: Vec<_> = (0..96).map(|number| scene.upstream.space(&format!("Space {number}"), &[&scene.ana])).collect();
    let bridge = Bridge::start(&scene.upstream).await;
    let paths: Vec<_> = spaces.iter().map(subscription).collect();
    for paths in paths.chunks(32) {
        let answers = futures_util::future::join_all(paths.iter().map(|path| bridge.put(path, &scene.token))).await;
        for answer in answers {
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        }
    }
    assert!(scene.upstream.seen(|seen| spaces.iter().all(|space| seen.is_subscribed(&scene.token, space.as_ref()))));
    bridge.stop().await;
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
