//! How a session connects, and connects again.

use std::time::Duration;

use fake_upstream::{AckStyle, Fault, Limits, Options, RootConnect, TokenKind, Who};
use reqwest::StatusCode;
use serde_json::json;

use super::{say, seen, subscription};
use crate::support::bridge::{Bridge, Scene};
use crate::support::wait::eventually;

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
