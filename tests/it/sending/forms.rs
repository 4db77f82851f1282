//! What can be sent, and with which tokens.

use fake_upstream::{Limits, Options, Seen, TokenKind};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::messages;
use crate::support::bridge::{Bridge, Scene, send};

#[tokio::test]
async fn a_message_is_confirmed_with_the_id_that_spaces_gave_it() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let answer = bridge.say(&scene.token, &scene.space, "1 < 2 & \"so\"\non").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let sent = answer.json();
    let id = sent["id"].as_str().expect("an id");
    let stored = scene.upstream.with_world(|world| world.find_message(id).cloned()).expect("the upstream has it");
    assert_eq!(stored.text(), "1 &lt; 2 &amp; &quot;so&quot;<br>on");
    assert_eq!(sent["message"]["_id"], id);
    let reference = sent["ref"].as_str().expect("a reference");
    assert_eq!(answer.header("location"), format!("/messages/{reference}"));
    let state = bridge.get(&format!("/messages/{reference}"), &scene.token).await.json();
    assert_eq!((state["status"].as_str(), state["id"].as_str()), (Some("confirmed"), Some(id)));
    bridge.stop().await;
}

#[tokio::test]
async fn html_keeps_what_spaces_shows_and_loses_the_rest() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let html = concat!(
        r#"<p onclick="x()">a <b style="x">b</b><script>x()</script><img src="x" onerror="x()">"#,
        r#"<a href="javascript:x()">c</a><a href="https://example.com/?a=1&amp;b=2">d</a></p>"#,
    );
    let answer = bridge.post(&messages(&scene), &scene.token, &json!({ "html": html })).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(scene.texts(), [r#"<p>a <b>b</b><a>c</a><a href="https://example.com/?a=1&amp;b=2">d</a></p>"#]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_reply_becomes_a_comment_of_its_post() {
    let scene = Scene::new().await;
    let post = json!({"category": "idea", "content": {"bodyText": "Plan"}});
    let post = scene.upstream.send_as(&scene.bo, &scene.space, &post).expect("a post");
    let bridge = Bridge::start(&scene.upstream).await;
    let body = json!({"text": "agreed", "replyTo": post["_id"]});
    let answer = bridge.post(&messages(&scene), &scene.token, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(answer.json()["message"]["parentMsg"]["_id"], post["_id"]);
    bridge.stop().await;
}

#[tokio::test]
async fn files_uploaded_before_are_attached() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let attachment = json!({"fileId": "0b7f3c7e", "name": "report.pdf", "fileSize": 20480, "fileType": "document",
        "providerFileType": "application/pdf"});
    for body in [json!({"text": "see", "attachments": [attachment]}), json!({"attachments": [attachment]})] {
        let answer = bridge.post(&messages(&scene), &scene.token, &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        let sent = &answer.json()["message"]["content"]["data"][0];
        assert_eq!(
            (&sent["fileId"], &sent["name"], &sent["fileSize"]),
            (&json!("0b7f3c7e"), &json!("report.pdf"), &json!(20480))
        );
        assert_eq!((&sent["fileType"], &sent["provider"]), (&json!("document"), &json!("native")));
    }
    bridge.stop().await;
}

#[tokio::test]
async fn the_form_that_spaces_takes_is_passed_on_as_it_is() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let content = json!({"bodyText": "Rotate keys", "description": "<p>soon</p>", "dueDate": "2031-03-14T17:00:00.000Z",
        "assignees": [{"_id": scene.bo.id}], "status": "pending", "data": [], "of": {"tomorrow": [1, null, "ä"]}});
    let body = json!({"category": "task", "topicId": scene.space.id, "content": content, "version": "1.1", "chatMessages": {},
        "loopbackMetadata": {"mine": 1}});
    let answer = bridge.post(&messages(&scene), &scene.token, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(answer.json()["category"], "task");
    let emitted = scene.upstream.seen(Seen::sends).pop().expect("a send");
    assert_eq!((&emitted["content"], &emitted["version"]), (&content, &json!("1.1")));
    assert_eq!(emitted["loopbackMetadata"]["ref"], answer.json()["ref"]);
    bridge.stop().await;
}

#[tokio::test]
async fn every_kind_of_token_sends() {
    let scene = Scene::with(Options { limits: Limits::none(), ..Options::default() }).await;
    let bridge = Bridge::start(&scene.upstream).await;
    for kind in [TokenKind::Jwt, TokenKind::Oauth, TokenKind::Service] {
        let token = scene.upstream.token_for(&scene.ana, kind);
        let authorization = token.authorization();
        let url = format!("{}{}", bridge.api, messages(&scene));
        let request = bridge.plain(Method::POST, &url).header("authorization", authorization);
        let answer = send(request.json(&json!({"text": "hi"}))).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{kind:?}: {}", answer.text);
    }
    bridge.stop().await;
}
