//! The parts of delivery put together around a store and a clock.

use std::sync::Arc;
use std::time::Duration;

use spaces_bridge::delivery::{
    AddressGuard, AllowList, DeliveryDispatcher, DeliveryParts, DeliverySettings, SystemResolver, WebhookClient,
};
use spaces_bridge::domain::{
    AccountId, Attempt, Clock, Delivery, DeliveryState, EventId, EventType, Ordering, Secret, SessionId, SpaceSelector,
    Timestamp, Webhook,
};
use spaces_bridge::event_log::{EventLog, Logged, LoggedEvent};
use spaces_bridge::metrics::Metrics;
use spaces_bridge::seal::Keyring;
use spaces_bridge::store::{
    DeliveryFilter, EmbeddedSettings, EmbeddedStore, Engine, Fence, FlowStatus, MemoryStore, Query, Rows, Wanted,
};
use spaces_bridge::webhooks::{NewWebhook, WebhookRegistry, WebhookUrl};
use tempfile::TempDir;

use crate::support::clock::ManualClock;
use crate::support::wait::eventually;
use crate::support::watched_engine::WatchedEngine;

/// What outlives a restart of the service.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) clock: Arc<ManualClock>,
    keyring: Arc<Keyring>,
    directory: Option<Arc<TempDir>>,
}

impl Disk {
    /// The in-memory store.
    pub(super) fn new() -> Self {
        let clock = Arc::new(ManualClock::new());
        let engine = Arc::new(MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>));
        Self { engine, clock, keyring: Arc::new(Keyring::random()), directory: None }
    }

    /// The embedded store, in files.
    pub(super) fn embedded() -> Self {
        let (clock, directory) = (Arc::new(ManualClock::new()), Arc::new(TempDir::new().expect("a directory")));
        let engine = open(&directory, &clock);
        Self { engine, clock, keyring: Arc::new(Keyring::random()), directory: Some(directory) }
    }

    /// A store whose writes fail on demand, and that counts how often it is asked for work.
    pub(super) fn watched() -> (Self, Arc<WatchedEngine>) {
        let disk = Self::new();
        let engine = Arc::new(WatchedEngine::new(Arc::clone(&disk.engine)));
        (Self { engine: Arc::clone(&engine) as Arc<dyn Engine>, ..disk }, engine)
    }

    /// The same files opened by a new process, as it were.
    pub(super) fn reopened(self) -> Self {
        let Self { engine, clock, keyring, directory } = self;
        drop(engine);
        let engine = open(directory.as_ref().expect("only files can be opened again"), &clock);
        Self { engine, clock, keyring, directory }
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as Arc<dyn Clock>
    }
}

fn open(directory: &TempDir, clock: &Arc<ManualClock>) -> Arc<dyn Engine> {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Arc::new(EmbeddedStore::open(EmbeddedSettings::new(directory.path()), clock).expect("the store opens"))
}

/// A running service as far as delivery goes.
pub(super) struct Rig {
    pub(super) disk: Disk,
    pub(super) webhooks: Arc<WebhookRegistry>,
    pub(super) log: Arc<EventLog>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) account: AccountId,
    pub(super) fence: Fence,
    dispatcher: DeliveryDispatcher,
}

/// Settings under which nothing needs long.
pub(super) fn settings() -> DeliverySettings {
    DeliverySettings { poll_interval: Duration::from_millis(5), ..DeliverySettings::default() }
}

/// A guard that opens loopback.
pub(super) fn guard() -> Arc<AddressGuard> {
    Arc::new(AddressGuard::new(AllowList::new(vec!["127.0.0.0/8".parse().expect("a network")]), Vec::new()))
}

/// A webhook at `url` with nothing special about it.
pub(super) fn new_webhook(url: &str) -> NewWebhook {
    NewWebhook::to(WebhookUrl::parse(url, &guard()).expect("an allowed URL"))
}

/// A TLS configuration that trusts `roots` only.
pub(super) fn tls(roots: rustls::RootCertStore) -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("TLS versions");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

impl Rig {
    /// Starts a service on `disk`.
    pub(super) async fn start(disk: &Disk, settings: DeliverySettings) -> Self {
        let engine = Arc::clone(&disk.engine);
        let member = engine.join("127.0.0.1:1", Duration::from_secs(15)).await.expect("joined");
        let session: SessionId = "ses_1".parse().expect("an id");
        let owned = engine.acquire(member.incarnation, Wanted::Session(session)).await.expect("acquired");
        let ownership = owned.into_iter().next().expect("nobody else owns the session");
        let fence = Fence { incarnation: member.incarnation, ownership };
        let registry = WebhookRegistry::load(Arc::clone(&engine), Arc::clone(&disk.keyring), disk.clock()).await;
        let (webhooks, metrics) = (Arc::new(registry.expect("loaded")), Arc::new(Metrics::new()));
        let log =
            EventLog::new(Arc::clone(&engine), member.incarnation, Arc::clone(&webhooks), disk.clock(), Arc::clone(&metrics));
        let log = Arc::new(log);
        let tls = tls(rustls::RootCertStore::empty());
        let client = Arc::new(WebhookClient::new(settings.client(), guard(), Arc::new(SystemResolver), tls));
        let parts = DeliveryParts {
            engine,
            incarnation: fence.incarnation,
            webhooks: Arc::clone(&webhooks),
            event_log: Arc::clone(&log),
            client,
            replies: None,
            clock: disk.clock(),
            metrics: Arc::clone(&metrics),
        };
        let dispatcher = DeliveryDispatcher::spawn(parts, settings);
        let account = "acc_1".parse().expect("an id");
        Self { disk: disk.clone(), webhooks, log, metrics, account, fence, dispatcher }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.disk.clock.now()
    }

