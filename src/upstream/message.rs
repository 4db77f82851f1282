//! The message object of `SEND_MESSAGE` and `MESSAGE_SENT`.
//!
//! Source: <https://spaces.avayacloud.com/developers/docs/api/socket/send_message> and
//! <https://spaces.avayacloud.com/developers/docs/api/socket/message_sent>. Fields that the bridge has no use for are not named
//! here; the object travels on as it was received.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::domain::{MessageRef, SpaceId, Timestamp};

/// The argument of `SEND_MESSAGE`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutgoingPayload<'a> {
    /// `chat`, `idea` or `task`.
    pub category: &'a str,
    /// The space.
    pub topic_id: &'a SpaceId,
    /// What is said.
    pub content: OutgoingContent<'a>,
    /// The post or task that this is a comment on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_msg: Option<Parent<'a>>,
    /// Sent empty with posts and tasks, as Spaces' own clients do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_messages: Option<NoMessages>,
    /// Who is mentioned.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub mentions: &'a [OutgoingMention],
    /// Sent with posts and tasks, as Spaces' own clients do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'static str>,
    /// Comes back with the echo, to this connection only.
    pub loopback_metadata: Loopback<'a>,
}

/// The content of a message to be sent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutgoingContent<'a> {
    /// The text as HTML; the title of a post or task.
    pub body_text: Cow<'a, str>,
    /// The body of a post or task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Cow<'a, str>>,
    /// Attachments, as the upstream takes them.
    pub data: &'a [Box<RawValue>],
    /// Who is to do a task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignees: Option<&'a [UserRef]>,
    /// Until when a task is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_date: Option<Timestamp>,
    /// How far a task is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
}

/// The upstream's category of chat messages and comments.
pub const CHAT_CATEGORY: &str = "chat";

/// The comments of a post or task that has none yet.
#[derive(Debug, Default, Serialize)]
pub struct NoMessages {}

/// A user, named by the id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserRef {
    /// The id.
    #[serde(rename = "_id")]
    pub id: String,
}

/// Somebody who is mentioned in a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutgoingMention {
    /// The user's id.
    pub id: String,
    /// What is mentioned.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The name.
    pub title: String,
}

impl OutgoingMention {
    /// The mention of a user.
    pub fn user(id: String, title: String) -> Self {
        Self { id, kind: "user", title }
    }
}

/// A message that another one belongs to.
#[derive(Debug, Serialize)]
pub struct Parent<'a> {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: &'a str,
}

/// What the bridge writes into `loopbackMetadata`.
#[derive(Debug, Serialize)]
pub struct Loopback<'a> {
    /// Which bridge sent it.
    pub bridge: &'static str,
    /// The send's reference.
    #[serde(rename = "ref")]
    pub reference: &'a MessageRef,
}

/// The word that marks `loopbackMetadata` as the bridge's own.
pub const LOOPBACK_BRIDGE: &str = "spaces-bridge";

/// A received message, read leniently: whatever is missing or of another type is `None`.
#[derive(Debug, Deserialize)]
pub struct ReceivedMessage<'a> {
    /// The id of the message, post or task; an update has the same one again.
    #[serde(rename = "_id", borrow, default, deserialize_with = "lenient_text")]
    pub id: Option<Cow<'a, str>>,
    /// What it is.
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    pub category: Option<Cow<'a, str>>,
    /// The space.
    #[serde(rename = "topicId", borrow, default, deserialize_with = "lenient_text")]
    pub topic_id: Option<Cow<'a, str>>,
    /// The kind of space: `group`, `direct`, `personal`.
    #[serde(rename = "topicType", borrow, default, deserialize_with = "lenient_text")]
    pub topic_type: Option<Cow<'a, str>>,
    /// Who wrote it.
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub sender: Option<Sender<'a>>,
    /// What it says.
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub content: Option<Content<'a>>,
    /// When it was created.
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    pub created: Option<Cow<'a, str>>,
    /// When it was changed.
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    pub modified: Option<Cow<'a, str>>,
    /// Whether it was deleted, in one spelling that clients use.
    #[serde(rename = "isDeleted", default, deserialize_with = "lenient_flag")]
    pub is_deleted: Option<bool>,
    /// The same in another spelling.
    #[serde(default, deserialize_with = "lenient_flag")]
    pub deleted: Option<bool>,
    /// The message that it comments on.
    #[serde(rename = "parentMsg", borrow, default, deserialize_with = "lenient")]
    pub parent: Option<ReceivedParent<'a>>,
    /// What the sender attached, on the sending connection only.
    #[serde(rename = "loopbackMetadata", borrow, default, deserialize_with = "lenient")]
    pub loopback: Option<ReceivedLoopback<'a>>,
}

