//! What the fake upstream remembers, and waiting for it.

use std::time::Duration;

use fake_upstream::{Limits, Options, Way};
use http::Method;
use serde_json::json;

use crate::support::{Client, DEADLINE, Scene, call};

#[tokio::test]
async fn connections_are_counted_by_token_now_at_most_and_in_total() {
    let scene = Scene::new().await;
    let first = scene.join(&scene.anas).await;
    let second = scene.join(&scene.anas).await;
    let _other = scene.join(&scene.bos).await;
    drop(first);
    scene.upstream.wait_until(DEADLINE, |seen| seen.open_now_with(&scene.anas) == 1).await.expect("one is gone");
    drop(second);
    scene.upstream.wait_until(DEADLINE, |seen| seen.open_now_with(&scene.anas) == 0).await.expect("both are gone");
    scene.upstream.seen(|seen| {
        assert_eq!((seen.peak_with(&scene.anas), seen.opened_with(&scene.anas), seen.opened()), (2, 2, 3));
        let joined: Vec<_> = seen.connections_with(&scene.anas).filter_map(|connection| connection.joined_at).collect();
        assert!(joined.is_sorted() && joined.len() == 2);
        let connection = seen.connections_with(&scene.anas).next().expect("a connection");
        assert_eq!(connection.user.as_deref(), Some(scene.ana.id.as_str()));
        assert!(connection.query.contains(&("EIO".to_owned(), "3".to_owned())));
        assert!(connection.join_query.as_ref().is_some_and(|query| query.starts_with("token=")));
    });
}

#[tokio::test]
async fn emits_and_frames_are_kept_in_order() {
    let scene = Scene::new().await;
    let mut ana = scene.subscribe(&scene.anas).await;
    ana.chat(&scene.ops.id, "1").await;
    ana.emit("NEVER_HEARD_OF", &json!({"x": 1})).await;
    ana.texts(1).await;
    ana.nothing_came().await;
    scene.upstream.seen(|seen| {
        let events: Vec<_> = seen.emits().map(|emit| emit.event.as_str()).collect();
        assert_eq!(events, ["SUBSCRIBE_CHANNEL", "SEND_MESSAGE", "NEVER_HEARD_OF"]);
        assert_eq!(seen.sends()[0]["content"]["bodyText"], "1");
        assert_eq!(seen.emits().next_back().expect("an emit").json(), json!({"x": 1}));
        let frames: Vec<_> = seen.frames().map(|frame| (frame.way, frame.text.as_str())).collect();
        assert_eq!(frames[0].0, Way::Sent);
        assert!(frames[2].0 == Way::Received && frames[2].1.starts_with("40/chat?"));
        assert_eq!(*frames.last().expect("a frame"), (Way::Sent, "3"));
    });
}

#[tokio::test]
async fn rest_calls_are_kept_with_their_answers() {
    let scene = Scene::new().await;
    call(&scene.upstream, &scene.anas, Method::GET, "/api/users/me/spaces?size=5", None).await;
    call(&scene.upstream, &scene.anas, Method::GET, "/api/spaces/nope", None).await;
    scene.upstream.seen(|seen| {
        let calls: Vec<_> = seen.rest_calls().map(|call| (call.path.as_str(), call.query.as_str(), call.status)).collect();
        assert_eq!(calls, [("/api/users/me/spaces", "size=5", Some(200)), ("/api/spaces/nope", "", Some(404))]);
        assert_eq!(seen.rest_count("GET", "/api/spaces/nope"), 1);
        assert_eq!(seen.rest_calls().next().expect("a call").authorization, Some(scene.anas.authorization()));
    });
}

#[tokio::test]
async fn waiting_ends_when_it_is_seen_or_with_a_summary() {
    let scene = Scene::new().await;
    let seen = scene.upstream.wait_for(DEADLINE, |seen| seen.sends().first().cloned());
    let act = async {
        let mut ana = scene.subscribe(&scene.anas).await;
        ana.chat(&scene.ops.id, "hi").await;
        ana
    };
    let (send, _ana) = tokio::join!(seen, act);
    assert_eq!(send.expect("it was sent")["content"]["bodyText"], "hi");
    let missed = scene.upstream.wait_until(Duration::from_millis(20), |seen| seen.opened() == 2).await;
    let message = missed.expect_err("nobody else comes").to_string();
    assert!(message.contains("1 opened") && message.contains("SEND_MESSAGE"), "{message}");
    assert!(!message.contains(&scene.anas.value));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_others_are_not() {
    let scene = Scene::with(Options { outbox: 32, limits: Limits::none(), ..Options::default() }).await;
    let mut lazy = scene.subscribe(&scene.anas).await;
    let mut bo = scene.subscribe(&scene.bos).await;
    let text = "x".repeat(100_000);
    let mut posted = 0;
    while scene.upstream.seen(|seen| seen.open_now_with(&scene.anas) == 1) {
        scene.upstream.post_as(&scene.ana, &scene.ops, &text).expect("a known space");
        posted += 1;
        bo.texts(1).await;
        assert!(posted < 2000, "32 waiting frames must be too many at last");
    }
    bo.nothing_came().await;
    let how = scene.upstream.seen(|seen| seen.connections_with(&scene.anas).next().and_then(|connection| connection.ended));
    assert_eq!(how, Some(fake_upstream::Ended::TooSlow));
    // What was in the buffers of the network still arrives, then the end.
    lazy.texts(1).await;
}

#[tokio::test]
async fn many_idle_connections_cost_a_message_nothing() {
    let scene = Scene::with(Options::for_load()).await;
    let quiet = scene.upstream.space("Quiet", &[&scene.bo]);
    let mut idle = Vec::new();
    for _ in 0..300 {
        let mut client = Client::open(&scene.upstream, &scene.bos).await;
        client.join(&scene.bos).await;
        client.subscribe(&quiet.id).await;
        idle.push(client);
    }
    let mut ana = scene.subscribe(&scene.anas).await;
    for number in 0..50 {
        ana.chat(&scene.ops.id, &number.to_string()).await;
    }
    assert_eq!(ana.texts(50).await.len(), 50);
    for client in &mut idle {
        client.nothing_came().await;
    }
    assert_eq!(scene.upstream.seen(fake_upstream::Seen::open_now), 301);
}
