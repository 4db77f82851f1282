//! The worker: takes what is due, one message per lane, and brings it one step further.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::course::{Next, Tried};
use super::queue::{Doubt, Entry, Lane, Phase};
use super::record::OutboxRecord;
use super::{Inner, once};
use crate::domain::{AccountId, MessageRef, SessionId, SessionState};
use crate::event_log::{EventLog, SystemEvent};
use crate::send_log::{SendFailure, SendRecord, SendStatus, Via};
use crate::session::{NO_ANSWER, SendClass, SendOutcome, SessionError, SessionHandle, SessionRegistry, Unconfirmed};
use crate::store::{DocKind, DocWrite, StoreError};
use crate::upstream::{PostError, RestClient, RestMessage, SocketOnly, api_category};

/// The wait after the store failed.
const STORE_WAIT: Duration = Duration::from_secs(2);

/// The waits between tries that sent nothing, and between looks: doubling from the first to the last.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(2);

/// The wait after Spaces did not answer a subscription.
const SUBSCRIPTION_WAIT: Duration = Duration::from_secs(30);

/// What messages are sent with.
#[derive(Clone)]
pub struct OutboxWork {
    /// The sessions.
    pub sessions: Arc<SessionRegistry>,
    /// The REST API.
    pub rest: RestClient,
    /// Where failures are told.
    pub event_log: Arc<EventLog>,
}

impl OutboxWork {
    /// Nothing of `account` waits any more: its session need not live for it.
    pub(super) async fn let_go(&self, account: &AccountId) {
        if let Err(error) = self.sessions.interest_changed(account).await {
            warn!(error = &error as &dyn std::error::Error, "a session lives on that the outbox needs no more");
        }
    }
}

/// When a lane is worked on next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Due {
    Now,
    In(Duration),
}

/// Which way a message can go.
enum Way {
    Open(Via),
    /// None for now; and why not over REST, if that is for its form.
    Closed(Option<SocketOnly>),
}

/// Where the message stands that another follows.
enum Before {
    /// Spaces has it, or there is none.
    There,
    /// That is not known yet.
    Awaited,
    /// Spaces has it not, or nobody will know; this is the end of what follows.
    Missing(SendStatus),
}

/// Works until it is stopped.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut resolved = inner.parts.sends.resolved();
    loop {
        let due = inner.queue().next_due();
        let due = async { if let Some(due) = due { tokio::time::sleep_until(due).await } else { std::future::pending().await } };
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = inner.changed.notified() => {}
            () = due => {}
            told = resolved.recv() => match told {
                Ok(reference) => inner.queue().wake(&reference, Instant::now()),
                Err(RecvError::Lagged(_)) => inner.queue().wake_doubtful(Instant::now()),
                // The record of sends lives as long as the outbox.
                Err(RecvError::Closed) => return,
            },
        }
        loop {
            let Some((lane, reference)) = inner.queue().take_due(Instant::now()) else { break };
            let turn = Turn { inner: Arc::clone(&inner), lane, due: Due::In(STORE_WAIT) };
            inner.tasks.spawn(turn.work(reference));
        }
    }
}

/// The right to work on a lane; given back when dropped.
struct Turn {
    inner: Arc<Inner>,
    lane: Lane,
    due: Due,
}

impl Turn {
    async fn work(mut self, reference: MessageRef) {
        let inner = Arc::clone(&self.inner);
        self.due = match inner.step(&reference).await {
            Ok(due) => due,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "a message of the outbox waits for the store");
                Due::In(STORE_WAIT)
            }
        };
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let now = Instant::now();
        let due = match self.due {
            Due::Now => now,
            Due::In(wait) => now + wait,
        };
        self.inner.queue().done(&self.lane, due, now);
        self.inner.changed.notify_one();
    }
}

