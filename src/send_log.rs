//! The record of sends: those whose outcome was not known when their caller was answered, and those that the outbox carries.
//!
//! A `202` is given only after its record is durable. Whoever learns of the outcome first writes it, and nobody overwrites knowledge
//! with ignorance: every change reads the record, adds to it, and holds only if nobody else has changed it meanwhile.

mod own;
mod record;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::Instant;

use self::own::{OwnChanges, OwnMessages};
pub use self::record::{SendFailure, SendRecord, SendStage, SendStatus, SendStep, Via};
use crate::domain::{AccountId, Clock, MessageRef};
use crate::store::{DocKind, DocList, DocWrite, Engine, Expected, PutOutcome, StoreError, Version};

/// How long a record is kept after its last change.
pub const KEPT: Duration = Duration::from_hours(7 * 24);

/// Outcomes that a reader of [`SendLog::resolved`] may be behind.
const TOLD: usize = 1024;

/// Records read at a time.
const PAGE: usize = 200;

/// Reads and writes the records.
pub struct SendLog {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    resolved: broadcast::Sender<MessageRef>,
    own: OwnMessages,
    /// Those that are on record, also of earlier processes.
    recalled: OwnMessages,
    own_changes: OwnChanges,
}

impl std::fmt::Debug for SendLog {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SendLog").finish_non_exhaustive()
    }
}

impl SendLog {
    /// The records in `engine`.
    pub fn new(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>) -> Self {
        Self {
            engine,
            clock,
            resolved: broadcast::Sender::new(TOLD),
            own: OwnMessages::default(),
            recalled: OwnMessages::default(),
            own_changes: OwnChanges::default(),
        }
    }

    /// Makes an unconfirmed send durable before its caller is told, together with what stands `beside` it. If its outcome became
    /// known in the meantime, that is answered instead and nothing is written.
    pub async fn record_unconfirmed(&self, record: SendRecord, beside: Vec<DocWrite>) -> Result<Recorded, StoreError> {
        self.create(&record, beside).await.map(|known| known.map_or(Recorded::New(record), Recorded::Known))
    }

    /// Makes a new record durable, together with what stands `beside` it. If there is one of this reference already, that is
    /// answered and nothing is written.
    pub async fn create(&self, record: &SendRecord, beside: Vec<DocWrite>) -> Result<Option<SendRecord>, StoreError> {
        loop {
            if self.create_all([record], beside.clone()).await? {
                return Ok(None);
            }
            if let Some(known) = self.get(&record.reference).await? {
                return Ok(Some(known));
            }
        }
    }

    /// Makes new records durable in one transaction, together with what stands `beside` them. `false` if there is one of the
    /// references already; then nothing is written.
    pub async fn create_all(
        &self,
        records: impl IntoIterator<Item = &SendRecord>,
        beside: Vec<DocWrite>,
    ) -> Result<bool, StoreError> {
        let mut writes: Vec<_> = records.into_iter().map(|record| self.write(record, Expected::Absent)).collect();
        writes.extend(beside);
        Ok(matches!(self.engine.doc_put(writes).await?, PutOutcome::Stored(_)))
    }

    /// Changes the record of `base`'s reference, or `base` itself if there is none, together with what stands `beside` it. Answers
    /// the record as it is now.
    pub async fn update(
        &self,
        base: &SendRecord,
        change: impl Fn(&mut SendRecord) + Send + Sync,
        beside: Vec<DocWrite>,
    ) -> Result<SendRecord, StoreError> {
        loop {
            let (mut record, expected) = match self.read(&base.reference).await? {
                Some((record, version)) => (record, Expected::Version(version)),
                None => (base.clone(), Expected::Absent),
            };
            change(&mut record);
            let mut writes = vec![self.write(&record, expected)];
            writes.extend(beside.iter().cloned());
            if let PutOutcome::Stored(_) = self.engine.doc_put(writes).await? {
                return Ok(record);
            }
        }
    }

    /// Removes the record of a send of which nothing left, together with what stands `beside` it.
    pub async fn forget(&self, record: &SendRecord, beside: Vec<DocWrite>) -> Result<(), StoreError> {
        let mut writes = vec![DocWrite { body: None, ..self.write(record, Expected::Any) }];
        writes.extend(beside);
        self.engine.doc_put(writes).await.map(drop)
    }

    /// Records the outcome of a send that nobody waits for any more, and tells whoever looks after it.
    pub async fn resolve(&self, outcome: &SendRecord) -> Result<(), StoreError> {
        let base = SendRecord::new(
            outcome.reference.clone(),
            outcome.account.clone(),
            outcome.space.clone(),
            outcome.category.clone(),
            outcome.accepted_at,
        );
        self.update(&base, |record| record.settle(outcome.status.clone(), outcome.updated_at), Vec::new()).await?;
        // Nobody may be looking.
        let _ = self.resolved.send(outcome.reference.clone());
        Ok(())
    }

