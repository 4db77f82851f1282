//! Files that are sent without a message.

use fake_upstream::{FileContent, Limits, RestFault};
use reqwest::Method;
use serde_json::{Value, json};

use super::rig::{Form, RawCall, announcements, files, form_request, messages, post_form, stored};
use crate::support::bridge::{Answer, Bridge, Scene, send};
use crate::support::wait::eventually;

async fn put(bridge: &Bridge, scene: &Scene, query: &str, content: &[u8]) -> Answer {
    let path = format!("{}{query}", files(scene));
    send(bridge.request(Method::POST, &path, &scene.token).body(content.to_vec())).await
}

fn attachment(answer: &Answer) -> Value {
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()["attachments"][0].clone()
}

#[tokio::test]
async fn what_was_uploaded_is_attached_to_a_later_message() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let form = Form::new().file("a.txt", "text/plain", b"one").file("b.csv", "application/octet-stream", b"1,2");
    let answer = post_form(&bridge, &scene, &files(&scene), form).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let attachments = answer.json()["attachments"].clone();
    assert_eq!((&attachments[0]["name"], &attachments[1]["providerFileType"]), (&json!("a.txt"), &json!("text/csv")));
    assert_eq!(stored(&scene, &attachments[1]), Some(FileContent::of(b"1,2")));
    assert!(scene.texts().is_empty());
    let sent = bridge.post(&messages(&scene), &scene.token, &json!({"text": "see", "attachments": attachments})).await;
    assert_eq!(sent.status, 201, "{}", sent.text);
    bridge.stop().await;
}

#[tokio::test]
async fn a_body_that_is_a_file_goes_through_as_it_comes() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let content: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 253) as u8).collect();
    let file = attachment(&put(&bridge, &scene, "?name=dir%2Freport.pdf", &content).await);
    assert_eq!((&file["name"], &file["fileSize"]), (&json!("report.pdf"), &json!(content.len())));
    assert_eq!((&file["fileType"], &file["providerFileType"]), (&json!("document"), &json!("application/pdf")));
    assert_eq!(stored(&scene, &file), Some(FileContent::of(&content)));
    let empty = attachment(&put(&bridge, &scene, "?name=empty", b"").await);
    assert_eq!(stored(&scene, &empty), Some(FileContent::of(b"")));

    let chunked = "Transfer-Encoding: chunked\r\nContent-Type: text/plain";
    let path = format!("{}?name=a.txt", files(&scene));
    let mut call = RawCall::begin(&bridge.api, &path, &format!("jwt {}", scene.token.as_ref()), chunked).await;
    call.write(b"5\r\nhello\r\n0\r\n\r\n").await.expect("it is taken");
    let (status, body) = call.answer().await;
    assert_eq!(status, 201, "a body without a length waits on disk: {body}");

    put(&bridge, &scene, "", b"x").await.assert_problem(400, "invalid_query");
    put(&bridge, &scene, "?name=", b"x").await.assert_problem(400, "invalid_query");
    put(&bridge, &scene, "?name=a&x=y", b"x").await.assert_problem(400, "invalid_query");
    let both = form_request(&bridge, &scene, &format!("{}?name=a", files(&scene)), Form::new());
    send(both).await.assert_problem(400, "invalid_query");
    post_form(&bridge, &scene, &files(&scene), Form::new()).await.assert_problem(422, "invalid_body");
    post_form(&bridge, &scene, &files(&scene), Form::new().field("text", "a")).await.assert_problem(422, "invalid_body");
    bridge.stop().await;
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_not_stored() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    assert_eq!(bridge.say(&scene.token, &scene.space, "warm-up").await.status, 201);
    let path = format!("{}?name=a.bin", files(&scene));
    let authorization = format!("jwt {}", scene.token.as_ref());
    let mut call = RawCall::begin(&bridge.api, &path, &authorization, "Content-Length: 1000000").await;
    call.write(&vec![1; 200_000]).await.expect("it is taken");
    eventually("the upload", async || (announcements(&scene) == 1).then_some(())).await;
    drop(call);
    eventually("its end", async || {
        scene.upstream.seen(|seen| seen.rest_calls().any(|call| call.method == "PUT" && call.status == Some(400))).then_some(())
    })
    .await;
    assert_eq!(scene.upstream.with_world(|world| world.count_files()), (1, 0));
    let file = attachment(&put(&bridge, &scene, "?name=a.bin", &[1; 10]).await);
    assert_eq!(stored(&scene, &file), Some(FileContent::of(&[1; 10])), "there is no harm done");
    bridge.stop().await;
}

#[tokio::test]
async fn a_storage_that_refuses_is_told_of_while_the_body_still_comes() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    scene.upstream.script(|script| {
        script.rest.on("PUT /storage/*").always(RestFault::status(403, "SignatureDoesNotMatch", "no"));
    });
    put(&bridge, &scene, "?name=a.bin", &vec![1; 100_000]).await.assert_problem(502, "upload_failed");
    assert!(bridge.shows(r#"spaces_bridge_uploads_total{outcome="failed"} 1"#).await);
    bridge.stop().await;
}

#[tokio::test]
async fn spaces_own_limit_is_checked_first() {
    let scene = Scene::new().await;
    scene.upstream.set_limits(Limits { file_kib: 1, ..Limits::default() });
    let bridge = Bridge::start(&scene.upstream).await;
    assert_eq!(bridge.get("/me", &scene.token).await.status, 200);
    eventually("the limits", async || (bridge.session().await["limits"]["fileBytes"] == 1024).then_some(())).await;
    let refused = put(&bridge, &scene, "?name=a.bin", &[1; 1025]).await;
    refused.assert_problem(413, "file_too_large");
    assert_eq!(refused.json()["limit"], 1024);
    let form = Form::new().file("a.bin", "text/plain", &[1; 1025]);
    post_form(&bridge, &scene, &messages(&scene), form).await.assert_problem(413, "file_too_large");
    assert_eq!(announcements(&scene), 0);
    attachment(&put(&bridge, &scene, "?name=a.bin", &[1; 1024]).await);
    bridge.stop().await;
}

#[tokio::test]
async fn an_upload_with_a_key_is_done_once() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let upload = async |content: &'static [u8]| {
        let request = bridge.request(Method::POST, &format!("{}?name=a.txt", files(&scene)), &scene.token);
        send(request.header("idempotency-key", "k-1").body(content)).await
    };
    let first = attachment(&upload(b"content").await);
    let again = upload(b"content").await;
    assert_eq!((attachment(&again), again.header("idempotency-replayed")), (first, "true"));
    upload(b"other").await.assert_problem(422, "idempotency_key_reused");
    assert_eq!(announcements(&scene), 1);
    bridge.stop().await;
}

#[tokio::test]
async fn nothing_is_read_of_callers_whom_spaces_does_not_know() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let headers = format!("Content-Length: 100000000\r\nContent-Type: {}", Form::new().content_type());
    for path in [format!("{}?name=a.bin", files(&scene)), messages(&scene)] {
        let headers = if path.contains('?') { "Content-Length: 100000000" } else { headers.as_str() };
        let call = RawCall::begin(&bridge.api, &path, "jwt aa.bb.cc", headers).await;
        let (status, body) = call.answer().await;
        assert!(status == 401 && body.contains("token_refused"), "{status}: {body}");
    }
    assert_eq!(announcements(&scene), 0);
    bridge.stop().await;
}
