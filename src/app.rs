//! [`App`]: the concrete parts, put together, started and stopped in order. The only place that names a back end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::accounts::{AccountParts, AccountRegistry, AccountSettings, TokenSources};
use crate::config::{Config, ConfigError, ENV_PREFIX, Protocol, UnknownCategories};
use crate::consumers::ConsumerRegistry;
use crate::delivery::{
    AddressGuard, AllowList, ClientSettings, DeliveryDispatcher, DeliveryParts, DeliverySettings, SystemResolver, WebhookClient,
};
use crate::domain::{AccountId, Clock, Interest, SystemClock};
use crate::event_log::EventLog;
use crate::governor::{Governors, LimitSettings};
use crate::http::{self, AppParts, AppState, FileSettings, HttpSettings, Readiness, ReadyState};
use crate::idempotency::Idempotency;
use crate::incoming::{HookRegistry, Renderer};
use crate::keys::KeyRegistry;
use crate::master_key::{self, KeyError};
use crate::metrics::Metrics;
use crate::outbox::{Outbox, OutboxParts, OutboxSettings, OutboxWork};
use crate::recovery::Recovery;
use crate::replies::{Replies, ReplyParts, ReplySettings};
use crate::seal::Keyring;
use crate::send_log::SendLog;
use crate::server::Listener;
use crate::session::{InterestSource, SessionDependencies, SessionRegistry, SessionSettings};
use crate::shutdown::Shutdown;
use crate::spool::Spool;
use crate::store::{EmbeddedSettings, EmbeddedStore, Engine, Heartbeat, Incarnation, Maintenance, StoreError};
use crate::subscriptions::SubscriptionRegistry;
use crate::upstream::{
    Connector, RestClient, RestDialect, RestSettings, SocketSettings, StorageClient, TokenServer, TokenServerSettings,
};
use crate::webhooks::WebhookRegistry;

/// How long a membership of the store holds without a heartbeat; heartbeats come at a third of it.
const MEMBERSHIP: Duration = Duration::from_secs(15);

/// How often old rows are looked for.
const MAINTENANCE_EVERY: Duration = Duration::from_mins(1);

/// Most rows that one round of maintenance removes.
const MAINTENANCE_BUDGET: usize = 1_000;

