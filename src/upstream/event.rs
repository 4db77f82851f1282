//! From an upstream object to an event of the log: what happened, whether it is the same as before, and the body that webhooks get.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::TopicType;
use super::attachments::addressed;
use super::message::{ReceivedMessage, Sender};
use super::readable::readable_text;
use crate::domain::{AccountId, Envelope, EventId, EventType, SpaceId, Timestamp};

/// What arrived as `MESSAGE_SENT`, ready for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalisedEvent {
    /// The same for every copy of the same event.
    pub id: EventId,
    /// The space.
    pub space: SpaceId,
    /// Whether the space is a direct one.
    pub direct: bool,
    /// What happened.
    pub event_type: EventType,
    /// When, as the upstream says; the time of receipt if it does not.
    pub occurred_at: Timestamp,
    /// The body that webhooks get.
    pub body: Bytes,
}

/// What the bridge knows of an event beyond the object itself.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// Whose session received it.
    pub account: &'a AccountId,
    /// Whether this account sent it through the bridge.
    pub own: bool,
    /// Whether it was read from the history.
    pub recovered: bool,
    /// Whether the space is known to be a direct one; the object itself need not say.
    pub direct: bool,
    /// When it was received.
    pub received_at: Timestamp,
}

/// An object that names no space, so that nobody can be told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event names no space")]
pub struct NoSpace;

/// Turns a received object into an event. `message` is `raw`, read.
pub fn normalise(
    message: &ReceivedMessage<'_>,
    raw: &RawValue,
    circumstances: Circumstances<'_>,
) -> Result<NormalisedEvent, NoSpace> {
    let space: SpaceId = message.topic_id.as_deref().and_then(|id| id.parse().ok()).ok_or(NoSpace)?;
    let event_type = event_type(message);
    let id = event_id(circumstances.account, message, raw);
    let (created_at, modified_at) = (time(message.created.as_deref()), time(message.modified.as_deref()));
    let occurred_at = modified_at.or(created_at).unwrap_or(circumstances.received_at);
    let known = circumstances.direct.then_some(TopicType::Direct);
    let kind = message.topic_type.as_deref().and_then(TopicType::parse).or(known);
    let envelope = Envelope {
        event_type: &event_type,
        timestamp: occurred_at,
        data: Data {
            event_id: &id,
            account: circumstances.account,
            space_id: &space,
            space_type: kind.map(TopicType::as_str),
            category: message.category.as_deref().map(|category| api_category(split_category(category).0)),
            own: circumstances.own,
            message: NormalisedMessage::of(message),
            recovered: circumstances.recovered,
            upstream: raw,
        },
    };
    let body = envelope.to_body();
    Ok(NormalisedEvent { id, space, direct: kind == Some(TopicType::Direct), event_type, occurred_at, body })
}

/// The bridge's word for an upstream category.
pub fn api_category(category: &str) -> &str {
    if category == "idea" { "post" } else { category }
}

/// The upstream's word for a category of the API.
pub fn upstream_category(category: &str) -> &str {
    if category == "post" { "idea" } else { category }
}

fn event_type(message: &ReceivedMessage<'_>) -> EventType {
    match message.category.as_deref().map(split_category) {
        Some(("chat" | "idea" | "task", Change::Deleted)) => EventType::MESSAGE_DELETED,
        Some(("chat" | "idea" | "task", _)) if is_deleted(message) => EventType::MESSAGE_DELETED,
        Some(("chat" | "idea" | "task", Change::Updated)) => EventType::MESSAGE_UPDATED,
        Some(("chat" | "idea" | "task", _)) if was_modified(message) => EventType::MESSAGE_UPDATED,
        Some(("chat" | "idea" | "task", _)) => EventType::MESSAGE_CREATED,
        Some(("topic.updated", _)) => EventType::SPACE_UPDATED,
        _ => EventType::MESSAGE_OTHER,
    }
}

/// What a category says of the change, where it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Unsaid,
    Created,
    Updated,
    Deleted,
}

/// The category without the change that it names. Changes of spaces come as `topic.updated`; those of messages are not documented
/// to do alike, and if they do, they are understood.
fn split_category(category: &str) -> (&str, Change) {
    let split = category.split_once('.').filter(|(base, _)| matches!(*base, "chat" | "idea" | "task"));
    match split {
        Some((base, "created")) => (base, Change::Created),
        Some((base, "updated")) => (base, Change::Updated),
        Some((base, "deleted")) => (base, Change::Deleted),
        _ => (category, Change::Unsaid),
    }
}

/// How a deletion looks is not documented; a flag in either spelling counts as one.
fn is_deleted(message: &ReceivedMessage<'_>) -> bool {
    message.is_deleted == Some(true) || message.deleted == Some(true)
}

fn was_modified(message: &ReceivedMessage<'_>) -> bool {
    message.modified.is_some() && message.modified != message.created
}

