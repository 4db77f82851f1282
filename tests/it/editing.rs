//! Editing and deleting over the real service, and the signs beside messages.

use fake_upstream::{Limits, Options, RestFault, Seen};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::bridge::{Answer, Bridge, Scene, send};
use crate::support::suite_log;
use crate::support::wait::eventually;

/// A bridge that listens to the space.
async fn listening(scene: &Scene) -> Bridge {
    let bridge = Bridge::start(&scene.upstream).await;
    let subscribed = bridge.put(&format!("/spaces/{}/subscription", scene.space.id), &scene.token).await;
    assert_eq!(subscribed.status, StatusCode::OK, "{}", subscribed.text);
    bridge
}

fn message(scene: &Scene, id: &str) -> String {
    format!("/spaces/{}/messages/{id}", scene.space.id)
}

/// Lets Ana send through the bridge. Answers the message's id.
async fn said(scene: &Scene, bridge: &Bridge, text: &str) -> String {
    let answer = bridge.say(&scene.token, &scene.space, text).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// Lets a user send past the bridge. Answers the message's id.
fn posted(scene: &Scene, user: &fake_upstream::User, payload: &Value) -> String {
    let posted = scene.upstream.send_as(user, &scene.space, payload).expect("a known space");
    posted["_id"].as_str().expect("an id").to_owned()
}

/// All events of messages, once one of them says `text`: in order, type, own and text.
async fn told_until(scene: &Scene, bridge: &Bridge, text: &str) -> Vec<(String, bool, String)> {
    eventually("the events", async || {
        let page = bridge.get("/events?type=message.*&limit=200", &scene.token).await.json();
        let told: Vec<_> = page["data"]
            .as_array()?
            .iter()
            .map(|event| {
                let (kind, text) = (&event["type"], &event["data"]["message"]["text"]);
                (
                    kind.as_str().unwrap_or_default().to_owned(),
                    event["data"]["own"] == true,
                    text.as_str().unwrap_or_default().to_owned(),
                )
            })
            .collect();
        told.iter().any(|(_, _, told)| told == text).then_some(told)
    })
    .await
}

/// A mark in the log after all that has happened so far.
async fn told(scene: &Scene, bridge: &Bridge) -> Vec<(String, bool, String)> {
    scene.upstream.post_as(&scene.bo, &scene.space, "that is all").expect("a known space");
    told_until(scene, bridge, "that is all").await
}

fn event(kind: &str, own: bool, text: &str) -> (String, bool, String) {
    (format!("message.{kind}"), own, text.to_owned())
}

#[tokio::test]
async fn an_edit_is_made_and_told_once_as_the_accounts_own() {
    let scene = Scene::new().await;
    let bridge = listening(&scene).await;
    let id = said(&scene, &bridge, "build 41 is red").await;
    let edited = bridge.patch(&message(&scene, &id), &scene.token, &json!({"markdown": "build **41** is green"})).await;
    assert_eq!(edited.status, StatusCode::OK, "{}", edited.text);
    let shown = edited.json();
    assert_eq!((&shown["spaceId"], &shown["category"]), (&json!(scene.space.id), &json!("chat")));
    assert_eq!((&shown["message"]["id"], &shown["message"]["text"]), (&json!(id), &json!("build 41 is green")));
    assert!(shown["message"]["modifiedAt"].is_string() && shown["upstream"]["content"]["bodyText"].is_string());
    assert!(scene.texts()[0].contains("<strong>41</strong>"), "{:?}", scene.texts());
    told_until(&scene, &bridge, "build 41 is green").await;

    scene.upstream.edit(&id, "by another client").expect("a message");
    let expected = [
        event("created", true, "build 41 is red"),
        event("updated", true, "build 41 is green"),
        event("updated", false, "by another client"),
        event("created", false, "that is all"),
    ];
    assert_eq!(told(&scene, &bridge).await, expected);
    bridge.stop().await;
}

#[tokio::test]
async fn a_deletion_is_made_and_told_once_as_the_accounts_own() {
    let scene = Scene::new().await;
    let bridge = listening(&scene).await;
    let (id, others) =
        (said(&scene, &bridge, "oops").await, posted(&scene, &scene.bo, &json!({"content": {"bodyText": "mine"}})));
    let deleted = bridge.delete(&message(&scene, &id), &scene.token).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (StatusCode::NO_CONTENT, ""));
    bridge.delete(&message(&scene, &id), &scene.token).await.assert_problem(404, "message_not_found");
    // Ana is the space's admin.
    assert_eq!(bridge.delete(&message(&scene, &others), &scene.token).await.status, StatusCode::NO_CONTENT);
    assert!(scene.texts().is_empty());
    let events = told(&scene, &bridge).await;
    let deletions: Vec<_> = events.iter().filter(|(kind, ..)| kind == "message.deleted").collect();
    assert_eq!(deletions, [&event("deleted", true, ""), &event("deleted", true, "")]);
    bridge.stop().await;
}

