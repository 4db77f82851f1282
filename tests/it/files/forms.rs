//! Messages with files, as forms.

use fake_upstream::{FileContent, RestFault};
use reqwest::Method;
use serde_json::{Value, json};

use super::rig::{Form, RawCall, announcements, attachments, form_request, messages, post_form, stored};
use crate::support::bridge::{Bridge, Scene, send};
use crate::support::process::Service;
use crate::support::wait::eventually;

#[tokio::test]
async fn a_form_becomes_a_message_with_its_files_in_their_order() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let picture = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    let large: Vec<u8> = (0..700_000_u32).map(|number| (number % 251) as u8).collect();
    let form = Form::new()
        .file("one.bin", "application/octet-stream", &large)
        .field("text", "1 < 2")
        .file("C:\\two.txt", "text/plain; charset=utf-8", b"two")
        .file("three", "application/octet-stream", picture)
        .file("four.mp4", "application/octet-stream", b"")
        .file("", "application/octet-stream", b"");
    let answer = post_form(&bridge, &scene, &messages(&scene), form).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(scene.texts(), ["1 &lt; 2"]);
    let files = attachments(&scene, answer.json()["id"].as_str().expect("an id"));
    let expected: [(&str, &[u8], &str, &str); 4] = [
        ("one.bin", &large, "document", "application/octet-stream"),
        ("two.txt", b"two", "document", "text/plain; charset=utf-8"),
        ("three", picture, "image", "image/png"),
        ("four.mp4", b"", "video", "video/mp4"),
    ];
    assert_eq!(files.len(), expected.len());
    for (file, (name, content, kind, media_type)) in files.iter().zip(expected) {
        assert_eq!((&file["name"], &file["fileSize"]), (&json!(name), &json!(content.len())));
        assert_eq!((&file["fileType"], &file["providerFileType"]), (&json!(kind), &json!(media_type)), "{name}");
        assert_eq!(stored(&scene, file), Some(FileContent::of(content)), "{name}");
    }
    assert_eq!(announcements(&scene), 1, "one call for all files");
    assert!(bridge.shows(r#"spaces_bridge_uploads_total{outcome="stored"} 4"#).await);
    assert!(bridge.shows("spaces_bridge_upload_room_bytes 0").await);
    bridge.stop().await;
}

#[tokio::test]
async fn all_forms_of_a_message_take_files() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let direct = format!("/direct/user/{}", scene.bo.id);
    let file = |form: Form| form.file("a.txt", "text/plain", b"x");
    for (path, form) in [
        (messages(&scene), file(Form::new())),
        (messages(&scene), file(Form::new().field("markdown", "**see**"))),
        (messages(&scene), file(Form::new().field("html", "<b>see</b>"))),
        (messages(&scene), file(Form::new().field("message", r#"{"text": "see"}"#))),
        (direct, file(Form::new().field("text", "see"))),
    ] {
        let answer = post_form(&bridge, &scene, &path, form).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        assert_eq!(attachments(&scene, answer.json()["id"].as_str().expect("an id")).len(), 1);
    }
    let answer = post_form(&bridge, &scene, &messages(&scene), Form::new().field("text", "no file")).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    bridge.stop().await;
}

#[tokio::test]
async fn an_upload_that_fails_posts_nothing_and_names_the_file() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let form = || Form::new().field("text", "see").file("a.txt", "text/plain", b"a").file("b.txt", "text/plain", b"b");
    scene.upstream.script(|script| {
        script.rest.on("PUT /storage/*").next(1, RestFault::status(403, "SignatureDoesNotMatch", "no"));
    });
    let answer = post_form(&bridge, &scene, &messages(&scene), form()).await;
    answer.assert_problem(502, "upload_failed");
    let detail = answer.json()["detail"].as_str().expect("a text").to_owned();
    assert!(detail.contains(".txt") && detail.contains("403") && !detail.contains("Signature"), "{detail}");
    assert!(scene.texts().is_empty());
    assert!(bridge.shows("spaces_bridge_upload_room_bytes 0").await);

    scene.upstream.script(|script| {
        script.rest.on("POST /api/files/getuploadurl").next(1, RestFault::status(403, "no", "no"));
    });
    post_form(&bridge, &scene, &messages(&scene), form()).await.assert_problem(403, "upstream_forbidden");
    assert!(scene.texts().is_empty());

    scene.upstream.script(|script| {
        script.rest.on("PUT /storage/*").next(1, RestFault::status(503, "", "")).next(1, RestFault::Cut);
    });
    let answer = post_form(&bridge, &scene, &messages(&scene), form()).await;
    assert_eq!(answer.status, 201, "what fails for a moment is tried again: {}", answer.text);
    assert_eq!(scene.texts(), ["see"]);
    bridge.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_message_is_told_before_anything_is_uploaded() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let file = |form: Form| form.file("a.txt", "text/plain", b"a");
    let long = "x".repeat(20 << 10);
    for (form, status, code) in [
        (file(Form::new().field("colour", "red")), 422, "invalid_body"),
        (file(Form::new().field("text", &long)), 413, "message_too_large"),
        (file(Form::new().field("text", "a").field("html", "b")), 422, "invalid_body"),
        (file(Form::new().field("message", "{")), 400, "malformed_json"),
        (Form::new(), 422, "invalid_body"),
    ] {
        post_form(&bridge, &scene, &messages(&scene), form).await.assert_problem(status, code);
    }
    assert_eq!((announcements(&scene), scene.texts().len()), (0, 0));
    bridge.stop().await;
}

#[tokio::test]
async fn a_caller_that_breaks_off_leaves_nothing_behind() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    assert_eq!(bridge.say(&scene.token, &scene.space, "warm-up").await.status, 201);
    let form = Form::new().field("text", "see").file("a.bin", "application/octet-stream", &vec![7; 300_000]);
    let headers = format!("Content-Type: {}\r\nContent-Length: 10000000", form.content_type());
    let authorization = format!("jwt {}", scene.token.as_ref());
    let mut call = RawCall::begin(&bridge.api, &messages(&scene), &authorization, &headers).await;
    call.write(&form.unfinished()).await.expect("it is taken");
    let room = async |wanted: fn(f64) -> bool| wanted(bridge.metric("spaces_bridge_upload_room_bytes").await).then_some(());
    eventually("the first bytes on disk", async || room(|bytes| bytes > 0.0).await).await;
    drop(call);
    eventually("their end", async || room(|bytes| bytes == 0.0).await).await;
    let left = std::fs::read_dir(bridge.data().join("uploads")).expect("the directory").count();
    assert_eq!((left, announcements(&scene), scene.texts().len()), (0, 0, 1));
    bridge.stop().await;
}

#[tokio::test]
async fn a_form_with_a_key_is_done_once() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let form = |boundary, content: &'static [u8]| {
        Form::with_boundary(boundary).field("text", "see").file("a.txt", "text/plain", content)
    };
    let post = async |form| send(form_request(&bridge, &scene, &messages(&scene), form).header("idempotency-key", "k-1")).await;
    let first = post(form("one", b"content")).await;
    assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (201, ""), "{}", first.text);
    let again = post(form("two", b"content")).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, "true"), "{}", again.text);
    assert_eq!(again.json()["id"], first.json()["id"]);
    post(form("one", b"other")).await.assert_problem(422, "idempotency_key_reused");
    assert_eq!((announcements(&scene), scene.texts().len()), (1, 1), "uploaded once, posted once");
    bridge.stop().await;
}

