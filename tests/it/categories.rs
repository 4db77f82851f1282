//! Posts, tasks, comments and mentions in the bridge's own form: what Spaces gets, and what callers are told.

use std::time::Duration;

use fake_upstream::{EchoFault, Seen};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::bridge::{Answer, Bridge, Scene};

const DEADLINE: Duration = Duration::from_secs(30);

async fn post(bridge: &Bridge, scene: &Scene, body: &Value) -> Answer {
    bridge.post(&format!("/spaces/{}/messages", scene.space.as_ref()), &scene.token, body).await
}

/// The argument of the last `SEND_MESSAGE`, without its reference.
fn last_sent(scene: &Scene) -> Value {
    let mut sent = scene.upstream.seen(Seen::sends).pop().expect("a send");
    sent.as_object_mut().expect("an object").remove("loopbackMetadata").expect("a reference");
    sent
}

#[tokio::test]
async fn a_post_has_a_title_and_says_the_rest_in_any_of_the_ways() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    for (field, words, expected) in [
        ("text", "a < b\nc", "a &lt; b<br>c"),
        ("description", "a < b\nc", "a &lt; b<br>c"),
        ("html", "<p onclick=x>a<script>b</script></p>", "<p>a</p>"),
    ] {
        let body = json!({"category": "post", "title": " 1 < 2\n& so ", field: words});
        let answer = post(&bridge, &scene, &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        assert_eq!(answer.json()["category"], "post");
        let content = json!({"bodyText": "1 &lt; 2 &amp; so", "description": expected, "data": []});
        let sent =
            json!({"category": "idea", "topicId": scene.space.id, "chatMessages": {}, "version": "1.1", "content": content});
        assert_eq!(last_sent(&scene), sent, "{field}");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_task_has_assignees_by_id_and_by_address_a_due_date_and_a_status() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let body = json!({"category": "task", "title": "Rotate keys", "text": "before Friday", "dueDate": "2031-03-14T18:00:00+01:00",
        "assignees": [scene.ana.id, "bo@corp.example", scene.bo.id], "status": "completed"});
    let answer = post(&bridge, &scene, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(answer.json()["category"], "task");
    let content = json!({"bodyText": "Rotate keys", "description": "before Friday", "data": [], "status": "completed",
        "dueDate": "2031-03-14T17:00:00.000Z", "assignees": [{"_id": scene.ana.id}, {"_id": scene.bo.id}]});
    assert_eq!(last_sent(&scene)["content"], content);
    let least = post(&bridge, &scene, &json!({"category": "task", "title": "Rotate keys again"})).await;
    assert_eq!(least.status, StatusCode::CREATED, "{}", least.text);
    let content = json!({"bodyText": "Rotate keys again", "data": [], "assignees": [], "status": "pending"});
    assert_eq!(last_sent(&scene)["content"], content);
    bridge.stop().await;
}

#[tokio::test]
async fn a_task_for_somebody_whom_spaces_does_not_know_is_not_sent() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let body = json!({"category": "task", "title": "Rotate keys", "assignees": ["bo@corp.example", "nobody@corp.example"]});
    let answer = post(&bridge, &scene, &body).await;
    answer.assert_problem(422, "invalid_body");
    assert_eq!(answer.json()["errors"][0]["pointer"], "/assignees/1", "{}", answer.text);
    assert!(answer.text.contains("nobody@corp.example"), "{}", answer.text);
    assert!(scene.upstream.seen(Seen::sends).is_empty());
    bridge.stop().await;
}

#[tokio::test]
async fn posts_and_tasks_are_commented_on() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    for category in ["post", "task"] {
        let answer = post(&bridge, &scene, &json!({"category": category, "title": "Release 41"})).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        let parent = answer.json()["id"].clone();
        let comment = post(&bridge, &scene, &json!({"text": "done", "replyTo": parent})).await;
        assert_eq!(comment.status, StatusCode::CREATED, "{}", comment.text);
        assert_eq!(comment.json()["category"], "chat");
        assert_eq!(comment.json()["message"]["parentMsg"]["_id"], parent, "{}", comment.text);
    }
    bridge.stop().await;
}

#[tokio::test]
async fn who_is_mentioned_in_the_words_or_beside_them_is_told_to_spaces_once() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let (ana, bo) = (&scene.ana.id, &scene.bo.id);
    let tag = format!("<mention id=\"{bo}\" type=\"user\" value=\"Bo\">@Bo</mention>");
    for (field, words, expected) in [
        ("text", format!("ask @[Bo]({bo}) @[not a mention]"), format!("ask {tag} @[not a mention]")),
        ("markdown", format!("*ask* @[Bo]({bo})"), format!("<em>ask</em> {tag}")),
        ("html", format!("<b>ask</b> @[Bo]({bo})"), format!("<b>ask</b> {tag}")),
    ] {
        let body = json!({field: words, "mentions": [bo, {"id": ana, "name": "Ana"}]});
        let answer = post(&bridge, &scene, &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        let sent = last_sent(&scene);
        let html = sent["content"]["bodyText"].as_str().expect("a text");
        assert!(html.contains(&expected), "{field}: {html}");
        let mentioned = json!([{"id": bo, "type": "user", "title": "Bo"}, {"id": ana, "type": "user", "title": "Ana"}]);
        assert_eq!(sent["mentions"], mentioned, "{field}");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn every_kind_is_confirmed_also_if_its_echo_has_lost_the_reference() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    scene.upstream.script(|script| {
        script.echo.always(EchoFault::WithoutLoopback);
    });
    for body in [
        json!({"category": "post", "title": "1 < 2", "markdown": "**so**"}),
        json!({"category": "task", "title": "Rotate  keys", "assignees": [scene.bo.id]}),
        json!({"text": format!("ask @[Bo & co]({})", scene.bo.id)}),
    ] {
        let answer = post(&bridge, &scene, &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{body}: {}", answer.text);
    }
    bridge.stop().await;
}

#[tokio::test]
async fn what_the_user_posts_by_hand_under_the_same_title_confirms_nothing() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    scene.upstream.script(|script| script.echo.next(1, EchoFault::Held).is_on());
    let body = json!({"category": "post", "title": "Release 41", "text": "What is new"});
    let other = async {
        scene.upstream.wait_until(DEADLINE, |seen| seen.sends().len() == 1).await.expect("a send");
        let other = json!({"category": "idea", "content": {"bodyText": "Release 41", "description": "What was new"}});
        let other = scene.upstream.send_as(&scene.ana, &scene.space, &other).expect("a message");
        scene.upstream.release();
        other
    };
    let (answer, other) = tokio::join!(post(&bridge, &scene, &body), other);
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_ne!(answer.json()["id"], other["_id"]);
    assert!(answer.text.contains("What is new"), "{}", answer.text);
    bridge.stop().await;
}
