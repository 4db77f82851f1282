//! What operators see, and what all answers have.

use super::*;

#[tokio::test]
async fn a_sane_request_id_is_kept_and_another_replaced() {
    let app = state(|_| {}).await;
    for (id, kept) in [("abc-1.2_3", true), ("", false), ("a b", false), ("x\"y", false), (&*"a".repeat(129), false)] {
        let response = ask(&app, empty(request(Method::GET, "/livez").header("x-request-id", id))).await;
        let answered = header(&response, "x-request-id");
        assert_eq!(answered == id, kept, "{id}");
        assert!(!answered.is_empty());
    }
    let ids = [ask(&app, empty(request(Method::GET, "/livez"))).await, ask(&app, empty(request(Method::GET, "/x"))).await];
    assert_ne!(header(&ids[0], "x-request-id"), header(&ids[1], "x-request-id"));
}

#[tokio::test]
async fn a_busy_service_sheds_load_but_tells_that_it_lives() {
    let app = state(|settings| settings.max_in_flight = 0).await;
    let response = ask(&app, empty(with_token(Method::GET, "/me"))).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&response, RETRY_AFTER), "1");
    assert_eq!(problem(response).await["code"], "overloaded");
    assert_eq!(ask(&app, empty(request(Method::GET, "/livez"))).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_panic_is_an_internal_error_without_its_words() {
    let app = state(|_| {}).await;
    let router = OpenApiRouter::new().route("/panic", axum::routing::get(panics));
    let response = served(router, &app).oneshot(empty(request(Method::GET, "/panic"))).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let problem = problem(response).await;
    assert_eq!(problem["code"], "internal");
    assert!(!problem.to_string().contains("the secret reason"));
}

async fn panics() -> StatusCode {
    let reason = std::env::args().next().map(|_| "the secret reason");
    assert_eq!(reason, None, "the secret reason");
    StatusCode::OK
}

#[tokio::test]
async fn readiness_follows_the_service() {
    let app = state(|_| {}).await;
    for (set, status) in [(ReadyState::Starting, 503), (ReadyState::Ready, 200), (ReadyState::Stopping, 503)] {
        app.readiness.set(set);
        let response = ask(&app, empty(request(Method::GET, "/readyz"))).await;
        assert_eq!(response.status().as_u16(), status, "{set:?}");
    }
}

#[tokio::test]
async fn metrics_are_the_operators_in_public_and_open_inside() {
    let app = state(|_| {}).await;
    assert_eq!(ask(&app, empty(request(Method::GET, "/metrics"))).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&app, empty(with_token(Method::GET, "/metrics"))).await.status(), StatusCode::FORBIDDEN);
    let key = format!("Bearer {ADMIN_KEY}");
    let response = ask(&app, empty(request(Method::GET, "/metrics").header(AUTHORIZATION, key))).await;
    assert_eq!(response.status(), StatusCode::OK);
    let inside = internal_router(&app).oneshot(empty(request(Method::GET, "/metrics"))).await.expect("an answer");
    assert!(header(&inside, CONTENT_TYPE).starts_with("text/plain; version=0.0.4"));
    let text = inside.into_body().collect().await.expect("a body").to_bytes();
    let text = std::str::from_utf8(&text).expect("text");
    for line in [
        r#"spaces_bridge_http_requests_total{method="GET",route="/metrics",status="401"} 1"#,
        r#"spaces_bridge_delivery_queue{state="waiting"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn the_operator_sees_sessions_on_both_listeners() {
    let app = state(|_| {}).await;
    for router in [public_router(&app), internal_router(&app)] {
        let list = request(Method::GET, "/sessions").header(AUTHORIZATION, format!("Bearer {ADMIN_KEY}"));
        let response = router.clone().oneshot(empty(list)).await.expect("an answer");
        assert_eq!(json(response).await, serde_json::json!({"data": [], "nextCursor": null}));
        let one = request(Method::GET, "/sessions/ses_1").header(AUTHORIZATION, format!("Bearer {ADMIN_KEY}"));
        let response = router.oneshot(empty(one)).await.expect("an answer");
        assert_eq!(problem(response).await["code"], "session_not_found");
    }
}
