//! Restarts and kills: what was taken is sent, and nothing is sent twice.

use std::time::Duration;

use fake_upstream::{EchoFault, Refusal, SendRefusal};
use reqwest::Method;
use serde_json::{Value, json};

use super::{comes_to, impatient, messages, queue};
use crate::support::bridge::{Bridge, Scene, send};
use crate::support::process::Service;
use crate::support::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(30);

const IMPATIENT: [(&str, &str); 4] = [
    ("SPACES_BRIDGE_OUTBOX__CONFIRM_SECONDS", "20"),
    ("SPACES_BRIDGE_OUTBOX__SETTLE_SECONDS", "1"),
    ("SPACES_BRIDGE_OUTBOX__SILENCE_SECONDS", "1"),
    ("SPACES_BRIDGE_UPSTREAM__REST_FALLBACK_SECONDS", "0"),
];

async fn queue_at(service: &Service, scene: &Scene, text: &str) -> String {
    let authorization = format!("jwt {}", scene.token.as_ref());
    let request = service.request(Method::POST, &messages(scene), &authorization).header("prefer", "respond-async");
    let answer = send(request.json(&json!({ "text": text }))).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.header("location").to_owned()
}

async fn comes_to_at(service: &Service, scene: &Scene, location: &str, status: &str) -> Value {
    eventually(&format!("a message that is {status}"), async || {
        let state = service.get(location, &scene.token).await.json();
        (state["status"] == status).then_some(state)
    })
    .await
}

async fn emitted(scene: &Scene, count: usize) {
    let seen = scene.upstream.wait_until(DEADLINE, |seen| seen.emits_of("SEND_MESSAGE").count() >= count);
    seen.await.expect("the sends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_between_sending_and_echo_finds_its_message_and_sends_no_second() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| script.echo.next(1, EchoFault::Missing).is_on());
    let service = Service::start(&scene.upstream, &IMPATIENT).await;
    let location = queue_at(&service, &scene, "once").await;
    let next = queue_at(&service, &scene, "next").await;
    emitted(&scene, 1).await;
    let service = service.kill().await.start().await;
    comes_to_at(&service, &scene, &location, "confirmed").await;
    comes_to_at(&service, &scene, &next, "confirmed").await;
    assert_eq!(scene.texts(), ["once", "next"]);
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_while_spaces_swallows_its_message_sends_it_after_the_restart() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| script.send_refusal.next(1, SendRefusal::Silence).is_on());
    let service = Service::start(&scene.upstream, &IMPATIENT).await;
    let location = queue_at(&service, &scene, "once").await;
    emitted(&scene, 1).await;
    let service = service.kill().await.start().await;
    comes_to_at(&service, &scene, &location, "confirmed").await;
    assert_eq!((scene.texts(), scene.upstream.seen(|seen| seen.sends().len())), (vec!["once".to_owned()], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_survives_a_kill_and_leaves_in_its_order_without_any_caller() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| script.refuse.always(Refusal::http(503, "later")).is_on());
    let service = Service::start(&scene.upstream, &IMPATIENT).await;
    for text in ["one", "two", "three"] {
        queue_at(&service, &scene, text).await;
    }
    let killed = service.kill().await;
    scene.upstream.clear_script();
    let service = killed.start().await;
    eventually("all three", async || (scene.texts() == ["one", "two", "three"]).then_some(())).await;
    drop(service);
}

#[tokio::test]
async fn what_waits_survives_an_orderly_restart() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, impatient).await;
    assert_eq!(bridge.say(&scene.token, &scene.space, "warm-up").await.status, 201);
    scene.upstream.script(|script| script.echo.next(1, EchoFault::Held).is_on());
    let first = queue(&bridge, &scene, "one").await;
    let second = queue(&bridge, &scene, "two").await;
    emitted(&scene, 2).await;
    let bridge = bridge.restart().await;
    for location in [&first, &second] {
        comes_to(&bridge, &scene, location, "confirmed").await;
    }
    assert_eq!(scene.texts(), ["warm-up", "one", "two"]);
    bridge.stop().await;
}
