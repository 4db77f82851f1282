//! What callers ask of the outbox and get.

use fake_upstream::{Refusal, SendRefusal};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use super::{comes_to, impatient, messages, queue, say_with, shows, steps, told_failures};
use crate::support::bridge::{Bridge, Scene, send};
use crate::support::wait::eventually;

#[tokio::test]
async fn a_message_that_nobody_waits_for_is_sent_and_tells_its_steps() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, impatient).await;
    let answer = say_with(&bridge, &scene, "later", &[("prefer", "respond-async")]).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let taken = answer.json();
    assert_eq!(answer.header("preference-applied"), "respond-async");
    assert_eq!(answer.header("location"), format!("/messages/{}", taken["ref"].as_str().expect("a reference")));
    assert!(["queued", "sent"].contains(&taken["status"].as_str().expect("a status")), "{taken}");
    let state = comes_to(&bridge, &scene, answer.header("location"), "confirmed").await;
    assert_eq!(steps(&state), ["queued", "sent", "confirmed"]);
    assert_eq!(scene.texts(), ["later"]);
    let id = state["id"].as_str().expect("an id");
    assert!(scene.upstream.with_world(|world| world.find_message(id).is_some()));
    shows(&bridge, r#"spaces_bridge_outbox_outcomes_total{outcome="confirmed"} 1"#).await;
    shows(&bridge, r#"spaces_bridge_outbox_messages{state="queued"} 0"#).await;
    eventually("a session that nothing keeps", async || (bridge.session().await["durable"] == false).then_some(())).await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_caller_may_wait_for_what_it_put_into_the_outbox() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, impatient).await;
    let answer = say_with(&bridge, &scene, "now", &[("prefer", "respond-async, wait=20")]).await;
    assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (201, "respond-async, wait=20"));
    assert_eq!(answer.json()["message"]["content"]["bodyText"], "now");
    bridge.stop().await;
}

#[tokio::test]
async fn messages_to_one_space_leave_in_the_order_in_which_they_were_taken() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, impatient).await;
    let texts: Vec<String> = (0..20).map(|number| format!("m{number}")).collect();
    let mut last = String::new();
    for text in &texts {
        last = queue(&bridge, &scene, text).await;
    }
    comes_to(&bridge, &scene, &last, "confirmed").await;
    assert_eq!(scene.texts(), texts);
    bridge.stop().await;
}

#[tokio::test]
async fn a_full_outbox_takes_no_more_until_something_has_left() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| script.refuse.always(Refusal::http(503, "later")).is_on());
    let bridge = Bridge::start_with(&scene.upstream, |config| {
        impatient(config);
        config.outbox.max_per_account = 2;
    })
    .await;
    queue(&bridge, &scene, "one").await;
    let keyed = [("idempotency-key", "two"), ("prefer", "wait=0")];
    assert_eq!(say_with(&bridge, &scene, "two", &keyed).await.status, 202);
    let answer = say_with(&bridge, &scene, "three", &[("prefer", "respond-async")]).await;
    answer.assert_problem(429, "outbox_full");
    assert!(!answer.header("retry-after").is_empty());
    // What is there already takes no second place.
    let repeat = say_with(&bridge, &scene, "two", &keyed).await;
    assert_eq!((repeat.status.as_u16(), repeat.header("idempotency-replayed")), (202, "true"));
    scene.upstream.clear_script();
    eventually("room", async || {
        let answer = say_with(&bridge, &scene, "three", &[("prefer", "respond-async")]).await;
        (answer.status == 202).then_some(())
    })
    .await;
    eventually("all of them", async || (scene.texts() == ["one", "two", "three"]).then_some(())).await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_message_can_be_taken_back_until_it_leaves() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| script.refuse.always(Refusal::http(503, "later")).is_on());
    let bridge = Bridge::start_with(&scene.upstream, impatient).await;
    let first = queue(&bridge, &scene, "no").await;
    let keyed = say_with(&bridge, &scene, "neither", &[("idempotency-key", "k"), ("prefer", "wait=0")]).await;
    let second = queue(&bridge, &scene, "yes").await;
    bridge.delete(&first, scene.bos_token()).await.assert_problem(404, "message_not_found");
    for location in [&first, keyed.header("location")] {
        let cancelled = bridge.delete(location, &scene.token).await;
        assert_eq!((cancelled.status.as_u16(), &cancelled.json()["status"]), (200, &json!("cancelled")), "{}", cancelled.text);
        assert_eq!(steps(&bridge.get(location, &scene.token).await.json()), ["queued", "cancelled"]);
        bridge.delete(location, &scene.token).await.assert_problem(409, "message_not_queued");
    }
    let repeat = say_with(&bridge, &scene, "neither", &[("idempotency-key", "k")]).await;
    repeat.assert_problem(409, "message_cancelled");
    scene.upstream.clear_script();
    comes_to(&bridge, &scene, &second, "confirmed").await;
    assert_eq!(scene.texts(), ["yes"]);
    bridge.delete(&second, &scene.token).await.assert_problem(409, "message_not_queued");
    bridge.delete("/messages/ref_nothing", &scene.token).await.assert_problem(404, "message_not_found");
    shows(&bridge, r#"spaces_bridge_outbox_outcomes_total{outcome="cancelled"} 2"#).await;
    bridge.stop().await;
}

