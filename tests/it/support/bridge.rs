//! The whole service in this process, on free ports, against the fake upstream.

use std::sync::Arc;
use std::time::Duration;

use fake_upstream::{FakeUpstream, Options, Space, Token, TokenKind, User};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use spaces_bridge::app::App;
use spaces_bridge::config::{Config, Environment};
use spaces_bridge::domain::Secret;
use spaces_bridge::shutdown::Shutdown;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::process::PROGRAM;
use super::receiver::Receiver;
use super::suite_log;

/// The operator's key of every bridge in these tests.
pub(crate) const ADMIN_KEY: &str = "the-operators-key-of-these-tests";

/// A running service.
#[derive(Debug)]
pub(crate) struct Bridge {
    pub(crate) api: String,
    pub(crate) internal: String,
    client: reqwest::Client,
    config: Config,
    data: Arc<TempDir>,
    shutdown: Shutdown,
    running: JoinHandle<()>,
}

/// A fake Spaces with Ana, Bo and a group space of both.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) upstream: FakeUpstream,
    pub(crate) ana: User,
    pub(crate) bo: User,
    /// Ana's.
    pub(crate) token: Token,
    pub(crate) space: Space,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let upstream = FakeUpstream::start(options).await.expect("a fake upstream");
        let (ana, bo) = (upstream.user("Ana"), upstream.user("Bo"));
        let token = upstream.token_for(&ana, TokenKind::Jwt);
        let space = upstream.space("Ops", &[&ana, &bo]);
        Self { upstream, ana, bo, token, space }
    }

    /// A token of Bo's.
    pub(crate) fn bos_token(&self) -> Token {
        self.upstream.token_for(&self.bo, TokenKind::Jwt)
    }

    /// The texts in the space, as Spaces has them, in order.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.upstream.with_world(|world| {
            let messages = world.messages_in(self.space.as_ref());
            messages.into_iter().map(|message| message.text().to_owned()).collect()
        })
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    /// Asserts that this is a problem with this status and code.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!((problem["code"].as_str(), problem["status"].as_u64()), (Some(code), Some(status.into())), "{}", self.text);
    }

    /// A header's value; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or_default())
    }
}

/// A service that stands still.
#[derive(Debug)]
pub(crate) struct Stopped {
    config: Config,
    data: Arc<TempDir>,
}

impl Stopped {
    /// Starts it again on the same store.
    pub(crate) async fn start(self) -> Bridge {
        Bridge::run(self.config, self.data).await
    }
}

impl Bridge {
    /// A service with an empty store.
    pub(crate) async fn start(upstream: &FakeUpstream) -> Self {
        Self::start_with(upstream, |_| {}).await
    }

    /// A service with an empty store and other settings.
    pub(crate) async fn start_with(upstream: &FakeUpstream, change: impl FnOnce(&mut Config)) -> Self {
        let data = Arc::new(tempfile::tempdir().expect("a directory"));
        let mut config = Config::default();
        config.http.listen = "127.0.0.1:0".parse().expect("an address");
        config.http.internal_listen = config.http.listen;
        config.upstream.environment = Environment::Custom;
        config.upstream.rest_url = Some(upstream.rest_url().parse().expect("an address"));
        config.upstream.socket_url = Some(upstream.socket_url().parse().expect("an address"));
        config.upstream.accounts_url = Some(upstream.accounts_url().parse().expect("an address"));
        config.session.connects_per_second = 1_000;
        config.webhooks.allow_networks = vec!["127.0.0.0/8".parse().expect("a network")];
        config.security.admin_key = Some(Secret::new(ADMIN_KEY));
        config.store.path = data.path().to_owned();
        change(&mut config);
        Self::run(config, data).await
    }

    async fn run(config: Config, data: Arc<TempDir>) -> Self {
        suite_log::start();
        let app = App::build_with(config.clone(), Some(PROGRAM.into())).await.expect("a service");
        // There is none if the settings say the key.
        if let Ok(key) = std::fs::read_to_string(data.path().join("master.key")) {
            suite_log::note_secret(key.trim());
        }
        let (api, internal) = (format!("http://{}", app.address()), format!("http://{}", app.internal_address()));
        let shutdown = Shutdown::default();
        let stop = shutdown.clone();
        let running = tokio::spawn(async move { app.run(stop).await.expect("a clean end") });
        let tls = socketio_client::TlsConfig::platform().expect("a TLS configuration");
        let client = reqwest::Client::builder().tls_backend_preconfigured((*tls).clone()).no_proxy().build().expect("a client");
        Self { api, internal, client, config, data, shutdown, running }
    }

    /// Stops the service as SIGTERM would, and waits for its end.
    pub(crate) async fn stop(self) {
        self.shutdown.request();
        self.running.await.expect("the service does not panic");
    }

    /// Stops the service and starts it again on the same store.
    pub(crate) async fn restart(self) -> Self {
        let (config, data) = (self.config.clone(), Arc::clone(&self.data));
        self.stop().await;
        Self::run(config, data).await
    }

