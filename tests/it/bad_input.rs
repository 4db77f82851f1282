//! Bad input over the real service: every refusal is a clear problem, and nothing of it reaches the upstream.

use std::time::Duration;

use fake_upstream::FakeUpstream;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::bridge::{ADMIN_KEY, Answer, Bridge, Scene, send};

const AUTHORIZATION: &str = "authorization: jwt aaa.bbb.ccc\r\n";

/// Longer than anything here takes, the limits of the service included.
const DEADLINE: Duration = Duration::from_mins(1);

/// Nothing was connected, emitted or called.
#[track_caller]
fn assert_untouched(upstream: &FakeUpstream) {
    assert_eq!(upstream.seen(|seen| (seen.opened(), seen.emits_total(), seen.rest_total())), (0, 0, 0));
}

/// Writes bytes to the API as they are and reads until the service closes.
async fn raw(bridge: &Bridge, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(bridge.api.trim_start_matches("http://")).await.expect("a connection");
    let mut answer = Vec::new();
    let talk = async {
        // A service that has read enough may close before all is written; what it said before that counts.
        let _ = stream.write_all(bytes).await;
        let _ = stream.read_to_end(&mut answer).await;
    };
    tokio::time::timeout(DEADLINE, talk).await.expect("the end in time");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request whose target and headers are written as they are.
async fn raw_request(bridge: &Bridge, method: &str, target: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let head =
        format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
    let answer = raw(bridge, head.as_bytes()).await;
    let (head, text) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse::<u16>().ok());
    let status = StatusCode::from_u16(status.expect("a status")).expect("a status");
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.parse().ok()?, value.trim().parse().ok()?))
    });
    Answer { status, headers: headers.collect(), text: text.to_owned() }
}

async fn post_raw(bridge: &Bridge, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = bridge.request(Method::POST, path, "aaa.bbb.ccc").header("content-type", content_type);
    send(request.body(body)).await
}

#[tokio::test]
async fn bodies_that_say_nothing_sensible_are_refused() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let deep = |open: &str, depth: usize| open.repeat(depth);
    let nested = format!(r#"{{"text": {}1{}}}"#, deep("[", 5_000), deep("]", 5_000));
    for path in [format!("/spaces/{}/messages", scene.space.id), format!("/direct/user/{}", scene.bo.id)] {
        for (body, status, code, pointer) in [
            ("", 400, "malformed_json", None),
            ("{", 400, "malformed_json", None),
            ("{\"text\": \"a\"} trailing", 400, "malformed_json", None),
            ("text=hello", 400, "malformed_json", None),
            ("{\"text\": \"\\ud800\"}", 400, "malformed_json", None),
            ("{\"text\": 'a'}", 400, "malformed_json", None),
            ("null", 422, "invalid_body", Some("")),
            ("[]", 422, "invalid_body", Some("")),
            ("\"text\"", 422, "invalid_body", Some("")),
            ("{}", 422, "invalid_body", Some("")),
            ("{\"text\": 7}", 422, "invalid_body", Some("/text")),
            ("{\"text\": {\"a\": 1}}", 422, "invalid_body", Some("/text")),
            ("{\"text\": \"\"}", 422, "invalid_body", Some("/text")),
            ("{\"text\": \" \\n\\t \"}", 422, "invalid_body", Some("/text")),
            ("{\"html\": \"<script>x</script>\"}", 422, "invalid_body", Some("/html")),
            ("{\"text\": \"a\", \"html\": \"b\"}", 422, "invalid_body", Some("/html")),
            ("{\"text\": \"a\", \"colour\": \"red\"}", 422, "invalid_body", Some("/colour")),
            ("{\"text\": \"a\", \"replyTo\": \"../x\"}", 422, "invalid_body", Some("/replyTo")),
            ("{\"text\": \"a\", \"replyTo\": 1}", 422, "invalid_body", Some("/replyTo")),
            ("{\"text\": \"a\", \"attachments\": {}}", 422, "invalid_body", Some("/attachments")),
            ("{\"text\": \"a\", \"attachments\": [{}]}", 422, "invalid_body", Some("/attachments/0")),
            ("{\"attachments\": []}", 422, "invalid_body", None),
            ("{\"content\": {}}", 422, "invalid_body", Some("/content")),
            ("{\"content\": {\"bodyText\": \" \"}}", 422, "invalid_body", Some("/content/bodyText")),
            ("{\"content\": {\"bodyText\": \"a\"}, \"category\": \"poem\"}", 422, "invalid_body", Some("/category")),
        ] {
            let answer = post_raw(&bridge, &path, "application/json", body).await;
            answer.assert_problem(status, code);
            if let Some(pointer) = pointer {
                assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{body}: {}", answer.text);
            }
        }
        let answer = post_raw(&bridge, &path, "application/json", nested.clone()).await;
        assert!([400, 422].contains(&answer.status.as_u16()), "{}", answer.text);
        let answer = post_raw(&bridge, &path, "application/json", vec![b'{', b'"', 0xff, b'"', b':', b'1', b'}']).await;
        assert!([400, 422].contains(&answer.status.as_u16()), "{}", answer.text);
    }
    assert_untouched(&scene.upstream);
    bridge.stop().await;
}

