//! The record of an answer: one per event and webhook, written before anything is posted.

use serde::{Deserialize, Serialize};

use crate::domain::{AccountId, DeliveryId, EventId, MessageRef, SpaceId, Timestamp, WebhookId};

/// What is known of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplyRecord {
    /// The webhook whose receiver answered.
    pub webhook: WebhookId,
    /// The event that it answered.
    pub event: EventId,
    /// The delivery in whose answer the words came.
    pub delivery: DeliveryId,
    /// Who posts it.
    pub account: AccountId,
    /// Where it goes.
    pub space: SpaceId,
    /// The message that it comments on.
    pub reply_to: Option<String>,
    /// The reference that it travels with.
    pub reference: MessageRef,
    /// What it says; gone once it is settled.
    pub text: String,
    /// How far it has come.
    pub state: ReplyState,
    /// When the receiver answered.
    pub accepted_at: Timestamp,
    /// When the state was reached.
    pub updated_at: Timestamp,
}

/// How far an answer has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyState {
    /// It is to be posted; nothing has been sent.
    Accepted,
    /// It is being posted. Whoever finds this after a crash cannot know whether it was.
    Posting,
    /// Spaces has it.
    Posted {
        /// The id that Spaces gave it.
        id: String,
    },
    /// It was sent, or may have been, and nothing is known of it. It is not sent again.
    Unconfirmed,
    /// It could not be posted.
    Failed {
        /// Why, in words.
        reason: String,
    },
    /// It was not to be posted.
    Dropped(Dropped),
}

impl ReplyState {
    /// The state's name in API, logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted | Self::Posting => "waiting",
            Self::Posted { .. } => "posted",
            Self::Unconfirmed => "unconfirmed",
            Self::Failed { .. } => "failed",
            Self::Dropped(_) => "dropped",
        }
    }

    /// Why it was not posted, in words.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Accepted | Self::Posting | Self::Posted { .. } => None,
            Self::Unconfirmed => Some("it was sent, or may have been, and Spaces has not confirmed it; it is not sent again"),
            Self::Failed { reason } => Some(reason),
            Self::Dropped(dropped) => Some(dropped.reason()),
        }
    }
}

/// Why an answer was not to be posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dropped {
    /// The message that it answers is itself an answer that the bridge posted.
    Loop,
    /// The space has had as many answers in this minute as it may have.
    TooMany,
    /// It is longer than answers may be.
    TooLong,
    /// It is for one person only, and everyone in the space would see it.
    Ephemeral,
}

impl Dropped {
    fn reason(self) -> &'static str {
        match self {
            Self::Loop => "the message is itself an answer that the bridge posted",
            Self::TooMany => "the space has had as many answers in this minute as it may have",
            Self::TooLong => "the text is longer than answers may be",
            Self::Ephemeral => "`ephemeral` answers are for one person only, and everyone in the space would see it",
        }
    }
}

/// The id of the record of the answer to `event` by the receiver of `webhook`.
pub(super) fn document_id(webhook: &WebhookId, event: &EventId) -> String {
    format!("{webhook}.{event}")
}
