//! Posting: one short task for each answer, through the session of its account.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, info, warn};

use super::Inner;
use super::guard::Mark;
use super::record::{ReplyRecord, ReplyState, document_id};
use crate::domain::AccountId;
use crate::send_log::{SendRecord, SendStatus};
use crate::session::{OutgoingMessage, SendOutcome, SessionError};
use crate::store::{DocKind, DocList, Document, Expected, StoreError, Version};
use crate::upstream::escape;

/// How long an answer is tried while nothing of it has left; later than that it is no answer any more.
const PATIENCE: Duration = Duration::from_mins(10);

/// How long one try waits for the confirmation.
const CONFIRMATION: Duration = Duration::from_secs(30);

/// The waits between tries: doubling from the first to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(30);

/// Records read from the store at a time.
const PAGE: usize = 500;

/// The wait after the store failed.
const STORE_WAIT: Duration = Duration::from_secs(2);

/// The upstream's category of answers.
const CHAT: &str = "chat";

/// Begins to post `record`, which stands at `version` in the store. If there is no room, it stays there until there is.
pub(super) fn begin(inner: &Arc<Inner>, record: ReplyRecord, version: Version) {
    if inner.stop.is_cancelled() {
        return;
    }
    match Arc::clone(&inner.room).try_acquire_owned() {
        Ok(room) => spawn(inner, record, version, room),
        Err(_) => inner.left_over.notify_one(),
    }
}

fn spawn(inner: &Arc<Inner>, record: ReplyRecord, version: Version, room: OwnedSemaphorePermit) {
    let id = document_id(&record.webhook, &record.event);
    if inner.in_hand().insert(id.clone()) {
        let inner = Arc::clone(inner);
        inner.tasks.clone().spawn(async move {
            inner.post(record, version).await;
            inner.in_hand().remove(&id);
            drop(room);
        });
    }
}

