//! Posting a message over REST, the second path beside the socket: a chat message or comment, a post, a task.
//!
//! Only what is documented goes this way, because a refusal here would end a message that the socket might have carried. Mentions are
//! documented for none of the three, and of tasks the assignees, the due date and the status are marked as required. A task's status
//! stands there twice, as a word and as 0 or 1.
//!
//! Sources: <https://spaces.avayacloud.com/developers/docs/api/spaces/spaces_spaceid_chats__post/>,
//! <https://spaces.avayacloud.com/developers/docs/api/spaces/spaces_spaceid_ideas__post>,
//! <https://spaces.avayacloud.com/developers/docs/api/spaces/spaces_spaceid_tasks__post/>.

use std::borrow::Cow;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::editing::message_in;
use super::message::ReceivedMessage;
use super::rest::{Ask, NO_CONNECTION, RestClient, RestError};
use crate::domain::{Credential, SpaceId};
use crate::governor::RestClass;

/// A message as REST takes it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestMessage<'a> {
    #[serde(skip)]
    resource: Resource,
    content: RestContent<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_msg: Option<&'a RawValue>,
    #[serde(flatten)]
    task: Option<RestTask<'a>>,
}

/// What messages of a kind are to REST.
#[derive(Debug, Clone, Copy)]
enum Resource {
    Chats,
    Ideas,
    Tasks,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RestContent<'a> {
    body_text: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

/// What a task says outside its content.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RestTask<'a> {
    assignees: Vec<Cow<'a, str>>,
    due_date: Cow<'a, str>,
    status: u8,
}

/// Why a message goes over the socket alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Spaces does not document that its REST API takes {0}")]
pub struct SocketOnly(&'static str);

/// The argument of `SEND_MESSAGE`, as far as it decides whether REST can carry it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    #[serde(borrow)]
    category: Cow<'a, str>,
    #[serde(borrow)]
    content: &'a RawValue,
    #[serde(borrow, default)]
    parent_msg: Option<&'a RawValue>,
    #[serde(default)]
    mentions: Option<serde::de::IgnoredAny>,
}

/// All that is documented of a message's content.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Content<'a> {
    #[serde(borrow)]
    body_text: &'a RawValue,
    #[serde(borrow, default)]
    description: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    assignees: Option<Vec<Assignee<'a>>>,
    #[serde(borrow, default)]
    due_date: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    status: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Assignee<'a> {
    #[serde(rename = "_id", borrow)]
    id: Cow<'a, str>,
}

impl Resource {
    fn parse(category: &str) -> Option<Self> {
        match category {
            "chat" => Some(Self::Chats),
            "idea" => Some(Self::Ideas),
            "task" => Some(Self::Tasks),
            _ => None,
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Chats => "chats",
            Self::Ideas => "ideas",
            Self::Tasks => "tasks",
        }
    }
}

impl<'a> RestMessage<'a> {
    /// What `payload`, the argument of `SEND_MESSAGE`, is over REST, or why it is nothing there.
    pub fn of(payload: &'a str) -> Result<Self, SocketOnly> {
        let odd = |_| SocketOnly("a message of this form");
        let Payload { category, content, parent_msg, mentions } = serde_json::from_str(payload).map_err(odd)?;
        let content: Content<'a> = serde_json::from_str(content.get()).map_err(odd)?;
        if mentions.is_some() {
            return Err(SocketOnly("mentions"));
        }
        let resource = Resource::parse(&category).ok_or(SocketOnly("messages of this category"))?;
        let is_task = matches!(resource, Resource::Tasks);
        if !is_task && (content.assignees.is_some() || content.due_date.is_some() || content.status.is_some()) {
            return Err(SocketOnly("what makes a task in other messages"));
        }
        match resource {
            Resource::Chats if content.description.is_some() => return Err(SocketOnly("a description of a chat message")),
            Resource::Ideas | Resource::Tasks if parent_msg.is_some() => return Err(SocketOnly("posts and tasks as comments")),
            Resource::Chats | Resource::Ideas | Resource::Tasks => {}
        }
        let Content { body_text, description, data, .. } = content;
        let (task, status) = if is_task {
            let (word, status) = task_status(content.status.as_deref())?;
            let assignees = content.assignees.unwrap_or_default().into_iter().map(|assignee| assignee.id).collect::<Vec<_>>();
            if assignees.is_empty() {
                return Err(SocketOnly("a task without assignees"));
            }
            let due_date = content.due_date.ok_or(SocketOnly("a task without a due date"))?;
            (Some(RestTask { assignees, due_date, status }), Some(word))
        } else {
            (None, None)
        };
        Ok(Self { resource, content: RestContent { body_text, description, status, data }, parent_msg, task })
    }
}