impl Inner {
    /// Brings a message one step further.
    async fn step(&self, reference: &MessageRef) -> Result<Due, StoreError> {
        let Some(work) = self.work.get() else { return Ok(Due::In(STORE_WAIT)) };
        let Some(document) = self.parts.engine.doc_get(DocKind::Outbox, reference.as_str()).await? else {
            // It has been taken back.
            self.queue().remove(reference);
            return Ok(Due::Now);
        };
        let record = OutboxRecord::read(&document.body)?;
        // Whoever learned of the outcome first has written it down.
        let known = self.parts.sends.get(reference).await?;
        if let Some(known) = known.filter(|known| known.status.is_known()) {
            return self.end(work, &record, known.status).await;
        }
        match record.course.next() {
            Next::Try => self.attempt(work, record).await,
            Next::Look | Next::Confirmed | Next::Failed | Next::Unconfirmed => self.look(work, record).await,
        }
    }

    async fn attempt(&self, work: &OutboxWork, mut record: OutboxRecord) -> Result<Due, StoreError> {
        let now = self.parts.clock.now();
        if now.since(record.accepted_at) >= self.parts.settings.max_age {
            let words = "it could not be sent for as long as messages are kept waiting".to_owned();
            let status = SendStatus::Failed { kind: SendFailure::Expired, code: None, message: Some(words) };
            return self.end(work, &record, status).await;
        }
        match self.before(&record).await? {
            Before::There => {}
            Before::Awaited => return Ok(self.wait_longer(&record.reference, LAST_WAIT)),
            Before::Missing(status) => return self.end(work, &record, status).await,
        }
        let session = self.session_of(work, &record).await;
        let Some(session) = session else { return Ok(self.wait_longer(&record.reference, LAST_WAIT)) };
        let via = match self.way(&session, &record) {
            Way::Open(via) => via,
            Way::Closed(why) => {
                self.explain_wait(&record, why).await?;
                return Ok(self.wait_longer(&record.reference, LAST_WAIT));
            }
        };
        if !self.begin(&record.reference) {
            return Ok(Due::Now);
        }
        record.course.begin(via, now);
        let shown = self.write(&record, SendStatus::Sent { via }, vec![record.put()]).await.inspect_err(|_| {
            self.set_phase(&record.reference, Phase::Queued);
        })?;
        if shown.status.is_known() {
            return self.end(work, &record, shown.status).await;
        }
        match via {
            Via::Socket => self.send(work, record, &session).await,
            Via::Rest => self.post(work, record, &session).await,
        }
    }

    /// Whether Spaces has what must be there before the message.
    async fn before(&self, record: &OutboxRecord) -> Result<Before, StoreError> {
        let Some(before) = &record.follows else { return Ok(Before::There) };
        let status = self.parts.sends.get(before).await?.map(|before| before.status);
        let words = match status {
            Some(SendStatus::Confirmed { .. }) => return Ok(Before::There),
            Some(SendStatus::Queued { .. } | SendStatus::Sent { .. }) => return Ok(Before::Awaited),
            Some(SendStatus::Unconfirmed { .. }) if self.queue().get(before).is_some() => return Ok(Before::Awaited),
            Some(SendStatus::Unconfirmed { .. }) => "it is not known whether Spaces has the part before",
            // Who takes a part back takes back what follows.
            Some(SendStatus::Cancelled) => return Ok(Before::Missing(SendStatus::Cancelled)),
            Some(SendStatus::Failed { .. }) | None => "the part before is not in Spaces",
        };
        Ok(Before::Missing(SendStatus::Failed { kind: SendFailure::PartMissing, code: None, message: Some(words.to_owned()) }))
    }

    /// Which way a message can go now.
    fn way(&self, session: &SessionHandle, record: &OutboxRecord) -> Way {
        let status = session.status();
        match status.state {
            SessionState::Online => Way::Open(Via::Socket),
            SessionState::Connecting | SessionState::Reconnecting | SessionState::Degraded => {
                let away = self.parts.clock.now().since(status.since);
                let is_over = self.parts.settings.rest_after.is_some_and(|patience| away >= patience);
                match RestMessage::of(&record.payload) {
                    _ if !is_over => Way::Closed(None),
                    Ok(_) => Way::Open(Via::Rest),
                    Err(why) => Way::Closed(Some(why)),
                }
            }
            SessionState::AuthFailed | SessionState::Closing | SessionState::Closed => Way::Closed(None),
        }
    }

