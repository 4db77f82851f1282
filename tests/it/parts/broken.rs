//! What becomes of the parts when something goes wrong between them.

use std::time::Duration;

use fake_upstream::{EchoFault, Refusal, SendRefusal};
use reqwest::Method;
use serde_json::json;

use super::{LARGEST, lines, messages, of_parts, say, small};
use crate::support::bridge::{Bridge, Scene, send};
use crate::support::process::Service;
use crate::support::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(30);

async fn emitted(scene: &Scene, count: usize) {
    let seen = scene.upstream.wait_until(DEADLINE, |seen| seen.emits_of("SEND_MESSAGE").count() >= count);
    seen.await.expect("the sends");
}

#[tokio::test]
async fn a_part_that_fails_ends_those_after_it_and_the_answer_says_what_is_there() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, small).await;
    assert_eq!(bridge.say(&scene.token, &scene.space, "warm-up").await.status, 201);
    scene.upstream.script(|script| script.echo.next(1, EchoFault::Held).is_on());
    let body = json!({"text": lines(3).join("\n"), "split": true});
    let key = [("idempotency-key", "k"), ("prefer", "wait=30")];
    let refuse = async {
        emitted(&scene, 2).await;
        scene.upstream.script(|script| script.send_refusal.next(1, SendRefusal::policy()).is_on());
        scene.upstream.release();
    };
    let (answer, ()) = tokio::join!(say(&bridge, &scene, &body, &key), refuse);
    answer.assert_problem(502, "message_incomplete");
    let problem = answer.json();
    assert_eq!(of_parts(&problem, "status"), ["confirmed", "failed", "failed"]);
    assert!(problem["detail"].as_str().expect("a detail").starts_with("Spaces has 1 of the 3 parts"), "{problem}");
    assert_eq!(problem["parts"][2]["reason"], "the part before is not in Spaces");
    let again = say(&bridge, &scene, &body, &key).await;
    again.assert_problem(502, "message_incomplete");
    assert_eq!(again.json()["parts"], problem["parts"]);
    let location = format!("/messages/{}", of_parts(&problem, "ref")[0]);
    let state = bridge.get(&location, &scene.token).await.json();
    assert_eq!((&state["status"], &state["parts"]), (&json!("failed"), &problem["parts"]));
    assert_eq!(scene.texts(), ["warm-up", &lines(3)[0]]);
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 3, "the third part never left");
    bridge.stop().await;
}

#[tokio::test]
async fn a_first_part_that_is_refused_is_a_message_that_is_refused() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, small).await;
    scene.upstream.script(|script| script.send_refusal.next(1, SendRefusal::policy()).is_on());
    let answer = say(&bridge, &scene, &json!({"text": lines(3).join("\n"), "split": true}), &[]).await;
    answer.assert_problem(403, "message_forbidden");
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 1);
    assert!(scene.texts().is_empty());
    bridge.stop().await;
}

#[tokio::test]
async fn what_is_taken_back_takes_the_parts_after_it_along() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| script.refuse.always(Refusal::http(503, "later")).is_on());
    let bridge = Bridge::start_with(&scene.upstream, |config| {
        small(config);
        config.upstream.rest_fallback_seconds = 0;
    })
    .await;
    let body = json!({"text": lines(3).join("\n"), "split": true});
    let answer = say(&bridge, &scene, &body, &[("prefer", "respond-async")]).await;
    assert_eq!(of_parts(&answer.json(), "status"), ["queued"; 3]);
    assert_eq!(bridge.delete(answer.header("location"), &scene.token).await.status, 200);
    eventually("all of them", async || {
        let state = bridge.get(answer.header("location"), &scene.token).await.json();
        (of_parts(&state, "status") == ["cancelled"; 3]).then_some(())
    })
    .await;
    scene.upstream.clear_script();
    assert_eq!(bridge.say(&scene.token, &scene.space, "next").await.status, 201);
    assert_eq!(scene.texts(), ["next"]);
    bridge.stop().await;
}

#[tokio::test]
async fn parts_find_room_in_the_outbox_all_or_none() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, |config| {
        small(config);
        config.outbox.max_per_account = 2;
    })
    .await;
    let body = |count| json!({"text": lines(count).join("\n"), "split": true});
    say(&bridge, &scene, &body(3), &[]).await.assert_problem(429, "outbox_full");
    assert_eq!(say(&bridge, &scene, &body(2), &[]).await.status, 201);
    assert_eq!(scene.texts(), lines(2));
    bridge.stop().await;
}

async fn killed_after_the_first(fault: impl FnOnce(&Scene)) {
    let scene = Scene::new().await;
    fault(&scene);
    let largest = LARGEST.to_string();
    let settings = [
        ("SPACES_BRIDGE_OUTBOX__SETTLE_SECONDS", "1"),
        ("SPACES_BRIDGE_OUTBOX__SILENCE_SECONDS", "1"),
        ("SPACES_BRIDGE_UPSTREAM__REST_FALLBACK_SECONDS", "0"),
        ("SPACES_BRIDGE_UPSTREAM__MAX_EVENT_BYTES", &largest),
    ];
    let service = Service::start(&scene.upstream, &settings).await;
    let authorization = format!("jwt {}", scene.token.as_ref());
    let say = async |service: &Service| {
        let request = service.request(Method::POST, &messages(&scene), &authorization).header("idempotency-key", "k");
        let request = request.header("prefer", "respond-async");
        send(request.json(&json!({"text": lines(3).join("\n"), "split": true}))).await
    };
    let taken = say(&service).await;
    assert_eq!(taken.status, 202, "{}", taken.text);
    emitted(&scene, 1).await;
    let service = service.kill().await.start().await;
    let again = say(&service).await;
    assert_eq!((again.header("location"), of_parts(&again.json(), "ref").len()), (taken.header("location"), 3));
    eventually("all of them", async || {
        let state = service.get(taken.header("location"), &scene.token).await.json();
        (of_parts(&state, "status") == ["confirmed"; 3]).then_some(())
    })
    .await;
    assert_eq!(scene.texts(), lines(3));
    drop(service);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_between_the_parts_posts_the_others_and_none_twice() {
    killed_after_the_first(|scene| {
        scene.upstream.script(|script| script.echo.next(1, EchoFault::Missing).is_on());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_part_that_a_crash_lost_is_posted_before_the_others() {
    killed_after_the_first(|scene| {
        scene.upstream.script(|script| script.send_refusal.next(1, SendRefusal::Silence).is_on());
    })
    .await;
}
