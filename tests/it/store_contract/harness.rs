//! A store under test, its clock, and short ways to say what the tests say often.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use spaces_bridge::domain::{
    AccountId, Attempt, AttemptOutcome, Clock, DeadReason, Delivery, DeliveryId, DeliveryState, ErrorClass, EventId, EventType,
    SessionId, SpaceId, Timestamp, WebhookId,
};
use spaces_bridge::store::{
    Appended, Claim, ClaimRequest, DocKind, DocWrite, EmbeddedSettings, EmbeddedStore, Engine, Expected, Fence, Flow,
    Incarnation, Lane, Member, MemoryStore, NewEvent, Ownership, Query, Rows, Settled, Settlement, Target, Verdict, Wanted,
};
use tempfile::TempDir;

/// A clock that stands still until it is turned.
pub(crate) struct ManualClock(AtomicI64);

impl ManualClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(1_900_000_000_000)))
    }

    pub(crate) fn turn(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// How long memberships last here.
pub(crate) const TTL: Duration = Duration::from_secs(15);

/// How long claims hold here.
pub(crate) const LEASE: Duration = Duration::from_mins(1);

/// A store with one member that owns one session.
pub(crate) struct Store {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) member: Member,
    pub(crate) fence: Fence,
    _directory: Option<TempDir>,
}

impl Store {
    pub(crate) async fn memory() -> Self {
        let clock = ManualClock::new();
        Self::over(Arc::new(MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>)), clock, None).await
    }

    pub(crate) async fn embedded() -> Self {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let clock = ManualClock::new();
        let engine = open(&directory, &clock);
        Self::over(Arc::new(engine), clock, Some(directory)).await
    }

    async fn over(engine: Arc<dyn Engine>, clock: Arc<ManualClock>, directory: Option<TempDir>) -> Self {
        let member = engine.join("http://one.internal", TTL).await.expect("joining works");
        let fence = fence(&*engine, member.incarnation).await;
        Self { engine, clock, member, fence, _directory: directory }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) async fn append(&self, events: Vec<NewEvent>) -> Vec<bool> {
        match self.engine.append(self.fence.clone(), events).await.expect("appending works") {
            Appended::Durable(news) => news,
            Appended::Fenced => panic!("the fence holds"),
        }
    }

    pub(crate) async fn claim(&self, max: usize) -> Vec<Claim> {
        self.claim_with(max, 8).await
    }

    pub(crate) async fn claim_with(&self, max: usize, per_webhook: usize) -> Vec<Claim> {
        let mut claims = self.engine.claim(request(self.member.incarnation, max, per_webhook)).await.expect("claiming works");
        claims.sort_by_key(|claim| claim.delivery);
        claims
    }

    pub(crate) async fn claim_one(&self) -> Claim {
        let mut claims = self.claim(1).await;
        claims.pop().expect("a delivery is due")
    }

    pub(crate) async fn settle(&self, claim: &Claim, verdict: Verdict) -> Settled {
        self.settle_all(&[settlement(claim, verdict)]).await[0]
    }

    pub(crate) async fn settle_all(&self, settlements: &[Settlement]) -> Vec<Settled> {
        self.engine.settle(settlements.to_vec()).await.expect("settling works")
    }

    pub(crate) async fn set_flow(&self, hook: &str, flow: Flow) {
        let write = DocWrite { flow: Some((webhook(hook), flow)), ..document(DocKind::Webhook, hook, "") };
        self.engine.doc_put(vec![write]).await.expect("writing works");
    }

    pub(crate) async fn delivery(&self, id: DeliveryId) -> Delivery {
        let page = self.engine.query(Query::Delivery(id)).await.expect("reading works");
        let Rows::Deliveries(mut rows) = page.rows else { panic!("deliveries were asked for") };
        rows.pop().expect("the delivery exists")
    }

    pub(crate) async fn state(&self, id: DeliveryId) -> DeliveryState {
        self.delivery(id).await.state
    }

    pub(crate) async fn attempts(&self, id: DeliveryId) -> Vec<Attempt> {
        let page = self.engine.query(Query::Attempts(id)).await.expect("reading works");
        let Rows::Attempts(rows) = page.rows else { panic!("attempts were asked for") };
        rows
    }

    /// Attempts and kills the delivery at hand.
    pub(crate) async fn kill_one(&self) -> Claim {
        let claim = self.claim_one().await;
        assert!(self.settle(&claim, Verdict::Dead(DeadReason::Exhausted)).await.counted());
        claim
    }
}

