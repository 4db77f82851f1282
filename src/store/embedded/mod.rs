//! The embedded back end: one directory with an `SQLite` database in it, for one process.
//!
//! One thread writes ([`writer`]) and gives everything that waits one transaction and so one flush of the disk; a few threads read
//! ([`readers`]). What a transaction may do is [`transaction::Work`], spread over a file for each subject. Claims find their work by
//! two small indexes, over the webhooks that have something due and over the deliveries of one webhook that may be claimed, so
//! that their cost does not depend on how much waits.

mod append;
mod claim;
#[cfg(test)]
mod claim_cost;
mod documents;
mod maintain;
mod ownership;
mod queries;
mod readers;
mod requeue;
mod rows;
mod schema;
mod settle;
mod transaction;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use self::schema::Files;
use self::transaction::Work;
use self::writer::{Task, Writer, store_error};
use super::{
    Appended, Claim, ClaimRequest, DocKind, DocList, DocWrite, Document, Engine, Fence, Heartbeat, Incarnation, Maintained,
    Maintenance, Member, NewEvent, Owner, Ownership, Page, PutOutcome, Query, Requeue, Requeued, Result, Settled, Settlement,
    StoreError, Wanted,
};
use crate::domain::{Clock, SessionId, Timestamp};

/// Settings of the embedded store.
#[derive(Debug, Clone)]
pub struct EmbeddedSettings {
    /// The directory that holds the database; made if it is missing.
    pub path: PathBuf,
    /// How many threads read.
    pub readers: usize,
    /// How large the database may grow; writes beyond that fail with [`StoreError::Full`] until something is removed.
    pub max_bytes: Option<u64>,
}

impl EmbeddedSettings {
    /// The defaults for a store in the directory `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), readers: 2, max_bytes: None }
    }
}

/// The embedded store. Dropping it finishes what was begun and waits for its threads; [`Self::close`] does the same without
/// blocking the caller's thread.
pub struct EmbeddedStore {
    clock: Arc<dyn Clock>,
    files: Arc<Files>,
    hints: watch::Sender<u64>,
    writer: Option<mpsc::Sender<writer::Message>>,
    readers: Option<mpsc::Sender<readers::Message>>,
    threads: Mutex<Option<Threads>>,
}

/// The store's threads. The readers end first, so that nothing is being read when the writer folds in the log.
struct Threads {
    readers: Vec<JoinHandle<()>>,
    writer: JoinHandle<()>,
}

impl EmbeddedStore {
    /// Opens the store, making it if it does not exist, and keeps other processes out until it is closed or dropped.
    pub fn open(settings: EmbeddedSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        let readers = settings.readers.max(1);
        let (files, lock) = Files::prepare(settings)?;
        let connection = files.open_writer()?;
        let hints = watch::Sender::new(0);
        let (commands, receiver) = mpsc::channel(writer::WRITE_QUEUE);
        let writer = Writer::new(connection, Arc::clone(&clock), hints.clone(), receiver)
            .map_err(|error| store_error("open the store", error))?;
        let (questions, receiver) = mpsc::channel(readers::READ_QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut threads = Vec::with_capacity(readers);
        for _ in 0..readers {
            let connection = files.open_reader().map_err(|error| store_error("open the store", error))?;
            let receiver = Arc::clone(&receiver);
            threads.push(start("store-reader", move || readers::run(&connection, &receiver))?);
        }
        let writer = start("store-writer", move || {
            writer.run();
            // Held to the end of the last write, whatever becomes of the store's owner.
            drop(lock);
        })?;
        Ok(Self {
            clock,
            files: Arc::new(files),
            hints,
            writer: Some(commands),
            readers: Some(questions),
            threads: Mutex::new(Some(Threads { readers: threads, writer })),
        })
    }

    /// Finishes what waits, folds the log into the database and lets other processes in. Calls from now on get
    /// [`StoreError::Closed`].
    pub async fn close(&self) {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(threads), Some(readers), Some(writer)) = (threads, &self.readers, &self.writer) else { return };
        // A queue that is closed already needs no word.
        drop(readers.send(readers::Message::Stop).await);
        wait_for(threads.readers).await;
        drop(writer.send(writer::Message::Stop).await);
        wait_for(vec![threads.writer]).await;
    }

