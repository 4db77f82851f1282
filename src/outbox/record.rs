//! A message in the outbox, as it is on disk until it has ended.

use serde::{Deserialize, Serialize};

use super::course::Course;
use crate::domain::{AccountId, MessageRef, SessionId, SpaceId, Timestamp};
use crate::send_log::SendRecord;
use crate::session::{OutgoingMessage, SendClass};
use crate::store::{DocKind, DocWrite, Expected, StoreError};

/// A message in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OutboxRecord {
    pub(super) reference: MessageRef,
    pub(super) account: AccountId,
    /// The session that it was handed in with.
    pub(super) session: SessionId,
    pub(super) space: SpaceId,
    pub(super) category: String,
    /// The whole argument of `SEND_MESSAGE`.
    pub(super) payload: Box<str>,
    pub(super) plain_text: String,
    pub(super) accepted_at: Timestamp,
    /// Grows with each message of this store; the order of those to one space.
    pub(super) number: u64,
    /// Whether it leaves room to others even while somebody waits for it.
    #[serde(default)]
    pub(super) bulk: bool,
    /// The message that Spaces must have before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) follows: Option<MessageRef>,
    pub(super) course: Course,
}

impl OutboxRecord {
    pub(super) fn new(message: OutgoingMessage, sender: (AccountId, SessionId), accepted_at: Timestamp, course: Course) -> Self {
        let OutgoingMessage { reference, space, category, payload, plain_text, class } = message;
        let (account, session) = sender;
        Self {
            reference,
            account,
            session,
            space,
            category,
            payload,
            plain_text,
            accepted_at,
            number: 0,
            bulk: class == SendClass::Bulk,
            follows: None,
            course,
        }
    }

    pub(super) fn read(body: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(body)
            .map_err(|source| StoreError::Failed { operation: "read a message of the outbox", source: source.into() })
    }

    /// The message as the session takes it.
    pub(super) fn message(&self, class: SendClass) -> OutgoingMessage {
        OutgoingMessage {
            reference: self.reference.clone(),
            space: self.space.clone(),
            category: self.category.clone(),
            payload: self.payload.clone(),
            plain_text: self.plain_text.clone(),
            class,
        }
    }

    /// What callers are shown of it, while nothing has happened to it.
    pub(super) fn send_record(&self) -> SendRecord {
        SendRecord::new(self.reference.clone(), self.account.clone(), self.space.clone(), self.category.clone(), self.accepted_at)
    }

    /// The write that makes this the message's state.
    pub(super) fn put(&self) -> DocWrite {
        let body = serde_json::to_vec(self).expect("a record of texts serialises");
        self.write(Some(body.into()))
    }

    /// The write that takes the message out.
    pub(super) fn delete(&self) -> DocWrite {
        self.write(None)
    }

    /// Only this process writes it, and one task at a time, so that nothing has to hold beforehand.
    fn write(&self, body: Option<bytes::Bytes>) -> DocWrite {
        DocWrite {
            kind: DocKind::Outbox,
            id: self.reference.as_str().to_owned(),
            account: Some(self.account.clone()),
            body,
            expected: Expected::Any,
            expires_at: None,
            flow: None,
        }
    }
}