    /// The same with a change to the directory of the store in between.
    pub(crate) async fn restart_after(self, change: impl FnOnce(&std::path::Path)) -> Self {
        let (config, data) = (self.config.clone(), Arc::clone(&self.data));
        self.stop().await;
        change(data.path());
        Self::run(config, data).await
    }

    /// Stops the service until [`Stopped::start`].
    pub(crate) async fn stop_for_now(self) -> Stopped {
        let (config, data) = (self.config.clone(), Arc::clone(&self.data));
        self.stop().await;
        Stopped { config, data }
    }

    /// The same with other settings.
    pub(crate) async fn restart_with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self.restart().await
    }

    /// The directory of the store.
    pub(crate) fn data(&self) -> &std::path::Path {
        self.data.path()
    }

    /// A request to the API with a Spaces JWT.
    pub(crate) fn request(&self, method: Method, path: &str, token: impl AsRef<str>) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.api)).header("authorization", format!("jwt {}", token.as_ref()))
    }

    /// A request without any authorization, to any address.
    pub(crate) fn plain(&self, method: Method, url: &str) -> reqwest::RequestBuilder {
        self.client.request(method, url)
    }

    pub(crate) async fn get(&self, path: &str, token: impl AsRef<str>) -> Answer {
        send(self.request(Method::GET, path, token)).await
    }

    pub(crate) async fn delete(&self, path: &str, token: impl AsRef<str>) -> Answer {
        send(self.request(Method::DELETE, path, token)).await
    }

    pub(crate) async fn put(&self, path: &str, token: impl AsRef<str>) -> Answer {
        send(self.request(Method::PUT, path, token)).await
    }

    pub(crate) async fn patch(&self, path: &str, token: impl AsRef<str>, body: &Value) -> Answer {
        send(self.request(Method::PATCH, path, token).json(body)).await
    }

    pub(crate) async fn post(&self, path: &str, token: impl AsRef<str>, body: &Value) -> Answer {
        send(self.request(Method::POST, path, token).json(body)).await
    }

    /// Sends a text to a space, with the usual wait.
    pub(crate) async fn say(&self, token: impl AsRef<str>, space: impl AsRef<str>, text: &str) -> Answer {
        self.post(&format!("/spaces/{}/messages", space.as_ref()), token, &serde_json::json!({ "text": text })).await
    }

    /// Sends a text to a space, and waits for `seconds` at most.
    pub(crate) async fn say_within(&self, seconds: u32, token: impl AsRef<str>, space: impl AsRef<str>, text: &str) -> Answer {
        let path = format!("/spaces/{}/messages", space.as_ref());
        let request = self.request(Method::POST, &path, token).header("prefer", format!("wait={seconds}"));
        send(request.json(&serde_json::json!({ "text": text }))).await
    }

    /// Registers a webhook for everything at `receiver`. Answers its id and its secret.
    pub(crate) async fn register(&self, token: impl AsRef<str>, receiver: &Receiver) -> (String, String) {
        let answer = self.post("/webhooks", token, &serde_json::json!({ "url": receiver.url() })).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        let webhook = answer.json();
        let text = |name: &str| webhook[name].as_str().expect("a text").to_owned();
        (text("id"), text("secret"))
    }

    /// Registers a webhook at `receiver` with further settings. Answers its id.
    pub(crate) async fn register_with(&self, token: impl AsRef<str>, receiver: &Receiver, mut settings: Value) -> String {
        settings["url"] = receiver.url().into();
        let answer = self.post("/webhooks", token, &settings).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    /// The newest deliveries of a webhook, as its owner sees them.
    pub(crate) async fn deliveries(&self, token: impl AsRef<str>, webhook: &str) -> Vec<Value> {
        let answer = self.get(&format!("/webhooks/{webhook}/deliveries?limit=200"), token).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json()["data"].as_array().expect("a list").clone()
    }

    /// The only session, as the operator sees it.
    pub(crate) async fn session(&self) -> Value {
        self.operator(Method::GET, "/sessions").await.json()["data"][0].clone()
    }

    /// A call of the operator.
    pub(crate) async fn operator(&self, method: Method, path: &str) -> Answer {
        let request = self.client.request(method, format!("{}{path}", self.api));
        send(request.header("authorization", format!("Bearer {ADMIN_KEY}"))).await
    }

    /// Whether the metrics have this line, a name with its labels and a value.
    pub(crate) async fn shows(&self, line: &str) -> bool {
        send(self.client.get(format!("{}/metrics", self.internal))).await.text.lines().any(|shown| shown == line)
    }

    /// The present value of a metric, with its labels as they are written.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = send(self.client.get(format!("{}/metrics", self.internal))).await.text;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
    }
}

/// Sends a request and reads the whole answer.
pub(crate) async fn send(request: reqwest::RequestBuilder) -> Answer {
    let (client, request) = request.timeout(Duration::from_secs(90)).build_split();
    let request = request.expect("a valid request");
    if let Some(authorization) = request.headers().get("authorization") {
        suite_log::note_authorization(authorization.as_bytes());
    }
    let answer = client.execute(request).await.expect("an answer");
    let (status, headers) = (answer.status(), answer.headers().clone());
    let text = answer.text().await.expect("a text");
    suite_log::note_signing_secrets(&text);
    Answer { status, headers, text }
}