    /// Shows why a message waits for its session although others go over REST.
    async fn explain_wait(&self, record: &OutboxRecord, why: Option<SocketOnly>) -> Result<(), StoreError> {
        let Some(why) = why else { return Ok(()) };
        let reason = format!("the session is not connected, and {why}");
        let is_shown = |entry: &Entry| entry.shown.borrow().status.detail().as_ref() == Some(&reason);
        if !self.queue().get(&record.reference).is_some_and(is_shown) {
            self.write(record, SendStatus::Queued { reason: Some(reason) }, Vec::new()).await?;
        }
        Ok(())
    }

    /// The session that a message goes through: the one that serves its account, else the one that it was handed in with, which then
    /// serves the account.
    pub(super) async fn session_of(&self, work: &OutboxWork, record: &OutboxRecord) -> Option<SessionHandle> {
        let usable = |session: &SessionHandle| session.state().is_usable();
        if let Some(session) = work.sessions.of_account(&record.account).filter(usable) {
            return Some(session);
        }
        let session = work.sessions.get(&record.session).filter(usable)?;
        let identity = session.status().identity.filter(|identity| record.course.resend && identity.account == record.account);
        if let Some(identity) = identity
            && let Err(error) = work.sessions.keep(&session, &identity).await
        {
            warn!(error = &error as &dyn std::error::Error, "the session of a message in the outbox would not outlive a restart");
        }
        Some(session)
    }

    async fn send(&self, work: &OutboxWork, mut record: OutboxRecord, session: &SessionHandle) -> Result<Due, StoreError> {
        let somebody_waits = self.queue().get(&record.reference).is_some_and(|entry| entry.waiters > 0);
        let class = if somebody_waits && !record.bulk { SendClass::Interactive } else { SendClass::Bulk };
        let outcome = session.send(record.message(class), self.parts.settings.confirmation).await;
        let (tried, status, retry_after) = match outcome {
            Ok(SendOutcome::Confirmed(confirmed)) => {
                let (id, created_at, message) = (confirmed.id, confirmed.created_at, confirmed.message);
                (Tried::Confirmed, SendStatus::Confirmed { id, created_at, message }, None)
            }
            Ok(SendOutcome::Unconfirmed(why)) => {
                let doubt = match why {
                    Unconfirmed::WaitEnded => {
                        let (id, reconnects) = connection(session);
                        Doubt::of_silence(id, reconnects, Instant::now())
                    }
                    Unconfirmed::ConnectionLost => Doubt::of_lost(Instant::now()),
                };
                return self.doubt(&mut record, doubt, why.as_str().to_owned()).await;
            }
            Err(error) => {
                let retry_after = retry_after(&error);
                match refusal(error) {
                    Ok(failed) => (Tried::Refused, failed, None),
                    Err(reason) => (Tried::NotSent, SendStatus::Queued { reason: Some(reason) }, retry_after),
                }
            }
        };
        self.tried(work, record, tried, status, retry_after).await
    }

    async fn post(&self, work: &OutboxWork, mut record: OutboxRecord, session: &SessionHandle) -> Result<Due, StoreError> {
        let (tried, status, retry_after) = match once::post(&work.rest, session.credential(), &record).await {
            Ok(confirmed) => (Tried::Confirmed, confirmed, None),
            Err(PostError::Refused(error)) => (Tried::Refused, once::failed(&error), None),
            Err(PostError::NotSent(error)) => {
                (Tried::NotSent, SendStatus::Queued { reason: Some(error.to_string()) }, error.retry_after())
            }
            Err(PostError::Unknown(error)) => {
                return self.doubt(&mut record, Doubt::of_lost(Instant::now()), once::in_doubt(&error)).await;
            }
        };
        if let Some(id) = status.confirmed_id() {
            self.parts.sends.note_own(&record.account, id);
        }
        self.tried(work, record, tried, status, retry_after).await
    }

