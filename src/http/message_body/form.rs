//! The bridge's own form of a message, read and checked.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::error::ApiError;
use super::super::extract::parse_json;
use super::super::people::is_email;
use super::{Attachment, below};
use crate::domain::{InvalidId, SpaceId, Timestamp};

/// Most mentions and most assignees of one message.
const MAX_PEOPLE: usize = 100;

/// Most attachments of one message.
const MAX_ATTACHMENTS: usize = 100;

/// Longest name in a mention, in characters.
const MAX_NAME: usize = 256;

/// A message in the bridge's own form.
#[derive(Debug)]
pub(in crate::http) struct OwnMessage {
    pub(super) kind: Kind,
    pub(super) words: Option<Words>,
    pub(super) mentions: Vec<Mention>,
    pub(super) attachments: Vec<Attachment>,
    /// Whether words that are too long for one message become several.
    pub(super) split: bool,
}

/// What a message is, with what only such a message has.
#[derive(Debug)]
pub(super) enum Kind {
    /// A chat message, or a comment.
    Chat { reply_to: Option<String> },
    /// A post.
    Post { title: String },
    /// A task.
    Task { title: String, assignees: Vec<Person>, due_date: Option<Timestamp>, status: TaskStatus },
}

/// What a message says.
#[derive(Debug)]
pub(in crate::http) enum Words {
    Text(String),
    Markdown(String),
    Html(String),
    /// The text of a post or task, under the name that Spaces has for it.
    Description(String),
}

/// Somebody, as callers name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Person {
    /// By the id in Spaces.
    Id(String),
    /// By an e-mail address.
    Email(String),
}

/// Somebody who is mentioned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mention {
    pub(super) id: String,
    pub(super) name: String,
}

/// The category of a message of the bridge's own form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Category {
    #[default]
    Chat,
    Post,
    Task,
}

/// How far a task is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum TaskStatus {
    /// Still to be done.
    #[default]
    Pending,
    /// Done.
    Completed,
}

/// Every field that a message of the bridge's own form may have.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fields {
    #[serde(default)]
    category: Category,
    text: Option<String>,
    markdown: Option<String>,
    html: Option<String>,
    title: Option<String>,
    description: Option<String>,
    reply_to: Option<MessageId>,
    #[serde(default)]
    mentions: Vec<MentionField>,
    #[serde(default)]
    attachments: Vec<Attachment>,
    assignees: Option<Vec<String>>,
    due_date: Option<Timestamp>,
    status: Option<TaskStatus>,
    split: Option<bool>,
}

/// A mention: the id alone, or with the name to show.
#[derive(Deserialize)]
#[serde(untagged)]
enum MentionField {
    Id(String),
    #[serde(rename_all = "camelCase")]
    Named(NamedMention),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NamedMention {
    id: String,
    #[serde(default)]
    name: String,
}

/// The id of a message in Spaces.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct MessageId(String);

impl TryFrom<String> for MessageId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_id(&text) { Ok(Self(text)) } else { Err("not a valid message id") }
    }
}

/// Whether this looks like an id of Spaces, all of which are of one alphabet.
pub(super) fn is_id(text: &str) -> bool {
    let id: Result<SpaceId, InvalidId> = SpaceId::from_str(text);
    id.is_ok()
}

impl OwnMessage {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let mut fields: Fields = parse_json(bytes)?;
        let words = fields.words()?;
        let mentions = mentions(std::mem::take(&mut fields.mentions))?;
        let attachments = std::mem::take(&mut fields.attachments);
        if attachments.len() > MAX_ATTACHMENTS {
            return Err(ApiError::field("/attachments", format!("a message has {MAX_ATTACHMENTS} attachments at most")));
        }
        for (index, attachment) in attachments.iter().enumerate() {
            attachment.check().map_err(|error| below(&format!("/attachments/{index}"), error))?;
        }
        let split = fields.split.unwrap_or_default();
        Ok(Self { kind: fields.kind()?, words, mentions, attachments, split })
    }
}

impl Fields {
    /// What is said, in the one way that is given.
    fn words(&mut self) -> Result<Option<Words>, ApiError> {
        let given = [
            ("/text", self.text.take().map(Words::Text)),
            ("/markdown", self.markdown.take().map(Words::Markdown)),
            ("/html", self.html.take().map(Words::Html)),
            ("/description", self.description.take().map(Words::Description)),
        ];
        let mut words = None;
        for (pointer, given) in given {
            let Some(given) = given else { continue };
            if words.is_some() {
                let detail =
                    "a message says what it says in one way: `text`, `markdown`, `html`, or, of a post or task, `description`";
                return Err(ApiError::field(pointer, detail));
            }
            words = Some(given);
        }
        if self.category == Category::Chat && matches!(words, Some(Words::Description(_))) {
            return Err(ApiError::field("/description", "only a post or a task has a description"));
        }
        Ok(words)
    }

