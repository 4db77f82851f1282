//! [`AppState`]: what the handlers work with.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use url::Url;

use super::direct::DirectSpaces;
use super::edge::RequestIds;
use super::error::ApiError;
use super::health::{Readiness, ReadyState};
use super::listeners::Listeners;
use super::people::UsersByEmail;
use super::recent::RecentSends;
use crate::accounts::AccountRegistry;
use crate::consumers::ConsumerRegistry;
use crate::delivery::{AddressGuard, WebhookClient};
use crate::domain::{Clock, Secret};
use crate::event_log::EventLog;
use crate::idempotency::Idempotency;
use crate::incoming::{HookRegistry, Renderer};
use crate::keys::KeyRegistry;
use crate::markup::Sanitizer;
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::recovery::Recovery;
use crate::replies::Replies;
use crate::send_log::SendLog;
use crate::session::SessionRegistry;
use crate::spool::Spool;
use crate::store::Engine;
use crate::subscriptions::SubscriptionRegistry;
use crate::upstream::{RestClient, StorageClient};
use crate::webhooks::WebhookRegistry;

/// How the HTTP API behaves.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Largest body that is read, in bytes.
    pub body_limit: usize,
    /// Most time for a body to arrive, and for an answer beyond the time that the caller wants to wait.
    pub request_timeout: Duration,
    /// How long a send waits for its outcome if the caller says nothing.
    pub default_wait: Duration,
    /// How long a send waits at most, whatever the caller says.
    pub max_wait: Duration,
    /// The key that makes its bearer the operator; without one there is no operator.
    pub admin_key: Option<Secret>,
    /// Most requests under way at a time; more are told to come again.
    pub max_in_flight: usize,
    /// Most streams and long polls of an account at a time.
    pub max_listeners: usize,
    /// How long a direct space once found is remembered, and whose an e-mail address is.
    pub direct_ttl: Duration,
    /// How far back the history can be read.
    pub recovery_limit: Duration,
    /// How files are taken and given.
    pub files: FileSettings,
    /// The address under which callers reach the API, for those that it tells; what the call says of it if not set.
    pub public_url: Option<Url>,
}

/// How files are taken and given.
#[derive(Debug, Clone, Copy)]
pub struct FileSettings {
    /// Most files of one message.
    pub max_files: usize,
    /// Files of one message that are uploaded at a time.
    pub parallel_uploads: usize,
    /// Most calls that send or get files at a time; more are told to come again.
    pub max_transfers: usize,
    /// Most time for a call that sends files.
    pub timeout: Duration,
}

impl Default for FileSettings {
    fn default() -> Self {
        Self { max_files: 10, parallel_uploads: 3, max_transfers: 32, timeout: Duration::from_hours(1) }
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            body_limit: 1 << 20,
            request_timeout: Duration::from_secs(30),
            default_wait: Duration::from_secs(10),
            max_wait: Duration::from_mins(1),
            admin_key: None,
            max_in_flight: 10_000,
            max_listeners: 10,
            direct_ttl: Duration::from_hours(1),
            recovery_limit: Duration::from_hours(168),
            files: FileSettings::default(),
            public_url: None,
        }
    }
}