    /// The references of outcomes that [`Self::resolve`] records from now on.
    pub fn resolved(&self) -> broadcast::Receiver<MessageRef> {
        self.resolved.subscribe()
    }

    /// What is known of the parts of a message, of which `first` is the first; of that alone if it is a message in one piece.
    pub async fn with_parts(&self, first: SendRecord) -> Result<Vec<SendRecord>, StoreError> {
        let (reference, count) = (first.reference.clone(), first.parts.unwrap_or(1));
        let mut records = Vec::with_capacity(count);
        records.push(first);
        for number in 2..=count {
            records.extend(self.get(&reference.numbered(number)).await?);
        }
        Ok(records)
    }

    /// What is known of a send, if it is on record.
    pub async fn get(&self, reference: &MessageRef) -> Result<Option<SendRecord>, StoreError> {
        Ok(self.read(reference).await?.map(|(record, _)| record))
    }

    /// Whether another send of `account` than `reference` is on record as the message `id`.
    pub async fn is_claimed(&self, account: &AccountId, id: &str, reference: &MessageRef) -> Result<bool, StoreError> {
        let mut after = None;
        loop {
            let list = DocList { kind: DocKind::Send, account: Some(account.clone()), after: after.take(), limit: PAGE };
            let documents = self.engine.doc_list(list).await?;
            for document in &documents {
                let record = read_record(&document.body)?;
                if record.reference != *reference && record.status.confirmed_id() == Some(id) {
                    return Ok(true);
                }
            }
            let Some(newest) = documents.last().filter(|_| documents.len() == PAGE) else { return Ok(false) };
            after = Some(newest.id.clone());
        }
    }

    /// Remembers that the message `id` was sent by `account` through the bridge, although no echo will say so.
    pub fn note_own(&self, account: &AccountId, id: &str) {
        self.own.insert(account, id);
    }

    /// Whether the message `id` is one of those that [`Self::note_own`] was told of.
    pub fn is_own(&self, account: &AccountId, id: &str) -> bool {
        self.own.contains(account, id)
    }

    /// Whether the message `id` is one of those that [`Self::recall`] found.
    pub fn was_sent(&self, account: &AccountId, id: &str) -> bool {
        self.recalled.contains(account, id)
    }

    /// Whether [`Self::recall`] has been done for `account`.
    pub fn has_recalled(&self, account: &AccountId) -> bool {
        self.recalled.is_complete(account)
    }

    /// Remembers which messages are on record as sends of `account`, also those of an earlier process.
    pub async fn recall(&self, account: &AccountId) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let list = DocList { kind: DocKind::Send, account: Some(account.clone()), after: after.take(), limit: PAGE };
            let documents = self.engine.doc_list(list).await?;
            for document in &documents {
                if let Some(id) = read_record(&document.body)?.status.confirmed_id() {
                    self.recalled.insert(account, id);
                }
            }
            let Some(newest) = documents.last().filter(|_| documents.len() == PAGE) else { break };
            after = Some(newest.id.clone());
        }
        self.recalled.complete(account);
        Ok(())
    }

    /// Notes that `account` is about to change the message `id` over REST.
    pub fn note_own_change(&self, account: &AccountId, id: &str) {
        self.own_changes.insert(account, id, Instant::now());
    }

    /// Takes a change that [`Self::note_own_change`] was told of: its echo has come, or it was not made.
    pub fn take_own_change(&self, account: &AccountId, id: &str) -> bool {
        self.own_changes.take(account, id, Instant::now())
    }

    async fn read(&self, reference: &MessageRef) -> Result<Option<(SendRecord, Version)>, StoreError> {
        let Some(document) = self.engine.doc_get(DocKind::Send, reference.as_str()).await? else { return Ok(None) };
        Ok(Some((read_record(&document.body)?, document.version)))
    }

    fn write(&self, record: &SendRecord, expected: Expected) -> DocWrite {
        let body = serde_json::to_vec(record).expect("a record of texts serialises");
        DocWrite {
            kind: DocKind::Send,
            id: record.reference.as_str().to_owned(),
            account: Some(record.account.clone()),
            body: Some(body.into()),
            expected,
            expires_at: Some(self.clock.now().saturating_add(KEPT)),
            flow: None,
        }
    }
}

/// What became of [`SendLog::record_unconfirmed`].
#[derive(Debug)]
pub enum Recorded {
    /// The record is durable.
    New(SendRecord),
    /// More was known already.
    Known(SendRecord),
}

impl Recorded {
    /// The record, whichever it is.
    pub fn into_record(self) -> SendRecord {
        match self {
            Self::New(record) | Self::Known(record) => record,
        }
    }
}

