//! Event types.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of what happened: dot-separated parts of `[a-zA-Z0-9_]`, for example `message.created` (Standard Webhooks, "Event types").
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventType(std::borrow::Cow<'static, str>);

/// A text that is no event type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event type is made of dot-separated parts of letters, digits and underscores")]
pub struct InvalidEventType;

impl EventType {
    /// A chat message, post, task or comment came into being.
    pub const MESSAGE_CREATED: Self = Self(std::borrow::Cow::Borrowed("message.created"));
    /// A message changed.
    pub const MESSAGE_UPDATED: Self = Self(std::borrow::Cow::Borrowed("message.updated"));
    /// A message was deleted.
    pub const MESSAGE_DELETED: Self = Self(std::borrow::Cow::Borrowed("message.deleted"));
    /// Something arrived as `MESSAGE_SENT` whose category the bridge does not know.
    pub const MESSAGE_OTHER: Self = Self(std::borrow::Cow::Borrowed("message.other"));
    /// A space was renamed, archived or otherwise changed.
    pub const SPACE_UPDATED: Self = Self(std::borrow::Cow::Borrowed("space.updated"));
    /// A delivery that someone asked for to try a webhook.
    pub const WEBHOOK_TEST: Self = Self(std::borrow::Cow::Borrowed("webhook.test"));

    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(super) fn is_type_part(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Longest event type or pattern that is taken.
pub(super) const MAX_TYPE: usize = 100;

impl FromStr for EventType {
    type Err = InvalidEventType;

    fn from_str(text: &str) -> Result<Self, InvalidEventType> {
        if text.len() <= MAX_TYPE && text.split('.').all(is_type_part) {
            Ok(Self(text.to_owned().into()))
        } else {
            Err(InvalidEventType)
        }
    }
}

impl TryFrom<String> for EventType {
    type Error = InvalidEventType;

    fn try_from(text: String) -> Result<Self, InvalidEventType> {
        text.parse()
    }
}

impl From<EventType> for String {
    fn from(event_type: EventType) -> Self {
        event_type.0.into_owned()
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
