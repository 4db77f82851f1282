//! A send as callers see it.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::domain::{MessageRef, SpaceId, Timestamp};
use crate::send_log::{SendRecord, SendStage, SendStatus, SendStep};

/// What is known of a send.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    /// The send's reference, given by the bridge.
    #[schema(value_type = String, pattern = "^ref_[A-Za-z0-9_-]{1,128}$", example = "ref_4f2b8a0d6c1e4b7f9a3d5e8c7b6a1f20")]
    r#ref: MessageRef,
    /// How far it is.
    status: MessageStatus,
    /// Where it went.
    #[schema(value_type = String, example = "64f0a1b2c3d4e5f601020304")]
    space_id: SpaceId,
    /// What it is.
    category: Category,
    /// The id that Spaces gave it, once confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "650a0b0c0d0e0f1011121314")]
    id: Option<String>,
    /// When Spaces says it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    created_at: Option<Timestamp>,
    /// When the bridge accepted it.
    #[schema(value_type = String, format = DateTime)]
    accepted_at: Timestamp,
    /// When it came to its status.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// Why nothing more is known, or why it failed, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<String>,
    /// The code that Spaces gave for refusing it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    upstream_code: Option<String>,
    /// The message as Spaces sent it back, once confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "message")]
    #[schema(value_type = Option<Object>, nullable = false)]
    as_sent_back: Option<Box<RawValue>>,
    /// How it came to its status, first to last; of a message in parts, the first part.
    steps: Vec<MessageStep>,
    /// The parts of a message that was split, in order, the first included. `status` and `reason` are then those of the first part that
    /// is not confirmed; what else stands here is the first part's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, min_items = 2, max_items = 20)]
    parts: Vec<MessagePart>,
    /// The reference of the message that this is a later part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false, pattern = "^ref_[A-Za-z0-9_-]{1,128}$")]
    part_of: Option<MessageRef>,
}

/// A part of a message that was split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessagePart {
    /// The part's own reference; that of the first part is the message's.
    #[schema(value_type = String, pattern = "^ref_[A-Za-z0-9_-]{1,128}$", example = "ref_4f2b8a0d6c1e4b7f9a3d5e8c7b6a1f20-2")]
    r#ref: MessageRef,
    /// How far it is. A part leaves once the one before it is confirmed.
    status: MessageStatus,
    /// The id that Spaces gave it, once confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "650a0b0c0d0e0f1011121315")]
    id: Option<String>,
    /// When Spaces says it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    created_at: Option<Timestamp>,
    /// Why nothing more is known, or why it failed, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<String>,
}

/// A step of a send.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageStep {
    /// What it came to.
    status: MessageStatus,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// More, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
}

impl From<SendStage> for MessageStatus {
    fn from(stage: SendStage) -> Self {
        match stage {
            SendStage::Queued => Self::Queued,
            SendStage::Sent => Self::Sent,
            SendStage::Unconfirmed => Self::Unconfirmed,
            SendStage::Confirmed => Self::Confirmed,
            SendStage::Failed => Self::Failed,
            SendStage::Cancelled => Self::Cancelled,
        }
    }
}

impl From<SendStep> for MessageStep {
    fn from(step: SendStep) -> Self {
        Self { status: step.status.into(), at: step.at, detail: step.detail }
    }
}

/// How far a send is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum MessageStatus {
    /// It waits in the outbox; nothing of it has left.
    Queued,
    /// It is on its way.
    Sent,
    /// It was emitted, or may have been; nothing shows yet that Spaces has it.
    Unconfirmed,
    /// Spaces has it.
    Confirmed,
    /// It is not in Spaces and will not be sent.
    Failed,
    /// Its sender took it back before anything had left.
    Cancelled,
}

/// What a message is, in the words of this API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Category {
    /// A chat message.
    Chat,
    /// A post.
    Post,
    /// A task.
    Task,
}

impl Category {
    fn of_upstream(word: &str) -> Self {
        match word {
            "idea" => Self::Post,
            "task" => Self::Task,
            _ => Self::Chat,
        }
    }
}

impl From<SendRecord> for MessagePart {
    fn from(record: SendRecord) -> Self {
        let Message { r#ref, status, id, created_at, reason, .. } = record.into();
        Self { r#ref, status, id, created_at, reason }
    }
}

impl Message {
    /// The message of these parts, in order; a message in one piece is one.
    pub(super) fn of_parts(mut records: Vec<SendRecord>) -> Self {
        let parts: Vec<_> = if records.len() > 1 { records.iter().cloned().map(MessagePart::from).collect() } else { Vec::new() };
        let mut message = Self::from(records.swap_remove(0));
        if let Some(last_change) = records.iter().map(|record| record.updated_at).max() {
            message.updated_at = message.updated_at.max(last_change);
        }
        if let Some(decisive) = parts.iter().find(|part| part.status != MessageStatus::Confirmed) {
            (message.status, message.reason) = (decisive.status, decisive.reason.clone());
        }
        message.parts = parts;
        message
    }

    /// The send's reference.
    pub(super) fn reference(&self) -> &MessageRef {
        &self.r#ref
    }
}

impl From<SendRecord> for Message {
    fn from(record: SendRecord) -> Self {
        let mut message = Self {
            r#ref: record.reference,
            status: record.status.stage().into(),
            space_id: record.space,
            category: Category::of_upstream(&record.category),
            id: None,
            created_at: None,
            accepted_at: record.accepted_at,
            updated_at: record.updated_at,
            reason: record.status.detail(),
            upstream_code: None,
            as_sent_back: None,
            steps: record.steps.into_iter().map(MessageStep::from).collect(),
            parts: Vec::new(),
            part_of: record.part_of,
        };
        match record.status {
            SendStatus::Confirmed { id, created_at, message: raw } => {
                (message.id, message.created_at, message.as_sent_back) = (Some(id), created_at, Some(raw));
            }
            SendStatus::Failed { code, .. } => message.upstream_code = code,
            SendStatus::Sent { .. } => message.reason = None,
            SendStatus::Queued { .. } | SendStatus::Unconfirmed { .. } | SendStatus::Cancelled => {}
        }
        message
    }
}
