//! The sessions alone, with a manager of tokens and with interests that a test sets.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use fake_upstream::{Seen, Space, Token, TokenKind as Kind, User};
use serde_json::Value;
use spaces_bridge::domain::{AccountId, Clock, Credential, Interest, Secret, SessionId, SessionState, SystemClock, TokenKind};
use spaces_bridge::event_log::EventLog;
use spaces_bridge::metrics::Metrics;
use spaces_bridge::seal::Keyring;
use spaces_bridge::send_log::SendLog;
use spaces_bridge::session::{
    Identity, InterestSource, RenewalError, SessionDependencies, SessionHandle, SessionRegistry, SessionSettings, SessionStatus,
    TokenSource,
};
use spaces_bridge::store::{Engine, EventFilter, Incarnation, MemoryStore, Query, Rows};
use spaces_bridge::upstream::{Connector, RestClient, RestSettings, SocketSettings};
use spaces_bridge::webhooks::WebhookRegistry;

use crate::support::bridge::Scene;
use crate::support::suite_log;
use crate::support::wait::eventually;

/// Long enough for everything that happens at all.
const SOON: Duration = Duration::from_secs(30);

/// A manager whose answers a test lays out beforehand.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    managed: Mutex<HashSet<AccountId>>,
    answers: Mutex<VecDeque<Result<Credential, RenewalError>>>,
    asked: Mutex<Vec<SessionId>>,
}

impl Tokens {
    pub(super) fn manage(&self, account: &AccountId) {
        self.managed.lock().expect("no panic").insert(account.clone());
    }

    pub(super) fn will_answer(&self, answer: Result<Credential, RenewalError>) {
        self.answers.lock().expect("no panic").push_back(answer);
    }

    /// The sessions for which a newer token was wanted.
    pub(super) fn asked(&self) -> Vec<SessionId> {
        self.asked.lock().expect("no panic").clone()
    }
}

#[async_trait]
impl TokenSource for Tokens {
    fn manages(&self, account: &AccountId) -> bool {
        self.managed.lock().expect("no panic").contains(account)
    }

    async fn renew(&self, _account: &AccountId, refused: &SessionId) -> Result<Credential, RenewalError> {
        self.asked.lock().expect("no panic").push(refused.clone());
        let answer = self.answers.lock().expect("no panic").pop_front();
        answer.unwrap_or_else(|| Err(RenewalError::Refused("no answer was laid out".to_owned())))
    }
}

/// Interests that a test sets, the same for every account.
#[derive(Debug, Default)]
pub(super) struct Wanted(Mutex<Interest>);

impl InterestSource for Wanted {
    fn interest(&self, _account: &AccountId) -> Interest {
        self.0.lock().expect("no panic").clone()
    }
}

/// The sessions of a service against the scene's upstream.
pub(super) struct Rig {
    pub(super) scene: Scene,
    pub(super) sessions: SessionRegistry,
    pub(super) tokens: Arc<Tokens>,
    pub(super) wanted: Arc<Wanted>,
    pub(super) metrics: Arc<Metrics>,
    engine: Arc<dyn Engine>,
    keyring: Arc<Keyring>,
    incarnation: Incarnation,
}

impl Rig {
    pub(super) async fn new() -> Self {
        Self::on(Scene::new().await).await
    }

    pub(super) async fn on(scene: Scene) -> Self {
        suite_log::start();
        let engine: Arc<dyn Engine> = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        let (tokens, wanted, keyring) = (Arc::default(), Arc::default(), Arc::new(Keyring::random()));
        Self::start(scene, engine, tokens, wanted, keyring).await
    }

    async fn start(
        scene: Scene,
        engine: Arc<dyn Engine>,
        tokens: Arc<Tokens>,
        wanted: Arc<Wanted>,
        keyring: Arc<Keyring>,
    ) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let incarnation = engine.join("127.0.0.1:1", Duration::from_mins(10)).await.expect("a member").incarnation;
        let metrics = Arc::new(Metrics::new());
        let webhooks = WebhookRegistry::load(Arc::clone(&engine), Arc::clone(&keyring), Arc::clone(&clock)).await;
        let event_log = Arc::new(EventLog::new(
            Arc::clone(&engine),
            incarnation,
            Arc::new(webhooks.expect("an empty store")),
            Arc::clone(&clock),
            Arc::clone(&metrics),
        ));
        let tls = socketio_client::TlsConfig::platform().expect("a TLS configuration");
        let rest = RestSettings { url: scene.upstream.rest_url().parse().expect("a URL"), timeout: Duration::from_secs(10) };
        let sessions = SessionRegistry::new(SessionDependencies {
            connector: Connector::new(SocketSettings {
                url: scene.upstream.socket_url().parse().expect("a URL"),
                protocol: socketio_client::Protocol::EngineIo3,
                namespace: "/chat".to_owned(),
                service_app_token_type: "jwt".to_owned(),
                connect_timeout: Duration::from_secs(10),
                tls: Arc::clone(&tls),
            })
            .expect("a connector"),
            rest: RestClient::new(&rest, (*tls).clone()).expect("a client"),
            event_log,
            engine: Arc::clone(&engine),
            sends: Arc::new(SendLog::new(Arc::clone(&engine), Arc::clone(&clock))),
            interests: Arc::clone(&wanted) as _,
            tokens: Arc::clone(&tokens) as _,
            keyring: Arc::clone(&keyring),
            clock,
            metrics: Arc::clone(&metrics),
            settings: SessionSettings {
                idle_timeout: Duration::from_mins(10),
                refusal_stands: Duration::from_mins(1),
                connects_per_second: 1_000,
                max_sessions: 100,
                limit_wait: Duration::from_secs(1),
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
        });
        Self { scene, sessions, tokens, wanted, metrics, engine, keyring, incarnation }
    }

