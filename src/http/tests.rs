//! The router's answers where no session is needed.

mod document;
mod operating;
mod requests;

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
use crate::incoming::{HookRegistry, Renderer};
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
        renderer: Renderer::new(None, metrics.renderings.clone()).expect("a program"),
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