/// The parts of the service that the HTTP API calls.
pub struct AppParts {
    /// Finds and opens sessions.
    pub sessions: Arc<SessionRegistry>,
    /// The accounts whose tokens the bridge gets by itself.
    pub accounts: AccountRegistry,
    /// The webhooks.
    pub webhooks: Arc<WebhookRegistry>,
    /// The subscriptions.
    pub subscriptions: Arc<SubscriptionRegistry>,
    /// The records of sends.
    pub sends: Arc<SendLog>,
    /// The bridge keys.
    pub keys: Arc<KeyRegistry>,
    /// Calls with idempotency keys.
    pub idempotency: Idempotency,
    /// Carries sends that are on disk before they leave.
    pub outbox: Outbox,
    /// The incoming hooks.
    pub hooks: Arc<HookRegistry>,
    /// Fills the templates of incoming hooks.
    pub renderer: Renderer,
    /// How far named consumers have come.
    pub consumers: Arc<ConsumerRegistry>,
    /// The answers of receivers.
    pub replies: Replies,
    /// Takes test events, and gives events to who pulls them.
    pub event_log: Arc<EventLog>,
    /// The store, for reading deliveries.
    pub engine: Arc<dyn Engine>,
    /// Makes deliveries again.
    pub recovery: Recovery,
    /// The upstream's REST API.
    pub rest: RestClient,
    /// The upstream's storage of files.
    pub storage: StorageClient,
    /// Where files wait until they are in Spaces.
    pub spool: Spool,
    /// Which targets webhooks may have.
    pub address_guard: Arc<AddressGuard>,
    /// Asks receivers for their permission.
    pub receivers: Arc<WebhookClient>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether the service is ready.
    pub readiness: Arc<Readiness>,
    /// Runs what must not end because its caller went away; the owner waits for it when it stops.
    pub tasks: TaskTracker,
    /// How the API behaves.
    pub settings: HttpSettings,
}

/// The parts and what the HTTP API itself keeps. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

struct Inner {
    parts: AppParts,
    internals: Internals,
}

/// What the HTTP API itself keeps.
pub(super) struct Internals {
    pub(super) sanitizer: Sanitizer,
    pub(super) direct_spaces: DirectSpaces,
    pub(super) users_by_email: UsersByEmail,
    pub(super) recent_sends: RecentSends,
    pub(super) request_ids: RequestIds,
    pub(super) in_flight: Semaphore,
    /// Bounds the calls that send or get files.
    pub(super) transfers: Arc<Semaphore>,
    pub(super) listeners: Arc<Listeners>,
    /// The `OpenAPI` document.
    pub(super) openapi: Bytes,
}

impl std::fmt::Debug for AppState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AppState").finish_non_exhaustive()
    }
}

impl AppState {
    /// The state of an API on top of `parts`.
    pub fn new(parts: AppParts) -> Self {
        let internals = Internals {
            sanitizer: Sanitizer::new(),
            direct_spaces: DirectSpaces::new(parts.settings.direct_ttl),
            users_by_email: UsersByEmail::new(parts.settings.direct_ttl),
            recent_sends: RecentSends::default(),
            request_ids: RequestIds::random(),
            transfers: Arc::new(Semaphore::new(parts.settings.files.max_transfers.min(Semaphore::MAX_PERMITS))),
            in_flight: Semaphore::new(parts.settings.max_in_flight.min(Semaphore::MAX_PERMITS)),
            listeners: Arc::new(Listeners::new(parts.metrics.listeners.clone())),
            openapi: super::openapi_json().into(),
        };
        Self(Arc::new(Inner { parts, internals }))
    }

    pub(super) fn internals(&self) -> &Internals {
        &self.0.internals
    }

    /// `error`, which says that something is not there; while the service is starting, that it may come yet.
    pub(super) fn once_ready(&self, error: ApiError) -> ApiError {
        match self.readiness.get() {
            ReadyState::Starting => ApiError::NotReady("it is starting"),
            ReadyState::Ready | ReadyState::Stopping => error,
        }
    }

    /// Carries out `work` that takes a while without waiting for anything, apart from what serves other requests.
    pub(super) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        tokio::task::spawn_blocking(work).await.map_err(|error| ApiError::Internal(error.to_string()))
    }

    /// Carries `work` out to its end, also if the caller goes away or the request's time is up: what a change begins it finishes.
    pub(super) async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
    ) -> Result<T, ApiError> {
        use tracing::Instrument as _;
        match self.tasks.spawn(work.in_current_span()).await {
            Ok(result) => result,
            Err(error) => Err(ApiError::Internal(error.to_string())),
        }
    }
}

impl Deref for AppState {
    type Target = AppParts;

    fn deref(&self) -> &AppParts {
        &self.0.parts
    }
}