fn read_record(body: &[u8]) -> Result<SendRecord, StoreError> {
    serde_json::from_slice(body)
        .map_err(|source| StoreError::Failed { operation: "read the record of a send", source: source.into() })
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::domain::{SystemClock, Timestamp};
    use crate::store::MemoryStore;

    fn log() -> SendLog {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        SendLog::new(Arc::new(MemoryStore::new(Arc::clone(&clock))), clock)
    }

    fn record(reference: &str, status: SendStatus) -> SendRecord {
        let id = |text: &str| text.parse().expect("an id");
        let at = Timestamp::from_millis(1);
        let mut record =
            SendRecord::new(reference.parse().expect("an id"), "acc_1".parse().expect("an id"), id("s1"), "chat".to_owned(), at);
        record.settle(status, at);
        record
    }

    fn confirmed(id: &str) -> SendStatus {
        let message = RawValue::from_string(format!(r#"{{"_id":"{id}"}}"#)).expect("JSON");
        SendStatus::Confirmed { id: id.to_owned(), created_at: None, message }
    }

    fn refused() -> SendStatus {
        SendStatus::Failed { kind: SendFailure::MessageRefused, code: None, message: None }
    }

    fn unconfirmed() -> SendStatus {
        SendStatus::Unconfirmed { reason: "late".to_owned() }
    }

    #[tokio::test]
    async fn an_outcome_that_came_first_is_not_overwritten() {
        let log = log();
        log.resolve(&record("ref_1", confirmed("m1"))).await.expect("stored");
        let known = log.record_unconfirmed(record("ref_1", unconfirmed()), Vec::new()).await.expect("read").into_record();
        let SendStatus::Confirmed { id, message, .. } = known.status else { panic!("the outcome was overwritten") };
        assert_eq!((id.as_str(), message.get()), ("m1", r#"{"_id":"m1"}"#));
        log.resolve(&record("ref_1", refused())).await.expect("stored");
        let known = log.get(&"ref_1".parse().expect("an id")).await.expect("read").expect("a record");
        assert_eq!(known.status.confirmed_id(), Some("m1"));
    }

    #[tokio::test]
    async fn an_unconfirmed_send_is_settled_later_and_tells_its_steps() {
        let log = log();
        let mut resolved = log.resolved();
        let unconfirmed = record("ref_1", unconfirmed());
        log.record_unconfirmed(unconfirmed.clone(), Vec::new()).await.expect("stored");
        log.resolve(&record("ref_1", refused())).await.expect("stored");
        let known = log.get(&unconfirmed.reference).await.expect("read").expect("a record");
        assert!(matches!(known.status, SendStatus::Failed { .. }));
        let stages: Vec<_> = known.steps.iter().map(|step| step.status).collect();
        assert_eq!(stages, [SendStage::Unconfirmed, SendStage::Failed]);
        assert_eq!(resolved.try_recv(), Ok(unconfirmed.reference));
    }

    #[tokio::test]
    async fn what_is_on_record_as_sent_is_known_as_own_after_a_restart() {
        let log = log();
        for number in 0..=PAGE {
            let record = record(&format!("ref_{number}"), confirmed(&format!("m{number}")));
            log.create(&record, Vec::new()).await.expect("stored");
        }
        log.create(&record("ref_x", unconfirmed()), Vec::new()).await.expect("stored");
        let log = SendLog::new(Arc::clone(&log.engine), Arc::clone(&log.clock));
        let (account, other): (AccountId, AccountId) = ("acc_1".parse().expect("an id"), "acc_2".parse().expect("an id"));
        assert!(!log.was_sent(&account, "m1") && !log.has_recalled(&account));
        log.recall(&account).await.expect("read");
        assert!((0..=PAGE).all(|number| log.was_sent(&account, &format!("m{number}"))));
        assert!(log.has_recalled(&account) && !log.has_recalled(&other) && !log.was_sent(&other, "m1"));
    }

    #[tokio::test]
    async fn a_message_is_claimed_by_the_send_that_it_confirmed() {
        let log = log();
        for number in 0..=PAGE {
            let record = record(&format!("ref_{number}"), confirmed(&format!("m{number}")));
            assert!(log.create(&record, Vec::new()).await.expect("stored").is_none());
        }
        let (account, last) = ("acc_1".parse().expect("an id"), format!("m{PAGE}"));
        assert!(log.is_claimed(&account, &last, &"ref_1".parse().expect("an id")).await.expect("read"));
        assert!(!log.is_claimed(&account, &last, &format!("ref_{PAGE}").parse().expect("an id")).await.expect("read"));
        assert!(!log.is_claimed(&account, "other", &"ref_1".parse().expect("an id")).await.expect("read"));
    }
}
