//! The record of sends whose outcome was not known when their caller was answered.
//!
//! A `202` is given only after its record is durable. Whoever learns of the outcome first writes it: the caller's side records
//! "unconfirmed" only if there is no record yet, and the session overwrites that when the echo comes after all.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::{AccountId, Clock, MessageRef, SpaceId, Timestamp};
use crate::store::{DocKind, DocWrite, Engine, Expected, PutOutcome, StoreError};

/// How long a record is kept.
const KEPT: Duration = Duration::from_hours(7 * 24);

/// What is known of a send.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SendRecord {
    /// The send's reference.
    pub reference: MessageRef,
    /// Whose it is.
    pub account: AccountId,
    /// Where it went.
    pub space: SpaceId,
    /// The upstream's category.
    pub category: String,
    /// What became of it.
    pub status: SendStatus,
    /// When the bridge accepted it.
    pub accepted_at: Timestamp,
    /// When the status was reached.
    pub updated_at: Timestamp,
}

/// What became of a send.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendStatus {
    /// It was emitted, and no echo has come.
    Unconfirmed {
        /// Why nothing is known, in words.
        reason: String,
    },
    /// Spaces has it.
    Confirmed {
        /// The id that Spaces gave it.
        id: String,
        /// When Spaces says it was created.
        created_at: Option<Timestamp>,
        /// The message as Spaces sent it back.
        message: Box<RawValue>,
    },
    /// Spaces refused it.
    Failed {
        /// The upstream's error code, if it gave one.
        code: Option<String>,
        /// The upstream's words, if it gave any.
        message: Option<String>,
    },
}

/// Reads and writes the records.
pub struct SendLog {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for SendLog {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SendLog").finish_non_exhaustive()
    }
}

impl SendLog {
    /// The records in `engine`.
    pub fn new(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>) -> Self {
        Self { engine, clock }
    }

    /// Makes an unconfirmed send durable before its caller is told. If its outcome became known in the meantime, that is answered
    /// instead and nothing is written.
    pub async fn record_unconfirmed(&self, record: SendRecord) -> Result<SendRecord, StoreError> {
        loop {
            match self.put(&record, Expected::Absent).await? {
                PutOutcome::Stored(_) => return Ok(record),
                PutOutcome::Conflict(_) => {
                    if let Some(known) = self.get(&record.reference).await? {
                        return Ok(known);
                    }
                }
            }
        }
    }

    /// Records the outcome of a send that nobody waits for any more.
    pub async fn resolve(&self, record: &SendRecord) -> Result<(), StoreError> {
        self.put(record, Expected::Any).await.map(drop)
    }

    /// What is known of a send, if it is on record.
    pub async fn get(&self, reference: &MessageRef) -> Result<Option<SendRecord>, StoreError> {
        let Some(document) = self.engine.doc_get(DocKind::Send, reference.as_str()).await? else { return Ok(None) };
        let record = serde_json::from_slice(&document.body)
            .map_err(|source| StoreError::Failed { operation: "read the record of a send", source: source.into() })?;
        Ok(Some(record))
    }

    async fn put(&self, record: &SendRecord, expected: Expected) -> Result<PutOutcome, StoreError> {
        let body = serde_json::to_vec(record).expect("a record of texts serialises");
        let write = DocWrite {
            kind: DocKind::Send,
            id: record.reference.as_str().to_owned(),
            account: Some(record.account.clone()),
            body: Some(body.into()),
            expected,
            expires_at: Some(self.clock.now().saturating_add(KEPT)),
            flow: None,
        };
        self.engine.doc_put(vec![write]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SystemClock;
    use crate::store::MemoryStore;

    fn record(status: SendStatus) -> SendRecord {
        let now = Timestamp::from_millis(1);
        SendRecord {
            reference: "ref_1".parse().expect("an id"),
            account: "acc_1".parse().expect("an id"),
            space: "s1".parse().expect("an id"),
            category: "chat".to_owned(),
            status,
            accepted_at: now,
            updated_at: now,
        }
    }

    #[tokio::test]
    async fn an_outcome_that_came_first_is_not_overwritten() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let log = SendLog::new(Arc::new(MemoryStore::new(Arc::clone(&clock))), clock);
        let message = RawValue::from_string(r#"{"_id":"m1"}"#.to_owned()).expect("JSON");
        let confirmed = SendStatus::Confirmed { id: "m1".to_owned(), created_at: None, message };
        log.resolve(&record(confirmed)).await.expect("stored");
        let unconfirmed = record(SendStatus::Unconfirmed { reason: "late".to_owned() });
        let known = log.record_unconfirmed(unconfirmed.clone()).await.expect("read");
        let SendStatus::Confirmed { id, message, .. } = known.status else { panic!("the outcome was overwritten") };
        assert_eq!((id.as_str(), message.get()), ("m1", r#"{"_id":"m1"}"#));
    }

    #[tokio::test]
    async fn an_unconfirmed_send_is_settled_later() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let log = SendLog::new(Arc::new(MemoryStore::new(Arc::clone(&clock))), clock);
        let unconfirmed = record(SendStatus::Unconfirmed { reason: "late".to_owned() });
        log.record_unconfirmed(unconfirmed.clone()).await.expect("stored");
        log.resolve(&record(SendStatus::Failed { code: None, message: None })).await.expect("stored");
        let known = log.get(&unconfirmed.reference).await.expect("read").expect("a record");
        assert!(matches!(known.status, SendStatus::Failed { .. }));
    }
}
