//! Announcing, uploading and downloading files.

use fake_upstream::{FileContent, Limits, TokenKind};
use http::Method;
use serde_json::{Value, json};

use crate::support::{Scene, call, call_with};

impl Scene {
    /// Announces a PNG of four bytes; answers the path of its signed URL and its key.
    async fn announce(&self) -> (String, String) {
        let body = json!({"files": [{"Content-Type": "image/png", "Content-Length": 4}], "topicId": self.ops.id});
        let reply = call(&self.upstream, &self.anas, Method::POST, "/api/files/getuploadurl", Some(body)).await.json();
        let text = |name: &str| reply["data"][0][name].as_str().expect("a string").to_owned();
        let path = text("url").strip_prefix(&self.upstream.rest_url()).expect("on this host").to_owned();
        (path, text("fileKey"))
    }
}

fn png() -> Vec<(&'static str, String)> {
    vec![("content-type", "image/png".to_owned())]
}

#[tokio::test]
async fn an_upload_needs_the_signature_the_type_and_exactly_the_announced_bytes() {
    let scene = Scene::new().await;
    let (path, key) = scene.announce().await;
    let put = |path: String, headers: Vec<(&'static str, String)>, body: &'static [u8]| {
        let upstream = &scene.upstream;
        async move { call_with(upstream, Method::PUT, &path, &headers, body.to_vec()).await.status }
    };
    let unsigned = path.split_once('?').expect("a query").0.to_owned();
    assert_eq!(put(unsigned, png(), b"1234").await, 403);
    assert_eq!(put(path.clone(), vec![("content-type", "text/plain".to_owned())], b"1234").await, 403);
    let with_token = [png(), vec![("authorization", scene.anas.authorization())]].concat();
    assert_eq!(put(path.clone(), with_token, b"1234").await, 403);
    assert_eq!(put(path.clone(), png(), b"123").await, 400);
    assert_eq!(put(path.clone(), png(), b"12345").await, 400);
    assert_eq!(scene.upstream.with_world(|world| world.uploaded(&key).cloned()), None);
    assert_eq!(put(path.clone(), png(), b"1234").await, 200);
    assert_eq!(scene.upstream.with_world(|world| world.uploaded(&key).cloned()), Some(FileContent::of(b"1234")));

    let body = json!({"fileKeys": [key, "nope"]});
    let urls = call(&scene.upstream, &scene.bos, Method::POST, "/api/files/getdownloadurl", Some(body)).await.json();
    assert_eq!(urls["data"].as_array().map(Vec::len), Some(1));
    let downloaded = call_with(&scene.upstream, Method::GET, &path, &[], Vec::new()).await;
    assert_eq!((downloaded.text.as_str(), downloaded.headers["content-type"].to_str().expect("text")), ("1234", "image/png"));
}

#[tokio::test]
async fn an_announcement_must_be_complete_and_guests_may_not_make_one() {
    let scene = Scene::new().await;
    let guest = scene.upstream.with_world(|world| world.add_user("G", "g", fake_upstream::UserKind::Anonymous));
    let guests = scene.upstream.token_for(&guest, TokenKind::Anonymous);
    let cases: [(_, Value, u16); 4] = [
        (&scene.anas, json!({}), 400),
        (&scene.anas, json!({"files": [{"Content-Type": "image/png"}]}), 400),
        (&scene.anas, json!({"files": [{"Content-Length": 1}]}), 400),
        (&guests, json!({"files": []}), 403),
    ];
    for (token, body, status) in cases {
        assert_eq!(call(&scene.upstream, token, Method::POST, "/api/files/getuploadurl", Some(body)).await.status, status);
    }
}

#[tokio::test]
async fn signed_addresses_end_and_who_asks_anew_gets_others() {
    let scene = Scene::new().await;
    let (path, key) = scene.announce().await;
    assert_eq!(call_with(&scene.upstream, Method::PUT, &path, &png(), b"1234".to_vec()).await.status, 200);
    scene.upstream.with_world(fake_upstream::World::expire_signed_urls);
    for method in [Method::GET, Method::PUT] {
        assert_eq!(call_with(&scene.upstream, method, &path, &png(), b"1234".to_vec()).await.status, 403);
    }
    let urls = format!("/api/files/getdownloadurl?fileKeys={key}");
    let urls = call(&scene.upstream, &scene.bos, Method::GET, &urls, None).await.json();
    let fresh =
        urls["data"][0]["url"].as_str().expect("a string").strip_prefix(&scene.upstream.rest_url()).expect("here").to_owned();
    assert_eq!(call_with(&scene.upstream, Method::GET, &fresh, &[], Vec::new()).await.status, 200);
}

#[tokio::test]
async fn a_file_beyond_the_limit_gets_no_address() {
    let scene = Scene::new().await;
    scene.upstream.set_limits(Limits { file_kib: 1, ..Limits::default() });
    for (size, status) in [(1024, 200), (1025, 400)] {
        let body = json!({"files": [{"Content-Type": "image/png", "Content-Length": size}], "topicId": scene.ops.id});
        assert_eq!(call(&scene.upstream, &scene.anas, Method::POST, "/api/files/getuploadurl", Some(body)).await.status, status);
    }
}