/// What sessions and deliveries get to end in any case, also if requests used up the grace time.
const LAST_GRACE: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_hours(24);

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration does not do.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listener could not be bound.
    #[error("setting `{setting}`: cannot listen on {address}")]
    Listen {
        /// Which setting.
        setting: &'static str,
        /// Its address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The store could not be opened.
    #[error("setting `store.path`: cannot open the store")]
    Store(#[from] StoreError),
    /// The directory of files that wait could not be made.
    #[error("setting `files.path`: cannot make the directory")]
    Files(#[source] std::io::Error),
    /// The keys could not be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The program that this process runs is not to be found.
    #[error("cannot find the own program, which fills templates")]
    Program(#[source] std::io::Error),
    /// TLS could not be set up.
    #[error("cannot set up TLS with the certificates of this machine")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The upstream's address does not do.
    #[error("setting `upstream.socket_url`: not a usable address")]
    Upstream(#[source] socketio_client::OptionsError),
}

/// The service, ready to run.
pub struct App {
    config: Config,
    store: Arc<EmbeddedStore>,
    engine: Arc<dyn Engine>,
    incarnation: Incarnation,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    sessions: Arc<SessionRegistry>,
    accounts: AccountRegistry,
    delivery: DeliveryParts,
    replies: Replies,
    outbox: Outbox,
    outbox_work: OutboxWork,
    state: AppState,
    readiness: Arc<Readiness>,
    http_tasks: TaskTracker,
    public: Listener,
    internal: Listener,
}

impl std::fmt::Debug for App {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("App").field("public", &self.public).field("internal", &self.internal).finish_non_exhaustive()
    }
}

/// What webhooks, subscriptions, incoming hooks and messages that wait care about, together.
struct Interests {
    webhooks: Arc<WebhookRegistry>,
    hooks: Arc<HookRegistry>,
    subscriptions: Arc<SubscriptionRegistry>,
    outbox: Outbox,
}

impl InterestSource for Interests {
    fn interest(&self, account: &AccountId) -> Interest {
        let mut interest = self.webhooks.interest(account);
        interest.spaces.extend(self.subscriptions.of_account(account));
        interest.spaces.extend(self.hooks.interest(account).spaces);
        interest.spaces.extend(self.outbox.interest(account).spaces);
        interest
    }
}

impl App {
    /// Binds the listeners, opens the store and puts everything together. Nothing runs yet.
    pub async fn build(config: Config) -> Result<Self, AppError> {
        Self::build_with(config, None).await
    }

    /// The same, where this process does not run the program: what has a process of its own runs `program`.
    #[expect(clippy::too_many_lines, reason = "the list of all parts, in the order in which they need each other")]
    pub async fn build_with(config: Config, program: Option<PathBuf>) -> Result<Self, AppError> {
        let public = bind("http.listen", config.http.listen, &config).await?;
        let internal = bind("http.internal_listen", config.http.internal_listen, &config).await?;
        let urls = config.upstream_urls()?;
        let tls = socketio_client::TlsConfig::platform().map_err(|error| AppError::Tls(error.into()))?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new());

        let settings = EmbeddedSettings { max_bytes: config.store.max_bytes, ..EmbeddedSettings::new(&config.store.path) };
        let store = Arc::new(EmbeddedStore::open(settings, Arc::clone(&clock))?);
        let engine: Arc<dyn Engine> = Arc::clone(&store) as _;
        let member = engine.join(&public.address().to_string(), MEMBERSHIP).await?;
        let keyring = keyring(&config, &engine).await?;

        let webhooks = WebhookRegistry::load(Arc::clone(&engine), Arc::clone(&keyring), Arc::clone(&clock)).await?;
        let webhooks = Arc::new(webhooks.with_limit(config.webhooks.max_per_account));
        let subscriptions = Arc::new(SubscriptionRegistry::load(Arc::clone(&engine)).await?);
        let hooks = Arc::new(HookRegistry::load(Arc::clone(&engine), Arc::clone(&keyring), Arc::clone(&clock)).await?);
        let event_log = Arc::new(EventLog::new(
            Arc::clone(&engine),
            member.incarnation,
            Arc::clone(&webhooks),
            Arc::clone(&clock),
            Arc::clone(&metrics),
        ));
        let sends = Arc::new(SendLog::new(Arc::clone(&engine), Arc::clone(&clock)));
        let outbox = outbox(&config, (&engine, &sends), (&clock, &metrics)).await?;
        let rest_settings = RestSettings { url: urls.rest, timeout: Duration::from_secs(config.upstream.rest_timeout_seconds) };
        let rest = RestClient::new(&rest_settings, (*tls).clone()).map_err(|error| AppError::Tls(error.into()))?;
        let governors = Arc::new(Governors::new(limit_settings(&config), Arc::clone(&metrics)));
        let rest = rest.governed_by(governors).speaking(rest_dialect(&config));
        let storage = StorageClient::new((*tls).clone()).map_err(|error| AppError::Tls(error.into()))?;
        let connector = Connector::new(socket_settings(&config, urls.socket, Arc::clone(&tls))).map_err(AppError::Upstream)?;
        let token_server =
            TokenServerSettings { accounts: urls.accounts, rest: rest_settings.url, timeout: rest_settings.timeout };
        let accounts = AccountRegistry::load(AccountParts {
            engine: Arc::clone(&engine),
            keyring: Arc::clone(&keyring),
            event_log: Arc::clone(&event_log),
            rest: rest.clone(),
            sources: token_sources(&config, token_server, &tls).map_err(|error| AppError::Tls(error.into()))?,
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            settings: account_settings(&config),
        })
        .await?;
        let sessions = Arc::new(SessionRegistry::new(SessionDependencies {
            connector,
            rest: rest.clone(),
            event_log: Arc::clone(&event_log),
            engine: Arc::clone(&engine),
            sends: Arc::clone(&sends),
            interests: Arc::new(Interests {
                webhooks: Arc::clone(&webhooks),
                hooks: Arc::clone(&hooks),
                subscriptions: Arc::clone(&subscriptions),
                outbox: outbox.clone(),
            }),
            tokens: Arc::new(accounts.clone()),
            keyring: Arc::clone(&keyring),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            settings: session_settings(&config),
            incarnation: member.incarnation,
        }));
        accounts.meet(&(Arc::clone(&sessions) as _));

        let listeners = vec![public.address(), internal.address()];
        let guard = Arc::new(AddressGuard::new(AllowList::new(config.webhooks.allow_networks.clone()), listeners));
        let client = Arc::new(webhook_client(&config, Arc::clone(&guard), tls));
        let replies = Replies::new(ReplyParts {
            engine: Arc::clone(&engine),
            sessions: Arc::clone(&sessions) as _,
            sends: Arc::clone(&sends),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            settings: ReplySettings { per_minute: config.webhooks.replies_per_minute, kept: retention(&config) },
        });
        let delivery = DeliveryParts {
            engine: Arc::clone(&engine),
            incarnation: member.incarnation,
            webhooks: Arc::clone(&webhooks),
            event_log: Arc::clone(&event_log),
            client: Arc::clone(&client),
            replies: Some(Arc::new(replies.clone())),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
        };

        let outbox_work = OutboxWork { sessions: Arc::clone(&sessions), rest: rest.clone(), event_log: Arc::clone(&event_log) };

        let (readiness, http_tasks) = (Arc::new(Readiness::default()), TaskTracker::new());
        let state = AppState::new(AppParts {
            sessions: Arc::clone(&sessions),
            accounts: accounts.clone(),
            webhooks,
            subscriptions,
            sends,
            outbox: outbox.clone(),
            keys: Arc::new(KeyRegistry::load(Arc::clone(&engine), Arc::clone(&clock)).await?),
            idempotency: idempotency(&config, &engine, keyring, &clock),
            hooks,
            renderer: Renderer::new(program, metrics.renderings.clone()).map_err(AppError::Program)?,
            consumers: Arc::new(ConsumerRegistry::new(Arc::clone(&engine), Arc::clone(&clock))),
            replies: replies.clone(),
            event_log,
            recovery: Recovery::new(Arc::clone(&engine), Arc::clone(&clock)),
            engine: Arc::clone(&engine),
            rest,
            storage,
            spool: spool(&config)?,
            address_guard: guard,
            receivers: client,
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            readiness: Arc::clone(&readiness),
            tasks: http_tasks.clone(),
            settings: http_settings(&config),
        });
        let incarnation = member.incarnation;
        Ok(Self {
            config,
            store,
            engine,
            incarnation,
            clock,
            metrics,
            sessions,
            accounts,
            delivery,
            replies,
            outbox,
            outbox_work,
            state,
            readiness,
            http_tasks,
            public,
            internal,
        })
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.public.address()
    }

    /// Where health, metrics and the operator's views listen.
    pub fn internal_address(&self) -> SocketAddr {
        self.internal.address()
    }

    /// Runs until a stop is asked for, and then stops in order: no new requests, what is under way finishes, sessions leave,
    /// deliveries under way finish, the store closes.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), AppError> {
        let urgent = shutdown.clone();
        tokio::select! {
            result = self.run_and_stop(shutdown) => result,
            () = urgent.urgent() => Ok(()),
        }
    }

    async fn run_and_stop(self, shutdown: Shutdown) -> Result<(), AppError> {
        let grace = Duration::from_secs(self.config.shutdown.grace_seconds);
        let (background, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(background.clone().run_until_cancelled_owned(keep_membership(
            Arc::clone(&self.engine),
            self.incarnation,
            shutdown.clone(),
        )));
        tasks.spawn(background.clone().run_until_cancelled_owned(self.maintenance().run()));
        info!(address = %self.public.address(), internal = %self.internal.address(), "spaces-bridge {} listens", env!("CARGO_PKG_VERSION"));
        let internal_stop = Shutdown::default();
        let internal = self.internal.serve(http::internal_router(&self.state), internal_stop.clone(), Duration::from_secs(1));
        let internal = tokio::spawn(internal);
        let dispatcher = DeliveryDispatcher::spawn(self.delivery, delivery_settings(&self.config));
        // Before callers come in, who would not find the sessions of their accounts; their connections wait meanwhile.
        let restored = self.sessions.restore().await?;
        self.accounts.start();
        self.replies.start();
        self.outbox.start(self.outbox_work.clone());
        let public = tokio::spawn(self.public.serve(http::public_router(&self.state), shutdown.clone(), grace));
        self.readiness.set(ReadyState::Ready);
        info!(sessions = restored, "ready");

        shutdown.requested().await;
        let deadline = Instant::now() + grace;
        self.readiness.set(ReadyState::Stopping);
        log_panic("the public listener", public.await);
        self.http_tasks.close();
        if tokio::time::timeout_at(deadline, self.http_tasks.wait()).await.is_err() {
            warn!("some work of the API did not finish within the grace time");
        }
        // Both at once, so that each has the whole of what is left.
        let left = deadline.saturating_duration_since(Instant::now()).max(LAST_GRACE);
        tokio::join!(
            self.accounts.shut_down(left),
            self.sessions.shut_down(left),
            dispatcher.shutdown(left),
            self.replies.shut_down(left),
            self.outbox.shut_down(left)
        );
        internal_stop.request();
        log_panic("the internal listener", internal.await);
        background.cancel();
        tasks.close();
        tasks.wait().await;
        if let Err(error) = self.engine.leave(self.incarnation).await {
            warn!(error = &error as &dyn std::error::Error, "the store could not be told of the end");
        }
        self.store.close().await;
        info!("stopped");
        Ok(())
    }

    fn maintenance(&self) -> MaintenanceTask {
        MaintenanceTask {
            engine: Arc::clone(&self.engine),
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&self.metrics),
            retention: retention(&self.config),
            retained_bytes: self.config.store.retention_bytes,
        }
    }
}

/// Where files wait until they are in Spaces.
fn spool(config: &Config) -> Result<Spool, AppError> {
    let directory = config.files.path.clone().unwrap_or_else(|| config.store.path.join("uploads"));
    Spool::open(directory, config.files.max_waiting_bytes).map_err(AppError::Files)
}

async fn keyring(config: &Config, engine: &Arc<dyn Engine>) -> Result<Arc<Keyring>, AppError> {
    let master = match &config.security.master_key {
        Some(text) => master_key::decode(text).expect("the configuration was checked"),
        None => master_key::find_or_generate(&config.store.path)?,
    };
    Ok(Arc::new(master_key::open_keyring(engine, &master).await?))
}

fn idempotency(config: &Config, engine: &Arc<dyn Engine>, keyring: Arc<Keyring>, clock: &Arc<dyn Clock>) -> Idempotency {
    let kept = Duration::from_hours(config.http.idempotency_hours);
    Idempotency::new(Arc::clone(engine), keyring, Arc::clone(clock), kept)
}

/// How long events and their settled deliveries are kept.
fn retention(config: &Config) -> Duration {
    DAY.saturating_mul(u32::try_from(config.store.retention_days).unwrap_or(u32::MAX))
}

/// How far back gaps are closed: not beyond what is kept, since what has gone from the log would come again.
fn recovery_limit(config: &Config) -> Duration {
    let hours = u32::try_from(config.session.recovery_limit_hours).unwrap_or(u32::MAX);
    Duration::from_hours(1).saturating_mul(hours).min(retention(config))
}

async fn bind(setting: &'static str, address: SocketAddr, config: &Config) -> Result<Listener, AppError> {
    let listener = Listener::bind(address).await.map_err(|source| AppError::Listen { setting, address, source })?;
    Ok(listener.with_patience(Duration::from_secs(config.http.write_timeout_seconds)))
}

fn log_panic(what: &str, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        error!(error = &error as &dyn std::error::Error, "{what} ended unexpectedly");
    }
}

