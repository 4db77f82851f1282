//! Event types.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Timestamp;

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
    /// Someone joined a space or changed how they take part.
    pub const PRESENCE_ONLINE: Self = Self(std::borrow::Cow::Borrowed("presence.online"));
    /// Someone left a space.
    pub const PRESENCE_LEFT: Self = Self(std::borrow::Cow::Borrowed("presence.left"));
    /// Someone is typing.
    pub const PRESENCE_TYPING: Self = Self(std::borrow::Cow::Borrowed("presence.typing"));
    /// Something arrived as presence whose category the bridge does not know.
    pub const PRESENCE_OTHER: Self = Self(std::borrow::Cow::Borrowed("presence.other"));
    /// A meeting began.
    pub const MEDIA_STARTED: Self = Self(std::borrow::Cow::Borrowed("media.started"));
    /// A meeting ended.
    pub const MEDIA_ENDED: Self = Self(std::borrow::Cow::Borrowed("media.ended"));
    /// Something else of a meeting: attendees, recordings, calls.
    pub const MEDIA_OTHER: Self = Self(std::borrow::Cow::Borrowed("media.other"));
    /// A session of the account is connected to Spaces.
    pub const SESSION_CONNECTED: Self = Self(std::borrow::Cow::Borrowed("session.connected"));
    /// A session of the account has lost or closed its connection.
    pub const SESSION_DISCONNECTED: Self = Self(std::borrow::Cow::Borrowed("session.disconnected"));
    /// Spaces refused the token of a session of the account.
    pub const SESSION_AUTH_FAILED: Self = Self(std::borrow::Cow::Borrowed("session.auth_failed"));
    /// A session of the account was connected and heard nothing; it is connected anew.
    pub const SESSION_DEGRADED: Self = Self(std::borrow::Cow::Borrowed("session.degraded"));
    /// Events of a space may be missing, and the history could not be read to close the gap.
    pub const SESSION_GAP: Self = Self(std::borrow::Cow::Borrowed("session.gap"));
    /// A message whose outcome was not known when its caller was answered turned out to be refused.
    pub const SEND_FAILED: Self = Self(std::borrow::Cow::Borrowed("send.failed"));
    /// Something that came by an incoming hook did not become the message that it should.
    pub const HOOK_FAILED: Self = Self(std::borrow::Cow::Borrowed("hook.failed"));
    /// The bridge switched a webhook off.
    pub const WEBHOOK_DISABLED: Self = Self(std::borrow::Cow::Borrowed("webhook.disabled"));
    /// A delivery that someone asked for to try a webhook.
    pub const WEBHOOK_TEST: Self = Self(std::borrow::Cow::Borrowed("webhook.test"));

    /// Whether only those get it who ask for its family or for itself: it is frequent and rarely of use.
    pub fn is_opt_in(&self) -> bool {
        self.0.starts_with("presence.") || self.0.starts_with("media.")
    }

    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An event as it goes out (Standard Webhooks, "Payload structure").
#[derive(Debug, Clone, Serialize)]
pub struct Envelope<'a, D> {
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: &'a EventType,
    /// When it happened.
    pub timestamp: Timestamp,
    /// What there is to say of it.
    pub data: D,
}

impl<D: Serialize> Envelope<'_, D> {
    /// The body of its deliveries.
    ///
    /// # Panics
    ///
    /// If the data are not such as JSON can hold, for example a map whose keys are no texts.
    pub fn to_body(&self) -> Bytes {
        serde_json::to_vec(self).expect("an envelope of texts serialises").into()
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
