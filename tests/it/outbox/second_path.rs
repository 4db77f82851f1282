//! Messages over REST while the socket is away.

use std::time::Duration;

use fake_upstream::{Refusal, RestFault, Who};
use reqwest::Method;
use serde_json::{Value, json};
use spaces_bridge::config::Config;

use super::{comes_to, impatient, messages, queue, queue_message, say_with, shows, steps};
use crate::support::bridge::{Answer, Bridge, Scene, send};
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
    calls(scene, "chats")
}

/// How often messages of a kind were posted over REST.
fn calls(scene: &Scene, kind: &str) -> usize {
    let path = format!("/api/spaces/{}/{kind}", scene.space.id);
    scene.upstream.seen(|seen| seen.rest_count("POST", &path))
}

/// Sends a message and waits for so many seconds.
async fn send_within(seconds: u32, bridge: &Bridge, scene: &Scene, message: &Value) -> Answer {
    let request = bridge.request(Method::POST, &messages(scene), &scene.token);
    send(request.header("prefer", format!("wait={seconds}")).json(message)).await
}

/// A message as Spaces has it.
fn stored(scene: &Scene, id: &Value) -> Value {
    let id = id.as_str().expect("an id");
    scene.upstream.with_world(|world| world.find_message(id).expect("it is there").to_json())
}

fn task(scene: &Scene, words: &str) -> Value {
    json!({"category": "task", "title": "Rotate keys", "text": words, "assignees": [scene.bo.id], "status": "completed",
        "dueDate": "2031-03-14T17:00:00Z"})
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
async fn posts_tasks_comments_and_files_go_over_rest_too() {
    let (scene, bridge) = without_socket().await;
    let files = json!([{"fileId": "f1", "name": "plan.pdf", "fileSize": 7, "fileType": "document", "providerFileType": "application/pdf"}]);
    let post = json!({"category": "post", "title": "1 < 2", "markdown": "**so**", "attachments": files});
    let post = send_within(20, &bridge, &scene, &post).await;
    assert_eq!((post.status.as_u16(), &post.json()["category"]), (201, &json!("post")), "{}", post.text);
    let content = &stored(&scene, &post.json()["id"])["content"];
    assert_eq!((&content["bodyText"], &content["data"][0]["fileId"]), (&json!("1 &lt; 2"), &json!("f1")), "{content}");
    assert!(content["description"].as_str().is_some_and(|html| html.contains("<strong>so</strong>")), "{content}");

    let task = send_within(20, &bridge, &scene, &task(&scene, "before Friday")).await;
    assert_eq!((task.status.as_u16(), &task.json()["category"]), (201, &json!("task")), "{}", task.text);
    let content = &stored(&scene, &task.json()["id"])["content"];
    assert_eq!((&content["description"], &content["status"]), (&json!("before Friday"), &json!("completed")), "{content}");
    assert_eq!(content["assignees"], json!([{"_id": scene.bo.id}]), "{content}");
    assert_eq!(content["dueDate"], "2031-03-14T17:00:00.000Z", "{content}");

    for parent in [&post, &task] {
        let parent = &parent.json()["id"];
        let comment = send_within(20, &bridge, &scene, &json!({"text": "done", "replyTo": parent, "attachments": files})).await;
        assert_eq!((comment.status.as_u16(), &comment.json()["category"]), (201, &json!("chat")), "{}", comment.text);
        let comment = stored(&scene, &comment.json()["id"]);
        assert_eq!((&comment["parentMsg"]["_id"], &comment["content"]["data"][0]["fileId"]), (parent, &json!("f1")), "{comment}");
    }
    assert_eq!([calls(&scene, "ideas"), calls(&scene, "tasks"), calls(&scene, "chats")], [1, 1, 2]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_post_in_doubt_over_rest_is_told_from_another_of_its_title() {
    let (scene, bridge) = without_socket().await;
    let post = json!({"category": "post", "title": "Release 41", "text": "What is new"});
    for (kind, message, other) in [
        ("ideas", post, json!({"category": "idea", "content": {"bodyText": "Release 41", "description": "What is old"}})),
        ("tasks", task(&scene, "all"), json!({"category": "task", "content": {"bodyText": "Rotate keys", "description": "one"}})),
    ] {
        let other = scene.upstream.send_as(&scene.ana, &scene.space, &other).expect("a message");
        let path = format!("POST /api/spaces/*/{kind}");
        for (fault, posted) in [(RestFault::CutAfter, 1), (RestFault::status(500, "x", "broken"), 2)] {
            let before = calls(&scene, kind);
            scene.upstream.script(|script| script.rest.on(&path).next(1, fault).is_on());
            let location = queue_message(&bridge, &scene, &message).await;
            let state = comes_to(&bridge, &scene, &location, "confirmed").await;
            assert_ne!(state["id"], other["_id"], "{state}");
            assert_eq!(calls(&scene, kind) - before, posted, "{state}");
        }
    }
    assert_eq!(scene.texts().len(), 6);
    bridge.stop().await;
}

#[tokio::test]
async fn what_spaces_does_not_document_for_rest_waits_for_the_socket_and_says_so() {
    let (scene, bridge) = without_socket().await;
    let mention = json!({"text": format!("ask @[Bo]({})", scene.bo.id)});
    let undated = json!({"category": "task", "title": "Rotate keys", "assignees": [scene.bo.id]});
    for (message, why) in [(&mention, "takes mentions"), (&undated, "takes a task without a due date")] {
        let refused = send_within(2, &bridge, &scene, message).await;
        refused.assert_problem(503, "not_connected");
        assert!(refused.text.contains(why), "{}", refused.text);
    }
    let waiting = queue_message(&bridge, &scene, &undated).await;
    let reason = eventually("a reason", async || {
        let state = bridge.get(&waiting, &scene.token).await.json();
        state["reason"].as_str().map(str::to_owned)
    })
    .await;
    assert!(reason.contains("takes a task without a due date"), "{reason}");
    assert_eq!((scene.texts().len(), calls(&scene, "tasks"), chats(&scene)), (0, 0, 0));
    scene.upstream.script(|script| script.refuse.off().is_on());
    let state = comes_to(&bridge, &scene, &waiting, "confirmed").await;
    assert_eq!(steps(&state), ["queued", "sent", "confirmed"]);
    assert_eq!((scene.texts(), calls(&scene, "tasks")), (vec!["Rotate keys".to_owned()], 0));
    bridge.stop().await;
}

#[tokio::test]
async fn nothing_takes_a_second_path_that_is_closed() {
    let (scene, bridge) = without_socket().await;
    let bridge = bridge.restart_with(impatient).await;
    for message in [json!({"text": "no way"}), json!({"category": "post", "title": "No way"})] {
        let refused = send_within(2, &bridge, &scene, &message).await;
        refused.assert_problem(503, "not_connected");
        assert!(!refused.text.contains("REST"), "{}", refused.text);
    }
    assert_eq!((scene.texts().len(), chats(&scene), calls(&scene, "ideas")), (0, 0, 0));
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