fn socket_settings(config: &Config, url: url::Url, tls: Arc<rustls::ClientConfig>) -> SocketSettings {
    SocketSettings {
        url,
        protocol: match config.upstream.protocol {
            Protocol::Eio3 => socketio_client::Protocol::EngineIo3,
            Protocol::Eio4 => socketio_client::Protocol::EngineIo4,
        },
        namespace: config.upstream.namespace.clone(),
        service_app_token_type: config.upstream.service_app_token_type.clone(),
        connect_timeout: Duration::from_secs(config.upstream.connect_timeout_seconds),
        tls,
    }
}

fn rest_dialect(config: &Config) -> RestDialect {
    RestDialect {
        accept_version: config.upstream.accept_version.clone(),
        service_app_scheme: config.upstream.service_app_scheme.clone(),
    }
}

fn limit_settings(config: &Config) -> LimitSettings {
    LimitSettings { emits_per_minute: config.upstream.emits_per_minute, payload_bytes: config.upstream.max_event_bytes }
}

fn session_settings(config: &Config) -> SessionSettings {
    SessionSettings {
        idle_timeout: Duration::from_secs(config.session.idle_timeout_seconds),
        refusal_stands: Duration::from_secs(config.session.refusal_seconds),
        connects_per_second: config.session.connects_per_second,
        max_sessions: config.session.max_sessions,
        limit_wait: Duration::from_secs(config.session.limit_retry_seconds),
        probe: Duration::from_secs(config.session.probe_seconds),
        compare: Duration::from_secs(config.session.compare_seconds),
        recovery_overlap: Duration::from_secs(config.session.recovery_overlap_seconds),
        recovery_limit: recovery_limit(config),
        recovery_hold: Duration::from_secs(config.session.recovery_hold_seconds),
        gap_after: Duration::from_secs(config.session.gap_after_seconds),
        longest_wait: Duration::from_secs(config.session.longest_wait_seconds),
        second_look: Duration::from_secs(config.session.second_look_seconds),
        drops_unknown: config.session.unknown_categories == UnknownCategories::Drop,
    }
}