    /// Ends all sessions and starts again on the same store.
    pub(super) async fn restart(self) -> Self {
        self.sessions.shut_down(Duration::from_secs(10)).await;
        self.engine.leave(self.incarnation).await.expect("to leave");
        let rig = Self::start(self.scene, self.engine, self.tokens, self.wanted, self.keyring).await;
        rig.sessions.restore().await.expect("a store that works");
        rig
    }

    /// A further token of Ana's.
    pub(super) fn another_token(&self) -> Token {
        self.scene.upstream.token_for(&self.scene.ana, Kind::Jwt)
    }

    /// Ana, as the manager of her account knows her.
    pub(super) fn ana(&self) -> Identity {
        identity(&self.scene.ana)
    }

    /// Lets Ana's managed account adopt a token, and waits until that token's session serves it.
    pub(super) async fn adopt(&self, token: &Token) -> SessionHandle {
        self.tokens.manage(&self.ana().account);
        let handle = self.sessions.adopt(self.ana(), credential(token)).await.expect("a session");
        self.serves(&handle).await;
        handle
    }

    /// Waits until this session serves Ana's account and is online.
    pub(super) async fn serves(&self, handle: &SessionHandle) {
        let account = self.ana().account;
        eventually("the session serves its account", async || {
            let status = handle.status();
            let kept = self.sessions.of_account(&account).is_some_and(|kept| kept.id() == handle.id());
            (kept && status.durable && status.state == SessionState::Online).then_some(())
        })
        .await;
    }

    /// Waits until the session of a token stands there.
    pub(super) async fn stands(&self, handle: &SessionHandle, state: SessionState) -> SessionStatus {
        eventually(state.as_str(), async || Some(handle.status()).filter(|status| status.state == state)).await
    }

    pub(super) fn wants(&self, spaces: &[&Space]) {
        let spaces = spaces.iter().map(|space| space.id.parse().expect("an id")).collect();
        *self.wanted.0.lock().expect("no panic") = Interest { spaces, ..Interest::default() };
    }

    pub(super) async fn seen(&self, what: impl FnMut(&Seen) -> bool) {
        let seen = self.scene.upstream.wait_until(SOON, what).await;
        assert!(seen.is_ok(), "not seen: {}", self.scene.upstream.seen(Seen::summary));
    }

    /// The events of Ana's account of this type, as the log has them.
    pub(super) async fn events(&self, event_type: &str) -> Vec<Value> {
        let filter = EventFilter { account: self.ana().account, space: None, since: None };
        let page = self.engine.query(Query::Events { filter, cursor: None, limit: 10_000 }).await.expect("events");
        let Rows::Events(events) = page.rows else { panic!("not events") };
        let bodies = events.iter().map(|event| serde_json::from_slice::<Value>(&event.body).expect("JSON"));
        bodies.filter(|body| body["type"] == event_type).collect()
    }

    /// Waits until the log has taken so many events at least.
    pub(super) async fn has_logged(&self, count: usize) {
        let appended = self.metrics.events.with_label_values(&["appended"]);
        eventually("the log follows", async || (appended.get() >= count as u64).then_some(())).await;
    }

    /// The texts of the messages in the log, in its order.
    pub(super) async fn texts(&self) -> Vec<String> {
        let text = |event: &Value| event["data"]["message"]["text"].as_str().expect("a text").to_owned();
        self.events("message.created").await.iter().map(text).collect()
    }

    pub(super) async fn stop(self) {
        self.sessions.shut_down(Duration::from_secs(10)).await;
    }
}

pub(super) fn identity(user: &User) -> Identity {
    Identity {
        account: AccountId::of_user(&user.id).expect("an id"),
        user_id: Some(user.id.clone()),
        display_name: Some("Ana".to_owned()),
    }
}

pub(super) fn credential(token: &Token) -> Credential {
    suite_log::note_secret(token.as_ref());
    let kind = match token.kind {
        Kind::Jwt | Kind::Anonymous => TokenKind::Jwt,
        Kind::Oauth => TokenKind::Oauth,
        Kind::Service => TokenKind::ServiceApp,
    };
    Credential { kind, token: Secret::new(token.as_ref()) }
}
