//! The form of a message that Spaces itself takes, passed on as it is.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::super::error::ApiError;
use super::super::extract::parse_json;
use super::below;
use crate::domain::{MessageRef, SpaceId};
use crate::session::{OutgoingMessage, SendClass};
use crate::upstream::{LOOPBACK_BRIDGE, Loopback, plain_text};

/// The form that Spaces itself takes, passed on as it is. `topicId` and `loopbackMetadata` are the bridge's.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"category": "idea", "content": {"bodyText": "Release 41", "description": "<p>What is new</p>"}}))]
pub(in crate::http) struct UpstreamMessage {
    /// What it is: a chat message, a post or a task.
    #[serde(default)]
    category: UpstreamCategory,
    /// What it says.
    #[schema(value_type = UpstreamContent)]
    content: Box<RawValue>,
    /// The space; may be left out, and must otherwise be the one in the path.
    #[serde(default)]
    #[schema(value_type = Option<String>, nullable = false)]
    pub(super) topic_id: Option<SpaceId>,
    /// The post or task to comment on.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    parent_msg: Option<Box<RawValue>>,
    /// Passed on.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    chat_messages: Option<Box<RawValue>>,
    /// Passed on.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    mentions: Option<Box<RawValue>>,
    /// Passed on; Spaces fills it in by itself.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    sender: Option<Box<RawValue>>,
    /// Passed on.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    created: Option<Box<RawValue>>,
    /// Passed on.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    version: Option<Box<RawValue>>,
    /// Taken and replaced by the bridge's own, by which it recognises the message when it comes back.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    #[expect(dead_code, reason = "taken so that callers may leave it in, and not used")]
    loopback_metadata: Option<serde::de::IgnoredAny>,
}

/// The upstream's word for what a message is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum UpstreamCategory {
    /// A chat message.
    #[default]
    Chat,
    /// A post.
    Idea,
    /// A task.
    Task,
}

impl UpstreamCategory {
    fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Idea => "idea",
            Self::Task => "task",
        }
    }
}

/// The part of the upstream's content that the bridge reads; the whole is passed on as it came.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UpstreamContent<'a> {
    /// The text as HTML; the title of a post or task.
    #[serde(borrow)]
    #[schema(value_type = String, min_length = 1)]
    body_text: Cow<'a, str>,
    /// Attachments as Spaces takes them.
    #[serde(default)]
    #[schema(value_type = Vec<serde_json::Value>)]
    data: Vec<serde::de::IgnoredAny>,
}

impl UpstreamMessage {
    pub(super) fn compose(&self, space: &SpaceId) -> Result<OutgoingMessage, ApiError> {
        if self.topic_id.as_ref().is_some_and(|named| named != space) {
            return Err(ApiError::field("/topicId", "it names another space than the path"));
        }
        let content: UpstreamContent<'_> = parse_json(self.content.get().as_bytes()).map_err(|error| below("/content", error))?;
        let plain_text = plain_text(&content.body_text);
        if plain_text.is_empty() && content.data.is_empty() {
            return Err(ApiError::field("/content/bodyText", "the message is empty"));
        }
        let reference = MessageRef::random();
        let payload = Passed {
            category: self.category,
            topic_id: space,
            content: &self.content,
            parent_msg: self.parent_msg.as_deref(),
            chat_messages: self.chat_messages.as_deref(),
            mentions: self.mentions.as_deref(),
            sender: self.sender.as_deref(),
            created: self.created.as_deref(),
            version: self.version.as_deref(),
            loopback_metadata: Loopback { bridge: LOOPBACK_BRIDGE, reference: &reference },
        };
        let payload = serde_json::to_string(&payload).expect("a message of JSON serialises").into_boxed_str();
        let (category, class) = (self.category.as_str().to_owned(), SendClass::default());
        Ok(OutgoingMessage { reference, space: space.clone(), category, payload, plain_text, class })
    }
}

/// The upstream's own form on its way to the upstream.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Passed<'a> {
    category: UpstreamCategory,
    topic_id: &'a SpaceId,
    content: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_msg: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_messages: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mentions: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a RawValue>,
    loopback_metadata: Loopback<'a>,
}