async fn outbox(
    config: &Config,
    (engine, sends): (&Arc<dyn Engine>, &Arc<SendLog>),
    (clock, metrics): (&Arc<dyn Clock>, &Arc<Metrics>),
) -> Result<Outbox, StoreError> {
    Outbox::load(OutboxParts {
        engine: Arc::clone(engine),
        sends: Arc::clone(sends),
        clock: Arc::clone(clock),
        metrics: Arc::clone(metrics),
        settings: outbox_settings(config),
    })
    .await
}

fn outbox_settings(config: &Config) -> OutboxSettings {
    let rest_after = config.upstream.rest_fallback_seconds;
    OutboxSettings {
        max_per_account: config.outbox.max_per_account,
        max_age: Duration::from_hours(config.outbox.max_age_hours),
        confirmation: Duration::from_secs(config.outbox.confirm_seconds),
        settle: Duration::from_secs(config.outbox.settle_seconds),
        silence: Duration::from_secs(config.outbox.silence_seconds),
        doubt: Duration::from_secs(config.outbox.doubt_seconds),
        rest_after: (rest_after > 0).then(|| Duration::from_secs(rest_after)),
    }
}

fn account_settings(config: &Config) -> AccountSettings {
    AccountSettings {
        allow_commands: config.accounts.allow_commands,
        token_directories: config.accounts.token_directories.clone(),
        file_check: Duration::from_secs(config.accounts.file_check_seconds),
        max_accounts: config.accounts.max_accounts,
        timeout: Duration::from_secs(config.upstream.rest_timeout_seconds),
        hidden_variables: ENV_PREFIX,
    }
}

