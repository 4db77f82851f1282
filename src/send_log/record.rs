//! The record of one send: where it stands, and each step that it took.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::{AccountId, MessageRef, SpaceId, Timestamp};

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
    /// Of the first part of a message that was cut: how many parts there are, this one included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<usize>,
    /// Of a later part of such a message: the first part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<MessageRef>,
    /// Where it stands.
    pub status: SendStatus,
    /// When the bridge accepted it.
    pub accepted_at: Timestamp,
    /// When the status was reached.
    pub updated_at: Timestamp,
    /// How it came there, first to last.
    #[serde(default)]
    pub steps: Vec<SendStep>,
}

/// A step of a send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendStep {
    /// What it came to.
    pub status: SendStage,
    /// When.
    pub at: Timestamp,
    /// More, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Where a send stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendStatus {
    /// It waits in the outbox; nothing of it has left.
    Queued {
        /// What it waits for, in words.
        reason: Option<String>,
    },
    /// It is on its way.
    Sent {
        /// Which way.
        via: Via,
    },
    /// It was emitted, or may have been, and nothing shows that Spaces has it.
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
    /// It is not in Spaces and will not be sent (again).
    Failed {
        /// What stood in the way.
        #[serde(default)]
        kind: SendFailure,
        /// The upstream's error code, if it gave one.
        code: Option<String>,
        /// The upstream's words, if it gave any; else the bridge's.
        message: Option<String>,
    },
    /// Its sender took it back before anything had left.
    Cancelled,
}

/// Where a send stands, without the particulars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendStage {
    /// It waits in the outbox.
    Queued,
    /// It is on its way.
    Sent,
    /// Nothing shows that Spaces has it.
    Unconfirmed,
    /// Spaces has it.
    Confirmed,
    /// It is not in Spaces and will not be sent (again).
    Failed,
    /// Its sender took it back.
    Cancelled,
}

/// The ways to Spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// The account's Socket.IO session.
    Socket,
    /// The REST API.
    Rest,
}

/// What stood in the way of a send that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendFailure {
    /// Spaces refused the message.
    #[default]
    MessageRefused,
    /// Spaces refused the space.
    SpaceRefused,
    /// It is larger than Spaces takes.
    TooLarge {
        /// Bytes of the event.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// It could not be sent for as long as messages are kept.
    Expired,
    /// Spaces took it in none of several tries.
    NotTaken,
    /// It is a part of a message whose part before is not in Spaces.
    PartMissing,
}

impl SendRecord {
    /// The record of a send that nothing has happened to yet.
    pub fn new(reference: MessageRef, account: AccountId, space: SpaceId, category: String, accepted_at: Timestamp) -> Self {
        let status = SendStatus::Queued { reason: None };
        Self {
            reference,
            account,
            space,
            category,
            parts: None,
            part_of: None,
            status,
            accepted_at,
            updated_at: accepted_at,
            steps: Vec::new(),
        }
    }

    /// Comes to `status`, unless more is known already: what Spaces has it has, and what has ended otherwise has ended.
    pub fn settle(&mut self, status: SendStatus, at: Timestamp) {
        let outdone = match &self.status {
            SendStatus::Confirmed { .. } => true,
            SendStatus::Failed { .. } | SendStatus::Cancelled => status.stage() != SendStage::Confirmed,
            SendStatus::Queued { .. } | SendStatus::Sent { .. } | SendStatus::Unconfirmed { .. } => false,
        };
        if outdone {
            return;
        }
        let (stage, detail) = (status.stage(), status.detail());
        match self.steps.last_mut() {
            Some(last) if last.status == stage => last.detail = detail.or(last.detail.take()),
            _ => self.steps.push(SendStep { status: stage, at, detail }),
        }
        self.status = status;
        self.updated_at = at;
    }

    /// Waits again for `reason`: what was to be sent was not.
    pub fn take_back(&mut self, reason: String, at: Timestamp) {
        if matches!(self.status, SendStatus::Sent { .. }) {
            self.steps.pop_if(|step| step.status == SendStage::Sent);
            self.settle(SendStatus::Queued { reason: Some(reason) }, at);
        }
    }
}

impl SendStage {
    /// The name in the API, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Unconfirmed => "unconfirmed",
            Self::Confirmed => "confirmed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl SendStatus {
    /// The status without its particulars.
    pub fn stage(&self) -> SendStage {
        match self {
            Self::Queued { .. } => SendStage::Queued,
            Self::Sent { .. } => SendStage::Sent,
            Self::Unconfirmed { .. } => SendStage::Unconfirmed,
            Self::Confirmed { .. } => SendStage::Confirmed,
            Self::Failed { .. } => SendStage::Failed,
            Self::Cancelled => SendStage::Cancelled,
        }
    }

    /// Whether this is how it ended, for all that anyone can know.
    pub fn is_known(&self) -> bool {
        matches!(self, Self::Confirmed { .. } | Self::Failed { .. } | Self::Cancelled)
    }

    /// The id that Spaces gave it, once confirmed.
    pub fn confirmed_id(&self) -> Option<&str> {
        match self {
            Self::Confirmed { id, .. } => Some(id),
            _ => None,
        }
    }

    /// The particulars in words.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Queued { reason } => reason.clone(),
            Self::Sent { via: Via::Socket } => Some("over the session".to_owned()),
            Self::Sent { via: Via::Rest } => Some("over the REST API".to_owned()),
            Self::Unconfirmed { reason } => Some(reason.clone()),
            Self::Failed { code, message, .. } => message.clone().or_else(|| code.clone()),
            Self::Confirmed { .. } | Self::Cancelled => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> SendRecord {
        let (account, space) = ("acc_1".parse().expect("an id"), "s1".parse().expect("an id"));
        SendRecord::new("ref_1".parse().expect("an id"), account, space, "chat".to_owned(), Timestamp::from_millis(1))
    }

    #[test]
    fn what_was_not_sent_after_all_leaves_no_step_of_having_been_sent() {
        let mut record = record();
        let at = Timestamp::from_millis;
        record.settle(SendStatus::Queued { reason: None }, at(1));
        record.settle(SendStatus::Sent { via: Via::Socket }, at(2));
        record.take_back("no connection".to_owned(), at(3));
        assert_eq!(record.steps, [SendStep { status: SendStage::Queued, at: at(1), detail: Some("no connection".to_owned()) }]);
        record.take_back("twice".to_owned(), at(4));
        assert_eq!(record.status.detail().as_deref(), Some("no connection"));
    }

    #[test]
    fn records_of_earlier_versions_are_read() {
        let text = r#"{"reference":"ref_1","account":"acc_1","space":"s1","category":"chat","acceptedAt":"2031-03-14T09:26:53.589Z",
            "updatedAt":"2031-03-14T09:26:53.589Z","status":{"failed":{"code":null,"message":"no"}}}"#;
        let record: SendRecord = serde_json::from_str(text).expect("a record");
        assert!(matches!(record.status, SendStatus::Failed { kind: SendFailure::MessageRefused, .. }));
        assert!(record.steps.is_empty());
    }
}