    /// Stops the service in good order.
    pub(super) async fn stop(self, grace: Duration) {
        self.dispatcher.shutdown(grace).await;
    }

    pub(super) async fn webhook(&self, url: &str) -> (Arc<Webhook>, Secret) {
        self.webhook_with(url, Ordering::Parallel).await
    }

    pub(super) async fn webhook_with(&self, url: &str, ordering: Ordering) -> (Arc<Webhook>, Secret) {
        self.webhook_of(NewWebhook { spaces: vec![SpaceSelector::All], ordering, ..new_webhook(url) }).await
    }

    pub(super) async fn webhook_of(&self, new: NewWebhook) -> (Arc<Webhook>, Secret) {
        self.webhooks.create(self.account.clone(), new).await.expect("created")
    }

    /// Appends the event number `number`.
    pub(super) async fn append(&self, number: u32) {
        let logged = self.log.append(self.fence.clone(), vec![self.event(number)]).await.expect("appended");
        assert_eq!(logged, Logged::Durable);
    }

    /// Appends the event number `number` in `space`.
    pub(super) async fn append_in(&self, number: u32, space: &str) {
        let event = LoggedEvent { space: space.parse().expect("an id"), ..self.event(number) };
        let logged = self.log.append(self.fence.clone(), vec![event]).await.expect("appended");
        assert_eq!(logged, Logged::Durable);
    }

    pub(super) fn event(&self, number: u32) -> LoggedEvent {
        LoggedEvent {
            id: event_id(number),
            account: self.account.clone(),
            space: "space1".parse().expect("an id"),
            direct: false,
            own: false,
            event_type: EventType::MESSAGE_CREATED,
            occurred_at: self.disk.clock.now(),
            body: body(number).into(),
        }
    }

    /// The deliveries of `webhook`, oldest first.
    pub(super) async fn deliveries(&self, webhook: &Webhook) -> Vec<Delivery> {
        let filter = DeliveryFilter::of(webhook.id.clone());
        let query = Query::Deliveries { filter, cursor: None, limit: 10_000 };
        let Rows::Deliveries(mut rows) = self.disk.engine.query(query).await.expect("read").rows else { panic!("other rows") };
        rows.reverse();
        rows
    }

    pub(super) async fn attempts(&self, delivery: &Delivery) -> Vec<Attempt> {
        let page = self.disk.engine.query(Query::Attempts(delivery.id)).await.expect("read");
        let Rows::Attempts(rows) = page.rows else { panic!("other rows") };
        rows
    }

    /// Waits until the only delivery of `webhook` has ended its attempt number `attempt`, and gives it.
    pub(super) async fn after_attempt(&self, webhook: &Webhook, attempt: u32) -> Delivery {
        eventually(&format!("the end of attempt {attempt}"), async || {
            let delivery = self.deliveries(webhook).await.into_iter().next()?;
            let ended = !matches!(delivery.state, DeliveryState::InFlight(_));
            (ended && delivery.attempts == attempt).then_some(delivery)
        })
        .await
    }

    /// How the flow of `webhook` stands.
    pub(super) async fn flow(&self, webhook: &Webhook) -> FlowStatus {
        let page = self.disk.engine.query(Query::Flow(webhook.id.clone())).await.expect("read");
        let Rows::Flows(flows) = page.rows else { panic!("other rows") };
        flows.into_iter().next().expect("the webhook has a flow")
    }

    /// Waits until nothing is under way and nothing is due, and gives the time of the next.
    pub(super) async fn quiet(&self) -> Option<Timestamp> {
        eventually("a quiet moment", async || {
            let is_later = |next: Option<Timestamp>| next.is_none_or(|next| next > self.now());
            // Nothing is due, so what is under way is all that can be; and with its end the next time may have changed.
            if !is_later(self.disk.engine.next_due().await.expect("asked")) {
                return None;
            }
            let Rows::Depths { in_flight, .. } = self.disk.engine.query(Query::Depths).await.expect("read").rows else {
                panic!("other rows")
            };
            let next = self.disk.engine.next_due().await.expect("asked");
            (in_flight == 0 && is_later(next)).then_some(next)
        })
        .await
    }

    /// Whether this line stands among the metrics.
    pub(super) fn metric(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|found| found == line)
    }

    /// Waits until `count` deliveries of `webhook` satisfy `wanted`.
    pub(super) async fn until(&self, webhook: &Webhook, count: usize, wanted: impl Fn(DeliveryState) -> bool) {
        eventually(&format!("{count} deliveries in the state waited for"), async || {
            let deliveries = self.deliveries(webhook).await;
            (deliveries.iter().filter(|delivery| wanted(delivery.state)).count() == count).then_some(())
        })
        .await;
    }
}

pub(super) fn event_id(number: u32) -> EventId {
    format!("evt_{number}").parse().expect("an id")
}

pub(super) fn body(number: u32) -> String {
    format!(r#"{{"type":"message.created","timestamp":"2031-03-14T09:26:53.589Z","data":{{"text":"Grüße 👋 {number}"}}}}"#)
}
