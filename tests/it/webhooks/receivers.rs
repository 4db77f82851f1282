//! Receivers that misbehave: what their owners are shown, and that nobody else suffers.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{Scene, bodies, message_ids};
use crate::support::bridge::Bridge;
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

/// Lets one delivery fail with `reply` and answers it with its attempt.
async fn failed_with(reply: Reply) -> (Value, Value) {
    let scene = Scene::start().await;
    scene.receiver.reply(reply);
    let webhook = scene.register(json!({})).await;
    scene.bo_says("try me");
    let delivery = scene.delivery(&webhook, |delivery| delivery["attemptCount"] == 1 && delivery["state"] != "in_flight").await;
    let attempt = delivery["attempts"][0].clone();
    assert_eq!(attempt["number"], 1, "{delivery}");
    assert!(attempt["durationMs"].is_u64(), "{delivery}");
    assert!(attempt["startedAt"].is_string(), "{delivery}");
    scene.end().await;
    (delivery, attempt)
}

#[tokio::test]
async fn an_error_of_the_receiver_is_shown_with_its_words_and_tried_again() {
    let (delivery, attempt) = failed_with(Reply::Answer(500, vec![], b"database is gone".to_vec())).await;
    assert_eq!(delivery["state"], "waiting");
    assert!(delivery["nextAttemptAt"].is_string());
    assert_eq!((&attempt["status"], &attempt["error"]), (&json!(500), &json!("http")));
    assert_eq!(attempt["response"], "database is gone");
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let elsewhere = Receiver::start(Reply::status(204)).await;
    for status in [301, 302, 307, 308] {
        let (delivery, attempt) = failed_with(Reply::Answer(status, vec![("location", elsewhere.url())], vec![])).await;
        assert_eq!(
            (&delivery["state"], &attempt["status"], &attempt["error"]),
            (&json!("waiting"), &json!(status), &json!("http"))
        );
    }
    assert_eq!(elsewhere.count(), 0);
}

#[tokio::test]
async fn a_broken_connection_and_nonsense_are_told_apart_from_answers() {
    for (reply, status) in [(Reply::Close, None), (Reply::BreakInBody, Some(200)), (Reply::Nonsense, None)] {
        let (delivery, attempt) = failed_with(reply.clone()).await;
        assert_eq!(delivery["state"], "waiting", "{reply:?}");
        assert_eq!((&attempt["error"], attempt["status"].as_u64()), (&json!("reset"), status), "{reply:?}: {attempt}");
        assert!(attempt["detail"].is_string(), "{reply:?}: {attempt}");
    }
}

#[tokio::test]
async fn of_a_megabyte_of_answer_only_a_piece_is_kept() {
    let (_, attempt) = failed_with(Reply::Answer(500, vec![], vec![b'x'; 1 << 20])).await;
    assert_eq!(attempt["status"], 500);
    let kept = attempt["response"].as_str().expect("a piece").len();
    assert!((1..=64 << 10).contains(&kept), "{kept} bytes");
    let (delivery, attempt) = failed_with(Reply::Answer(200, vec![], vec![b'x'; 1 << 20])).await;
    assert_eq!((&delivery["state"], &attempt["status"], &attempt["error"]), (&json!("delivered"), &json!(200), &Value::Null));
}

#[tokio::test]
async fn an_answer_with_headers_without_end_is_a_failure_of_its_own() {
    let (delivery, attempt) = failed_with(Reply::Answer(200, vec![("x-filler", "x".repeat(200_000))], vec![])).await;
    assert_eq!(
        (&delivery["state"], &attempt["status"], &attempt["error"]),
        (&json!("waiting"), &Value::Null, &json!("too_large"))
    );
}

