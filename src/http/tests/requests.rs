//! Requests that are not what they should be.

use super::*;

#[tokio::test]
async fn a_body_is_json_and_says_what_it_should() {
    let app = state(|_| {}).await;
    let path = "/spaces/s1/messages";
    for (body, status, code, pointer) in [
        ("", 400, "malformed_json", None),
        ("{", 400, "malformed_json", None),
        ("\u{0}", 400, "malformed_json", None),
        ("[]", 422, "invalid_body", Some("")),
        ("{}", 422, "invalid_body", Some("")),
        (r#"{"text":""}"#, 422, "invalid_body", Some("/text")),
        (r#"{"text":" \n"}"#, 422, "invalid_body", Some("/text")),
        (r#"{"text":7}"#, 422, "invalid_body", Some("/text")),
        (r#"{"text":"a","html":"b"}"#, 422, "invalid_body", Some("/html")),
        (r#"{"text":"a","colour":"red"}"#, 422, "invalid_body", Some("/colour")),
        (r#"{"text":"a","category":"task"}"#, 422, "invalid_body", Some("/title")),
        (r#"{"text":"a","replyTo":"../x"}"#, 422, "invalid_body", Some("/replyTo")),
        (r#"{"html":"<script>x</script>"}"#, 422, "invalid_body", Some("/html")),
        (r#"{"attachments":[]}"#, 422, "invalid_body", Some("")),
        (r#"{"text":"a","attachments":[{"fileId":"f"}]}"#, 422, "invalid_body", Some("/attachments/0")),
        (
            r#"{"text":"a","attachments":[{"fileId":"","name":"n","fileSize":1,"fileType":"image","providerFileType":"image/png"}]}"#,
            422,
            "invalid_body",
            Some("/attachments/0/fileId"),
        ),
        (r#"{"content":{}}"#, 422, "invalid_body", Some("/content")),
        (r#"{"content":{"bodyText":""}}"#, 422, "invalid_body", Some("/content/bodyText")),
        (r#"{"content":{"bodyText":"a"},"topicId":"s2"}"#, 422, "invalid_body", Some("/topicId")),
        (r#"{"content":{"bodyText":"a"},"category":"poem"}"#, 422, "invalid_body", Some("/category")),
    ] {
        let response = ask(&app, post_json(path, body)).await;
        assert_eq!(response.status().as_u16(), status, "{body}");
        let problem = problem(response).await;
        assert_eq!(problem["code"], code, "{body}");
        assert_eq!(problem["errors"][0]["pointer"].as_str(), pointer, "{body}");
    }
}

#[tokio::test]
async fn a_body_of_another_type_is_refused() {
    let app = state(|_| {}).await;
    for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let mut builder = with_token(Method::POST, "/spaces/s1/messages");
        if let Some(content_type) = content_type {
            builder = builder.header(CONTENT_TYPE, content_type);
        }
        let response = ask(&app, builder.body(Body::from(r#"{"text":"a"}"#)).expect("a request")).await;
        assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(problem(response).await["code"], "unsupported_media_type");
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_anything_is_sent() {
    let app = state(|_| {}).await;
    let long = |length: usize| format!(r#"{{"text":"{}"}}"#, "a".repeat(length));
    let response = ask(&app, post_json("/spaces/s1/messages", long(1 << 20))).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(problem(response).await["code"], "body_too_large");
    for body in [long(16 << 10), long(16 << 10).replace("text", "html"), long(100 << 10).replace("text", "html")] {
        let response = ask(&app, post_json("/spaces/s1/messages", body)).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let problem = problem(response).await;
        assert_eq!((&problem["code"], &problem["limit"]), (&"message_too_large".into(), &(16 << 10).into()));
        assert!(problem["size"].as_u64().expect("a size") > 16 << 10);
    }
    assert_eq!(app.sessions.list().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_ends_the_request() {
    let app = state(|_| {}).await;
    let never = Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let response = ask(&app, post_json("/spaces/s1/messages", never)).await;
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(problem(response).await["code"], "request_timeout");
}

#[tokio::test]
async fn odd_paths_and_queries_are_refused() {
    let app = state(|_| {}).await;
    for (method, path, code) in [
        (Method::POST, "/spaces/a%2Fb/messages", "invalid_path"),
        (Method::POST, "/spaces/%FF/messages", "invalid_path"),
        (Method::POST, "/direct/email/a", "invalid_path"),
        (Method::GET, "/messages/17", "invalid_path"),
        (Method::GET, "/webhooks/evt_1", "invalid_path"),
        (Method::GET, "/deliveries/dlv_0", "invalid_path"),
        (Method::GET, "/sessions?limit=0", "invalid_query"),
        (Method::GET, "/spaces?limit=201", "invalid_query"),
        (Method::GET, "/spaces?limit=", "invalid_query"),
        (Method::GET, "/spaces?limit=ten", "invalid_query"),
        (Method::GET, "/spaces?page=2", "invalid_query"),
        (Method::GET, "/webhooks/wh_1/deliveries?state=lost", "invalid_query"),
    ] {
        // The operator where a Spaces token would wait for an upstream that is not there.
        let builder = if path.starts_with("/sessions") {
            request(method, path).header(AUTHORIZATION, format!("Bearer {ADMIN_KEY}"))
        } else {
            with_token(method, path)
        };
        let response = ask(&app, empty(builder)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(problem(response).await["code"], code, "{path}");
    }
}

#[tokio::test]
async fn odd_idempotency_keys_are_not_silently_ignored() {
    let app = state(|_| {}).await;
    let mut request = post_json("/spaces/s1/messages", r#"{"text":"a"}"#);
    request.headers_mut().insert("idempotency-key", "k 1".parse().expect("a value"));
    let response = ask(&app, request).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(problem(response).await["code"], "idempotency_key_invalid");
}