    async fn tried(
        &self,
        work: &OutboxWork,
        mut record: OutboxRecord,
        tried: Tried,
        status: SendStatus,
        retry_after: Option<Duration>,
    ) -> Result<Due, StoreError> {
        match record.course.tried(tried) {
            Next::Try | Next::Look => self.queue_again(&record, status, retry_after).await,
            Next::Confirmed | Next::Failed | Next::Unconfirmed => self.end(work, &record, status).await,
        }
    }

    /// Nothing left, and the record says so again.
    async fn queue_again(
        &self,
        record: &OutboxRecord,
        status: SendStatus,
        retry_after: Option<Duration>,
    ) -> Result<Due, StoreError> {
        let reason = status.detail().unwrap_or_default();
        debug!(message = %record.reference, reason, "message `{}` was not sent", record.reference);
        let now = self.parts.clock.now();
        let take_back = |shown: &mut SendRecord| shown.take_back(reason.clone(), now);
        let shown = self.until_stored(record, take_back, &[record.put()]).await?;
        self.show(&shown);
        self.set_phase(&record.reference, Phase::Queued);
        Ok(match (self.wait_longer(&record.reference, LAST_WAIT), retry_after) {
            (Due::In(wait), Some(least)) => Due::In(wait.max(least)),
            (due, _) => due,
        })
    }

    /// It left, or may have, and nothing is known of it.
    async fn doubt(&self, record: &mut OutboxRecord, doubt: Doubt, reason: String) -> Result<Due, StoreError> {
        info!(message = %record.reference, reason, "message `{}` is in doubt", record.reference);
        record.course.tried(Tried::Unknown);
        self.set_phase(&record.reference, Phase::Doubtful(doubt));
        self.write(record, SendStatus::Unconfirmed { reason }, Vec::new()).await?;
        Ok(Due::Now)
    }

    /// Takes a message that waits for the one at work on it. `false` if it is being taken back.
    fn begin(&self, reference: &MessageRef) -> bool {
        let mut queue = self.queue();
        let Some(entry) = queue.get_mut(reference).filter(|entry| entry.phase == Phase::Queued) else { return false };
        entry.phase = Phase::Sending;
        true
    }

    pub(super) fn set_phase(&self, reference: &MessageRef, phase: Phase) {
        if let Some(entry) = self.queue().get_mut(reference) {
            if matches!((&entry.phase, &phase), (Phase::Doubtful(_), _) | (_, Phase::Doubtful(_))) {
                entry.failures = 0;
            }
            entry.phase = phase;
        }
    }