    /// Writes a compact, consistent copy of the database to `to`, which must not exist, while the service runs.
    pub async fn backup(&self, to: &Path) -> Result<()> {
        let files = Arc::clone(&self.files);
        let to = to.to_owned();
        let copied = tokio::task::spawn_blocking(move || files.back_up(&to)).await;
        copied.map_err(|error| StoreError::Failed { operation: "back up the store", source: error.into() })?
    }

    async fn write<T, F>(&self, operation: &'static str, run: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Work<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let (task, answer) = Task::new(operation, run);
        let writer = self.writer.as_ref().ok_or(StoreError::Closed)?;
        writer.send(writer::Message::Do(Box::new(task))).await.map_err(|_| StoreError::Closed)?;
        await_answer(answer).await
    }

    async fn read<T, F>(&self, operation: &'static str, ask: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (question, answer) = readers::question(operation, ask);
        let readers = self.readers.as_ref().ok_or(StoreError::Closed)?;
        readers.send(question).await.map_err(|_| StoreError::Closed)?;
        await_answer(answer).await
    }

    fn now(&self) -> i64 {
        self.clock.now().as_millis()
    }
}

async fn await_answer<T>(answer: oneshot::Receiver<Result<T>>) -> Result<T> {
    answer.await.map_err(|_| StoreError::Closed)?
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map_err(|error| StoreError::Failed { operation: "start a thread of the store", source: error.into() })
}

async fn wait_for(threads: Vec<JoinHandle<()>>) {
    if let Err(error) = tokio::task::spawn_blocking(|| join_all(threads)).await {
        tracing::error!(%error, "the store's threads could not be waited for");
    }
}

fn join_all(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the store panicked");
        }
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        self.readers = None;
        let Some(threads) = threads else { return };
        join_all(threads.readers);
        self.writer = None;
        join_all(vec![threads.writer]);
    }
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("EmbeddedStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl Engine for EmbeddedStore {
    async fn join(&self, address: &str, ttl: Duration) -> Result<Member> {
        let address = address.to_owned();
        self.write("join", move |work| work.join(&address, ttl)).await
    }

    async fn heartbeat(&self, incarnation: Incarnation) -> Result<Heartbeat> {
        self.write("extend the membership", move |work| work.heartbeat(incarnation)).await
    }

    async fn leave(&self, incarnation: Incarnation) -> Result<()> {
        self.write("leave", move |work| work.leave(incarnation)).await
    }

    async fn acquire(&self, incarnation: Incarnation, wanted: Wanted) -> Result<Vec<Ownership>> {
        self.write("acquire sessions", move |work| work.acquire(incarnation, &wanted)).await
    }

    async fn release(&self, incarnation: Incarnation, ownerships: &[Ownership]) -> Result<usize> {
        let ownerships = ownerships.to_vec();
        self.write("release sessions", move |work| work.release(incarnation, &ownerships)).await
    }

    async fn owner(&self, session: &SessionId) -> Result<Option<Owner>> {
        let (session, now) = (session.clone(), self.now());
        self.read("find a session's owner", move |connection| ownership::owner(connection, &session, now)).await
    }

    async fn append(&self, fence: Fence, events: Vec<NewEvent>) -> Result<Appended> {
        self.write("append events", move |work| work.append(&fence, &events)).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>> {
        self.write("claim deliveries", move |work| work.claim(&request)).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>> {
        self.write("settle deliveries", move |work| work.settle(&settlements)).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.read("find the next due delivery", queries::next_due).await
    }

    async fn requeue(&self, request: Requeue) -> Result<Requeued> {
        self.write("requeue deliveries", move |work| work.requeue(&request)).await
    }

    async fn query(&self, query: Query) -> Result<Page> {
        self.read("read the log", move |connection| queries::query(connection, &query)).await
    }

    async fn doc_put(&self, writes: Vec<DocWrite>) -> Result<PutOutcome> {
        self.write("write documents", move |work| work.doc_put(&writes)).await
    }

    async fn doc_get(&self, kind: DocKind, id: &str) -> Result<Option<Document>> {
        let (id, now) = (id.to_owned(), self.now());
        self.read("read a document", move |connection| documents::doc_get(connection, kind, &id, now)).await
    }

    async fn doc_list(&self, list: DocList) -> Result<Vec<Document>> {
        let now = self.now();
        self.read("list documents", move |connection| documents::doc_list(connection, &list, now)).await
    }

    async fn maintain(&self, maintenance: Maintenance) -> Result<Maintained> {
        self.write("remove what is old", move |work| work.maintain(&maintenance)).await
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.subscribe()
    }
}