/// Who wrote a message.
#[derive(Debug, Deserialize)]
pub struct Sender<'a> {
    /// The user's id.
    #[serde(rename = "_id", borrow, default, deserialize_with = "lenient_text")]
    pub id: Option<Cow<'a, str>>,
    /// `user`, `anonymous`, `phone`, `spaceserver`.
    #[serde(rename = "type", borrow, default, deserialize_with = "lenient_text")]
    pub kind: Option<Cow<'a, str>>,
    /// The login name.
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    pub username: Option<Cow<'a, str>>,
    /// The name shown.
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    pub displayname: Option<Cow<'a, str>>,
}

/// The content of a received message.
#[derive(Debug, Deserialize)]
pub struct Content<'a> {
    /// The text as HTML.
    #[serde(rename = "bodyText", borrow, default, deserialize_with = "lenient_text")]
    pub body_text: Option<Cow<'a, str>>,
    /// The body of a post or task as HTML.
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    pub description: Option<Cow<'a, str>>,
    /// The attachments, as they came.
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
}

/// The message that a received one comments on.
#[derive(Debug, Deserialize)]
pub struct ReceivedParent<'a> {
    /// Its id.
    #[serde(rename = "_id", borrow, default, deserialize_with = "lenient_text")]
    pub id: Option<Cow<'a, str>>,
}

/// `loopbackMetadata` as far as the bridge understands it.
#[derive(Debug, Deserialize)]
pub struct ReceivedLoopback<'a> {
    /// Which bridge sent it.
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    pub bridge: Option<Cow<'a, str>>,
    /// The send's reference.
    #[serde(rename = "ref", borrow, default, deserialize_with = "lenient_text")]
    pub reference: Option<Cow<'a, str>>,
}

/// The kinds of space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicType {
    /// Many members.
    Group,
    /// Two users.
    Direct,
    /// A meeting room.
    Personal,
}

impl TopicType {
    /// Reads the upstream's word; unknown words mean nothing.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "group" => Some(Self::Group),
            "direct" => Some(Self::Direct),
            "personal" => Some(Self::Personal),
            _ => None,
        }
    }

    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Direct => "direct",
            Self::Personal => "personal",
        }
    }
}

/// A text if it is one, else `None`.
pub(crate) fn lenient_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    Ok(lenient::<Text<'de>, D>(deserializer)?.map(|text| text.0))
}

/// A value of the expected shape if it is one, else `None`.
pub(crate) fn lenient<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let raw = <&'de RawValue>::deserialize(deserializer)?;
    // Nothing that is read this way is a list, which serde would take for a structure.
    if raw.get().starts_with('[') { Ok(None) } else { Ok(serde_json::from_str(raw.get()).ok()) }
}

/// A flag, however it is written: a word, a number other than zero, or the time since when.
pub(super) fn lenient_flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    use serde_json::Value;
    Ok(lenient::<Value, D>(deserializer)?.and_then(|value| match value {
        Value::Bool(flag) => Some(flag),
        Value::Number(number) => Some(number.as_f64() != Some(0.0)),
        Value::String(text) => Some(!matches!(text.as_str(), "" | "false" | "0")),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_odd_fields_is_read_as_far_as_it_goes() {
        let text = r#"{"_id":7,"category":"chat","topicId":"s1","sender":"nobody","content":{"bodyText":null,"data":{"x":1}},
            "created":null,"loopbackMetadata":[1],"more":{}}"#;
        let message: ReceivedMessage<'_> = serde_json::from_str(text).expect("an object");
        assert_eq!(message.id, None);
        assert_eq!(message.category.as_deref(), Some("chat"));
        assert!(message.sender.is_none() && message.loopback.is_none() && message.created.is_none());
        assert!(message.content.expect("an object").body_text.is_none());
    }

    #[test]
    fn escapes_are_resolved() {
        let text =
            r#"{"_id":"a","content":{"bodyText":"a\"b\u00e4"},"loopbackMetadata":{"bridge":"spaces-bridge","ref":"ref_1"}}"#;
        let message: ReceivedMessage<'_> = serde_json::from_str(text).expect("an object");
        assert_eq!(message.content.and_then(|content| content.body_text).as_deref(), Some("a\"bä"));
        assert_eq!(message.loopback.and_then(|loopback| loopback.reference).as_deref(), Some("ref_1"));
    }
}