    pub(super) fn wait_longer(&self, reference: &MessageRef, most: Duration) -> Due {
        let mut queue = self.queue();
        let Some(entry) = queue.get_mut(reference) else { return Due::Now };
        let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(entry.failures)).min(most);
        entry.failures = entry.failures.saturating_add(1);
        Due::In(wait)
    }

    /// Writes that a message has come to `status`, and shows it to who waits.
    pub(super) async fn write(
        &self,
        record: &OutboxRecord,
        status: SendStatus,
        beside: Vec<DocWrite>,
    ) -> Result<SendRecord, StoreError> {
        let now = self.parts.clock.now();
        let settle = |shown: &mut SendRecord| shown.settle(status.clone(), now);
        let shown = self.parts.sends.update(&record.send_record(), settle, beside).await?;
        self.show(&shown);
        Ok(shown)
    }

    fn show(&self, shown: &SendRecord) {
        if let Some(entry) = self.queue().get(&shown.reference) {
            entry.shown.send_replace(shown.clone());
        }
    }

    /// A message has ended: that is written down, told, and forgotten here, in this order: who acts on what is told finds it written
    /// down, and a failure that a crash kept from being told is told by the next process.
    pub(super) async fn end(&self, work: &OutboxWork, record: &OutboxRecord, status: SendStatus) -> Result<Due, StoreError> {
        let now = self.parts.clock.now();
        let settle = |shown: &mut SendRecord| shown.settle(status.clone(), now);
        // The session that it left through tells of one that is not sent again.
        let may_be_told = record.course.resend && matches!(status, SendStatus::Failed { .. });
        let beside = if may_be_told { Vec::new() } else { vec![record.delete()] };
        let shown = self.until_stored(record, settle, &beside).await?;
        let outcome = shown.status.stage().as_str();
        info!(message = %record.reference, outcome, reason = shown.status.detail(), "message `{}` is {outcome}", record.reference);
        if record.course.resend {
            self.count(outcome);
        }
        let somebody_waited = self.leave(&shown).await;
        if may_be_told {
            if !somebody_waited {
                self.tell_failure(work, record, &shown.status).await;
            }
            self.until_stored(record, |_| {}, &[record.delete()]).await?;
        }
        Ok(Due::Now)
    }

    /// Tells that a message failed whose sender was told that it would go.
    async fn tell_failure(&self, work: &OutboxWork, record: &OutboxRecord, status: &SendStatus) {
        let SendStatus::Failed { code, message, .. } = status else { return };
        let event = SystemEvent::SendFailed {
            reference: record.reference.clone(),
            space_id: record.space.clone(),
            category: api_category(&record.category).to_owned(),
            code: code.clone(),
            message: message.clone(),
        };
        while let Err(failure) = work.event_log.append_system(&record.account, &event).await {
            error!(error = &failure as &dyn std::error::Error, "the failure of message `{}` waits to be told", record.reference);
            if self.stop.run_until_cancelled(tokio::time::sleep(STORE_WAIT)).await.is_none() {
                return;
            }
        }
    }

    /// Writes what is known now and would be lost, again and again while the store fails.
    async fn until_stored(
        &self,
        record: &OutboxRecord,
        change: impl Fn(&mut SendRecord) + Send + Sync,
        beside: &[DocWrite],
    ) -> Result<SendRecord, StoreError> {
        loop {
            match self.parts.sends.update(&record.send_record(), &change, beside.to_vec()).await {
                Err(failure) if !self.stop.is_cancelled() && !matches!(failure, StoreError::Closed) => {
                    error!(
                        error = &failure as &dyn std::error::Error,
                        "the state of message `{}` waits for the store", record.reference
                    );
                    let _ = self.stop.run_until_cancelled(tokio::time::sleep(STORE_WAIT)).await;
                }
                result => return result,
            }
        }
    }
}

/// The connection that a session has now: its id, and how often it has come back.
pub(super) fn connection(session: &SessionHandle) -> (SessionId, u64) {
    (session.id().clone(), session.status().reconnects)
}

/// The end that an error of the session means; or, if nothing was sent and later tries may do better, why.
fn refusal(error: SessionError) -> Result<SendStatus, String> {
    match error {
        SessionError::MessageRefused { code, message } => {
            Ok(SendStatus::Failed { kind: SendFailure::MessageRefused, code, message })
        }
        // No answer is no refusal.
        SessionError::SpaceRefused { code: None, message: Some(words) } if words == NO_ANSWER => Err(words),
        SessionError::SpaceRefused { code, message } => Ok(SendStatus::Failed { kind: SendFailure::SpaceRefused, code, message }),
        SessionError::TooLarge { size, limit } => {
            let words = Some(error.to_string());
            Ok(SendStatus::Failed { kind: SendFailure::TooLarge { size, limit }, code: None, message: words })
        }
        SessionError::AuthFailed { .. }
        | SessionError::NotConnected { .. }
        | SessionError::Busy { .. }
        | SessionError::RateLimited { .. }
        | SessionError::Closed
        | SessionError::Store => Err(error.to_string()),
    }
}

fn retry_after(error: &SessionError) -> Option<Duration> {
    match error {
        SessionError::Busy { retry_after } | SessionError::RateLimited { retry_after, .. } => Some(*retry_after),
        // The session does not ask for the space again before.
        SessionError::SpaceRefused { .. } => Some(SUBSCRIPTION_WAIT),
        _ => None,
    }
}