#[tokio::test]
async fn a_receiver_that_hangs_or_dribbles_is_cut_off() {
    for reply in [Reply::Hang, Reply::Drip] {
        let scene = Scene::start().await;
        scene.receiver.reply(reply.clone());
        let bridge = Bridge::start_with(&scene.upstream, |config| config.webhooks.timeout_seconds = 1).await;
        let webhook = bridge.register_with(&scene.token, &scene.receiver, json!({})).await;
        scene.listening().await;
        scene.bo_says("try me");
        let delivery = eventually("the end of the attempt", async || {
            let delivery = bridge.deliveries(&scene.token, &webhook).await.first()?.clone();
            (delivery["attemptCount"] == 1 && delivery["state"] == "waiting").then_some(delivery)
        });
        let id = delivery.await["id"].as_str().expect("an id").to_owned();
        let attempt = bridge.get(&format!("/deliveries/{id}"), &scene.token).await.json()["attempts"][0].clone();
        assert_eq!(attempt["error"], "timeout", "{reply:?}: {attempt}");
        assert!(attempt["durationMs"].as_u64().is_some_and(|time| time >= 900), "{reply:?}: {attempt}");
        bridge.stop().await;
        scene.end().await;
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_a_failed_connection() {
    let scene = Scene::start().await;
    let webhook = scene.register(json!({})).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let url = format!("http://{free}/");
    scene.bridge.patch(&format!("/webhooks/{webhook}"), &scene.token, &json!({"url": url})).await;
    scene.bo_says("nobody there");
    let delivery = scene.delivery(&webhook, |delivery| delivery["attemptCount"] == 1 && delivery["state"] == "waiting").await;
    let attempt = &delivery["attempts"][0];
    assert_eq!((&attempt["status"], &attempt["error"]), (&Value::Null, &json!("connect")));
    scene.end().await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_not_tried_again_until_its_owner_says_so() {
    let scene = Scene::start().await;
    let other = Receiver::start(Reply::status(204)).await;
    scene.bridge.register_with(&scene.token, &other, json!({})).await;
    scene.receiver.reply(Reply::status(410));
    let webhook = scene.register(json!({})).await;
    let path = format!("/webhooks/{webhook}");
    scene.bo_says("goodbye");
    let gone = scene.delivery(&webhook, |delivery| delivery["state"] == "dead").await;
    assert_eq!((&gone["reason"], &gone["attempts"][0]["status"]), (&json!("gone"), &json!(410)));
    eventually("the webhook to be switched off", async || {
        let webhook = scene.bridge.get(&path, &scene.token).await.json();
        (webhook["status"] == "gone" && webhook["enabled"] == false).then_some(())
    })
    .await;
    scene.bo_says("nobody hears it there");
    bodies(&other, 2).await;
    assert_eq!(scene.receiver.count(), 1);
    scene.receiver.reply(Reply::status(204));
    let revived = scene.bridge.patch(&path, &scene.token, &json!({"enabled": true})).await.json();
    assert_eq!(revived["status"], "enabled");
    let id = scene.bo_says("welcome back");
    assert_eq!(message_ids(&scene.bodies(2).await)[1], id);
    scene.end().await;
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_blocked_at_delivery() {
    let mut scene = Scene::start().await;
    let url = format!("http://localhost:{}/hook", scene.receiver.address().port());
    let created = scene.bridge.post("/webhooks", &scene.token, &json!({"url": url})).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
    let webhook = created.json()["id"].as_str().expect("an id").to_owned();
    scene.bridge = scene.bridge.restart_with(|config| config.webhooks.allow_networks.clear()).await;
    scene.listening().await;
    scene.bo_says("not to the inside");
    let delivery = scene.delivery(&webhook, |delivery| delivery["attemptCount"] == 1 && delivery["state"] != "in_flight").await;
    let attempt = &delivery["attempts"][0];
    assert_eq!((&attempt["error"], &attempt["status"]), (&json!("address_blocked"), &Value::Null), "{delivery}");
    assert_eq!(scene.receiver.connections(), 0);
    scene.end().await;
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_neither_another_one_nor_the_api() {
    let scene = Scene::start().await;
    scene.receiver.reply(Reply::Hang);
    let healthy = Receiver::start(Reply::status(204)).await;
    let hanging = scene.register(json!({})).await;
    scene.bridge.register_with(&scene.token, &healthy, json!({})).await;
    for number in 0..200 {
        scene.bo_says(&format!("message {number}"));
    }
    // The other one has everything, and the hanging one's first attempts are still under way: nothing waited for them.
    bodies(&healthy, 200).await;
    assert!(scene.receiver.count() > 0);
    let sent = scene.bridge.say(&scene.token, &scene.space, "still quick").await;
    assert_eq!(sent.status, StatusCode::CREATED, "{}", sent.text);
    let deliveries = scene.bridge.deliveries(&scene.token, &hanging).await;
    assert!(deliveries.iter().all(|delivery| delivery["attemptCount"].as_u64() <= Some(1)), "an attempt has ended already");
    assert!(scene.receiver.connections() <= 16, "a hanging receiver takes more than its share");
    scene.end().await;
}

#[tokio::test]
async fn in_order_means_one_at_a_time_within_a_space_and_a_failure_holds_up_that_space_only() {
    let scene = Scene::start().await;
    let lounge = scene.upstream.space("Lounge", &[&scene.ana, &scene.bo]);
    scene.register(json!({"ordering": "space"})).await;
    scene.listening_to(&lounge).await;
    scene.receiver.script([Reply::status(500)]);
    let mut expected = vec![scene.bo_says("0")];
    scene.bodies(1).await;
    expected.extend((1..20).map(|number| scene.bo_says(&number.to_string())));
    let elsewhere = scene.upstream.post_as(&scene.bo, &lounge, "not held up").expect("Bo is a member");
    let of_space = |events: &[Value], space: &str| -> Vec<String> {
        let of_space = events.iter().filter(|event| event["data"]["spaceId"] == space);
        of_space.filter_map(|event| event["data"]["message"]["id"].as_str().map(str::to_owned)).collect()
    };
    let early = scene.bodies(2).await;
    assert_eq!(of_space(&early, lounge.as_ref()), [elsewhere["_id"].as_str().expect("an id")]);
    let events = scene.bodies(22).await;
    let mut got = of_space(&events, scene.space.as_ref());
    // The first one came twice, because its first attempt failed.
    assert_eq!(got.remove(0), expected[0]);
    assert_eq!(got, expected);
    scene.end().await;
}

#[tokio::test]
async fn an_overloaded_receiver_is_left_alone_for_as_long_as_it_asks() {
    let scene = Scene::start().await;
    scene.receiver.reply(Reply::Answer(429, vec![("retry-after", "3600".to_owned())], vec![]));
    let webhook = scene.register(json!({})).await;
    scene.bo_says("one");
    let delivery = scene.delivery(&webhook, |delivery| delivery["state"] == "waiting" && delivery["attemptCount"] == 1).await;
    let next: jiff::Timestamp = delivery["nextAttemptAt"].as_str().expect("a time").parse().expect("a time");
    let at: jiff::Timestamp = delivery["attempts"][0]["startedAt"].as_str().expect("a time").parse().expect("a time");
    assert!(next.duration_since(at).unsigned_abs() >= Duration::from_secs(3599), "{delivery}");
    scene.bo_says("two");
    eventually("the second delivery", async || {
        let deliveries = scene.bridge.deliveries(&scene.token, &webhook).await;
        (deliveries.len() == 2).then_some(())
    })
    .await;
    assert_eq!(scene.receiver.count(), 1);
    scene.end().await;
}
