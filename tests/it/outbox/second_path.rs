//! Plain chat messages over REST while the socket is away.

use std::time::Duration;

use fake_upstream::{Refusal, RestFault, Who};
use reqwest::Method;
use serde_json::json;
use spaces_bridge::config::Config;

use super::{comes_to, impatient, messages, queue, say_with, shows};
use crate::support::bridge::{Bridge, Scene};
use crate::support::wait::eventually;

fn quick(config: &mut Config) {
    impatient(config);
    config.upstream.rest_fallback_seconds = 1;
}

/// A bridge whose upstream refuses every connection for now.
async fn without_socket() -> (Scene, Bridge) {
    let scene = Scene::new().await;
    scene.upstream.script(|script| script.refuse.always(Refusal::http(503, "later")).is_on());
    let bridge = Bridge::start_with(&scene.upstream, quick).await;
    (scene, bridge)
}

fn chats(scene: &Scene) -> usize {
    let path = format!("/api/spaces/{}/chats", scene.space.id);
    scene.upstream.seen(|seen| seen.rest_count("POST", &path))
}

#[tokio::test]
async fn a_message_of_the_outbox_goes_over_rest_and_is_known_as_own() {
    let (scene, bridge) = without_socket().await;
    let location = queue(&bridge, &scene, "over rest").await;
    let state = comes_to(&bridge, &scene, &location, "confirmed").await;
    assert_eq!(state["steps"][1]["detail"], "over the REST API");
    assert_eq!((scene.texts(), chats(&scene)), (vec!["over rest".to_owned()], 1));
    let id = state["id"].as_str().expect("an id");
    let message = scene.upstream.with_world(|world| world.find_message(id).expect("it is there").to_json());
    // Its event comes once the socket is back.
    scene.upstream.script(|script| script.refuse.off().is_on());
    let path = format!("/spaces/{}/subscription", scene.space.id);
    eventually("a session", async || (bridge.put(&path, &scene.token).await.status.is_success()).then_some(())).await;
    scene.upstream.inject(&Who::token(&scene.token), "MESSAGE_SENT", &message);
    let event = eventually("its event", async || {
        let events = bridge.get("/events?type=message.created", &scene.token).await.json();
        events["data"].get(0).cloned()
    })
    .await;
    assert_eq!((&event["data"]["message"]["id"], &event["data"]["own"]), (&json!(id), &json!(true)), "{event}");
    bridge.stop().await;
}

#[tokio::test]
async fn a_caller_who_waits_long_enough_gets_its_confirmation_over_rest() {
    let (scene, bridge) = without_socket().await;
    let answer = bridge.say_within(20, &scene.token, &scene.space, "over rest").await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    assert!(scene.upstream.with_world(|world| world.find_message(&id).is_some()));
    let state = bridge.get(answer.header("location"), &scene.token).await.json();
    assert_eq!(state["status"], "confirmed");
    // Who waits less than that gets none, and nothing is posted.
    let impatient = bridge.say_within(0, &scene.token, &scene.space, "not at all").await;
    impatient.assert_problem(503, "not_connected");
    assert_eq!((scene.texts(), chats(&scene)), (vec!["over rest".to_owned()], 1));
    bridge.stop().await;
}

#[tokio::test]
async fn only_plain_chat_messages_take_the_second_path_and_only_if_it_is_open() {
    let (scene, bridge) = without_socket().await;
    let post = json!({"category": "idea", "content": {"bodyText": "Plan"}});
    let request = bridge.request(Method::POST, &messages(&scene), &scene.token).header("prefer", "wait=2").json(&post);
    crate::support::bridge::send(request).await.assert_problem(503, "not_connected");
    let bridge = bridge.restart_with(impatient).await;
    bridge.say_within(2, &scene.token, &scene.space, "no way").await.assert_problem(503, "not_connected");
    assert_eq!((scene.texts().len(), chats(&scene)), (0, 0));
    bridge.stop().await;
}

#[tokio::test]
async fn an_answer_of_rest_that_is_lost_is_doubt_and_nothing_is_posted_twice() {
    for keyed in [true, false] {
        let (scene, bridge) = without_socket().await;
        scene.upstream.script(|script| script.rest.on("POST /api/spaces/*/chats").next(1, RestFault::CutAfter).is_on());
        let location = if keyed {
            queue(&bridge, &scene, "once").await
        } else {
            let answer = bridge.say_within(20, &scene.token, &scene.space, "once").await;
            assert_eq!(answer.status, 202, "{}", answer.text);
            answer.header("location").to_owned()
        };
        comes_to(&bridge, &scene, &location, "confirmed").await;
        assert_eq!((scene.texts(), chats(&scene)), (vec!["once".to_owned()], 1));
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_server_error_of_rest_is_doubt_and_is_decided_by_the_history() {
    let (scene, bridge) = without_socket().await;
    scene
        .upstream
        .script(|script| script.rest.on("POST /api/spaces/*/chats").next(1, RestFault::status(500, "x", "broken")).is_on());
    let location = queue(&bridge, &scene, "once").await;
    comes_to(&bridge, &scene, &location, "confirmed").await;
    assert_eq!((scene.texts(), chats(&scene)), (vec!["once".to_owned()], 2));
    shows(&bridge, "spaces_bridge_outbox_resends_total 1").await;
    bridge.stop().await;
}

#[tokio::test]
async fn what_rest_says_against_a_message_is_answered() {
    let (scene, bridge) = without_socket().await;
    let chats = "POST /api/spaces/*/chats";
    for (status, answered, code) in [(403, 403, "space_forbidden"), (404, 404, "space_not_found"), (401, 401, "token_refused")] {
        scene.upstream.script(|script| script.rest.on(chats).next(1, RestFault::status(status, "x.y", "no")).is_on());
        bridge.say_within(20, &scene.token, &scene.space, "no").await.assert_problem(answered, code);
    }
    scene.upstream.script(|script| script.rest.on(chats).next(1, RestFault::too_many(1)).is_on());
    // Too many calls are no refusal of the message, which waits for its turn.
    let keyed = say_with(&bridge, &scene, "yes", &[("idempotency-key", "k"), ("prefer", "wait=30")]).await;
    assert_eq!(keyed.status, 201, "{}", keyed.text);
    assert_eq!(scene.texts(), ["yes"]);
    bridge.stop().await;
}

#[tokio::test]
async fn who_was_told_to_ask_later_learns_that_nothing_was_posted() {
    let (scene, bridge) = without_socket().await;
    assert_eq!(bridge.get("/me", &scene.token).await.status, 200);
    // The refusal comes after the caller has its answer.
    scene
        .upstream
        .script(|script| script.rest.on("POST /api/spaces/*/chats").next(1, RestFault::Slow(Duration::from_secs(4))).is_on());
    scene.upstream.expire(&scene.token);
    let answer = bridge.say_within(2, &scene.token, &scene.space, "never").await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    comes_to(&bridge, &scene, answer.header("location"), "failed").await;
    assert_eq!(scene.texts(), Vec::<String>::new());
    bridge.stop().await;
}