#[tokio::test]
async fn posts_and_tasks_keep_what_an_edit_leaves_alone() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let data = json!([{"fileId": "f1", "name": "plan.pdf"}]);
    let post = posted(
        &scene,
        &scene.ana,
        &json!({"category": "idea",
        "content": {"bodyText": "Release 41", "description": "<p>What is new</p>", "data": data}}),
    );
    let task = posted(
        &scene,
        &scene.ana,
        &json!({"category": "task", "content": {"bodyText": "Rotate keys", "description": "soon",
        "assignees": [{"_id": scene.bo.id}], "dueDate": "2031-03-14T17:00:00.000Z", "status": "pending"}}),
    );
    let edit = async |id: &str, body: Value| bridge.patch(&message(&scene, id), &scene.token, &body).await;
    let content =
        |id: &str| scene.upstream.with_world(|world| world.find_message(id).expect("a message").to_json()["content"].clone());

    let edited = edit(&post, json!({"title": "Release <42>"})).await;
    assert_eq!(edited.status, StatusCode::OK, "{}", edited.text);
    assert_eq!((&edited.json()["category"], &edited.json()["message"]["text"]), (&json!("post"), &json!("Release <42>")));
    let now = content(&post);
    assert_eq!((&now["bodyText"], &now["description"]), (&json!("Release &lt;42&gt;"), &json!("<p>What is new</p>")));
    assert_eq!(now["data"], data);
    for words in ["text", "description"] {
        let said = format!("Less is new, @[Bo]({}), in the {words}", scene.bo.id);
        assert_eq!(edit(&post, json!({ words: said })).await.status, StatusCode::OK);
        let described = content(&post)["description"].as_str().expect("a text").to_owned();
        assert!(described.contains(&format!("<mention id=\"{}\"", scene.bo.id)) && described.ends_with(words), "{described}");
    }

    let edited = edit(&task, json!({"status": "completed", "dueDate": "2031-04-01T00:00:00Z"})).await;
    assert_eq!(edited.status, StatusCode::OK, "{}", edited.text);
    let now = content(&task);
    assert_eq!((&now["status"], &now["dueDate"]), (&json!("completed"), &json!("2031-04-01T00:00:00.000Z")));
    assert_eq!((&now["bodyText"], &now["assignees"]), (&json!("Rotate keys"), &json!([{"_id": scene.bo.id}])));

    let chat = posted(&scene, &scene.ana, &json!({"content": {"bodyText": "hi"}}));
    for (id, body, pointer) in [
        (&chat, json!({"title": "x"}), "/title"),
        (&chat, json!({"status": "pending"}), "/status"),
        (&chat, json!({"description": "x"}), "/description"),
        (&post, json!({"dueDate": "2031-04-01T00:00:00Z"}), "/dueDate"),
        (&post, json!({"html": "<script>x()</script>"}), "/html"),
        (&post, json!({"text": " "}), "/text"),
        (&post, json!({"text": "a", "html": "b"}), "/html"),
        (&post, json!({"colour": "red"}), "/colour"),
        (&post, json!({}), ""),
    ] {
        let refused = edit(id, body.clone()).await;
        refused.assert_problem(422, "invalid_body");
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer, "{body}");
    }
    edit(&chat, json!({"text": "x".repeat(20_000)})).await.assert_problem(413, "message_too_large");
    bridge.stop().await;
}

