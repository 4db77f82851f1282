//! Posting a chat message over REST, the second path beside the socket.
//!
//! Source: <https://spaces.avayacloud.com/developers/docs/api/spaces/spaces_spaceid_chats__post/>.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::message::ReceivedMessage;
use super::rest::{NO_CONNECTION, RestClient, RestError};
use crate::domain::{Credential, SpaceId};
use crate::governor::RestClass;

/// A chat message without files, as REST takes it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatBody<'a> {
    content: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_msg: Option<&'a RawValue>,
}

/// The argument of `SEND_MESSAGE`, as far as it decides whether REST can carry it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    category: &'a str,
    #[serde(borrow)]
    content: &'a RawValue,
    #[serde(borrow, default)]
    parent_msg: Option<&'a RawValue>,
    #[serde(default)]
    mentions: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    data: Vec<serde::de::IgnoredAny>,
}

impl<'a> ChatBody<'a> {
    /// What `payload`, the argument of `SEND_MESSAGE`, is over REST; none if it is no plain chat message.
    pub fn of(payload: &'a str) -> Option<Self> {
        let payload: Payload<'a> = serde_json::from_str(payload).ok()?;
        let content: Content = serde_json::from_str(payload.content.get()).ok()?;
        let is_plain = payload.category == "chat" && content.data.is_empty() && payload.mentions.is_none();
        is_plain.then_some(Self { content: payload.content, parent_msg: payload.parent_msg })
    }
}

/// A message that REST took.
#[derive(Debug, Clone)]
pub struct PostedChat {
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
    /// Posts a chat message (`POST /api/spaces/{id}/chats`).
    pub async fn post_chat(
        &self,
        credential: &Credential,
        space: &SpaceId,
        body: &ChatBody<'_>,
    ) -> Result<PostedChat, PostError> {
        let body = serde_json::to_vec(body).expect("a message of JSON serialises");
        let url = self.path(&["api", "spaces", space.as_str(), "chats"]);
        let message: Box<RawValue> =
            self.exchange((RestClass::Interactive, credential), Method::POST, url, Some(body)).await.map_err(classify)?;
        let unreadable = || PostError::Unknown(RestError::Unreadable { detail: "no message in the answer" });
        let received: ReceivedMessage<'_> = serde_json::from_str(message.get()).map_err(|_| unreadable())?;
        let id = received.id.as_deref().filter(|id| !id.is_empty()).ok_or_else(unreadable)?.to_owned();
        let created = received.created.as_deref().map(str::to_owned);
        Ok(PostedChat { id, created, message })
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

    #[test]
    fn only_plain_chat_messages_go_over_rest() {
        let plain = r#"{"category":"chat","topicId":"s1","content":{"bodyText":"a","data":[]},"parentMsg":{"_id":"p1"},"loopbackMetadata":{"ref":"ref_1"}}"#;
        let body = ChatBody::of(plain).expect("a plain message");
        let json = serde_json::to_string(&body).expect("JSON");
        assert_eq!(json, r#"{"content":{"bodyText":"a","data":[]},"parentMsg":{"_id":"p1"}}"#);
        for other in [
            r#"{"category":"idea","content":{"bodyText":"a"}}"#,
            r#"{"category":"chat","content":{"bodyText":"a","data":[{"fileId":"f"}]}}"#,
            r#"{"category":"chat","content":{"bodyText":"a"},"mentions":[{"id":"u1"}]}"#,
            r#"{"category":"chat"}"#,
        ] {
            assert!(ChatBody::of(other).is_none(), "{other}");
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
