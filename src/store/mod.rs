//! The store's contract: one [`Engine`] that keeps the event log, the deliveries, the ownership of sessions and small documents.
//!
//! Everything outside this module sees the trait only; [`crate::app`] alone names a back end. Promises that every back end keeps
//! and that one conformance suite checks:
//! - a mutating call returns only when its effect is durable;
//! - all times are the engine's clock;
//! - everything is batch-shaped, because a commit costs a disk flush however much it carries;
//! - [`Engine::hints`] may lose everything: the truth is a poll by [`Engine::next_due`].

mod document;
mod embedded;
mod memory;
mod query;
mod rate;
mod work;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

pub use document::{DocKind, DocList, DocWrite, Document, Expected, Flow, FlowLimits, PutOutcome, Rate, Version};
pub use embedded::{EmbeddedSettings, EmbeddedStore};
pub use memory::MemoryStore;
pub use query::{Cursor, DeliveryFilter, EventFilter, FlowStatus, Page, Query, Rows, StateFilter, StoredEvent};
pub(crate) use rate::TokenBucket;
pub use work::{
    Appended, Claim, ClaimRequest, ClaimedEvent, Hold, Lane, NewEvent, ReplayItem, Requeue, RequeueMode, Requeued, Settled,
    Settlement, Target, Verdict,
};

use crate::domain::{SessionId, Timestamp};

/// A result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Any error, kept as the cause of another.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong in the store. Nothing that failed had any effect.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full or the file may grow no further.
    #[error("the store has no space left to {operation}")]
    Full {
        /// What was to be done.
        operation: &'static str,
        /// The back end's word.
        #[source]
        source: BoxError,
    },
    /// The back end failed otherwise; a later try may succeed.
    #[error("the store failed to {operation}")]
    Failed {
        /// What was to be done.
        operation: &'static str,
        /// The back end's word.
        #[source]
        source: BoxError,
    },
    /// Another process owns the store.
    #[error("the store at `{place}` is in use by another process")]
    InUse {
        /// Where the store is.
        place: String,
    },
    /// The store was written by a newer version.
    #[error("the store has schema version {found}, and this version knows {known} at most")]
    TooNew {
        /// The version found.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

/// A process that works on the store. Never the same number twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub i64);

/// A membership in the store, valid for a time and extended by heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The member's number.
    pub incarnation: Incarnation,
    /// Until when it counts as alive, on the engine's clock.
    pub valid_until: Timestamp,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heartbeat {
    /// The membership is valid until then.
    Alive(Timestamp),
    /// The member is gone for good; stop at once.
    Gone,
}

/// Which sessions to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// This one, known to the store or not, if no live member owns it.
    Session(SessionId),
    /// Up to so many of those with a stored token that no live member owns.
    Stored(usize),
}

/// A session owned by a member: the right to write its events while the epoch is current.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ownership {
    /// The session.
    pub session: SessionId,
    /// Grows by one with each change of owner.
    pub epoch: i64,
}

/// Who owns a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The owner's address for forwarded calls.
    pub address: String,
    /// The owner's number.
    pub incarnation: Incarnation,
    /// The ownership's epoch.
    pub epoch: i64,
    /// Whether the owner's membership is still valid.
    pub live: bool,
}

/// The right under which events are written; refused once another member has taken the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The writer.
    pub incarnation: Incarnation,
    /// What it owns.
    pub ownership: Ownership,
}

/// How much one round of [`Engine::maintain`] may do and what may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maintenance {
    /// Events appended before this go, with their settled deliveries; an event with an open delivery stays.
    pub events_before: Option<Timestamp>,
    /// While the store's content takes more bytes than this, the oldest events go as well.
    pub bytes_above: Option<u64>,
    /// Most events and documents removed in this round, each event with all that hangs on it.
    pub budget: usize,
}

/// What one round of maintenance did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Events removed.
    pub events: usize,
    /// Documents removed because they had expired.
    pub documents: usize,
    /// Whether there is more of the same to do.
    pub more: bool,
    /// Bytes that the store's content takes; space that is free for reuse does not count.
    pub bytes: u64,
}

