//! A session that has ended, however it ended, leaves no task behind.

use std::time::Duration;

use fake_upstream::{FakeUpstream, Fault, Options, Seen, Token, TokenKind, Who};
use reqwest::{Method, StatusCode};
use tokio::runtime::{Handle, Runtime};

use crate::support::bridge::{Bridge, Scene};
use crate::support::wait::eventually;

/// Sessions that end in each way.
const SESSIONS: usize = 12;
/// Tasks that may come or go besides: connections in the pools of the service and of this test.
const POOLED: usize = SESSIONS / 2;

/// Tasks of this test's own runtime, in which the service runs; the upstream has another.
fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// A scene whose upstream runs in a runtime of its own.
struct Elsewhere {
    scene: Option<Scene>,
    runtime: Option<Runtime>,
}

impl Elsewhere {
    async fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let scene = runtime.spawn(Scene::with(Options::default())).await.expect("no panic");
        Self { scene: Some(scene), runtime: Some(runtime) }
    }

    fn scene(&self) -> &Scene {
        self.scene.as_ref().expect("until it is dropped")
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.scene = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn seen(upstream: &FakeUpstream, what: impl FnMut(&Seen) -> bool) {
    upstream.wait_until(Duration::from_secs(30), what).await.expect("to be seen");
}

/// Closes the only session, as the operator may.
async fn close(bridge: &Bridge) {
    let id = bridge.session().await["id"].as_str().expect("a session").to_owned();
    let answer = bridge.operator(Method::DELETE, &format!("/sessions/{id}")).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text);
}

/// Lets many sessions end in one way, one after the other, and compares the tasks with those after the first.
async fn leaves_nothing(end: impl AsyncFn(&Scene, &Bridge, &Token)) {
    let elsewhere = Elsewhere::start().await;
    let scene = elsewhere.scene();
    let bridge = Bridge::start(&scene.upstream).await;
    let mut after_first = 0;
    for session in 0..=SESSIONS {
        let token = scene.upstream.token_for(&scene.ana, TokenKind::Jwt);
        end(scene, &bridge, &token).await;
        if session == 0 {
            after_first = tasks();
        }
    }
    eventually("the end of the sessions' tasks", async || (tasks() < after_first + POOLED).then_some(())).await;
    bridge.stop().await;
}

#[tokio::test]
async fn no_task_is_left_of_sessions_that_were_closed() {
    leaves_nothing(async |scene, bridge, token| {
        assert_eq!(bridge.say(token, &scene.space, "hello").await.status, StatusCode::CREATED);
        close(bridge).await;
    })
    .await;
}

#[tokio::test]
async fn no_task_is_left_of_sessions_that_were_kicked() {
    leaves_nothing(async |scene, bridge, token| {
        assert_eq!(bridge.say(token, &scene.space, "hello").await.status, StatusCode::CREATED);
        scene.upstream.fault(&Who::token(token), &Fault::Kick);
        seen(&scene.upstream, |seen| seen.opened_with(token) == 2).await;
        close(bridge).await;
    })
    .await;
}

#[tokio::test]
async fn no_task_is_left_of_sessions_that_were_refused() {
    leaves_nothing(async |scene, bridge, token| {
        scene.upstream.expire(token);
        bridge.say(token, &scene.space, "let me in").await.assert_problem(401, "token_refused");
        close(bridge).await;
    })
    .await;
}
