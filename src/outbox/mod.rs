//! The outbox: sends that are on disk before anything of them leaves, and that go on until it is known what became of them.
//!
//! Callers hand messages to [`Outbox::submit`]; once that returns, the message is durable. One worker (`worker.rs`) takes them in their
//! order per account and space, writes down that a message is going to leave, sends it through the account's session or, if that has
//! been away for too long, over REST, and writes down what came of it. What is in doubt (it left, or may have, and nothing shows that
//! Spaces has it) is looked for in the event log and in the upstream's history (`doubt.rs`), and is sent again only if it is not there.
//! Which step follows from what is decided in one pure place, `course.rs`.
//!
//! Sends that left without the outbox and were not confirmed in time are looked for in the same way ([`Outbox::look_for`]), and are
//! never sent again.

mod course;
mod doubt;
mod looking;
mod once;
mod queue;
mod record;
mod sought;
mod submission;
mod ticket;
mod worker;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::course::{Course, Stage};
pub use self::once::{Showing, Unsettled};
pub use self::queue::Depths;
use self::queue::{Doubt, Entry, Phase, Queue};
use self::record::OutboxRecord;
pub use self::submission::Together;
pub use self::ticket::Ticket;
pub use self::worker::OutboxWork;
use crate::domain::{AccountId, Clock, Interest, MessageRef, SessionId};
use crate::metrics::Metrics;
use crate::send_log::{Recorded, SendLog, SendRecord, SendStatus, Via};
use crate::session::{OutgoingMessage, Unconfirmed};
use crate::store::{DocKind, DocList, Engine, StoreError};

/// Messages read at a time at the start.
const PAGE: usize = 500;

/// What the outbox works with.
pub struct OutboxParts {
    /// The store.
    pub engine: Arc<dyn Engine>,
    /// The records of sends.
    pub sends: Arc<SendLog>,
    /// The clock, the engine's too.
    pub clock: Arc<dyn Clock>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// How the outbox behaves.
    pub settings: OutboxSettings,
}

/// How the outbox behaves.
#[derive(Debug, Clone, Copy)]
pub struct OutboxSettings {
    /// Most messages of an account that wait.
    pub max_per_account: usize,
    /// How long a message is tried while nothing of it has left.
    pub max_age: Duration,
    /// How long one try waits for the confirmation.
    pub confirmation: Duration,
    /// How long after the end of its connection a message may still appear in Spaces.
    pub settle: Duration,
    /// How long a connection that is still there may keep a message from Spaces; its heartbeat ends it before that.
    pub silence: Duration,
    /// How long a message in doubt is looked for.
    pub doubt: Duration,
    /// How long a session may be away before messages that REST can carry go over it; `None` for ever.
    pub rest_after: Option<Duration>,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self {
            max_per_account: 1_000,
            max_age: Duration::from_hours(24),
            confirmation: Duration::from_secs(20),
            settle: Duration::from_secs(10),
            silence: Duration::from_secs(90),
            doubt: Duration::from_mins(10),
            rest_after: Some(Duration::from_secs(5)),
        }
    }
}

/// Who sends a message: the account, and the session that the message was handed in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The account.
    pub account: AccountId,
    /// The session.
    pub session: SessionId,
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The account has as many messages waiting as it may have.
    #[error("the account has {limit} messages waiting, which is the most it may have")]
    Full {
        /// The most it may have.
        limit: usize,
    },
    /// The store failed; nothing was taken.
    #[error("failed to write a message to the outbox")]
    Store(#[from] StoreError),
}

/// Why a message was not taken back.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// It has left, or may have, or has ended.
    #[error("the message is no longer queued")]
    NotQueued,
    /// The store failed; the message goes on.
    #[error("failed to take a message out of the outbox")]
    Store(#[from] StoreError),
}

/// The outbox. Cheap to clone.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    parts: OutboxParts,
    queue: Mutex<Queue>,
    /// Told when the queue has changed.
    changed: Notify,
    /// What messages are sent with, once that has begun.
    work: OnceLock<OutboxWork>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Outbox").finish_non_exhaustive()
    }
}

impl Outbox {
    /// An outbox with what an earlier process left. Nothing is sent before [`Self::start`].
    pub async fn load(parts: OutboxParts) -> Result<Self, StoreError> {
        let mut left = Vec::new();
        let mut after = None;
        loop {
            let list = DocList { kind: DocKind::Outbox, account: None, after: after.take(), limit: PAGE };
            let documents = parts.engine.doc_list(list).await?;
            let Some(newest) = documents.last() else { break };
            after = Some(newest.id.clone());
            for document in &documents {
                let record = OutboxRecord::read(&document.body)?;
                let shown = parts.sends.get(&record.reference).await?.unwrap_or_else(|| record.send_record());
                left.push((record, shown));
            }
        }
        left.sort_by_key(|(record, _)| record.number);
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (record, shown) in left {
            let phase = match record.course.stage {
                Stage::Queued => Phase::Queued,
                Stage::Sending { .. } => Phase::Doubtful(Doubt::of_lost(now)),
            };
            queue.restore(record.reference.clone(), record.number, entry(&record, shown, phase), now);
        }
        Ok(Self(Arc::new(Inner {
            parts,
            queue: Mutex::new(queue),
            changed: Notify::new(),
            work: OnceLock::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })))
    }

    /// Begins to send.
    pub fn start(&self, work: OutboxWork) {
        if self.0.work.set(work).is_ok() {
            self.0.tasks.spawn(worker::run(Arc::clone(&self.0)));
        }
    }