/// The same for each copy of an event, whoever received it for the account and however often: upstream id, category and the time of
/// the change. Where the upstream gives no such time, what the message says stands for it, so that an edit is not taken for a repeat.
fn event_id(account: &AccountId, message: &ReceivedMessage<'_>, raw: &RawValue) -> EventId {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    };
    add(account.as_str());
    // The history tells of the same change in other words than the socket may.
    let (category, change) = split_category(message.category.as_deref().unwrap_or_default());
    add(category);
    let is_deleted = change == Change::Deleted || is_deleted(message);
    if is_deleted {
        add("deleted");
    }
    match (message.id.as_deref(), &message.modified) {
        // That happens once.
        (Some(id), _) if is_deleted => add(id),
        (Some(id), Some(modified)) if was_modified(message) => {
            add(id);
            add(modified);
        }
        (Some(id), _) => {
            add(id);
            add("content");
            if let Some(content) = &message.content {
                add(content.body_text.as_deref().unwrap_or_default());
                add(content.description.as_deref().unwrap_or_default());
            }
        }
        (None, _) => add(raw.get()),
    }
    let digest = hash.finalize();
    EventId::from_digest(*digest.first_chunk().expect("SHA-256 gives 32 bytes"))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    event_id: &'a EventId,
    account: &'a AccountId,
    space_id: &'a SpaceId,
    space_type: Option<&'static str>,
    category: Option<&'a str>,
    own: bool,
    message: NormalisedMessage<'a>,
    recovered: bool,
    upstream: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NormalisedMessage<'a> {
    id: Option<&'a str>,
    text: Option<String>,
    html: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    sender: Option<NormalisedSender<'a>>,
    attachments: Option<Cow<'a, RawValue>>,
    reply_to: Option<&'a str>,
    created_at: Option<Timestamp>,
    modified_at: Option<Timestamp>,
}

impl<'a> NormalisedMessage<'a> {
    fn of(message: &'a ReceivedMessage<'_>) -> Self {
        let html = message.content.as_ref().and_then(|content| content.body_text.as_deref());
        let description = message.content.as_ref().and_then(|content| content.description.as_deref());
        Self {
            id: message.id.as_deref(),
            text: html.map(readable_text),
            html,
            description_text: description.map(readable_text).filter(|text| !text.is_empty()),
            description,
            sender: message.sender.as_ref().map(NormalisedSender::from),
            attachments: message.content.as_ref().and_then(|content| content.data).map(addressed),
            reply_to: message.parent.as_ref().and_then(|parent| parent.id.as_deref()),
            created_at: time(message.created.as_deref()),
            modified_at: time(message.modified.as_deref()),
        }
    }
}

fn time(text: Option<&str>) -> Option<Timestamp> {
    text.and_then(Timestamp::parse)
}

/// A message as events show it.
#[derive(Debug, Clone)]
pub struct MessageView {
    /// The space that it names.
    pub space: Option<SpaceId>,
    /// What it is, in the bridge's word.
    pub category: Option<String>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// `message` of the events' data.
    pub message: Box<RawValue>,
}

impl MessageView {
    /// Reads an object of the upstream; `None` if it is no message at all.
    pub fn read(raw: &RawValue) -> Option<Self> {
        // serde would also take a list for a structure.
        if !raw.get().starts_with('{') {
            return None;
        }
        let message: ReceivedMessage<'_> = serde_json::from_str(raw.get()).ok()?;
        let normalised = NormalisedMessage::of(&message);
        Some(Self {
            space: message.topic_id.as_deref().and_then(|id| id.parse().ok()),
            category: message.category.as_deref().map(|category| api_category(split_category(category).0).to_owned()),
            created_at: normalised.created_at,
            message: serde_json::value::to_raw_value(&normalised).ok()?,
        })
    }
}

/// Whether an object tells of a change of a message, and not of a new one.
pub fn is_change(message: &ReceivedMessage<'_>) -> bool {
    let event_type = event_type(message);
    event_type == EventType::MESSAGE_UPDATED || event_type == EventType::MESSAGE_DELETED
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NormalisedSender<'a> {
    id: Option<&'a str>,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    username: Option<&'a str>,
    display_name: Option<&'a str>,
}

