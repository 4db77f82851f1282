//! The router's answers where no session is needed.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::{ALLOW, AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::*;
use crate::accounts::{AccountParts, AccountRegistry, AccountSettings, TokenSources};
use crate::consumers::ConsumerRegistry;
use crate::delivery::{AddressGuard, DeliverySettings, SystemResolver, WebhookClient};
use crate::domain::{AccountId, Clock, Interest, Secret, SystemClock};
use crate::event_log::EventLog;
use crate::idempotency::Idempotency;
use crate::incoming::HookRegistry;
use crate::keys::KeyRegistry;
use crate::metrics::Metrics;
use crate::outbox::{Outbox, OutboxParts, OutboxSettings};
use crate::recovery::Recovery;
use crate::replies::{Replies, ReplyParts, ReplySettings};
use crate::seal::Keyring;
use crate::send_log::SendLog;
use crate::session::{InterestSource, SessionDependencies, SessionRegistry, SessionSettings};
use crate::spool::Spool;
use crate::store::{Engine, MemoryStore};
use crate::subscriptions::SubscriptionRegistry;
use crate::upstream::{Connector, RestClient, RestSettings, SocketSettings, StorageClient, TokenServer, TokenServerSettings};
use crate::webhooks::WebhookRegistry;

const ADMIN_KEY: &str = "admin-key-of-24-characters-or-more";

struct NoInterest;

impl InterestSource for NoInterest {
    fn interest(&self, _: &AccountId) -> Interest {
        Interest::default()
    }
}

