//! Files on their way back.

use fake_upstream::RestFault;
use reqwest::{Method, redirect};
use serde_json::{Value, json};

use super::rig::{Form, files, messages, post_form};
use crate::support::bridge::{ADMIN_KEY, Answer, Bridge, Scene, send};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

/// A file in Spaces; its path in the API.
async fn uploaded(bridge: &Bridge, scene: &Scene, media_type: &str) -> String {
    let form = Form::new().file("a.html", media_type, b"<script>x()</script>");
    let answer = post_form(bridge, scene, &files(scene), form).await;
    format!("/files/{}", answer.json()["attachments"][0]["fileId"].as_str().expect("an id"))
}

/// Asks without following redirects.
async fn ask(bridge: &Bridge, scene: &Scene, path: &str) -> Answer {
    let tls = socketio_client::TlsConfig::platform().expect("a TLS configuration");
    let client = reqwest::Client::builder().tls_backend_preconfigured((*tls).clone()).no_proxy();
    let client = client.redirect(redirect::Policy::none()).build().expect("a client");
    send(client.get(format!("{}{path}", bridge.api)).header("authorization", format!("jwt {}", scene.token.as_ref()))).await
}

#[tokio::test]
async fn a_file_is_redirected_to_at_a_fresh_address() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let path = uploaded(&bridge, &scene, "text/html").await;
    let first = ask(&bridge, &scene, &path).await;
    assert_eq!((first.status.as_u16(), first.header("cache-control")), (302, "no-store"), "{}", first.text);
    let location = first.header("location").to_owned();
    assert!(location.starts_with(&scene.upstream.rest_url()) && location.contains("X-Signature"), "{location}");
    assert_eq!(send(bridge.plain(Method::GET, &location)).await.text, "<script>x()</script>", "no token is needed");
    scene.upstream.with_world(fake_upstream::World::expire_signed_urls);
    assert_eq!(send(bridge.plain(Method::GET, &location)).await.status, 403);
    let fresh = ask(&bridge, &scene, &path).await.header("location").to_owned();
    assert_eq!(send(bridge.plain(Method::GET, &fresh)).await.status, 200);
    bridge.stop().await;
}

#[tokio::test]
async fn a_file_comes_through_the_service_if_that_is_wanted_and_is_never_shown() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let path = uploaded(&bridge, &scene, "text/html").await;
    let answer = ask(&bridge, &scene, &format!("{path}?mode=stream")).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "<script>x()</script>"));
    for (name, value) in [
        ("content-type", "text/html"),
        ("content-length", "20"),
        ("content-disposition", "attachment"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(answer.header(name), value);
    }
    scene.upstream.script(|script| {
        script.rest.on("GET /storage/*").next(1, RestFault::status(500, "", ""));
    });
    ask(&bridge, &scene, &format!("{path}?mode=stream")).await.assert_problem(502, "download_failed");
    ask(&bridge, &scene, &format!("{path}?mode=show")).await.assert_problem(400, "invalid_query");
    bridge.stop().await;
}

#[tokio::test]
async fn the_other_method_is_tried_and_what_is_not_there_is_said_not_to_be() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let path = uploaded(&bridge, &scene, "text/html").await;
    ask(&bridge, &scene, "/files/0b7f3c7e-0000-4000-8000-000000000000").await.assert_problem(404, "file_not_found");
    ask(&bridge, &scene, "/files/%20").await.assert_problem(400, "invalid_path");
    for status in [404, 405] {
        scene.upstream.script(|script| {
            script.rest.on("POST /api/files/getdownloadurl").next(1, RestFault::status(status, "", ""));
        });
        assert_eq!(ask(&bridge, &scene, &path).await.status, 302, "{status}");
    }
    scene.upstream.script(|script| {
        script.rest.on("/api/files/getdownloadurl").next(1, RestFault::status(403, "no", "no"));
    });
    ask(&bridge, &scene, &path).await.assert_problem(403, "upstream_forbidden");
    bridge.stop().await;
}

#[tokio::test]
async fn an_address_that_is_none_of_a_storage_is_not_followed() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    for url in ["file:///etc/passwd", "ftp://storage.example/a", "http://user@127.0.0.1/", "javascript:x()", ""] {
        let body = json!({"data": [{"url": url, "fileKey": "a1"}]}).to_string();
        scene.upstream.script(|script| {
            script
                .rest
                .on("POST /api/files/**")
                .next(1, RestFault::Garbled { content_type: "application/json".to_owned(), body });
        });
        ask(&bridge, &scene, "/files/a1?mode=stream").await.assert_problem(502, "upstream_error");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_key_that_is_limited_to_spaces_gets_no_files() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let path = uploaded(&bridge, &scene, "text/html").await;
    let receiver = Receiver::start(Reply::status(204)).await;
    bridge.register(&scene.token, &receiver).await;
    let account = bridge.get("/me", &scene.token).await.json()["account"].as_str().expect("an account").to_owned();
    for (spaces, status) in [(json!([scene.space.id]), 403), (json!(null), 200)] {
        let mut body = json!({"name": "reader", "scopes": ["read"]});
        if !spaces.is_null() {
            body["spaces"] = spaces;
        }
        let request = bridge
            .plain(Method::POST, &format!("{}/accounts/{account}/keys", bridge.api))
            .header("authorization", format!("Bearer {ADMIN_KEY}"));
        let key = send(request.json(&body)).await;
        let secret = key.json()["key"].as_str().unwrap_or_else(|| panic!("{}", key.text)).to_owned();
        let request = bridge.plain(Method::GET, &format!("{}{path}?mode=stream", bridge.api));
        let answer = send(request.header("authorization", format!("Bearer {secret}"))).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    bridge.stop().await;
}

#[tokio::test]
async fn attachments_of_events_say_where_the_file_is() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    bridge.register(&scene.token, &receiver).await;
    let form = Form::new().field("text", "see").file("a.txt", "text/plain", b"content");
    let sent = post_form(&bridge, &scene, &messages(&scene), form).await;
    assert_eq!(sent.status, 201, "{}", sent.text);
    let delivered = eventually("the event", async || receiver.recorded().into_iter().next()).await;
    let event: Value = serde_json::from_slice(&delivered.body).expect("JSON");
    let attachment = &event["data"]["message"]["attachments"][0];
    assert_eq!(attachment["name"], "a.txt");
    assert_eq!(event["data"]["upstream"]["content"]["data"][0].get("url"), None, "what Spaces said stays as it is");
    let path = attachment["url"].as_str().expect("a path");
    assert_eq!(ask(&bridge, &scene, &format!("{path}?mode=stream")).await.text, "content");
    bridge.stop().await;
}