impl<'a> From<&'a Sender<'_>> for NormalisedSender<'a> {
    fn from(sender: &'a Sender<'_>) -> Self {
        Self {
            id: sender.id.as_deref(),
            kind: sender.kind.as_deref(),
            username: sender.username.as_deref(),
            display_name: sender.displayname.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: &str) -> Result<NormalisedEvent, NoSpace> {
        let raw = RawValue::from_string(json.to_owned()).expect("JSON");
        let message = serde_json::from_str(raw.get()).expect("an object");
        let account = "acc_u1".parse().expect("an id");
        let received_at = Timestamp::from_millis(1_000);
        normalise(&message, &raw, Circumstances { account: &account, own: false, recovered: false, direct: false, received_at })
    }

    #[test]
    fn a_copy_is_the_same_event_and_an_edit_is_another() {
        let created = event(
            r#"{"_id":"m1","category":"chat","topicId":"s1","content":{"bodyText":"a"},"created":"2031-03-14T09:26:53.589Z"}"#,
        );
        let created = created.expect("an event");
        let copy = event(
            r#"{"topicId":"s1","category":"chat","_id":"m1","content":{"bodyText":"a"},"created":"2031-03-14T09:26:53.589Z","modified":"2031-03-14T09:26:53.589Z","loopbackMetadata":{}}"#,
        );
        let copy = copy.expect("an event");
        assert_eq!(copy.id, created.id);
        assert_eq!(created.event_type, EventType::MESSAGE_CREATED);
        let edit = event(
            r#"{"_id":"m1","category":"chat","topicId":"s1","content":{"bodyText":"b"},"created":"2031-03-14T09:26:53.589Z","modified":"2031-03-14T10:00:00.000Z"}"#,
        );
        let edit = edit.expect("an event");
        assert_ne!(edit.id, created.id);
        assert_eq!(edit.event_type, EventType::MESSAGE_UPDATED);
        let deletion = event(r#"{"_id":"m1","category":"chat","topicId":"s1","content":{"bodyText":"a"},"isDeleted":true}"#);
        let deletion = deletion.expect("an event");
        assert_ne!(deletion.id, created.id);
        assert_eq!(deletion.event_type, EventType::MESSAGE_DELETED);
        for other in [
            r#"{"_id":"m1","category":"chat.deleted","topicId":"s1","content":{"bodyText":""},"modified":"2031-03-14T10:00:00.000Z"}"#,
            r#"{"_id":"m1","category":"chat","topicId":"s1","isDeleted":true,"modified":"2031-03-14T10:00:01.000Z"}"#,
        ] {
            assert_eq!(event(other).expect("an event").id, deletion.id, "a deletion is one event, however it is told: {other}");
        }
        let silent_edit = event(r#"{"_id":"m1","category":"chat","topicId":"s1","content":{"bodyText":"c"}}"#).expect("an event");
        assert_ne!(silent_edit.id, created.id);
    }

    #[test]
    fn every_known_way_to_tell_of_a_change_is_understood() {
        for (fields, expected, category) in [
            (r#""category":"idea","deleted":true"#, EventType::MESSAGE_DELETED, "post"),
            (r#""category":"idea","isDeleted":"true""#, EventType::MESSAGE_DELETED, "post"),
            (r#""category":"idea","deleted":1"#, EventType::MESSAGE_DELETED, "post"),
            (r#""category":"task","deleted":"2031-03-14T09:26:53.589Z""#, EventType::MESSAGE_DELETED, "task"),
            (r#""category":"task","isDeleted":false"#, EventType::MESSAGE_CREATED, "task"),
            (r#""category":"task","deleted":null"#, EventType::MESSAGE_CREATED, "task"),
            (r#""category":"task","deleted":"false""#, EventType::MESSAGE_CREATED, "task"),
            (r#""category":"task","deleted":{}"#, EventType::MESSAGE_CREATED, "task"),
            (r#""category":"idea.deleted""#, EventType::MESSAGE_DELETED, "post"),
            (r#""category":"task.updated""#, EventType::MESSAGE_UPDATED, "task"),
            (r#""category":"chat.created""#, EventType::MESSAGE_CREATED, "chat"),
            (r#""category":"idea.pinned""#, EventType::MESSAGE_OTHER, "idea.pinned"),
            (r#""category":"meeting.deleted""#, EventType::MESSAGE_OTHER, "meeting.deleted"),
        ] {
            let event = event(&format!(r#"{{"_id":"m1","topicId":"s1",{fields}}}"#)).expect("an event");
            let body: serde_json::Value = serde_json::from_slice(&event.body).expect("JSON");
            assert_eq!((&event.event_type, &body["data"]["category"]), (&expected, &category.into()), "{fields}");
        }
    }

    #[test]
    fn what_is_not_known_is_an_event_all_the_same() {
        let other = event(r#"{"category":"meeting.recap","topicId":"s1"}"#).expect("an event");
        assert_eq!(other.event_type, EventType::MESSAGE_OTHER);
        assert_eq!(other.occurred_at, Timestamp::from_millis(1_000));
        assert_eq!(event(r#"{"topicId":"s1"}"#).map(|event| event.event_type), Ok(EventType::MESSAGE_OTHER));
        assert_eq!(
            event(r#"{"category":"topic.updated","topicId":"s1"}"#).map(|event| event.event_type),
            Ok(EventType::SPACE_UPDATED)
        );
        assert_eq!(event(r#"{"category":"chat"}"#), Err(NoSpace));
    }

    #[test]
    fn the_body_carries_the_message_and_the_object_as_received() {
        let json = r#"{"_id":"m1","category":"idea","topicId":"s1","topicType":"direct","sender":{"_id":"u2","displayname":"Ana"},"content":{"bodyText":"<p>it&#x27;s</p>","data":[]},"x":1}"#;
        let event = event(json).expect("an event");
        assert!(event.direct);
        let body: serde_json::Value = serde_json::from_slice(&event.body).expect("JSON");
        assert_eq!(body["type"], "message.created");
        assert_eq!(body["data"]["category"], "post");
        assert_eq!(body["data"]["message"]["text"], "it's");
        assert_eq!(body["data"]["message"]["sender"]["displayName"], "Ana");
        assert_eq!(body["data"]["upstream"], serde_json::from_str::<serde_json::Value>(json).expect("JSON"));
    }
}