#[tokio::test]
async fn a_body_of_another_type_is_refused() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let path = format!("/spaces/{}/messages", scene.space.id);
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/mixed; boundary=x", "json", "text/json"] {
        post_raw(&bridge, &path, content_type, r#"{"text":"a"}"#).await.assert_problem(415, "unsupported_media_type");
    }
    let without = bridge.request(Method::POST, &path, "aaa.bbb.ccc").body(r#"{"text":"a"}"#);
    send(without).await.assert_problem(415, "unsupported_media_type");
    assert_untouched(&scene.upstream);
    bridge.stop().await;
}

#[tokio::test]
async fn a_body_of_more_than_a_megabyte_is_refused() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    for path in [format!("/spaces/{}/messages", scene.space.id), "/webhooks".to_owned()] {
        for size in [1 << 20, 8 << 20] {
            let body = json!({"text": "x".repeat(size)}).to_string();
            post_raw(&bridge, &path, "application/json", body).await.assert_problem(413, "body_too_large");
        }
    }
    let (path, body) = (format!("/spaces/{}/messages", scene.space.id), json!({"text": "x".repeat(1 << 19)}).to_string());
    let answer = post_raw(&bridge, &path, "application/json", body);
    answer.await.assert_problem(413, "message_too_large");
    assert_untouched(&scene.upstream);
    bridge.stop().await;
}

