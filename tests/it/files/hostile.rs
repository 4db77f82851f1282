//! Forms that mean harm.

use reqwest::Method;

use super::rig::{Form, announcements, files, messages};
use crate::support::bridge::{Bridge, Scene, send};

#[tokio::test]
async fn hostile_forms_are_refused_and_cost_nothing() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let form = Form::new();
    let (kind, boundary) = (form.content_type(), "----boundary-of-a-test");
    let many_fields = (0..10_000).fold(Form::new(), |form, number| form.field(&format!("f{number}"), "1")).end();
    let many_files = (0..10_000).fold(Form::new(), |form, _| form.file("a", "text/plain", b"")).end();
    let many_nothings = (0..10_000).fold(Form::new(), |form, _| form.file("", "text/plain", b"")).end();
    let huge_field = Form::new().field("text", &"x".repeat(2 << 20)).end();
    let huge_name = Form::new().field(&"x".repeat(1 << 20), "1").end();
    let endless_headers = format!("--{boundary}\r\n{}", "X-Header: y\r\n".repeat(100_000)).into_bytes();
    let nothing_but_filler = vec![b'x'; 2 << 20];
    let cases: [(&str, Vec<u8>, u16, &str); 12] = [
        ("multipart/form-data", Form::new().end(), 400, "malformed_form"),
        ("multipart/form-data; boundary=\"\"", Form::new().end(), 400, "malformed_form"),
        ("multipart/form-data; boundary=other", Form::new().field("text", "a").end(), 400, "malformed_form"),
        (&kind, Vec::new(), 400, "malformed_form"),
        (&kind, Form::new().field("text", "a").unfinished(), 400, "malformed_form"),
        (&kind, Form::new().part("X: y", b"").end(), 400, "malformed_form"),
        (&kind, endless_headers, 400, "malformed_form"),
        (&kind, nothing_but_filler, 400, "malformed_form"),
        (&kind, huge_name, 400, "malformed_form"),
        (&kind, many_fields, 422, "invalid_body"),
        (&kind, many_files, 422, "invalid_body"),
        (&kind, huge_field, 413, "body_too_large"),
    ];
    for (content_type, body, status, code) in cases {
        let request = bridge.request(Method::POST, &messages(&scene), &scene.token).header("content-type", content_type);
        send(request.body(body)).await.assert_problem(status, code);
    }
    let request = bridge.request(Method::POST, &files(&scene), &scene.token).header("content-type", &kind);
    send(request.body(many_nothings)).await.assert_problem(422, "invalid_body");
    assert_eq!((announcements(&scene), scene.texts().len()), (0, 0));
    assert!(bridge.shows("spaces_bridge_upload_room_bytes 0").await);
    assert_eq!(bridge.say(&scene.token, &scene.space, "still here").await.status, 201);
    bridge.stop().await;
}
