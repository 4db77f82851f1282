//! The store as a plain model in memory: the oracle of the conformance suite, and the store of other modules' unit tests.
//!
//! It keeps rows in ordered maps and finds things by looking at all of them, so that each rule of the contract can be read off
//! the code. Nothing survives the process.

mod documents;
mod log;
mod ownership;
mod work;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::rate::TokenBucket;
use super::{
    Appended, Claim, ClaimRequest, DocKind, DocList, DocWrite, Document, Engine, Fence, Heartbeat, Incarnation, Lane, Maintained,
    Maintenance, Member, NewEvent, Owner, Ownership, Page, PutOutcome, Query, Requeue, Requeued, Result, Settled, Settlement,
    StoredEvent, Wanted,
};
use crate::domain::{Attempt, Clock, DeliveryState, SessionId, Timestamp, WebhookId};

/// The in-memory store.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    hints: watch::Sender<u64>,
}

impl MemoryStore {
    /// An empty store on `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default(), hints: watch::Sender::new(0) }
    }

    fn with<T>(&self, operation: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let mut state = self.state.lock().expect("no operation of the model panics half-way");
        operation(&mut state, self.clock.now())
    }

    fn hint(&self, made_work: bool) {
        if made_work {
            self.hints.send_modify(|number| *number += 1);
        }
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

/// Everything that the store knows.
#[derive(Default)]
struct State {
    members: BTreeMap<Incarnation, MemberRow>,
    last_incarnation: i64,
    sessions: BTreeMap<SessionId, SessionRow>,
    events: BTreeMap<i64, StoredEvent>,
    last_event: i64,
    deliveries: BTreeMap<i64, DeliveryRow>,
    last_delivery: i64,
    attempts: BTreeMap<i64, Vec<Attempt>>,
    webhooks: BTreeMap<WebhookId, WebhookRow>,
    last_turn: u64,
    /// The limit that the last claim came with, by which [`Engine::next_due`] tells whether a webhook can give anything.
    per_webhook: Option<usize>,
    documents: BTreeMap<(DocKind, String), Document>,
}

struct MemberRow {
    address: String,
    ttl: Duration,
    valid_until: Timestamp,
}

#[derive(Default)]
struct SessionRow {
    owner: Option<Incarnation>,
    epoch: i64,
}

struct DeliveryRow {
    webhook: WebhookId,
    lane: Lane,
    event: i64,
    state: DeliveryState,
    attempts: u32,
    claim_no: i64,
    claimed_at: Timestamp,
    claimed_by: Option<Incarnation>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// Before all times.
const NOT_HELD: Timestamp = Timestamp::from_millis(i64::MIN);

/// Where a webhook's flow stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Open,
    Paused,
    Ended,
}

struct WebhookRow {
    flow: Standing,
    bucket: TokenBucket,
    held_until: Timestamp,
    probing: bool,
    failing_since: Option<Timestamp>,
    /// When it gave its last delivery, counted in claims; the smallest is next.
    turn: u64,
}

impl WebhookRow {
    /// Most claims at a time if `per_webhook` are allowed otherwise.
    fn limit(&self, per_webhook: usize) -> usize {
        if self.probing { per_webhook.min(1) } else { per_webhook }
    }
}

impl Default for WebhookRow {
    fn default() -> Self {
        Self {
            flow: Standing::Open,
            bucket: TokenBucket::default(),
            held_until: NOT_HELD,
            probing: false,
            failing_since: None,
            turn: 0,
        }
    }
}

#[async_trait]
impl Engine for MemoryStore {
    async fn join(&self, address: &str, ttl: Duration) -> Result<Member> {
        let member = self.with(|state, now| state.join(address, ttl, now));
        self.hint(true);
        Ok(member)
    }

    async fn heartbeat(&self, incarnation: Incarnation) -> Result<Heartbeat> {
        Ok(self.with(|state, now| state.heartbeat(incarnation, now)))
    }

    async fn leave(&self, incarnation: Incarnation) -> Result<()> {
        self.with(|state, now| state.leave(incarnation, now));
        self.hint(true);
        Ok(())
    }

    async fn acquire(&self, incarnation: Incarnation, wanted: Wanted) -> Result<Vec<Ownership>> {
        Ok(self.with(|state, now| state.acquire(incarnation, wanted, now)))
    }

    async fn release(&self, incarnation: Incarnation, ownerships: &[Ownership]) -> Result<usize> {
        Ok(self.with(|state, _| state.release(incarnation, ownerships)))
    }

    async fn owner(&self, session: &SessionId) -> Result<Option<Owner>> {
        Ok(self.with(|state, now| state.owner(session, now)))
    }

    async fn append(&self, fence: Fence, events: Vec<NewEvent>) -> Result<Appended> {
        let appended = self.with(|state, now| state.append(&fence, events, now));
        self.hint(appended != Appended::Fenced);
        Ok(appended)
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>> {
        Ok(self.with(|state, now| state.claim(request, now)))
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>> {
        Ok(self.with(|state, now| settlements.into_iter().map(|settlement| state.settle(settlement, now)).collect()))
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        Ok(self.with(|state, _| state.next_due()))
    }

    async fn requeue(&self, request: Requeue) -> Result<Requeued> {
        let requeued = self.with(|state, now| state.requeue(&request, now));
        self.hint(requeued.count > 0);
        Ok(requeued)
    }

    async fn query(&self, query: Query) -> Result<Page> {
        Ok(self.with(|state, _| state.query(&query)))
    }

    async fn doc_put(&self, writes: Vec<DocWrite>) -> Result<PutOutcome> {
        let touches_flow = writes.iter().any(|write| write.flow.is_some());
        let outcome = self.with(|state, now| state.doc_put(&writes, now));
        self.hint(touches_flow);
        Ok(outcome)
    }

    async fn doc_get(&self, kind: DocKind, id: &str) -> Result<Option<Document>> {
        Ok(self.with(|state, now| state.doc_get(kind, id, now)))
    }

    async fn doc_list(&self, list: DocList) -> Result<Vec<Document>> {
        Ok(self.with(|state, now| state.doc_list(&list, now)))
    }

    async fn maintain(&self, maintenance: Maintenance) -> Result<Maintained> {
        Ok(self.with(|state, now| state.maintain(maintenance, now)))
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.subscribe()
    }
}
