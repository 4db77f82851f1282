//! Tokens that callers bring: the fresher one is kept, the same events are told once, and an own message is known as one.

use std::time::Duration;

use fake_upstream::{EchoFault, Limits, Options, Refusal, Token, TokenKind};
use reqwest::StatusCode;
use serde_json::{Value, json};
use spaces_bridge::domain::{Clock as _, SystemClock};

use crate::support::bridge::{Bridge, Scene};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

const HOUR_MS: i64 = 3_600_000;

/// A JWT of Ana's that ends in so many hours.
fn token_for_hours(scene: &Scene, hours: i64) -> Token {
    let ends = SystemClock.now().as_millis() + hours * HOUR_MS;
    scene.upstream.with_world(|world| world.token_until(&scene.ana, TokenKind::Jwt, ends))
}

async fn subscribed(scene: &Scene, token: &Token) {
    let space = scene.space.as_ref();
    scene.upstream.wait_until(Duration::from_secs(30), |seen| seen.is_subscribed(token, space)).await.expect("a subscription");
}

/// The sessions that are there, by state.
async fn sessions(bridge: &Bridge) -> Vec<Value> {
    bridge.operator(reqwest::Method::GET, "/sessions").await.json()["data"].as_array().expect("a list").clone()
}

async fn messages(bridge: &Bridge, token: &Token) -> Vec<Value> {
    let listed = bridge.get("/events?limit=200", token).await.json();
    let all = listed["data"].as_array().expect("a list").iter();
    all.filter(|event| event["type"] == "message.created").cloned().collect()
}

#[tokio::test]
async fn a_fresher_token_of_the_user_takes_the_place_of_the_stored_one_without_loss() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let (stored, fresher) = (token_for_hours(&scene, 1), token_for_hours(&scene, 2));
    bridge.register(&stored, &receiver).await;
    subscribed(&scene, &stored).await;
    assert_eq!(bridge.get("/me", &fresher).await.status, StatusCode::OK);
    let mut posted = 0;
    while scene.upstream.seen(|seen| seen.opened_with(&fresher) == 0 || seen.open_now_with(&stored) > 0) {
        scene.upstream.post_as(&scene.bo, &scene.space, &format!("during {posted}")).expect("a message");
        posted += 1;
        // No further ahead than a few, so that nobody is flooded.
        eventually("the deliveries follow", async || (receiver.count() + 16 >= posted).then_some(())).await;
    }
    scene.upstream.post_as(&scene.bo, &scene.space, "after").expect("a message");
    eventually("every delivery", async || (receiver.count() > posted).then_some(())).await;
    let mut ids: Vec<_> = receiver.recorded().iter().map(|request| request.header("webhook-id").to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), receiver.count()), (posted + 1, posted + 1));
    assert!(scene.upstream.seen(|seen| seen.peak_with(&stored) == 1 && seen.peak_with(&fresher) == 1));

    let bridge = bridge.restart().await;
    subscribed(&scene, &fresher).await;
    assert_eq!(scene.upstream.seen(|seen| seen.opened_with(&stored)), 1, "the stored token is the fresher one");
    bridge.stop().await;
}

#[tokio::test]
async fn a_token_that_ends_earlier_takes_nobodys_place() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let (stored, earlier) = (token_for_hours(&scene, 2), token_for_hours(&scene, 1));
    bridge.register(&stored, &receiver).await;
    subscribed(&scene, &stored).await;
    assert_eq!(bridge.say(&earlier, &scene.space, "hello").await.status, StatusCode::CREATED);
    bridge.register(&earlier, &receiver).await;
    let bridge = bridge.restart().await;
    subscribed(&scene, &stored).await;
    assert_eq!(scene.upstream.seen(|seen| (seen.opened_with(&stored), seen.opened_with(&earlier))), (2, 1));
    bridge.stop().await;
}

#[tokio::test]
async fn a_fresher_token_that_the_socket_refuses_changes_nothing() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let (stored, fresher) = (token_for_hours(&scene, 1), token_for_hours(&scene, 2));
    bridge.register(&stored, &receiver).await;
    subscribed(&scene, &stored).await;
    scene.upstream.script_for(&fresher, |script| {
        script.refuse.always(Refusal::Text("Not authorized".to_owned()));
    });
    bridge.say(&fresher, &scene.space, "let me in").await.assert_problem(401, "token_refused");
    scene.upstream.post_as(&scene.bo, &scene.space, "hello").expect("a message");
    eventually("the delivery", async || (receiver.count() == 1).then_some(())).await;
    assert!(sessions(&bridge).await.iter().any(|session| session["state"] == "online" && session["durable"] == true));
    bridge.stop().await;
}

#[tokio::test]
async fn a_message_of_one_session_is_an_own_message_for_every_session_of_the_account() {
    let scene = Scene::with(Options { limits: Limits::none(), ..Options::default() }).await;
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let second = scene.upstream.token_for(&scene.ana, TokenKind::Jwt);
    bridge.register(&scene.token, &receiver).await;
    subscribed(&scene, &scene.token).await;
    assert_eq!(bridge.say(&second, &scene.space, "first").await.status, StatusCode::CREATED);
    subscribed(&scene, &second).await;
    // So late that the copies of the other session are in the log before.
    for (number, fault) in [EchoFault::Held, EchoFault::WithoutLoopback].into_iter().enumerate() {
        let text = format!("own {number}");
        let held = fault == EchoFault::Held;
        scene.upstream.script_for(&second, |script| {
            script.echo.next(1, fault.clone());
        });
        let release = async {
            if held {
                eventually("the copy", async || (receiver.count() == 2 + number).then_some(())).await;
                scene.upstream.release();
            }
        };
        let (answer, ()) = tokio::join!(bridge.say(&second, &scene.space, &text), release);
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        eventually("the delivery", async || (receiver.count() == 2 + number).then_some(())).await;
    }
    // Ana's own words from elsewhere are not the bridge's.
    scene.upstream.post_as(&scene.ana, &scene.space, "from the browser").expect("a message");
    eventually("the last delivery", async || (receiver.count() == 4).then_some(())).await;
    let told: Vec<_> = messages(&bridge, &scene.token)
        .await
        .iter()
        .map(|event| (event["data"]["message"]["text"].clone(), event["data"]["own"].clone()))
        .collect();
    let expected = [("first", true), ("own 0", true), ("own 1", true), ("from the browser", false)];
    assert_eq!(told, expected.map(|(text, own)| (json!(text), json!(own))));
    bridge.stop().await;
}

#[tokio::test]
async fn when_a_token_ends_is_shown_where_it_says_so() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let token = token_for_hours(&scene, 2);
    assert_eq!(bridge.get("/me", &token).await.status, StatusCode::OK);
    let session = bridge.session().await;
    assert!(session["tokenExpiresAt"].is_string(), "{session}");
    let left = bridge.metric("spaces_bridge_session_token_end_seconds{kind=\"jwt\"}").await;
    assert!((7_000.0..=7_201.0).contains(&left), "{left}");
    let opaque = scene.upstream.token_for(&scene.bo, TokenKind::Oauth);
    let request =
        bridge.plain(reqwest::Method::GET, &format!("{}/me", bridge.api)).header("authorization", opaque.authorization());
    assert_eq!(crate::support::bridge::send(request).await.status, StatusCode::OK);
    assert!(sessions(&bridge).await.iter().any(|session| session["tokenExpiresAt"].is_null()));
    bridge.stop().await;
}