#[tokio::test]
async fn what_spaces_refuses_is_a_clear_problem_and_changes_nothing() {
    let scene = Scene::new().await;
    let bridge = listening(&scene).await;
    let mine = posted(&scene, &scene.bo, &json!({"content": {"bodyText": "Bo's"}}));
    let ana = posted(&scene, &scene.ana, &json!({"content": {"bodyText": "Ana's"}}));
    let (bos, edit) = (scene.bos_token(), json!({"text": "changed"}));
    let world = |change: &dyn Fn(&mut fake_upstream::World)| scene.upstream.with_world(|world| change(world));

    world(&|world| world.set_being_edited(&ana, true));
    let conflict = bridge.patch(&message(&scene, &ana), &scene.token, &edit).await;
    conflict.assert_problem(409, "message_edit_conflict");
    assert_eq!(conflict.json()["upstreamCode"], "message.update.conflict");
    world(&|world| world.set_being_edited(&ana, false));

    let forbidden = bridge.delete(&message(&scene, &ana), &bos).await;
    forbidden.assert_problem(403, "message_delete_forbidden");
    assert_eq!(forbidden.json()["upstreamCode"], "not.authorized");

    let elsewhere = scene.upstream.space("Lounge", &[&scene.ana, &scene.bo]);
    let other = scene.upstream.post_as(&scene.ana, &elsewhere, "elsewhere").expect("a known space")["_id"].clone();
    for id in [other.as_str().expect("an id"), "650000000000000000000000", "no-such-message"] {
        bridge.patch(&message(&scene, id), &scene.token, &edit).await.assert_problem(404, "message_not_found");
        bridge.delete(&message(&scene, id), &scene.token).await.assert_problem(404, "message_not_found");
    }
    bridge.delete(&message(&scene, "a%2Fb"), &scene.token).await.assert_problem(400, "invalid_path");
    bridge.delete("/spaces/64f0a1b2c3d4e5f601020399/messages/m1", &scene.token).await.assert_problem(404, "upstream_not_found");

    for (fault, status, code) in [
        (RestFault::status(403, "not.authorized", "no"), 403, "upstream_forbidden"),
        (RestFault::status(404, "message.not.found", "no"), 404, "upstream_not_found"),
        (RestFault::status(400, "invalid.parameters", "no"), 422, "upstream_refused"),
        (RestFault::status(500, "oops", "oh no"), 502, "upstream_error"),
        (RestFault::Cut, 503, "upstream_unreachable"),
    ] {
        scene.upstream.script(|script| {
            script.rest.on("POST /api/messages/*").off().next(1, fault);
        });
        bridge.patch(&message(&scene, &ana), &scene.token, &edit).await.assert_problem(status, code);
    }
    for body in ["{}", r#"{"deletedMessages":[]}"#, "[]", "<html>"] {
        scene.upstream.script(|script| {
            let fault = RestFault::Garbled { content_type: "application/json".to_owned(), body: body.to_owned() };
            script.rest.on("POST /api/messages/deletemessages").off().next(1, fault);
        });
        let id = posted(&scene, &scene.ana, &json!({"content": {"bodyText": "going"}}));
        bridge.delete(&message(&scene, &id), &scene.token).await.assert_problem(502, "upstream_error");
    }

    world(&|world| assert!(world.change_space(&scene.space.id, |space| space.archived = true)));
    let kept = bridge.delete(&message(&scene, &ana), &scene.token).await;
    kept.assert_problem(409, "message_not_deleted");
    assert_eq!(kept.json()["upstreamCode"], "topic.invalid_acesss_to_archived_topic");
    bridge.patch(&message(&scene, &ana), &scene.token, &edit).await.assert_problem(403, "upstream_forbidden");
    world(&|world| assert!(world.change_space(&scene.space.id, |space| space.archived = false)));

    scene.upstream.edit(&mine, "Bo edits").expect("a message");
    let events = told(&scene, &bridge).await;
    let updates: Vec<_> = events.iter().filter(|(kind, ..)| kind == "message.updated").collect();
    assert_eq!(updates, [&event("updated", false, "Bo edits")]);
    bridge.stop().await;
}

