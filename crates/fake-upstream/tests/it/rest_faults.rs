//! What goes wrong with REST calls.

use fake_upstream::{ErrorBody, Limits, Options, RestFault};
use http::Method;
use serde_json::json;
use tokio::time::timeout;

use crate::support::{LATE, QUIET, Scene, call, send_rest};

const ME: &str = "/api/users/me";

#[tokio::test]
async fn errors_come_in_every_status_and_body() {
    let scene = Scene::new().await;
    let words = || ("a.code".to_owned(), "a text".to_owned());
    let raw = |content_type: &str, body: &str| ErrorBody::Raw(content_type.to_owned(), body.to_owned());
    let cases = [
        (500, ErrorBody::CodeAndMessage(words().0, words().1), r#"{"code":"a.code","message":"a text"}"#),
        (409, ErrorBody::Wrapped(words().0, words().1), r#"{"error":{"code":"a.code","message":"a text"}}"#),
        (502, raw("text/html", "<h1>Bad Gateway</h1>"), "<h1>Bad Gateway</h1>"),
        (400, raw("application/json", r#"{"code":"#), r#"{"code":"#),
        (503, ErrorBody::Empty, ""),
    ];
    for (status, body, text) in cases {
        scene.upstream.script(|script| {
            script.rest.on("GET /api/users/me").next(1, RestFault::Answer { status, body, retry_after: None });
        });
        let reply = call(&scene.upstream, &scene.anas, Method::GET, ME, None).await;
        assert_eq!((reply.status, reply.text.as_str()), (status, text));
    }
    assert_eq!(call(&scene.upstream, &scene.anas, Method::GET, ME, None).await.status, 200);
}

#[tokio::test]
async fn a_tokens_own_rules_come_first_and_others_are_not_concerned() {
    let scene = Scene::new().await;
    scene.upstream.script_for(&scene.anas, |script| {
        script.rest.on("/api/**").always(RestFault::status(403, "own", ""));
    });
    scene.upstream.script(|script| {
        script.rest.on("/api/users/*").next(1, RestFault::too_many(9));
    });
    assert_eq!(call(&scene.upstream, &scene.anas, Method::GET, ME, None).await.json()["code"], "own");
    let limited = call(&scene.upstream, &scene.bos, Method::GET, ME, None).await;
    assert_eq!((limited.status, limited.headers["retry-after"].to_str().expect("text")), (429, "9"));
    assert_eq!(call(&scene.upstream, &scene.bos, Method::GET, ME, None).await.status, 200);
    scene.upstream.clear_script();
    assert_eq!(call(&scene.upstream, &scene.anas, Method::GET, ME, None).await.status, 200);
}

#[tokio::test]
async fn answers_are_slow_missing_or_garbled() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        let garbled = RestFault::Garbled { content_type: "text/html".to_owned(), body: "<p>login</p>".to_owned() };
        script.rest.on(ME).next(1, garbled).next(1, RestFault::Slow(LATE)).next(1, RestFault::Hang);
    });
    let reply = call(&scene.upstream, &scene.anas, Method::GET, ME, None).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, "<p>login</p>"));
    let slow = call(&scene.upstream, &scene.anas, Method::GET, ME, None);
    tokio::pin!(slow);
    tokio::select! {
        biased;
        reply = &mut slow => panic!("expected the other call to be first, got {reply:?}"),
        reply = call(&scene.upstream, &scene.bos, Method::GET, "/api/limit", None) => assert_eq!(reply.status, 200),
    }
    assert_eq!(slow.await.status, 200);
    assert!(timeout(QUIET, call(&scene.upstream, &scene.anas, Method::GET, ME, None)).await.is_err());
}

#[tokio::test]
async fn a_call_is_cut_before_or_after_its_effect() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.rest.on("POST /api/spaces/*/chats").next(1, RestFault::Cut).next(1, RestFault::CutAfter);
    });
    let path = format!("/api/spaces/{}/chats", scene.ops.id);
    for stored in [0, 1] {
        let body = json!({"content": {"bodyText": "x"}}).to_string().into_bytes();
        let headers = [("authorization", scene.anas.authorization())];
        assert!(send_rest(&scene.upstream, Method::POST, &path, &headers, body).await.is_err());
        assert_eq!(scene.upstream.with_world(|world| world.messages_in(&scene.ops.id).len()), stored);
    }
}

#[tokio::test]
async fn calls_beyond_the_rate_are_told_when_to_come_again() {
    let limits = Limits { rest_calls: Some(2), ..Limits::default() };
    let scene = Scene::with(Options { limits, ..Options::default() }).await;
    for status in [200, 200, 429] {
        let reply = call(&scene.upstream, &scene.anas, Method::GET, ME, None).await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.headers.contains_key("retry-after"), status == 429);
    }
    assert_eq!(call(&scene.upstream, &scene.bos, Method::GET, ME, None).await.status, 200);
}