/// A task's status as its word and its number; `complete` is the socket's spelling.
fn task_status(word: Option<&str>) -> Result<(&'static str, u8), SocketOnly> {
    match word {
        None | Some("pending") => Ok(("pending", 0)),
        Some("completed" | "complete") => Ok(("completed", 1)),
        Some(_) => Err(SocketOnly("this status of a task")),
    }
}

/// A message that REST took.
#[derive(Debug, Clone)]
pub struct PostedMessage {
    /// The id that Spaces gave it.
    pub id: String,
    /// When Spaces says it was created, as it says it.
    pub created: Option<String>,
    /// The message as Spaces answered it.
    pub message: Box<RawValue>,
}

/// Why a message was not posted, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// It was not: later it may be.
    #[error("the message was not posted over REST")]
    NotSent(#[source] RestError),
    /// Spaces refused it.
    #[error("Spaces refused the message")]
    Refused(#[source] RestError),
    /// It may have been.
    #[error("it is not known whether the message was posted over REST")]
    Unknown(#[source] RestError),
}

impl RestClient {
    /// Posts a message (`POST /api/spaces/{id}/chats`, `…/ideas`, `…/tasks`), and has people told of it as the socket does.
    pub async fn post_message(
        &self,
        credential: &Credential,
        space: &SpaceId,
        message: &RestMessage<'_>,
    ) -> Result<PostedMessage, PostError> {
        let body = serde_json::to_vec(message).expect("a message of JSON serialises");
        let mut url = self.path(&["api", "spaces", space.as_str(), message.resource.path()]);
        match message.resource {
            Resource::Chats => {}
            Resource::Ideas | Resource::Tasks => url.set_query(Some("notify=true")),
        }
        let ask = Ask { class: RestClass::Interactive, credential, password: None };
        let answer = self.ask(ask, Method::POST, url, Some(body)).await.map_err(classify)?;
        let unreadable = || PostError::Unknown(RestError::Unreadable { detail: "no message in the answer" });
        let message = message_in(&answer, |id| !id.is_empty()).ok_or_else(unreadable)?;
        let received: ReceivedMessage<'_> = serde_json::from_str(message.get()).map_err(|_| unreadable())?;
        let id = received.id.as_deref().ok_or_else(unreadable)?.to_owned();
        let created = received.created.as_deref().map(str::to_owned);
        Ok(PostedMessage { id, created, message })
    }
}

/// A refusal by status tells that the message was not taken; a failure after the request has left tells nothing.
fn classify(error: RestError) -> PostError {
    match &error {
        RestError::Refused { status: 401 | 429, .. }
        | RestError::Limited { .. }
        | RestError::Unreachable { detail: NO_CONNECTION } => PostError::NotSent(error),
        RestError::Refused { status, .. } if (400..500).contains(status) && *status != 408 => PostError::Refused(error),
        RestError::Refused { .. } | RestError::Unreachable { .. } | RestError::Unreadable { .. } => PostError::Unknown(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over_rest(payload: &str) -> Result<(&'static str, String), String> {
        let message = RestMessage::of(payload).map_err(|why| why.to_string())?;
        Ok((message.resource.path(), serde_json::to_string(&message).expect("JSON")))
    }

    #[test]
    fn what_is_documented_goes_over_rest_in_the_documented_form() {
        for (payload, path, body) in [
            (
                r#"{"category":"chat","topicId":"s1","content":{"bodyText":"a","data":[]},"parentMsg":{"_id":"p1"},"loopbackMetadata":{"ref":"ref_1"}}"#,
                "chats",
                r#"{"content":{"bodyText":"a","data":[]},"parentMsg":{"_id":"p1"}}"#,
            ),
            (
                r#"{"category":"chat","content":{"bodyText":"a","data":[{"fileId":"f"}]}}"#,
                "chats",
                r#"{"content":{"bodyText":"a","data":[{"fileId":"f"}]}}"#,
            ),
            (
                r#"{"category":"idea","chatMessages":{},"version":"1.1","content":{"bodyText":"a\u00e4","description":"<p>b</p>","data":[]}}"#,
                "ideas",
                r#"{"content":{"bodyText":"a\u00e4","description":"<p>b</p>","data":[]}}"#,
            ),
            (
                r#"{"category":"task","content":{"bodyText":"a","data":[],"assignees":[{"_id":"u1"},{"_id":"u2"}],"dueDate":"2031-03-14T17:00:00.000Z","status":"pending"}}"#,
                "tasks",
                r#"{"content":{"bodyText":"a","status":"pending","data":[]},"assignees":["u1","u2"],"dueDate":"2031-03-14T17:00:00.000Z","status":0}"#,
            ),
            (
                r#"{"category":"task","content":{"bodyText":"a","assignees":[{"_id":"u1"}],"dueDate":"d","status":"complete"}}"#,
                "tasks",
                r#"{"content":{"bodyText":"a","status":"completed"},"assignees":["u1"],"dueDate":"d","status":1}"#,
            ),
        ] {
            assert_eq!(over_rest(payload), Ok((path, body.to_owned())), "{payload}");
        }
    }

    #[test]
    fn what_is_not_documented_stays_on_the_socket_and_says_why() {
        let task =
            r#"{"category":"task","content":{"bodyText":"a","assignees":[{"_id":"u1"}],"dueDate":"d","status":"pending"}}"#;
        assert!(over_rest(task).is_ok());
        for (payload, why) in [
            (r#"{"category":"chat","content":{"bodyText":"a"},"mentions":[{"id":"u1"}]}"#.to_owned(), "mentions"),
            (r#"{"category":"idea","content":{"bodyText":"a"},"mentions":[{"id":"u1"}]}"#.to_owned(), "mentions"),
            (r#"{"category":"idea","content":{"bodyText":"a","status":"pending"}}"#.to_owned(), "makes a task"),
            (r#"{"category":"idea","content":{"bodyText":"a"},"parentMsg":{"_id":"p1"}}"#.to_owned(), "as comments"),
            (r#"{"category":"chat","content":{"bodyText":"a","description":"b"}}"#.to_owned(), "description"),
            (r#"{"category":"chat","content":{"bodyText":"a","more":1}}"#.to_owned(), "of this form"),
            (r#"{"category":"chat"}"#.to_owned(), "of this form"),
            (r#"{"category":"topic","content":{"bodyText":"a"}}"#.to_owned(), "of this category"),
            (task.replace(r#"{"_id":"u1"}"#, ""), "without assignees"),
            (task.replace(r#""assignees":[{"_id":"u1"}],"#, ""), "without assignees"),
            (task.replace(r#""dueDate":"d","#, ""), "without a due date"),
            (task.replace(r#""d""#, "null"), "without a due date"),
            (task.replace("pending", "half"), "this status"),
        ] {
            let found = over_rest(&payload).expect_err(&payload);
            assert!(found.contains(why), "{payload}: {found}");
        }
    }

    #[test]
    fn what_a_failure_says_of_the_message_is_known() {
        let refused = |status| RestError::Refused { status, code: None, message: None, retry_after: None };
        for (error, expected) in [
            (refused(401), "not sent"),
            (refused(429), "not sent"),
            (refused(403), "refused"),
            (refused(404), "refused"),
            (refused(408), "unknown"),
            (refused(500), "unknown"),
            (refused(302), "unknown"),
            (RestError::Unreachable { detail: NO_CONNECTION }, "not sent"),
            (RestError::Unreachable { detail: "no answer in time" }, "unknown"),
            (RestError::Unreadable { detail: "too large" }, "unknown"),
        ] {
            let words = error.to_string();
            let found = match classify(error) {
                PostError::NotSent(_) => "not sent",
                PostError::Refused(_) => "refused",
                PostError::Unknown(_) => "unknown",
            };
            assert_eq!(found, expected, "{words}");
        }
    }
}