fn token_sources(
    config: &Config,
    server: TokenServerSettings,
    tls: &rustls::ClientConfig,
) -> Result<TokenSources, reqwest::Error> {
    TokenSources::new(TokenServer::new(server, tls.clone())?, account_settings(config), tls.clone())
}

fn delivery_settings(config: &Config) -> DeliverySettings {
    DeliverySettings {
        concurrency: config.webhooks.concurrency,
        per_webhook: config.webhooks.concurrency_per_webhook,
        timeout: Duration::from_secs(config.webhooks.timeout_seconds),
        disable_after: hours(config.webhooks.disable_after_hours),
        metric_labels: config.webhooks.metric_labels,
        ..DeliverySettings::default()
    }
}

fn webhook_client(config: &Config, guard: Arc<AddressGuard>, tls: Arc<rustls::ClientConfig>) -> WebhookClient {
    let settings = ClientSettings {
        timeout: Duration::from_secs(config.webhooks.timeout_seconds),
        idle_connections: config.webhooks.concurrency,
    };
    let origin = HeaderValue::try_from(&config.webhooks.origin).expect("the configuration was checked");
    WebhookClient::new(settings, guard, Arc::new(SystemResolver), tls).with_origin(origin)
}

/// So many hours; none stands for never.
fn hours(hours: u64) -> Option<Duration> {
    (hours > 0).then(|| Duration::from_hours(hours))
}

