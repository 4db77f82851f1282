//! A store whose writes fail while they are told to, and that counts how often it is asked for work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use spaces_bridge::domain::{SessionId, Timestamp};
use spaces_bridge::store::{
    Appended, Claim, ClaimRequest, DocKind, DocList, DocWrite, Document, Engine, Fence, Heartbeat, Incarnation, Maintained,
    Maintenance, Member, NewEvent, Owner, Ownership, Page, PutOutcome, Query, Requeue, Requeued, Result, Settled, Settlement,
    StoreError, Wanted,
};
use tokio::sync::watch;

/// Passes everything on, except that appending, claiming and settling fail as on a full disk while [`Self::fail`] says so. Counts
/// looks for due deliveries.
pub(crate) struct WatchedEngine {
    inner: Arc<dyn Engine>,
    failing: AtomicBool,
    failures: AtomicUsize,
    looks: AtomicUsize,
}

impl WatchedEngine {
    pub(crate) fn new(inner: Arc<dyn Engine>) -> Self {
        Self { inner, failing: AtomicBool::new(false), failures: AtomicUsize::new(0), looks: AtomicUsize::new(0) }
    }

    pub(crate) fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    /// How many calls have failed.
    pub(crate) fn failures(&self) -> usize {
        self.failures.load(Ordering::SeqCst)
    }

    /// How many claims and questions for the next due time there were.
    pub(crate) fn looks(&self) -> usize {
        self.looks.load(Ordering::SeqCst)
    }

    fn look(&self) {
        self.looks.fetch_add(1, Ordering::SeqCst);
    }

    fn check(&self, operation: &'static str) -> Result<()> {
        if !self.failing.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.failures.fetch_add(1, Ordering::SeqCst);
        Err(StoreError::Full { operation, source: "no space left on device".into() })
    }
}

#[async_trait]
impl Engine for WatchedEngine {
    async fn join(&self, address: &str, ttl: Duration) -> Result<Member> {
        self.inner.join(address, ttl).await
    }

    async fn heartbeat(&self, incarnation: Incarnation) -> Result<Heartbeat> {
        self.inner.heartbeat(incarnation).await
    }

    async fn leave(&self, incarnation: Incarnation) -> Result<()> {
        self.inner.leave(incarnation).await
    }

    async fn acquire(&self, incarnation: Incarnation, wanted: Wanted) -> Result<Vec<Ownership>> {
        self.inner.acquire(incarnation, wanted).await
    }

    async fn release(&self, incarnation: Incarnation, ownerships: &[Ownership]) -> Result<usize> {
        self.inner.release(incarnation, ownerships).await
    }

    async fn owner(&self, session: &SessionId) -> Result<Option<Owner>> {
        self.inner.owner(session).await
    }

    async fn append(&self, fence: Fence, events: Vec<NewEvent>) -> Result<Appended> {
        self.check("append events")?;
        self.inner.append(fence, events).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>> {
        self.look();
        self.check("claim deliveries")?;
        self.inner.claim(request).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>> {
        self.check("settle deliveries")?;
        self.inner.settle(settlements).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.look();
        self.inner.next_due().await
    }

    async fn requeue(&self, request: Requeue) -> Result<Requeued> {
        self.inner.requeue(request).await
    }

    async fn query(&self, query: Query) -> Result<Page> {
        self.inner.query(query).await
    }

    async fn doc_put(&self, writes: Vec<DocWrite>) -> Result<PutOutcome> {
        self.inner.doc_put(writes).await
    }

    async fn doc_get(&self, kind: DocKind, id: &str) -> Result<Option<Document>> {
        self.inner.doc_get(kind, id).await
    }

    async fn doc_list(&self, list: DocList) -> Result<Vec<Document>> {
        self.inner.doc_list(list).await
    }

    async fn maintain(&self, maintenance: Maintenance) -> Result<Maintained> {
        self.inner.maintain(maintenance).await
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.inner.hints()
    }
}