    /// Begins nothing more, and waits for what is under way, for `grace` at most. What has not ended by then goes on after the next
    /// start.
    pub async fn shut_down(&self, grace: Duration) {
        self.0.stop.cancel();
        self.0.tasks.close();
        // What does not end in time is in doubt, and its record says so.
        let _ = tokio::time::timeout(grace, self.0.tasks.wait()).await;
    }

    /// A ticket for a message that was taken before.
    pub fn attach(&self, known: SendRecord) -> Ticket {
        Ticket::attach(self, known)
    }

    /// Takes a message back of which nothing has left.
    pub async fn cancel(&self, reference: &MessageRef) -> Result<SendRecord, CancelError> {
        let inner = &self.0;
        {
            let mut queue = inner.queue();
            let entry = queue.get_mut(reference).filter(|entry| entry.phase == Phase::Queued).ok_or(CancelError::NotQueued)?;
            entry.phase = Phase::Cancelling;
        }
        match inner.write_cancelled(reference).await {
            Ok(record) => {
                inner.count("cancelled");
                inner.leave(&record).await;
                Ok(record)
            }
            Err(error) => {
                if let Some(entry) = inner.queue().get_mut(reference) {
                    entry.phase = Phase::Queued;
                }
                inner.wake(reference);
                Err(error.into())
            }
        }
    }

    /// Makes a send durable that left without the outbox and was not confirmed, together with what it takes to look for it. If its
    /// outcome became known in the meantime, that is answered and nothing is looked for.
    pub async fn look_for(
        &self,
        message: OutgoingMessage,
        sender: Sender,
        (reconnects, why): (u64, Unconfirmed),
        shown: SendRecord,
    ) -> Result<SendRecord, StoreError> {
        let now = Instant::now();
        let doubt = match why {
            Unconfirmed::WaitEnded => Doubt::of_silence(sender.session.clone(), reconnects, now),
            Unconfirmed::ConnectionLost => Doubt::of_lost(now),
        };
        let course = Course::looked_for(Via::Socket, shown.accepted_at);
        let record = OutboxRecord::new(message, (sender.account, sender.session), shown.accepted_at, course);
        if !self.0.queue().has_room_to_look() {
            return Ok(self.0.parts.sends.record_unconfirmed(shown, Vec::new()).await?.into_record());
        }
        match self.0.parts.sends.record_unconfirmed(shown, vec![record.put()]).await? {
            Recorded::Known(known) => Ok(known),
            Recorded::New(shown) => {
                self.0.begin_looking(&record, shown.clone(), doubt);
                Ok(shown)
            }
        }
    }

    /// The spaces that messages of `account` wait for.
    pub fn interest(&self, account: &AccountId) -> Interest {
        self.0.queue().interest(account)
    }

    /// How much is in the outbox.
    pub fn depths(&self) -> Depths {
        self.0.queue().depths()
    }

    /// After how long without a session plain chat messages go over REST.
    pub fn rest_after(&self) -> Option<Duration> {
        self.0.parts.settings.rest_after
    }
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, reference: &MessageRef) {
        self.queue().wake(reference, Instant::now());
        self.changed.notify_one();
    }

    fn count(&self, outcome: &str) {
        self.parts.metrics.outbox_outcomes.with_label_values(&[outcome]).inc();
    }

    fn begin_looking(&self, record: &OutboxRecord, shown: SendRecord, doubt: Doubt) {
        let settings = self.parts.settings;
        // A late echo may yet tell by itself.
        let first_look = doubt.ended_at.map_or(doubt.since + settings.silence, |ended| ended + settings.settle);
        self.queue().insert(record.reference.clone(), entry(record, shown, Phase::Doubtful(doubt)), first_look);
        self.changed.notify_one();
    }

    async fn write_cancelled(&self, reference: &MessageRef) -> Result<SendRecord, StoreError> {
        let missing = || StoreError::Failed { operation: "read a message of the outbox", source: "it is gone".into() };
        let document = self.parts.engine.doc_get(DocKind::Outbox, reference.as_str()).await?.ok_or_else(missing)?;
        let record = OutboxRecord::read(&document.body)?;
        let now = self.parts.clock.now();
        let cancel = |shown: &mut SendRecord| shown.settle(SendStatus::Cancelled, now);
        self.parts.sends.update(&record.send_record(), cancel, vec![record.delete()]).await
    }

    /// Takes a message that has ended out of the queue and tells who waits. If it was the account's last, its session need not live
    /// for it any more. Answers whether anyone was told.
    async fn leave(&self, shown: &SendRecord) -> bool {
        let (told, is_last) = {
            let mut queue = self.queue();
            let Some(entry) = queue.remove(&shown.reference) else { return false };
            entry.shown.send_replace(shown.clone());
            (entry.waiters > 0, entry.resend && queue.is_idle(&entry.account))
        };
        self.changed.notify_one();
        if let Some(work) = self.work.get().filter(|_| is_last) {
            work.let_go(&shown.account).await;
        }
        told
    }
}

fn entry(record: &OutboxRecord, shown: SendRecord, phase: Phase) -> Entry {
    Entry {
        account: record.account.clone(),
        space: record.space.clone(),
        accepted_at: record.accepted_at,
        resend: record.course.resend,
        phase,
        shown: watch::Sender::new(shown),
        waiters: 0,
        failures: 0,
    }
}