#[tokio::test]
async fn an_answer_without_the_message_is_made_up_for() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    for (index, body) in ["{}", "", "true", r#"{"data":[]}"#].into_iter().enumerate() {
        let id = posted(&scene, &scene.ana, &json!({"content": {"bodyText": "before"}}));
        scene.upstream.script(|script| {
            let fault = RestFault::Garbled { content_type: "application/json".to_owned(), body: body.to_owned() };
            script.rest.on("POST /api/messages/*").off().next(1, fault);
        });
        let edited = bridge.patch(&message(&scene, &id), &scene.token, &json!({"text": "after"})).await;
        assert_eq!(edited.status, StatusCode::OK, "{body}: {}", edited.text);
        let message = &edited.json()["message"];
        assert_eq!((&message["id"], &message["text"]), (&json!(id), &json!("after")), "{body}");
        assert_eq!(scene.texts()[index], "after");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_message_from_long_ago_is_found_among_many() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let then = 1_700_000_000_000;
    let mut old = Vec::new();
    for number in 0..120 {
        let stored = scene.upstream.backdate_as(&scene.ana, &scene.space, &number.to_string(), then + number);
        old.push(stored.expect("a known space")["_id"].as_str().expect("an id").to_owned());
    }
    for number in 0..60 {
        scene.upstream.backdate_as(&scene.bo, &scene.space, "later", then + 3_600_000 + number).expect("a known space");
    }
    for index in [0, 119] {
        let edited = bridge.patch(&message(&scene, &old[index]), &scene.token, &json!({"text": "found"})).await;
        assert_eq!(edited.status, StatusCode::OK, "{}", edited.text);
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_protected_space_wants_its_password_for_every_call() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let (edited, deleted) = (posted(&scene, &scene.ana, &json!({})), posted(&scene, &scene.ana, &json!({})));
    let password = "pin-of-the-space-2468";
    suite_log::note_secret(password);
    let set = |space: &mut fake_upstream::Space| space.pin = Some(password.to_owned());
    scene.upstream.with_world(|world| world.change_space(&scene.space.id, set));
    let space = format!("/spaces/{}", scene.space.id);
    let calls = [
        (Method::GET, space.clone(), None),
        (Method::GET, format!("{space}/members"), None),
        (Method::GET, format!("{space}/messages"), None),
        (Method::POST, format!("{space}/read"), None),
        (Method::PATCH, message(&scene, &edited), Some(json!({"text": "x"}))),
        (Method::DELETE, message(&scene, &deleted), None),
    ];
    for (method, path, body) in calls {
        let call = async |password: Option<&str>| -> Answer {
            let mut request = bridge.request(method.clone(), &path, &scene.token);
            if let Some(body) = &body {
                request = request.json(body);
            }
            if let Some(password) = password {
                request = request.header("x-space-password", password);
            }
            send(request).await
        };
        call(None).await.assert_problem(403, "upstream_forbidden");
        call(Some("wrong")).await.assert_problem(403, "upstream_forbidden");
        call(Some("no way")).await.assert_problem(400, "space_password_invalid");
        call(Some("")).await.assert_problem(400, "space_password_invalid");
        let answer = call(Some(password)).await;
        assert!(answer.status.is_success(), "{method} {path}: {}", answer.text);
        assert!(!answer.text.contains(password));
    }
    bridge.stop().await;
}

#[tokio::test]
async fn typing_is_told_at_once_and_leaves_the_budget_to_messages() {
    let limits = Limits { emits: Some(10), emit_interval: 3600, rest_calls: None, ..Limits::default() };
    let scene = Scene::with(Options { limits, ..Options::default() }).await;
    let bridge = Bridge::start_with(&scene.upstream, |config| config.upstream.emits_per_minute = Some(10)).await;
    let path = format!("/spaces/{}/typing", scene.space.id);
    let told = bridge.request(Method::POST, &path, &scene.token);
    assert_eq!(send(told).await.status, StatusCode::NO_CONTENT);
    let signs = |seen: &Seen| seen.emits_of("SEND_PRESENCE_EVENT").map(fake_upstream::Emit::json).collect::<Vec<_>>();
    let first = scene.upstream.seen(signs).remove(0);
    assert_eq!((&first["category"], &first["topicId"]), (&json!("party.typing"), &json!(scene.space.id)));
    assert_eq!((&first["userId"], &first["sender"]["_id"]), (&json!(scene.ana.id), &json!(scene.ana.id)));

    let refused = loop {
        let answer = send(bridge.request(Method::POST, &path, &scene.token)).await;
        if answer.status != StatusCode::NO_CONTENT {
            break answer;
        }
    };
    refused.assert_problem(429, "emit_budget_exhausted");
    assert!(refused.json()["retryAfter"].as_u64().is_some());
    assert_eq!(bridge.say(&scene.token, &scene.space, "said all the same").await.status, StatusCode::CREATED);
    bridge.stop().await;
}

#[tokio::test]
async fn typing_where_the_user_may_not_be_is_refused() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let elsewhere = scene.upstream.space("Elsewhere", &[&scene.bo]);
    let path = format!("/spaces/{}/typing", elsewhere.id);
    send(bridge.request(Method::POST, &path, &scene.token)).await.assert_problem(403, "space_forbidden");
    let path = "/spaces/64f0a1b2c3d4e5f601020399/typing";
    send(bridge.request(Method::POST, path, &scene.token)).await.assert_problem(404, "space_not_found");
    bridge.stop().await;
}

#[tokio::test]
async fn a_space_is_marked_as_read_once_for_each_key() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let path = format!("/spaces/{}/read", scene.space.id);
    let marks = || scene.upstream.with_world(|world| world.read_marks(&scene.ana, &scene.space));
    for (expected, replayed) in [(1, ""), (1, "true")] {
        let answer = send(bridge.request(Method::POST, &path, &scene.token).header("idempotency-key", "k1")).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text);
        assert_eq!((marks(), answer.header("idempotency-replayed")), (expected, replayed));
    }
    assert_eq!(send(bridge.request(Method::POST, &path, &scene.token)).await.status, StatusCode::NO_CONTENT);
    assert_eq!(marks(), 2);
    let other = "/spaces/64f0a1b2c3d4e5f601020399/read";
    send(bridge.request(Method::POST, other, &scene.token)).await.assert_problem(404, "upstream_not_found");
    scene.upstream.script(|script| {
        script.rest.on("POST /api/users/me/spaces/*/markread").next(1, RestFault::too_many(7));
    });
    let limited = send(bridge.request(Method::POST, &path, &scene.token)).await;
    limited.assert_problem(429, "upstream_rate_limited");
    assert_eq!(limited.header("retry-after"), "7");
    bridge.stop().await;
}