/// An API whose upstream is out of reach.
#[expect(clippy::too_many_lines, reason = "the list of all parts, in the order in which they need each other")]
pub(super) async fn state(change: impl FnOnce(&mut HttpSettings)) -> AppState {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let engine: Arc<dyn Engine> = Arc::new(MemoryStore::new(Arc::clone(&clock)));
    let incarnation = engine.join("127.0.0.1:1", Duration::from_mins(1)).await.expect("a member").incarnation;
    let (metrics, keyring) = (Arc::new(Metrics::new()), Arc::new(Keyring::random()));
    let webhooks = WebhookRegistry::load(Arc::clone(&engine), Arc::clone(&keyring), Arc::clone(&clock)).await;
    let webhooks = Arc::new(webhooks.expect("an empty store"));
    let subscriptions = Arc::new(SubscriptionRegistry::load(Arc::clone(&engine)).await.expect("an empty store"));
    let sends = Arc::new(SendLog::new(Arc::clone(&engine), Arc::clone(&clock)));
    let event_log = Arc::new(EventLog::new(
        Arc::clone(&engine),
        incarnation,
        Arc::clone(&webhooks),
        Arc::clone(&clock),
        Arc::clone(&metrics),
    ));
    let tls = socketio_client::TlsConfig::platform().expect("a TLS configuration");
    let nowhere = || "http://127.0.0.1:9/".parse().expect("a URL");
    let guard = Arc::new(AddressGuard::default());
    let receivers = DeliverySettings::default().client();
    let receivers = WebhookClient::new(receivers, Arc::clone(&guard), Arc::new(SystemResolver), Arc::clone(&tls));
    let rest = RestSettings { url: nowhere(), timeout: Duration::from_secs(1) };
    let rest = RestClient::new(&rest, (*tls).clone()).expect("a client");
    let account_tls = (*tls).clone();
    let storage = StorageClient::new((*tls).clone()).expect("a client");
    let spool = Spool::open(std::env::temp_dir(), 10 << 20).expect("a directory");
    let socket = SocketSettings {
        url: nowhere(),
        protocol: socketio_client::Protocol::EngineIo3,
        namespace: "/chat".to_owned(),
        service_app_token_type: "service_app".to_owned(),
        connect_timeout: Duration::from_secs(1),
        tls,
    };
    let account_settings = AccountSettings {
        allow_commands: false,
        token_directories: Vec::new(),
        file_check: Duration::from_secs(5),
        max_accounts: 10,
        timeout: Duration::from_secs(1),
        hidden_variables: "SPACES_BRIDGE_",
    };
    let token_server = TokenServerSettings { accounts: None, rest: nowhere(), timeout: Duration::from_secs(1) };
    let token_server = TokenServer::new(token_server, account_tls.clone()).expect("a client");
    let accounts = AccountRegistry::load(AccountParts {
        engine: Arc::clone(&engine),
        keyring: Arc::clone(&keyring),
        event_log: Arc::clone(&event_log),
        rest: rest.clone(),
        sources: TokenSources::new(token_server, account_settings.clone(), account_tls).expect("a client"),
        clock: Arc::clone(&clock),
        metrics: Arc::clone(&metrics),
        settings: account_settings,
    });
    let accounts = accounts.await.expect("loaded");
    let sessions = Arc::new(SessionRegistry::new(SessionDependencies {
        connector: Connector::new(socket).expect("a connector"),
        rest: rest.clone(),
        event_log: Arc::clone(&event_log),
        engine: Arc::clone(&engine),
        sends: Arc::clone(&sends),
        interests: Arc::new(NoInterest),
        tokens: Arc::new(accounts.clone()),
        keyring: Arc::clone(&keyring),
        clock: Arc::clone(&clock),
        metrics: Arc::clone(&metrics),
        settings: SessionSettings {
            idle_timeout: Duration::from_mins(1),
            refusal_stands: Duration::from_mins(1),
            connects_per_second: 10,
            max_sessions: 10,
            limit_wait: Duration::from_mins(5),
            probe: Duration::ZERO,
            compare: Duration::ZERO,
            recovery_overlap: Duration::from_mins(2),
            recovery_limit: Duration::from_hours(168),
            recovery_hold: Duration::from_mins(1),
            gap_after: Duration::from_mins(10),
            longest_wait: Duration::from_mins(1),
            second_look: Duration::ZERO,
            drops_unknown: false,
        },
        incarnation,
    }));
    let replies = Replies::new(ReplyParts {
        engine: Arc::clone(&engine),
        sessions: Arc::clone(&sessions) as _,
        sends: Arc::clone(&sends),
        clock: Arc::clone(&clock),
        metrics: Arc::clone(&metrics),
        settings: ReplySettings { per_minute: 20, kept: Duration::from_hours(1) },
    });
    let outbox = Outbox::load(OutboxParts {
        engine: Arc::clone(&engine),
        sends: Arc::clone(&sends),
        clock: Arc::clone(&clock),
        metrics: Arc::clone(&metrics),
        settings: OutboxSettings::default(),
    });
    let outbox = outbox.await.expect("an empty store");
    let hooks = HookRegistry::load(Arc::clone(&engine), Arc::clone(&keyring), Arc::clone(&clock)).await;
    let mut settings = HttpSettings { admin_key: Some(Secret::new(ADMIN_KEY)), ..HttpSettings::default() };
    change(&mut settings);
    AppState::new(AppParts {
        sessions,
        accounts,
        webhooks,
        subscriptions,
        sends,
        outbox,
        keys: Arc::new(KeyRegistry::load(Arc::clone(&engine), Arc::clone(&clock)).await.expect("an empty store")),
        idempotency: Idempotency::new(Arc::clone(&engine), keyring, Arc::clone(&clock), Duration::from_hours(24)),
        hooks: Arc::new(hooks.expect("an empty store")),
        consumers: Arc::new(ConsumerRegistry::new(Arc::clone(&engine), Arc::clone(&clock))),
        replies,
        event_log,
        recovery: Recovery::new(Arc::clone(&engine), Arc::clone(&clock)),
        engine,
        rest,
        storage,
        spool,
        address_guard: guard,
        receivers: Arc::new(receivers),
        clock,
        metrics,
        readiness: Arc::new(Readiness::default()),
        tasks: TaskTracker::new(),
        settings,
    })
}

async fn ask(app: &AppState, request: Request<Body>) -> Response<Body> {
    public_router(app).oneshot(request).await.expect("the router answers")
}

fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path)
}

fn with_token(method: Method, path: &str) -> http::request::Builder {
    request(method, path).header(AUTHORIZATION, "Bearer 0a1b2c")
}

fn post_json(path: &str, body: impl Into<Body>) -> Request<Body> {
    with_token(Method::POST, path).header(CONTENT_TYPE, "application/json").body(body.into()).expect("a request")
}

fn empty(builder: http::request::Builder) -> Request<Body> {
    builder.body(Body::empty()).expect("a request")
}

fn header(response: &Response<Body>, name: impl http::header::AsHeaderName) -> &str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn json(response: Response<Body>) -> Value {
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    serde_json::from_slice(&bytes).expect("JSON")
}

/// The problem that `response` is, checked for what all problems have.
async fn problem(response: Response<Body>) -> Value {
    assert_eq!(header(&response, CONTENT_TYPE), "application/problem+json");
    let (status, id) = (response.status().as_u16(), header(&response, "x-request-id").to_owned());
    let problem = json(response).await;
    assert_eq!(problem["status"], status);
    assert_eq!(problem["instance"], format!("urn:spaces-bridge:request:{id}"));
    let code = problem["code"].as_str().expect("a code");
    assert_eq!(problem["type"], format!("urn:spaces-bridge:problem:{code}"));
    assert!(problem["title"].is_string() && problem["detail"].is_string());
    problem
}