/// The store. See the [module](self) for what all methods promise.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Makes this process a member, reachable at `address`, for `ttl`. The embedded back end has one member at a time: joining
    /// ends the memberships before it and gives back what they had claimed.
    async fn join(&self, address: &str, ttl: Duration) -> Result<Member>;

    /// Extends the membership by its `ttl`; revives an expired one whose row still exists. A member that is gone gets nothing from
    /// [`Self::acquire`] and [`Self::claim`].
    async fn heartbeat(&self, incarnation: Incarnation) -> Result<Heartbeat>;

    /// Ends the membership and frees all its sessions and claims at once. The attempts of those claims are logged as unknown.
    async fn leave(&self, incarnation: Incarnation) -> Result<()>;

    /// Takes sessions that are unowned or whose owner is no longer live, raising their epoch by one. A session that the caller
    /// owns already comes back with its present epoch when it is named. Two callers never get the same session and epoch.
    async fn acquire(&self, incarnation: Incarnation, wanted: Wanted) -> Result<Vec<Ownership>>;

    /// Gives sessions back, where the epoch is still current. Answers how many were.
    async fn release(&self, incarnation: Incarnation, ownerships: &[Ownership]) -> Result<usize>;

    /// Who owns `session`, if anyone does.
    async fn owner(&self, session: &SessionId) -> Result<Option<Owner>>;

    /// Writes events with their deliveries in one transaction: all or none. An event whose id is known already is a no-op, and
    /// so are its targets. A delivery for a webhook whose flow has ended is dead from the start.
    async fn append(&self, fence: Fence, events: Vec<NewEvent>) -> Result<Appended>;

    /// Takes due deliveries of webhooks that are neither paused nor held, as far as their rates allow. At most one live claim per
    /// delivery, at most [`ClaimRequest::per_webhook`] per webhook, one of a webhook that is probed, and of an ordered lane only its
    /// head. A claim that expired comes back with the
    /// attempt counted and logged as unknown.
    ///
    /// Webhooks take turns: the one that has gone longest without giving a delivery gives the next. The deliveries of one webhook
    /// leave in the order of their due times.
    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>>;

    /// Ends claims. Each is conditional on its claim number; the attempt's log row is written in the same transaction. A claim
    /// whose time is over can still be settled until [`Self::claim`] takes it back. What would wait again for a webhook whose flow
    /// has ended meanwhile is dead.
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>>;

    /// The earliest time at which [`Self::claim`] may have something to give: a due delivery of an unpaused webhook or the expiry
    /// of a claim. A past time means now. A webhook that is at the limit of the latest claim request gives nothing until one of
    /// its claims ends.
    async fn next_due(&self) -> Result<Option<Timestamp>>;

    /// Makes deliveries due again or makes new ones from the log, up to a limit, resumable. Nothing for a webhook whose flow has
    /// ended.
    async fn requeue(&self, request: Requeue) -> Result<Requeued>;

    /// Reads events, deliveries or attempts in pages that stay stable while rows are added.
    async fn query(&self, query: Query) -> Result<Page>;

    /// Writes documents in one transaction: all, or none and the index of the first whose expectation did not hold.
    async fn doc_put(&self, writes: Vec<DocWrite>) -> Result<PutOutcome>;

    /// Reads one document that has not expired.
    async fn doc_get(&self, kind: DocKind, id: &str) -> Result<Option<Document>>;

    /// Reads documents of a kind in the order of their ids.
    async fn doc_list(&self, list: DocList) -> Result<Vec<Document>>;

    /// Removes what is old, in a bounded batch, and tells the space used. Safe at any time.
    async fn maintain(&self, maintenance: Maintenance) -> Result<Maintained>;

    /// A number that grows when there may be new work. It may stay silent: a hint, never the truth.
    fn hints(&self) -> watch::Receiver<u64>;
}