fn http_settings(config: &Config) -> HttpSettings {
    HttpSettings {
        body_limit: config.http.max_body_bytes,
        request_timeout: Duration::from_secs(config.http.request_timeout_seconds),
        admin_key: config.security.admin_key.clone(),
        max_in_flight: config.http.max_requests,
        max_listeners: config.http.max_listeners_per_account,
        recovery_limit: recovery_limit(config),
        files: FileSettings {
            max_files: config.files.max_per_message,
            parallel_uploads: config.files.concurrency_per_message,
            max_transfers: config.files.concurrency,
            timeout: Duration::from_secs(config.files.timeout_seconds),
        },
        public_url: config.http.public_url.clone(),
        ..HttpSettings::default()
    }
}

/// Extends the membership of the store; asks for a stop if it is lost for good.
async fn keep_membership(engine: Arc<dyn Engine>, incarnation: Incarnation, shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(MEMBERSHIP / 3);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match engine.heartbeat(incarnation).await {
            Ok(Heartbeat::Alive(_)) => {}
            Ok(Heartbeat::Gone) => {
                error!("another process has taken over the store; stopping");
                shutdown.request();
                return;
            }
            Err(error) => warn!(error = &error as &dyn std::error::Error, "a heartbeat of the store failed"),
        }
    }
}

struct MaintenanceTask {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    retention: Duration,
    retained_bytes: Option<u64>,
}

impl MaintenanceTask {
    /// Removes what is old, in small rounds that let other work pass between them.
    async fn run(self) {
        let mut ticks = tokio::time::interval(MAINTENANCE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            while self.round().await {}
        }
    }

    /// One round. `true` if there is more to do.
    async fn round(&self) -> bool {
        let events_before = Some(self.clock.now().saturating_sub(self.retention));
        match self
            .engine
            .maintain(Maintenance { events_before, bytes_above: self.retained_bytes, budget: MAINTENANCE_BUDGET })
            .await
        {
            Ok(done) => {
                self.metrics.store_bytes.set(i64::try_from(done.bytes).unwrap_or(i64::MAX));
                done.more
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "maintenance of the store failed");
                false
            }
        }
    }
}