#[tokio::test]
async fn the_same_key_sends_once_and_answers_the_same() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let key = [("idempotency-key", "build-41")];
    let first = say_with(&bridge, &scene, "green", &key).await;
    assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (201, ""), "{}", first.text);
    let again = say_with(&bridge, &scene, "green", &key).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, "true"), "{}", again.text);
    assert_eq!((&again.json()["id"], &again.json()["ref"]), (&first.json()["id"], &first.json()["ref"]));
    assert_eq!(again.header("location"), first.header("location"));
    say_with(&bridge, &scene, "red", &key).await.assert_problem(422, "idempotency_key_reused");
    let at_once = join_all((0..8).map(|_| say_with(&bridge, &scene, "at once", &[("idempotency-key", "\"many\"")]))).await;
    let ids: Vec<_> = at_once.iter().map(|answer| answer.json()["id"].clone()).collect();
    assert!(at_once.iter().all(|answer| answer.status == 201) && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    // Bo's keys are others.
    let request = bridge.request(Method::POST, &messages(&scene), scene.bos_token()).header("idempotency-key", "build-41");
    assert_eq!(send(request.json(&json!({"text": "green too"}))).await.status, 201);
    assert_eq!(scene.texts(), ["green", "at once", "green too"]);
    let bridge = bridge.restart().await;
    let again = say_with(&bridge, &scene, "green", &key).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, "true"), "{}", again.text);
    assert_eq!(again.json()["id"], first.json()["id"]);
    assert_eq!(scene.texts().len(), 3);
    bridge.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_message_is_told_before_anything_is_remembered() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let key = [("idempotency-key", "k"), ("prefer", "respond-async")];
    say_with(&bridge, &scene, "  ", &key).await.assert_problem(422, "invalid_body");
    let large = "x".repeat(20_000);
    say_with(&bridge, &scene, &large, &key).await.assert_problem(413, "message_too_large");
    let answer = say_with(&bridge, &scene, "right", &key).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    comes_to(&bridge, &scene, answer.header("location"), "confirmed").await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_refusal_is_answered_to_who_waits_and_told_otherwise() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, impatient).await;
    scene.upstream.script(|script| script.send_refusal.always(SendRefusal::policy()).is_on());
    let waited = say_with(&bridge, &scene, "a", &[("idempotency-key", "k")]).await;
    waited.assert_problem(403, "message_forbidden");
    say_with(&bridge, &scene, "a", &[("idempotency-key", "k")]).await.assert_problem(403, "message_forbidden");
    let location = queue(&bridge, &scene, "b").await;
    let state = comes_to(&bridge, &scene, &location, "failed").await;
    assert_eq!(state["reason"], "not.authorized.by.topic.policy");
    assert_eq!(told_failures(&bridge, &scene, 1).await, [state["ref"].clone()]);
    let elsewhere = "/spaces/650000000000000000000000/messages";
    let request = bridge.request(Method::POST, elsewhere, &scene.token).header("idempotency-key", "k2");
    send(request.json(&json!({"text": "a"}))).await.assert_problem(404, "space_not_found");
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 2);
    shows(&bridge, r#"spaces_bridge_outbox_outcomes_total{outcome="failed"} 3"#).await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_message_to_one_person_can_be_put_into_the_outbox() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let path = format!("/direct/user/{}", scene.bo.id);
    let say = async |headers: &[(&str, &str)]| {
        let mut request = bridge.request(Method::POST, &path, &scene.token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(request.json(&json!({"text": "psst"}))).await
    };
    let first = say(&[("idempotency-key", "k")]).await;
    let again = say(&[("idempotency-key", "k")]).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201), "{} {}", first.text, again.text);
    assert_eq!((&first.json()["id"], again.header("idempotency-replayed")), (&again.json()["id"], "true"));
    let later = say(&[("prefer", "respond-async")]).await;
    assert_eq!(later.status, 202, "{}", later.text);
    comes_to(&bridge, &scene, later.header("location"), "confirmed").await;
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 2);
    bridge.stop().await;
}