/// Posts what an earlier process left, and then, whenever there was no room in memory, what waits in the store.
pub(super) async fn look_for_left_overs(inner: Arc<Inner>) {
    let stop = inner.stop.clone();
    let work = async {
        loop {
            while let Err(error) = inner.take_left_overs().await {
                warn!(error = &error as &dyn std::error::Error, "the answers that wait could not be read");
                tokio::time::sleep(STORE_WAIT).await;
            }
            inner.left_over.notified().await;
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Reads a record.
pub(super) fn read(document: &Document) -> Result<ReplyRecord, StoreError> {
    serde_json::from_slice(&document.body)
        .map_err(|source| StoreError::Failed { operation: "read the record of an answer", source: source.into() })
}

/// What one try came to.
enum Tried {
    /// It ended in this state.
    Ended(ReplyState),
    /// Nothing has left; later tries may do better.
    NotNow(SessionError),
}

impl Inner {
    async fn take_left_overs(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let list = DocList { kind: DocKind::Reply, account: None, after: after.take(), limit: PAGE };
            let documents = self.parts.engine.doc_list(list).await?;
            let Some(newest) = documents.last() else { return Ok(()) };
            after = Some(newest.id.clone());
            for document in &documents {
                if !self.in_hand().contains(&document.id) {
                    self.take_left_over(read(document)?, document.version).await?;
                }
            }
        }
    }

    /// Whoever else has moved the record on meanwhile has made `version` an old one, and nothing happens here.
    async fn take_left_over(self: &Arc<Self>, mut record: ReplyRecord, version: Version) -> Result<(), StoreError> {
        match record.state {
            ReplyState::Accepted => {
                let room = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
                spawn(self, record, version, room);
            }
            ReplyState::Posting => {
                warn!(webhook.id = %record.webhook, event.id = %record.event, "an answer was being posted when the service stopped");
                self.settle(&mut record, ReplyState::Unconfirmed);
                if self.put(&record, Expected::Version(version)).await?.is_some() {
                    self.count(&record.state);
                    self.record_unconfirmed(&record, "the service stopped while the message was being sent").await?;
                }
            }
            ReplyState::Posted { .. } | ReplyState::Unconfirmed | ReplyState::Failed { .. } | ReplyState::Dropped(_) => {}
        }
        Ok(())
    }

    /// Posts an answer, and writes down first that it is going to.
    async fn post(&self, mut record: ReplyRecord, version: Version) {
        let message = outgoing(&record);
        record.state = ReplyState::Posting;
        let Some(version) = self.write(&record, version).await else { return };
        let sender = record.account.as_str().strip_prefix(AccountId::PREFIX).unwrap_or_default();
        let mark = Mark::of(&record.space, sender, &record.text);
        let until = record.accepted_at.saturating_add(PATIENCE);
        let mut wait = FIRST_WAIT;
        let state = loop {
            self.guard.note(mark, self.parts.clock.now());
            match self.try_once(&record, &message).await {
                Tried::Ended(state) => break state,
                Tried::NotNow(_) if self.stop.is_cancelled() => break ReplyState::Accepted,
                Tried::NotNow(error) if self.parts.clock.now() >= until => {
                    break ReplyState::Failed { reason: error.to_string() };
                }
                Tried::NotNow(error) => debug!(%error, webhook.id = %record.webhook, "an answer waits for its session"),
            }
            if self.stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                break ReplyState::Accepted;
            }
            wait = (wait * 2).min(LAST_WAIT);
        };
        self.end(record, version, state).await;
    }

    async fn try_once(&self, record: &ReplyRecord, message: &OutgoingMessage) -> Tried {
        match self.parts.sessions.post(&record.account, message.clone(), CONFIRMATION).await {
            Ok(SendOutcome::Confirmed(confirmed)) => Tried::Ended(ReplyState::Posted { id: confirmed.id }),
            Ok(SendOutcome::Unconfirmed(_)) => Tried::Ended(ReplyState::Unconfirmed),
            Err(
                error @ (SessionError::TooLarge { .. } | SessionError::SpaceRefused { .. } | SessionError::MessageRefused { .. }),
            ) => Tried::Ended(ReplyState::Failed { reason: error.to_string() }),
            Err(
                error @ (SessionError::AuthFailed { .. }
                | SessionError::NotConnected { .. }
                | SessionError::Busy { .. }
                | SessionError::RateLimited { .. }
                | SessionError::Closed
                | SessionError::Store),
            ) => Tried::NotNow(error),
        }
    }

    async fn end(&self, mut record: ReplyRecord, version: Version, state: ReplyState) {
        if state == ReplyState::Accepted {
            // Nothing has left, and the next start goes on from here.
            record.state = state;
            let _ = self.write(&record, version).await;
            return;
        }
        let (webhook, outcome) = (record.webhook.clone(), state.as_str());
        info!(webhook.id = %webhook, event.id = %record.event, reason = state.reason(), "an answer is {outcome}");
        self.settle(&mut record, state);
        if self.write(&record, version).await.is_none() {
            return;
        }
        self.count(&record.state);
        if record.state == ReplyState::Unconfirmed {
            let recorded = self.record_unconfirmed(&record, "Spaces did not confirm the message in time").await;
            if let Err(error) = recorded {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "an answer that is not confirmed could not be recorded as a send"
                );
            }
        }
    }

    fn settle(&self, record: &mut ReplyRecord, state: ReplyState) {
        record.state = state;
        record.updated_at = self.parts.clock.now();
        record.text = String::new();
    }

    /// Lets `GET /messages/{ref}` tell of it, also if the echo comes late.
    async fn record_unconfirmed(&self, record: &ReplyRecord, reason: &str) -> Result<(), StoreError> {
        let (reference, account, space) = (record.reference.clone(), record.account.clone(), record.space.clone());
        let mut send = SendRecord::new(reference, account, space, CHAT.to_owned(), record.accepted_at);
        send.settle(SendStatus::Unconfirmed { reason: reason.to_owned() }, record.updated_at);
        self.parts.sends.record_unconfirmed(send, Vec::new()).await.map(drop)
    }

    /// Writes a record that stands at `version`, again and again while the store fails. `None` if someone else has moved it on, or
    /// the service stops and the store does not take it.
    async fn write(&self, record: &ReplyRecord, version: Version) -> Option<Version> {
        loop {
            match self.put(record, Expected::Version(version)).await {
                Ok(written) => return written,
                Err(StoreError::Closed) => return None,
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, webhook.id = %record.webhook, "an answer could not be recorded");
                }
            }
            self.stop.run_until_cancelled(tokio::time::sleep(STORE_WAIT)).await?;
        }
    }
}

/// The message that says what `record` says.
fn outgoing(record: &ReplyRecord) -> OutgoingMessage {
    let html = escape(&record.text);
    let words = record.text.split_whitespace().collect::<Vec<_>>().join(" ");
    OutgoingMessage::chat(
        record.reference.clone(),
        record.space.clone(),
        (Cow::as_ref(&html), words),
        record.reply_to.as_deref(),
        &[],
    )
}