#[tokio::test]
async fn an_upload_that_failed_is_done_again_with_the_same_key() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    scene.upstream.script(|script| {
        script.rest.on("PUT /storage/*").next(1, RestFault::status(400, "", ""));
    });
    let post = async || {
        let form = Form::new().field("text", "see").file("a.txt", "text/plain", b"content");
        send(form_request(&bridge, &scene, &messages(&scene), form).header("idempotency-key", "k-1")).await
    };
    post().await.assert_problem(502, "upload_failed");
    let again = post().await;
    assert_eq!(again.status, 201, "{}", again.text);
    assert_eq!((post().await.json()["id"].clone(), scene.texts().len()), (again.json()["id"].clone(), 1));
    bridge.stop().await;
}

#[tokio::test]
async fn a_form_may_go_through_the_outbox() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let form = Form::new().field("text", "see").file("a.txt", "text/plain", b"content");
    let answer = send(form_request(&bridge, &scene, &messages(&scene), form).header("prefer", "respond-async")).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let location = answer.header("location").to_owned();
    let sent: Value = eventually("the message", async || {
        let state = bridge.get(&location, &scene.token).await.json();
        (state["status"] == "confirmed").then_some(state)
    })
    .await;
    assert_eq!(attachments(&scene, sent["id"].as_str().expect("an id")).len(), 1);
    bridge.stop().await;
}

#[tokio::test]
async fn many_forms_at_once_are_bounded_on_disk() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, |config| config.files.max_waiting_bytes = 1_000).await;
    let form = |size: usize| Form::new().file("a.bin", "application/octet-stream", &vec![1; size]);
    post_form(&bridge, &scene, &messages(&scene), form(1_001)).await.assert_problem(503, "upload_room_exhausted");
    let answer = post_form(&bridge, &scene, &messages(&scene), form(1_000)).await;
    assert_eq!(answer.status, 201, "the room was given back: {}", answer.text);
    let other =
        bridge.request(Method::POST, &messages(&scene), &scene.token).header("content-type", "multipart/mixed; boundary=a");
    send(other.body("--a--")).await.assert_problem(415, "unsupported_media_type");
    bridge.stop().await;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_an_upload_posts_nothing_twice() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.rest.on("PUT /storage/*").next(1, RestFault::Hang);
    });
    let service = Service::start(&scene.upstream, &[]).await;
    let post = |service: &Service| {
        let form = Form::new().field("text", "see").file("a.txt", "text/plain", b"content");
        let request = service.request(Method::POST, &messages(&scene), &format!("jwt {}", scene.token.as_ref()));
        request.header("idempotency-key", "k-1").header("content-type", form.content_type()).body(form.end())
    };
    let cut_off = tokio::spawn(post(&service).send());
    eventually("the upload", async || {
        scene.upstream.seen(|seen| seen.rest_calls().any(|call| call.method == "PUT")).then_some(())
    })
    .await;
    let service = service.kill().await.start().await;
    assert!(cut_off.await.expect("no panic").is_err(), "nobody was answered");
    assert!(scene.texts().is_empty());
    let left = std::fs::read_dir(service.data().join("uploads")).expect("the directory").count();
    assert_eq!(left, 0, "the kill left no file");
    let sent = send(post(&service)).await;
    assert_eq!(sent.status, 201, "{}", sent.text);
    let again = send(post(&service)).await;
    assert_eq!((again.json()["id"].clone(), again.header("idempotency-replayed")), (sent.json()["id"].clone(), "true"));
    assert_eq!(scene.texts(), ["see"]);
}