#[tokio::test]
async fn odd_ids_are_refused() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let headers = format!("{AUTHORIZATION}content-type: application/json\r\n");
    let answer = raw_request(&bridge, "POST", "/spaces//messages", &headers, r#"{"text":"a"}"#).await;
    answer.assert_problem(400, "invalid_path");
    let long = "a".repeat(129);
    let odd = [
        "%2F",
        "..%2F..%2Fadmin",
        "%2e%2e",
        "%00",
        "%FF",
        "a%20b",
        "%E2%98%83",
        "a%0d%0ab",
        "a;b",
        "a:b",
        "a.b",
        "*",
        long.as_str(),
    ];
    for id in odd {
        let answer = raw_request(&bridge, "POST", &format!("/spaces/{id}/messages"), &headers, r#"{"text":"a"}"#).await;
        answer.assert_problem(400, "invalid_path");
        let answer = raw_request(&bridge, "POST", &format!("/direct/user/{id}"), &headers, r#"{"text":"a"}"#).await;
        answer.assert_problem(400, "invalid_path");
        for (method, target) in [
            ("PUT", format!("/spaces/{id}/subscription")),
            ("DELETE", format!("/spaces/{id}/subscription")),
            ("GET", format!("/messages/{id}")),
            ("GET", format!("/sessions/{id}")),
            ("DELETE", format!("/sessions/{id}")),
            ("GET", format!("/webhooks/{id}")),
            ("GET", format!("/deliveries/{id}")),
        ] {
            raw_request(&bridge, method, &target, AUTHORIZATION, "").await.assert_problem(400, "invalid_path");
        }
    }
    assert_untouched(&scene.upstream);
    bridge.stop().await;
}

#[tokio::test]
async fn odd_credentials_are_refused() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let long = format!("authorization: Bearer {}\r\n", "a".repeat(9_000));
    for (headers, code) in [
        ("", "credentials_missing"),
        ("authorization: \r\n", "credentials_invalid"),
        ("authorization: Bearer\r\n", "credentials_invalid"),
        ("authorization: Basic YTpi\r\n", "credentials_invalid"),
        ("authorization: aaa.bbb.ccc\r\n", "credentials_invalid"),
        ("authorization: jwt a b\r\n", "credentials_invalid"),
        ("authorization: jwt \u{e4}\r\n", "credentials_invalid"),
        ("authorization: jwt a\r\nauthorization: jwt b\r\n", "credentials_invalid"),
        ("authorization: Bearer sbk_0123456789\r\n", "key_invalid"),
        ("authorization: jwt sbk_0123456789\r\n", "credentials_invalid"),
        ("authorization: Bearer a\r\nx-spaces-token-type: saml\r\n", "credentials_invalid"),
        (long.as_str(), "credentials_invalid"),
    ] {
        for (method, target) in
            [("GET", "/me"), ("GET", "/spaces"), ("GET", "/sessions"), ("GET", "/webhooks"), ("GET", "/subscriptions")]
        {
            let answer = raw_request(&bridge, method, target, headers, "").await;
            answer.assert_problem(401, code);
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{}", answer.text);
        }
    }
    let in_query = bridge.plain(Method::GET, &format!("{}/me?token=aaa.bbb.ccc&access_token=aaa.bbb.ccc", bridge.api));
    send(in_query).await.assert_problem(401, "credentials_missing");
    assert_untouched(&scene.upstream);
    bridge.stop().await;
}

#[tokio::test]
async fn the_admin_key_stands_for_no_user_and_no_user_for_the_operator() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let admin = format!("Bearer {ADMIN_KEY}");
    for (method, path, body) in [
        (Method::GET, "/me".to_owned(), None),
        (Method::GET, "/spaces".to_owned(), None),
        (Method::GET, "/subscriptions".to_owned(), None),
        (Method::POST, format!("/spaces/{}/messages", scene.space.id), Some(json!({"text": "a"}))),
        (Method::POST, format!("/direct/user/{}", scene.bo.id), Some(json!({"text": "a"}))),
        (Method::PUT, format!("/spaces/{}/subscription", scene.space.id), None),
        (Method::POST, "/webhooks".to_owned(), Some(json!({"url": "https://example.com/"}))),
    ] {
        let mut request = bridge.plain(method, &format!("{}{path}", bridge.api)).header("authorization", &admin);
        if let Some(body) = body {
            request = request.json(&body);
        }
        send(request).await.assert_problem(403, "account_required");
    }
    bridge.get("/metrics", "aaa.bbb.ccc").await.assert_problem(403, "operator_required");
    assert_untouched(&scene.upstream);
    bridge.stop().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    for target in ["/", "/spaces/", "/spaces/x/y", "/v1/me", "/direct/user", "/../me", "/me/"] {
        raw_request(&bridge, "GET", target, AUTHORIZATION, "").await.assert_problem(404, "route_not_found");
    }
    for (method, target, allowed) in [
        ("DELETE", "/me", "GET"),
        ("POST", "/sessions", "GET"),
        ("PUT", "/spaces/x/messages", "POST"),
        ("PATCH", "/spaces/x/subscription", "PUT"),
        ("GET", "/direct/user/x", "POST"),
        ("PUT", "/webhooks", "POST"),
        ("GET", "/messages", "POST"),
        ("BREW", "/me", "GET"),
    ] {
        let answer = raw_request(&bridge, method, target, AUTHORIZATION, "").await;
        answer.assert_problem(405, "method_not_allowed");
        assert!(answer.header("allow").contains(allowed), "{method} {target}: {}", answer.header("allow"));
    }
    assert_untouched(&scene.upstream);
    bridge.stop().await;
}