pub(crate) fn open(directory: &TempDir, clock: &Arc<ManualClock>) -> EmbeddedStore {
    let settings = EmbeddedSettings::new(directory.path().join("data"));
    EmbeddedStore::open(settings, Arc::clone(clock) as Arc<dyn Clock>).expect("the store opens")
}

/// The right of `incarnation` to write for the session of the tests.
pub(crate) async fn fence(engine: &dyn Engine, incarnation: Incarnation) -> Fence {
    let mut taken = engine.acquire(incarnation, Wanted::Session(session("main"))).await.expect("acquiring works");
    Fence { incarnation, ownership: taken.pop().expect("the session is free") }
}

pub(crate) fn request(incarnation: Incarnation, max: usize, per_webhook: usize) -> ClaimRequest {
    ClaimRequest { incarnation, max, per_webhook, lease: LEASE }
}

pub(crate) fn session(name: &str) -> SessionId {
    format!("ses_{name}").parse().expect("an id")
}

pub(crate) fn webhook(name: &str) -> WebhookId {
    format!("wh_{name}").parse().expect("an id")
}

pub(crate) fn space(name: &str) -> SpaceId {
    name.parse().expect("an id")
}

pub(crate) fn account(name: &str) -> AccountId {
    format!("acc_{name}").parse().expect("an id")
}

pub(crate) fn event_id(number: u32) -> EventId {
    format!("evt_{number}").parse().expect("an id")
}

/// Event `number` in space `general` of account `ada`, for nobody.
pub(crate) fn event(number: u32) -> NewEvent {
    NewEvent {
        id: event_id(number),
        account: account("ada"),
        space: space("general"),
        event_type: EventType::MESSAGE_CREATED,
        occurred_at: Timestamp::from_millis(1_899_999_999_000),
        body: Bytes::from(format!("{{\"number\":{number}}}")),
        targets: Vec::new(),
    }
}

/// The same for the parallel lane of `hook`.
pub(crate) fn event_for(number: u32, hook: &str) -> NewEvent {
    NewEvent { targets: vec![Target { webhook: webhook(hook), lane: Lane::Parallel }], ..event(number) }
}

/// The same for the ordered lane of `in_space` of `hook`.
pub(crate) fn ordered_event(number: u32, hook: &str, in_space: &str) -> NewEvent {
    let target = Target { webhook: webhook(hook), lane: Lane::Ordered(space(in_space)) };
    NewEvent { space: space(in_space), targets: vec![target], ..event(number) }
}

pub(crate) fn settlement(claim: &Claim, verdict: Verdict) -> Settlement {
    let outcome = match verdict {
        Verdict::Delivered => outcome(204, None),
        Verdict::Retry(_) | Verdict::Dead(_) => outcome(500, Some(ErrorClass::Http)),
    };
    Settlement { delivery: claim.delivery, claim_no: claim.claim_no, verdict, outcome, hold: None }
}

pub(crate) fn outcome(status: u16, error: Option<ErrorClass>) -> AttemptOutcome {
    AttemptOutcome {
        duration_ms: Some(12),
        status: Some(status),
        error,
        detail: error.map(|_| "the receiver failed".to_owned()),
        response: Some(b"body".to_vec()),
    }
}

pub(crate) fn document(kind: DocKind, id: &str, body: &str) -> DocWrite {
    DocWrite {
        kind,
        id: id.to_owned(),
        account: None,
        body: Some(Bytes::from(body.to_owned())),
        expected: Expected::Any,
        expires_at: None,
        flow: None,
    }
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn ownership(name: &str, epoch: i64) -> Ownership {
    Ownership { session: session(name), epoch }
}
