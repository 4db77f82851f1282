//! A message that is looked for: what it looks like in the upstream's history.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::domain::Timestamp;
use crate::upstream::{CHAT_CATEGORY, ReceivedMessage, plain_text};

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
    beside: Known,
}

/// What a post or task says beside its title, in a form in which it compares.
#[derive(Debug)]
struct Known {
    /// As a reader sees it.
    description: Option<String>,
    /// In no order.
    assignees: Option<Vec<String>>,
    due_date: Option<Timestamp>,
}

impl From<Beside> for Known {
    fn from(beside: Beside) -> Self {
        let id = |assignee| match assignee {
            Assignee::Id(id) | Assignee::Whole { id } => id,
        };
        let assignees = beside.assignees.map(|assignees| {
            let mut ids: Vec<_> = assignees.into_iter().map(id).collect();
            ids.sort();
            ids
        });
        let description = beside.description.map(|html| plain_text(&html).into());
        Self { description, assignees, due_date: beside.due_date.as_deref().and_then(Timestamp::parse) }
    }
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
    #[serde(flatten)]
    beside: Beside,
}

/// What a post or task says beside its title and files. What has another shape says nothing.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Beside {
    #[serde(deserialize_with = "if_readable")]
    description: Option<String>,
    #[serde(deserialize_with = "if_readable")]
    assignees: Option<Vec<Assignee>>,
    #[serde(rename = "dueDate", deserialize_with = "if_readable")]
    due_date: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Assignee {
    Id(String),
    Whole {
        #[serde(rename = "_id")]
        id: String,
    },
}

fn if_readable<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
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
        let payload: Payload = serde_json::from_str(payload).unwrap_or_default();
        let parent = payload.parent.and_then(|parent| parent.id);
        let Content { data, beside } = payload.content;
        Self { user_id, space, category, plain_text, from, files: ids(data), parent, beside: beside.into() }
    }

    /// Whether `message`, from the history, says beside its text what the message says. What it does not say speaks for it.
    pub(super) fn agrees(&self, message: &RawValue) -> bool {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Message {
            content: Beside,
        }
        if self.category == CHAT_CATEGORY {
            return true;
        }
        let Ok(message) = serde_json::from_str::<Message>(message.get()) else { return true };
        let (asked, found) = (&self.beside, Known::from(message.content));
        let same_people = |found: &Vec<String>| found.is_empty() || asked.assignees.as_ref() == Some(found);
        let same_date = |found: &Timestamp| asked.due_date.as_ref() == Some(found);
        found.description.is_none_or(|found| found.is_empty() || asked.description.as_ref() == Some(&found))
            && found.assignees.as_ref().is_none_or(same_people)
            && found.due_date.as_ref().is_none_or(same_date)
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
    fn a_post_or_task_is_known_by_what_it_says_beside_its_title_too() {
        let payload = r#"{"content":{"bodyText":"Rotate keys","description":"<p>before   Friday</p>","assignees":[{"_id":"b"},{"_id":"a"}],
            "dueDate":"2031-03-14T09:26:53.589Z"}}"#;
        let from = Timestamp::parse("2031-03-14T09:26:00.000Z").expect("a time");
        let agrees = |category, content: &str| {
            let sought = Sought::new(payload, ("u1", "s1"), (category, "Rotate keys"), from);
            sought.agrees(&RawValue::from_string(format!(r#"{{"content":{content}}}"#)).expect("JSON"))
        };
        let it = r#"{"description":"before Friday","assignees":[{"_id":"a","displayname":"Ana"},{"_id":"b"}],"dueDate":"2031-03-14T09:26:53.589Z"}"#;
        assert!(agrees("task", it) && agrees("task", "{}") && agrees("task", "7"));
        assert!(agrees("task", r#"{"description":"","assignees":[],"dueDate":null}"#), "what is not said speaks for it");
        assert!(agrees("task", r#"{"description":7,"assignees":"x","dueDate":"soon"}"#), "so does what nobody can read");
        assert!(agrees("task", &it.replace(r#"{"_id":"b"}"#, r#""b""#)));
        for (from, to) in
            [("Friday", "Monday"), (r#"{"_id":"b"}"#, r#"{"_id":"c"}"#), (r#",{"_id":"b"}"#, ""), (":53.589", ":54.589")]
        {
            assert!(!agrees("task", &it.replace(from, to)), "{to}");
            assert!(agrees("chat", &it.replace(from, to)));
        }
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