#[tokio::test]
async fn odd_queries_are_refused() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    for query in ["limit=0", "limit=201", "limit=-1", "limit=x", "limit=", "colour=red", "limit=1&limit=2"] {
        for path in ["/spaces", "/subscriptions", "/sessions", "/webhooks"] {
            bridge.get(&format!("{path}?{query}"), "aaa.bbb.ccc").await.assert_problem(400, "invalid_query");
        }
    }
    assert_untouched(&scene.upstream);
    for cursor in ["", "!", "bnVsbCBudWxs"] {
        for path in ["/spaces", "/subscriptions", "/sessions", "/webhooks"] {
            bridge.get(&format!("{path}?cursor={cursor}"), &scene.token).await.assert_problem(400, "invalid_query");
        }
    }
    bridge.stop().await;
}

#[tokio::test]
async fn preferences_that_make_no_sense_are_ignored() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let path = format!("/spaces/{}/messages", scene.space.id);
    for (prefer, applied) in [
        ("wait", ""),
        ("wait=", ""),
        ("wait=soon", ""),
        ("wait=-5", ""),
        ("wait=1e3", ""),
        ("wait=99999999999999999999999", ""),
        ("return=minimal, handling=lenient", ""),
        (",,;=,", ""),
        ("wait=100000", "wait=60"),
        ("wait=\"20\"; foo=bar", "wait=20"),
    ] {
        let request = bridge.request(Method::POST, &path, &scene.token).header("prefer", prefer);
        let answer = send(request.json(&json!({"text": prefer}))).await;
        assert_eq!((answer.status, answer.header("preference-applied")), (StatusCode::CREATED, applied), "{prefer}");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_request_keeps_its_id_if_it_is_a_sane_one() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let long = "a".repeat(129);
    for (id, kept) in [("build-41_a.b", true), ("a b", false), ("<script>", false), (long.as_str(), false), ("", false)] {
        let headers = format!("x-request-id: {id}\r\n");
        let answer = raw_request(&bridge, "GET", "/nowhere", &headers, "").await;
        answer.assert_problem(404, "route_not_found");
        let given = answer.header("x-request-id");
        assert_eq!(given == id, kept, "{id:?} became {given:?}");
        assert!(!given.is_empty());
        assert!(answer.json()["instance"].as_str().is_some_and(|instance| instance.ends_with(given)), "{}", answer.text);
    }
    bridge.stop().await;
}

#[tokio::test]
async fn an_odd_idempotency_key_is_not_silently_ignored() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let request = bridge.request(Method::POST, &format!("/spaces/{}/messages", scene.space.id), &scene.token);
    let answer = send(request.header("idempotency-key", "k 1").json(&json!({"text": "a"}))).await;
    answer.assert_problem(400, "idempotency_key_invalid");
    assert_untouched(&scene.upstream);
    bridge.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_arrive_ends_the_request() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, |config| config.http.request_timeout_seconds = 1).await;
    let head = format!(
        "POST /spaces/x/messages HTTP/1.1\r\nhost: x\r\n{AUTHORIZATION}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{\"te"
    );
    let answer = raw(&bridge, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let problem: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(problem["code"], "request_timeout");
    assert_untouched(&scene.upstream);
    bridge.stop().await;
}

#[tokio::test]
async fn a_head_that_does_not_arrive_or_is_none_ends_the_connection() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let slow = raw(&bridge, b"GET /me HTTP/1.1\r\nhost: x\r\nauthor");
    let huge = format!("GET /me HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(200_000));
    let (slow, nonsense, huge) =
        tokio::join!(slow, raw(&bridge, b"220 mail.example.com ESMTP\r\n\r\n"), raw(&bridge, huge.as_bytes()));
    assert!(slow.is_empty() || slow.starts_with("HTTP/1.1 408 "), "{slow}");
    assert!(nonsense.is_empty() || nonsense.starts_with("HTTP/1.1 400 "), "{nonsense}");
    assert!(huge.is_empty() || huge.starts_with("HTTP/1.1 431 "), "{huge}");
    let alive = send(bridge.plain(Method::GET, &format!("{}/livez", bridge.api))).await;
    assert_eq!(alive.status, StatusCode::OK);
    assert_untouched(&scene.upstream);
    bridge.stop().await;
}
