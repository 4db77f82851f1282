//! Many sessions that lose their upstream at the same time, and come back to it.

use std::time::{Duration, Instant};

use fake_upstream::{Limits, Options, Seen, Space, Token, TokenKind};
use futures_util::{StreamExt as _, stream};
use reqwest::StatusCode;

use crate::support::bridge::{Bridge, Scene};

const SESSIONS: usize = 500;

/// Connection attempts per second that the service may make.
const PER_SECOND: u32 = 100;

/// Far more than the limit on attempts makes it last.
const DEADLINE: Duration = Duration::from_mins(2);

fn all_listen(seen: &Seen, places: &[(Token, Space)]) -> bool {
    places.iter().all(|(token, space)| seen.is_subscribed(token, space.as_ref()))
}

/// The most that happened within any time of this length.
fn most_within(times: &[Instant], length: Duration) -> usize {
    let from = |begin: usize| times[begin..].iter().take_while(|time| **time < times[begin] + length).count();
    (0..times.len()).map(from).max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_lost_the_upstream_together_come_back_within_the_limit_and_none_is_left_behind() {
    let options = Options { limits: Limits::none(), record_frames: false, ..Options::default() };
    let scene = Scene::with(options).await;
    let bridge = Bridge::start(&scene.upstream).await;
    let places: Vec<_> = (0..SESSIONS)
        .map(|number| {
            let user = scene.upstream.user(&format!("User {number}"));
            let space = scene.upstream.space(&format!("Space {number}"), &[&user, &scene.bo]);
            (scene.upstream.token_for(&user, TokenKind::Jwt), space)
        })
        .collect();
    let subscribed = stream::iter(&places).map(|(token, space)| {
        let bridge = &bridge;
        async move { bridge.put(&format!("/spaces/{}/subscription", space.as_ref()), token).await.status }
    });
    let statuses: Vec<_> = subscribed.buffer_unordered(50).collect().await;
    assert!(statuses.iter().all(|status| *status == StatusCode::OK), "{statuses:?}");

    // A new process has all of them at once, and after that the upstream is gone.
    let bridge = bridge.restart_with(|config| config.session.connects_per_second = PER_SECOND).await;
    scene.upstream.wait_until(DEADLINE, |seen| all_listen(seen, &places)).await.expect("all come back after the restart");
    let before = scene.upstream.seen(Seen::opened);
    scene.upstream.restart().await.expect("the same port is free");
    scene.upstream.wait_until(DEADLINE, |seen| all_listen(seen, &places)).await.expect("all come back to the upstream");

    let opened: Vec<_> = scene.upstream.seen(|seen| seen.connections().map(|connection| connection.opened_at).collect());
    // Whoever is quick may have met the server that was going; whoever waits for the limit may not try again and again meanwhile.
    let again = opened.len() - before - SESSIONS;
    assert!(again <= SESSIONS / 100, "{again} connections more than sessions");
    // Restored after the restart, and back after the outage: both keep to the limit. What is late here comes in a heap.
    let (length, late) = (Duration::from_secs(2), PER_SECOND as usize / 2);
    let limit = 2 * PER_SECOND as usize + late;
    for (what, times) in [("the restart", &opened[SESSIONS..before]), ("the outage", &opened[before..])] {
        let most = most_within(times, length);
        assert!(most <= limit, "{most} connections within {length:?} after {what}, and {limit} are allowed");
    }
    let peaks = scene.upstream.seen(|seen| places.iter().map(|(token, _)| seen.peak_with(token)).max());
    assert_eq!(peaks, Some(1));
    for (token, space) in places.iter().step_by(50) {
        assert_eq!(bridge.say(token, space, "back").await.status, StatusCode::CREATED);
    }
    bridge.stop().await;
}
