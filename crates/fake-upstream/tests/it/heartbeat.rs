//! Pings, silence, and frames that break the protocol.

use std::time::{Duration, Instant};

use fake_upstream::{Ended, FakeUpstream, Options};

use crate::support::{DEADLINE, Scene};

async fn ended(upstream: &FakeUpstream) -> Ended {
    let last = upstream.wait_for(DEADLINE, |seen| seen.connections().next_back().and_then(|connection| connection.ended));
    last.await.expect("the connection ends")
}

/// A server that soon loses patience.
fn impatient() -> Options {
    Options { ping_interval: Duration::from_millis(500), ping_timeout: Duration::from_millis(500), ..Options::default() }
}

#[tokio::test]
async fn a_silent_client_is_closed_and_never_pinged() {
    let scene = Scene::with(impatient()).await;
    let mut client = scene.join(&scene.anas).await;
    assert_eq!(client.close_frame().await, None);
    assert_eq!(ended(&scene.upstream).await, Ended::PingTimeout);
}

#[tokio::test]
async fn pings_are_counted_and_can_be_left_unanswered() {
    let scene = Scene::new().await;
    let mut client = scene.join(&scene.anas).await;
    client.nothing_came().await;
    scene.upstream.script(|script| {
        script.withhold_pong.next(2, ());
    });
    client.send("2").await;
    client.send("2").await;
    client.nothing_came().await;
    assert_eq!(scene.upstream.seen(fake_upstream::Seen::pings), 4);
}

#[tokio::test]
async fn events_count_as_life_unless_only_pings_do() {
    for (only_pings_count, survives) in [(false, true), (true, false)] {
        let scene = Scene::with(Options { only_pings_count, ..impatient() }).await;
        let mut client = scene.join(&scene.anas).await;
        let twice_the_patience = Instant::now() + Duration::from_millis(2200);
        while Instant::now() < twice_the_patience {
            client.send(r#"42/chat,["ANYTHING",{}]"#).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if survives {
            client.nothing_came().await;
        } else {
            assert_eq!(client.close_frame().await, None);
        }
    }
}

#[tokio::test]
async fn an_unreadable_packet_ends_the_connection_and_an_unreadable_event_does_not() {
    let scene = Scene::new().await;
    let mut client = scene.join(&scene.anas).await;
    for frame in ["42/chat,[", "42/chat,", "42/chat,[1]", "49", "4", r#"42/chat,["SEND_MESSAGE",7]"#, "3", "6"] {
        client.send(frame).await;
    }
    client.nothing_came().await;
    client.send("x").await;
    assert_eq!(client.close_frame().await, None);
    assert_eq!(ended(&scene.upstream).await, Ended::ProtocolError);
}

#[tokio::test]
async fn a_frame_that_is_too_large_ends_the_connection_with_1009() {
    let scene = Scene::with(Options { max_message: 1000, ..Options::default() }).await;
    let mut client = scene.join(&scene.anas).await;
    client.send(&format!("42/chat,[\"E\",\"{}\"]", "x".repeat(1000))).await;
    assert_eq!(client.close_frame().await, Some(1009));
    assert_eq!(ended(&scene.upstream).await, Ended::ProtocolError);
}

#[tokio::test]
async fn a_client_that_leaves_or_vanishes_is_told_apart() {
    let scene = Scene::new().await;
    let mut client = scene.join(&scene.anas).await;
    client.send("41/chat,").await;
    client.nothing_came().await;
    client.close().await;
    assert_eq!(ended(&scene.upstream).await, Ended::ClientClosed);
    drop(scene.join(&scene.anas).await);
    let ends = scene.upstream.wait_for(DEADLINE, |seen| {
        let last = seen.connections().next_back()?;
        (seen.opened() == 2).then_some(last.ended).flatten()
    });
    assert_eq!(ends.await.expect("the connection ends"), Ended::ClientVanished);
}