    fn kind(self) -> Result<Kind, ApiError> {
        let only = |pointer: &str, is_there: bool, whose: &str| {
            if is_there { Err(ApiError::field(pointer, format!("only {whose}"))) } else { Ok(()) }
        };
        if self.category != Category::Task {
            only("/assignees", self.assignees.is_some(), "a task has assignees")?;
            only("/dueDate", self.due_date.is_some(), "a task has a due date")?;
            only("/status", self.status.is_some(), "a task has a status")?;
        }
        if self.category == Category::Chat {
            only("/title", self.title.is_some(), "a post or a task has a title")?;
            return Ok(Kind::Chat { reply_to: self.reply_to.map(|id| id.0) });
        }
        only("/replyTo", self.reply_to.is_some(), "a chat message is a comment")?;
        only("/split", self.split.is_some(), "a chat message can be split; a post or a task is one")?;
        let title = self.title.filter(|title| !title.trim().is_empty());
        let title = title.ok_or_else(|| ApiError::field("/title", "a post or a task has a title"))?;
        if self.category == Category::Post {
            return Ok(Kind::Post { title });
        }
        let assignees = people(self.assignees.unwrap_or_default())?;
        Ok(Kind::Task { title, assignees, due_date: self.due_date, status: self.status.unwrap_or_default() })
    }
}

fn mentions(fields: Vec<MentionField>) -> Result<Vec<Mention>, ApiError> {
    if fields.len() > MAX_PEOPLE {
        return Err(ApiError::field("/mentions", format!("a message mentions {MAX_PEOPLE} people at most")));
    }
    let mention = |(index, field)| {
        let (id, name) = match field {
            MentionField::Id(id) => (id, String::new()),
            MentionField::Named(NamedMention { id, name }) => (id, name),
        };
        if !is_id(&id) {
            return Err(ApiError::field(format!("/mentions/{index}"), "not a valid user id"));
        }
        if name.chars().count() > MAX_NAME {
            return Err(ApiError::field(format!("/mentions/{index}"), format!("a name has {MAX_NAME} characters at most")));
        }
        Ok(Mention { id, name })
    };
    fields.into_iter().enumerate().map(mention).collect()
}

/// Users by their ids or addresses, each once.
fn people(named: Vec<String>) -> Result<Vec<Person>, ApiError> {
    if named.len() > MAX_PEOPLE {
        return Err(ApiError::field("/assignees", format!("a task has {MAX_PEOPLE} assignees at most")));
    }
    let mut people = Vec::with_capacity(named.len());
    for (index, name) in named.into_iter().enumerate() {
        let person = match name {
            name if is_email(&name) => Person::Email(name),
            name if is_id(&name) => Person::Id(name),
            _ => return Err(ApiError::field(format!("/assignees/{index}"), "neither a user id nor an e-mail address")),
        };
        if !people.contains(&person) {
            people.push(person);
        }
    }
    Ok(people)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(body: &str) -> String {
        match OwnMessage::parse(body.as_bytes()) {
            Err(ApiError::InvalidBody(errors)) => errors[0].pointer.clone(),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        for (body, expected) in [
            (r#"{"text":"a","html":"b"}"#, "/html"),
            (r#"{"text":"a","markdown":"b"}"#, "/markdown"),
            (r#"{"category":"post","title":"t","text":"a","description":"b"}"#, "/description"),
            (r#"{"text":"a","title":"t"}"#, "/title"),
            (r#"{"description":"a"}"#, "/description"),
            (r#"{"text":"a","assignees":[]}"#, "/assignees"),
            (r#"{"category":"post","title":"t","dueDate":"2031-03-14T17:00:00Z"}"#, "/dueDate"),
            (r#"{"category":"post","title":"t","status":"pending"}"#, "/status"),
            (r#"{"category":"post","text":"a"}"#, "/title"),
            (r#"{"category":"task","title":" "}"#, "/title"),
            (r#"{"category":"task","title":"t","replyTo":"m1"}"#, "/replyTo"),
            (r#"{"category":"task","title":"t","assignees":["u1","not one"]}"#, "/assignees/1"),
            (r#"{"text":"a","mentions":["u1","u/2"]}"#, "/mentions/1"),
            (r#"{"category":"idea","title":"t"}"#, "/category"),
            (r#"{"category":"post","title":"t","split":true}"#, "/split"),
            (r#"{"category":"task","title":"t","split":false}"#, "/split"),
            (r#"{"text":"a","split":1}"#, "/split"),
            (r#"{"text":"a","colour":"red"}"#, "/colour"),
        ] {
            assert_eq!(pointer(body), expected, "{body}");
        }
    }

    #[test]
    fn people_are_named_by_id_or_address_and_once() {
        let body = br#"{"category":"task","title":"t","assignees":["u1","bo@corp.example","u1"]}"#;
        let Kind::Task { assignees, status, .. } = OwnMessage::parse(body).expect("a task").kind else { panic!("no task") };
        assert_eq!(assignees, [Person::Id("u1".to_owned()), Person::Email("bo@corp.example".to_owned())]);
        assert_eq!(status, TaskStatus::Pending);
    }
}
