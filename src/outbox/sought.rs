//! A message that is looked for: what it looks like in the upstream's history.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::Timestamp;
use crate::upstream::{Beside, CHAT_CATEGORY, ReceivedMessage, plain_text};

/// What tells a message from others. Without its reference, which the history does not show, nothing tells it from another of the
/// same words by the same user at the same time.
#[derive(Debug)]
pub(super) struct Sought<'a> {
    pub(super) user_id: &'a str,
    pub(super) space: &'a str,
    pub(super) category: &'a str,
    pub(super) plain_text: &'a str,
    /// Not created before.
    pub(super) from: Timestamp,
    /// The files that it carries, in no order.
    files: Vec<String>,
    /// What it comments on.
    parent: Option<String>,
    /// What a post or task says beside its title.
    beside: Beside,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Payload {
    content: Content,
    #[serde(rename = "parentMsg")]
    parent: Option<Parent>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Content {
    data: Vec<File>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct File {
    #[serde(rename = "fileId")]
    id: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Parent {
    #[serde(rename = "_id")]
    id: Option<String>,
}

impl<'a> Sought<'a> {
    /// The message whose argument of `SEND_MESSAGE` was `payload`.
    pub(super) fn new(
        payload: &str,
        (user_id, space): (&'a str, &'a str),
        (category, plain_text): (&'a str, &'a str),
        from: Timestamp,
    ) -> Self {
        let beside = Beside::of(payload);
        let payload: Payload = serde_json::from_str(payload).unwrap_or_default();
        let parent = payload.parent.and_then(|parent| parent.id);
        Self { user_id, space, category, plain_text, from, files: ids(payload.content.data), parent, beside }
    }

    /// Whether `message`, from the history, says beside its text what the message says. What it does not say speaks for it.
    pub(super) fn agrees(&self, message: &RawValue) -> bool {
        self.category == CHAT_CATEGORY || self.beside.may_be(&Beside::of(message.get()))
    }

    /// Whether `message`, from the history, may be it. What the history does not say speaks for it: a message that is taken for
    /// another is not sent twice.
    pub(super) fn may_be(&self, message: &ReceivedMessage<'_>) -> bool {
        let sender = message.sender.as_ref().and_then(|sender| sender.id.as_deref());
        let content = message.content.as_ref();
        let text = content.and_then(|content| content.body_text.as_deref()).unwrap_or_default();
        let created = message.created.as_deref().and_then(Timestamp::parse);
        let parent = message.parent.as_ref().and_then(|parent| parent.id.as_deref());
        sender == Some(self.user_id)
            && message.topic_id.as_deref().is_none_or(|space| space == self.space)
            && message.category.as_deref().is_none_or(|word| word.split('.').next() == Some(self.category))
            && created.is_none_or(|created| created >= self.from)
            && (self.parent.as_deref() == parent || (self.parent.is_some() && parent.is_none()))
            && plain_text(text) == self.plain_text
            && files_of(content.and_then(|content| content.data)).is_none_or(|files| files == self.files)
    }
}

fn files_of(data: Option<&RawValue>) -> Option<Vec<String>> {
    serde_json::from_str::<Vec<File>>(data?.get()).ok().map(ids)
}

fn ids(files: Vec<File>) -> Vec<String> {
    let mut ids: Vec<String> = files.into_iter().filter_map(|file| file.id).collect();
    ids.sort();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_be(payload: &str, message: &str) -> bool {
        let from = Timestamp::parse("2031-03-14T09:26:00.000Z").expect("a time");
        let sought = Sought::new(payload, ("u1", "s1"), ("chat", "it's up"), from);
        sought.may_be(&serde_json::from_str(message).expect("an object"))
    }

    #[test]
    fn a_message_is_known_by_sender_space_kind_words_time_files_and_parent() {
        let plain = r#"{"content":{"bodyText":"it&#x27;s up","data":[]}}"#;
        let filed = r#"{"content":{"bodyText":"it's up","data":[{"fileId":"a"},{"fileId":"b"}]}}"#;
        let comment = r#"{"content":{"bodyText":"it's up"},"parentMsg":{"_id":"p1"}}"#;
        let it = r#"{"_id":"m1","category":"chat","topicId":"s1","sender":{"_id":"u1"},"created":"2031-03-14T09:26:01.000Z","content":{"bodyText":"<p>it&#x27;s   up</p>"}}"#;
        assert!(may_be(plain, it) && may_be(comment, it) && may_be(filed, it), "what is not said speaks for it");
        for (payload, from, to) in [
            (plain, r#""_id":"u1""#, r#""_id":"u2""#),
            (plain, r#""s1""#, r#""s2""#),
            (plain, r#""chat""#, r#""task""#),
            (plain, "09:26:01", "09:25:59"),
            (plain, "up", "down"),
            (plain, r#""sender""#, r#""parentMsg":{"_id":"p1"},"sender""#),
            (comment, r#""sender""#, r#""parentMsg":{"_id":"p2"},"sender""#),
            (plain, r#"{"bodyText""#, r#"{"data":[{"fileId":"a"}],"bodyText""#),
            (filed, r#"{"bodyText""#, r#"{"data":[{"fileId":"a"}],"bodyText""#),
        ] {
            assert!(!may_be(payload, &it.replace(from, to)), "{payload} {to}");
        }
        let with_files = it.replace(r#"{"bodyText""#, r#"{"data":[{"fileId":"b"},{"fileId":"a"}],"bodyText""#);
        assert!(may_be(filed, &with_files));
    }
}
