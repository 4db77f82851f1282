//! Replies: words that a webhook's receiver gives in its answer to a message, posted to where the message came from.
//!
//! Delivery hands every answer of a webhook with `reply` to [`Replies`] before it settles the delivery. What is to be posted is on
//! record by then, once per event and webhook, so that a repeated delivery posts nothing again and a crash loses nothing. Before
//! it is emitted the record says so; what a crash leaves in that state is in doubt, and what is in doubt is not posted again.

mod answer;
mod guard;
mod poster;
mod record;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use self::answer::Answer;
use self::guard::{LoopGuard, Mark};
use self::record::document_id;
pub use self::record::{Dropped, ReplyRecord, ReplyState};
use crate::delivery::{Answered, ReplySink};
use crate::domain::{AccountId, Clock, EventId, MessageRef, SpaceId, WebhookId};
use crate::metrics::Metrics;
use crate::send_log::SendLog;
use crate::session::{OutgoingMessage, SendOutcome, SessionError, SessionRegistry};
use crate::store::{DocKind, DocWrite, Engine, Expected, PutOutcome, StoreError, Version};
use crate::webhooks::Envelope;

/// Answers that wait in memory or are being posted; what comes beyond waits in the store.
const MAX_IN_HAND: usize = 1024;

/// Posts messages as an account.
#[async_trait]
pub trait PostMessage: Send + Sync {
    /// Posts `message` as `account` and waits for its end, for `wait` at most. An error means what it means of a session: nothing
    /// was emitted, except where the message was refused.
    async fn post(&self, account: &AccountId, message: OutgoingMessage, wait: Duration) -> Result<SendOutcome, SessionError>;
}

#[async_trait]
impl PostMessage for SessionRegistry {
    async fn post(&self, account: &AccountId, message: OutgoingMessage, wait: Duration) -> Result<SendOutcome, SessionError> {
        let session = self.of_account(account).ok_or(SessionError::Closed)?;
        session.send(message, wait).await
    }
}

/// What replies work with.
pub struct ReplyParts {
    /// The store.
    pub engine: Arc<dyn Engine>,
    /// Who posts.
    pub sessions: Arc<dyn PostMessage>,
    /// The record of sends whose outcome is not known.
    pub sends: Arc<SendLog>,
    /// The clock, the engine's too.
    pub clock: Arc<dyn Clock>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// How replies behave.
    pub settings: ReplySettings,
}

/// How replies behave.
#[derive(Debug, Clone, Copy)]
pub struct ReplySettings {
    /// Most answers per space and minute.
    pub per_minute: usize,
    /// How long a record is kept: as long as its delivery can be made again.
    pub kept: Duration,
}

/// Takes answers and posts them. Cheap to clone.
#[derive(Clone)]
pub struct Replies(Arc<Inner>);

struct Inner {
    parts: ReplyParts,
    guard: LoopGuard,
    /// The records that this process is at work on.
    in_hand: Mutex<HashSet<String>>,
    room: Arc<Semaphore>,
    /// Told when there are records that nobody is at work on.
    left_over: Notify,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Replies {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Replies").finish_non_exhaustive()
    }
}