#[tokio::test]
async fn an_unknown_path_is_a_problem() {
    let app = state(|_| {}).await;
    for path in ["/", "/nothing", "/spaces/s1/nothing", "/docs/nothing.js", "/webhooks/wh_1/nothing"] {
        let response = ask(&app, empty(request(Method::GET, path))).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(problem(response).await["code"], "route_not_found", "{path}");
    }
}

#[tokio::test]
async fn another_method_is_refused_with_those_allowed() {
    let app = state(|_| {}).await;
    for (method, path, allowed) in [
        (Method::PUT, "/webhooks", "GET,HEAD,POST"),
        (Method::PUT, "/spaces/s1/messages", "GET,HEAD,POST"),
        (Method::OPTIONS, "/livez", "GET,HEAD"),
        (Method::from_bytes(b"BREW").expect("a method"), "/me", "GET,HEAD"),
    ] {
        let response = ask(&app, empty(request(method, path))).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        let mut found: Vec<&str> = header(&response, ALLOW).split(',').collect();
        found.sort_unstable();
        assert_eq!(found.join(","), allowed, "{path}");
        assert_eq!(problem(response).await["code"], "method_not_allowed");
    }
}

#[tokio::test]
async fn every_call_of_an_account_needs_a_spaces_token() {
    let app = state(|_| {}).await;
    for (method, path) in [
        (Method::POST, "/spaces/s1/messages?token=secret&access_token=secret"),
        (Method::POST, "/direct/user/u1"),
        (Method::GET, "/messages/ref_1"),
        (Method::GET, "/me"),
        (Method::GET, "/spaces"),
        (Method::PUT, "/spaces/s1/subscription"),
        (Method::DELETE, "/spaces/s1/subscription"),
        (Method::GET, "/subscriptions"),
        (Method::POST, "/webhooks"),
        (Method::GET, "/webhooks"),
        (Method::GET, "/webhooks/wh_1"),
        (Method::PATCH, "/webhooks/wh_1"),
        (Method::DELETE, "/webhooks/wh_1"),
        (Method::GET, "/webhooks/wh_1/secret"),
        (Method::POST, "/webhooks/wh_1/rotate-secret"),
        (Method::POST, "/webhooks/wh_1/test"),
        (Method::GET, "/webhooks/wh_1/deliveries"),
        (Method::GET, "/deliveries/dlv_1"),
        (Method::POST, "/incoming-hooks"),
        (Method::GET, "/incoming-hooks"),
        (Method::GET, "/incoming-hooks/hook_1"),
        (Method::PATCH, "/incoming-hooks/hook_1"),
        (Method::DELETE, "/incoming-hooks/hook_1"),
        (Method::POST, "/incoming-hooks/hook_1/rotate-secret"),
        (Method::POST, "/incoming-hooks/hook_1/preview"),
    ] {
        let response = ask(&app, empty(request(method.clone(), path))).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
        assert!(header(&response, WWW_AUTHENTICATE).starts_with("Bearer"), "{method} {path}");
        assert_eq!(problem(response).await["code"], "credentials_missing");
        let operator = request(method.clone(), path).header(AUTHORIZATION, format!("Bearer {ADMIN_KEY}"));
        let response = ask(&app, empty(operator)).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{method} {path}");
        assert_eq!(problem(response).await["code"], "account_required");
    }
    assert_eq!(app.sessions.list().len(), 0);
}

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
        (r#"{"text":"a","category":"task"}"#, 422, "invalid_body", Some("/category")),
        (r#"{"text":"a","replyTo":"../x"}"#, 422, "invalid_body", Some("/replyTo")),
        (r#"{"html":"<script>x</script>"}"#, 422, "invalid_body", Some("/html")),
        (r#"{"attachments":[]}"#, 422, "invalid_body", Some("/attachments")),
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

#[tokio::test]
async fn a_send_without_a_connection_says_when_to_come_again() {
    let app = state(|_| {}).await;
    let mut request = post_json("/spaces/s1/messages", r#"{"text":"a"}"#);
    request.headers_mut().insert("prefer", "wait=0".parse().expect("a value"));
    let response = ask(&app, request).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(header(&response, RETRY_AFTER).parse::<u64>().is_ok_and(|seconds| seconds >= 1));
    let problem = problem(response).await;
    assert_eq!(problem["code"], "not_connected");
    assert!(problem["retryAfter"].as_u64().is_some());
}

#[tokio::test]
async fn a_webhook_must_be_one_before_a_session_is_opened_for_it() {
    let app = state(|_| {}).await;
    for (body, pointer) in [
        ("{}", ""),
        (r#"{"url":"http://127.0.0.1/"}"#, "/url"),
        (r#"{"url":"ftp://example.com/"}"#, "/url"),
        (r#"{"url":"https://example.com/","events":[]}"#, "/events"),
        (r#"{"url":"https://example.com/","events":["a b"]}"#, "/events/0"),
        (r#"{"url":"https://example.com/","spaces":["a b"]}"#, "/spaces/0"),
        (r#"{"url":"https://example.com/","ordering":"none"}"#, "/ordering"),
        (r#"{"url":"https://example.com/","format":"xml"}"#, "/format"),
        (r#"{"url":"https://example.com/","secret":"x"}"#, "/secret"),
    ] {
        let response = ask(&app, post_json("/webhooks", body)).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert_eq!(problem(response).await["errors"][0]["pointer"], pointer, "{body}");
    }
    assert_eq!(app.sessions.list().len(), 0);
}

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

#[tokio::test]
async fn the_documentation_is_served_whole_and_needs_nothing_from_outside() {
    let app = state(|_| {}).await;
    let response = ask(&app, empty(request(Method::GET, "/docs"))).await;
    assert!(header(&response, CONTENT_TYPE).starts_with("text/html"));
    let policy = header(&response, CONTENT_SECURITY_POLICY).to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("http"), "{policy}");
    let page = response.into_body().collect().await.expect("a body").to_bytes();
    let page = std::str::from_utf8(&page).expect("text");
    let mut assets = 0;
    for address in page.split("src=\"").chain(page.split("href=\"")).filter_map(|rest| rest.split('"').next()) {
        if let Some(asset) = address.strip_prefix("docs/") {
            let response = ask(&app, empty(request(Method::GET, &format!("/docs/{asset}")))).await;
            assert_eq!(response.status(), StatusCode::OK, "{asset}");
            assets += 1;
        }
        assert!(!address.starts_with("http") && !address.starts_with("//") && !address.starts_with('.'), "{address}");
    }
    assert!(assets >= 5, "{page}");
    let document = json(ask(&app, empty(request(Method::GET, "/openapi.json"))).await).await;
    assert_eq!(document["openapi"].as_str().map(|version| &version[..3]), Some("3.1"));
}

/// The committed document is what the handlers say; `cargo run -- openapi > openapi/openapi.json` writes it anew.
#[test]
fn the_committed_document_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == openapi_json(), "openapi/openapi.json is not current: `cargo run -- openapi > openapi/openapi.json`");
}

#[test]
fn every_call_is_documented_with_its_failures_and_headers() {
    let document: Value = serde_json::from_str(&openapi_json()).expect("JSON");
    let resolve = |value: &Value| match value["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).expect("a target").clone(),
        None => value.clone(),
    };
    let mut ids = std::collections::BTreeSet::new();
    let paths = document["paths"].as_object().expect("paths");
    assert_eq!(paths.len(), 58);
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("calls") {
            let call = format!("{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().expect(&call).to_owned()), "{call}");
            assert!(operation["summary"].is_string() && operation["tags"].is_array(), "{call}");
            let responses = operation["responses"].as_object().expect("answers");
            for (status, response) in responses {
                let response = resolve(response);
                if status == "431" {
                    continue;
                }
                assert!(response["headers"]["X-Request-Id"].is_object(), "{call} {status}");
                if status.as_str() >= "400" {
                    assert!(response["content"]["application/problem+json"].is_object(), "{call} {status}");
                }
            }
            assert!(responses.contains_key("431"), "{call}");
            if operation["security"].is_array() {
                assert!(resolve(&responses["401"])["headers"]["WWW-Authenticate"].is_object(), "{call}");
            }
            if operation["requestBody"].is_object() {
                assert!(["400", "408", "413", "415", "422"].iter().all(|status| responses.contains_key(*status)), "{call}");
            }
            assert!(resolve(&responses["503"])["headers"]["Retry-After"].is_object(), "{call}");
        }
    }
}

/// Each `$ref` of the document has its target.
#[test]
fn the_document_hangs_together() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(entries) => entries.iter().for_each(|entry| references(entry, found)),
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(&openapi_json()).expect("JSON");
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}