impl Replies {
    /// Replies on top of `parts`. What an earlier process left is posted once [`Self::start`] was called.
    pub fn new(parts: ReplyParts) -> Self {
        Self(Arc::new(Inner {
            guard: LoopGuard::new(parts.settings.per_minute),
            parts,
            in_hand: Mutex::default(),
            room: Arc::new(Semaphore::new(MAX_IN_HAND)),
            left_over: Notify::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Looks for what an earlier process left, and from then on for what found no room in memory.
    pub fn start(&self) {
        self.0.tasks.spawn(poster::look_for_left_overs(Arc::clone(&self.0)));
    }

    /// Begins nothing more, and waits for what is being posted, for `grace` at most. What has not left by then is posted after the
    /// next start.
    pub async fn shut_down(&self, grace: Duration) {
        self.0.stop.cancel();
        self.0.tasks.close();
        // What does not end in time is in doubt, and its record says so.
        let _ = tokio::time::timeout(grace, self.0.tasks.wait()).await;
    }

    /// What became of the answer to `event` by the receiver of `webhook`.
    pub async fn find(&self, webhook: &WebhookId, event: &EventId) -> Result<Option<ReplyRecord>, StoreError> {
        let found = self.0.parts.engine.doc_get(DocKind::Reply, &document_id(webhook, event)).await?;
        found.map(|document| poster::read(&document)).transpose()
    }
}

#[async_trait]
impl ReplySink for Replies {
    async fn take(&self, answered: Answered<'_>) -> Result<(), StoreError> {
        let inner = &self.0;
        let (webhook, event) = (answered.webhook, answered.event);
        let envelope = Envelope::read(&event.body);
        let Some(space) = envelope.space.as_deref().and_then(|space| space.parse::<SpaceId>().ok()) else { return Ok(()) };
        // What this account said through the bridge, answers included, is not answered.
        if envelope.own {
            return Ok(());
        }
        let answer = answer::read(answered.body);
        if answer == Answer::Silent || self.find(&webhook.id, &event.id).await?.is_some() {
            return Ok(());
        }
        let now = inner.parts.clock.now();
        let (text, comment, state) = match answer {
            Answer::Silent => return Ok(()),
            Answer::Refused(dropped) => (String::new(), false, ReplyState::Dropped(dropped)),
            Answer::Words { text, comment } => match inner.objection(&space, &envelope) {
                Some(dropped) => (String::new(), false, ReplyState::Dropped(dropped)),
                None => (text.into_owned(), comment, ReplyState::Accepted),
            },
        };
        let record = ReplyRecord {
            webhook: webhook.id.clone(),
            event: event.id.clone(),
            delivery: answered.delivery,
            account: webhook.account.clone(),
            space,
            reply_to: thread(&envelope, comment),
            reference: MessageRef::random(),
            text,
            state,
            accepted_at: now,
            updated_at: now,
        };
        // Someone else has taken it meanwhile if this does not hold.
        let Some(version) = inner.put(&record, Expected::Absent).await? else { return Ok(()) };
        match &record.state {
            ReplyState::Dropped(dropped) => {
                inner.count(&record.state);
                debug!(webhook.id = %record.webhook, event.id = %record.event, ?dropped, "an answer is not posted");
            }
            _ => poster::begin(inner, record, version),
        }
        Ok(())
    }
}

/// The message that an answer comments on: what the answered one comments on, or that one itself if the receiver wants it and it
/// is one that can be commented on.
fn thread(envelope: &Envelope<'_>, comment: bool) -> Option<String> {
    let is_thread = matches!(envelope.category.as_deref(), Some("post" | "task"));
    let message = envelope.reply_to.as_deref().or(envelope.message.as_deref().filter(|_| comment && is_thread))?;
    // All ids of the upstream are of one alphabet.
    message.parse::<SpaceId>().is_ok().then(|| message.to_owned())
}

impl Inner {
    /// What stands against an answer to the message in `envelope`.
    fn objection(&self, space: &SpaceId, envelope: &Envelope<'_>) -> Option<Dropped> {
        let now = self.parts.clock.now();
        let sender = envelope.sender.as_deref().unwrap_or_default();
        if self.guard.knows(Mark::of(space, sender, envelope.text.as_deref().unwrap_or_default()), now) {
            Some(Dropped::Loop)
        } else if self.guard.admit(space, now) {
            None
        } else {
            Some(Dropped::TooMany)
        }
    }

    /// Writes a record; `None` if the expectation does not hold.
    async fn put(&self, record: &ReplyRecord, expected: Expected) -> Result<Option<Version>, StoreError> {
        let body = serde_json::to_vec(record).expect("a record of texts serialises");
        let write = DocWrite {
            kind: DocKind::Reply,
            id: document_id(&record.webhook, &record.event),
            account: Some(record.account.clone()),
            body: Some(body.into()),
            expected,
            expires_at: Some(self.parts.clock.now().saturating_add(self.parts.settings.kept)),
            flow: None,
        };
        Ok(match self.parts.engine.doc_put(vec![write]).await? {
            PutOutcome::Stored(versions) => versions.first().copied(),
            PutOutcome::Conflict(_) => None,
        })
    }

    fn count(&self, state: &ReplyState) {
        self.parts.metrics.replies.with_label_values(&[state.as_str()]).inc();
    }

    fn in_hand(&self) -> MutexGuard<'_, HashSet<String>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
