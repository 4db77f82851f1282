//! Changing what is there: editing and deleting messages, and the mark of how far a space was read.
//!
//! Sources: <https://spaces.avayacloud.com/developers/docs/api/messages/messages_id__post>,
//! <https://spaces.avayacloud.com/developers/docs/api/messages/messages_deletemessages/>, and client code for the mark.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::reading::InSpace;
use super::rest::{Ask, RestClient, RestError, read_json};
use crate::governor::RestClass;

/// What became of a message that was to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletion {
    /// It is deleted.
    Deleted,
    /// There is no such message.
    NotFound,
    /// The user may not delete it.
    NotPermitted(Reason),
    /// It was not deleted for another reason.
    NotDeleted(Reason),
}

/// Why a message was not deleted, as far as Spaces says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reason {
    /// Its code.
    pub code: Option<String>,
    /// Its words.
    pub message: Option<String>,
}

#[derive(Serialize)]
struct Edit<'a> {
    #[serde(rename = "_id")]
    id: &'a str,
    content: &'a Value,
}

impl RestClient {
    /// Gives a message another content (`POST /api/messages/{id}`). Answers the message as Spaces does, if it does.
    pub async fn edit_message(&self, at: InSpace<'_>, id: &str, content: &Value) -> Result<Option<Box<RawValue>>, RestError> {
        let body = serde_json::to_vec(&Edit { id, content }).expect("a content of JSON serialises");
        let url = self.path(&["api", "messages", id]);
        let answer = self.ask(ask(at), Method::POST, url, Some(body)).await?;
        Ok(message_in(&answer, |found| found == id))
    }

    /// Deletes a message (`POST /api/messages/deletemessages`).
    pub async fn delete_message(&self, at: InSpace<'_>, id: &str) -> Result<Deletion, RestError> {
        let body = serde_json::to_vec(&[id]).expect("a list of texts serialises");
        let url = self.path(&["api", "messages", "deletemessages"]);
        let lists: Lists = read_json(&self.ask(ask(at), Method::POST, url, Some(body)).await?)?;
        lists.tell(id).ok_or(RestError::Unreadable { detail: "nothing of the message in the answer" })
    }

    /// Marks all that is in the space as read (`POST /api/users/me/spaces/{id}/markread`).
    pub async fn mark_read(&self, at: InSpace<'_>) -> Result<(), RestError> {
        let url = self.path(&["api", "users", "me", "spaces", at.space.as_str(), "markread"]);
        self.ask(ask(at), Method::POST, url, Some(b"{}".to_vec())).await.map(drop)
    }
}

fn ask(at: InSpace<'_>) -> Ask<'_> {
    Ask { class: RestClass::Interactive, credential: at.credential, password: at.password }
}

/// The message in an answer, which may be the message itself or wrap it, if its id is one that is looked for.
pub(super) fn message_in(answer: &[u8], is_sought: impl Fn(&str) -> bool) -> Option<Box<RawValue>> {
    #[derive(Deserialize)]
    struct Wrapped<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "_id")]
        id: String,
    }
    let bare: &RawValue = serde_json::from_slice(answer).ok()?;
    let wrapped = serde_json::from_str::<Wrapped<'_>>(bare.get()).ok().map(|wrapped| wrapped.data);
    let listed = wrapped.and_then(|data| serde_json::from_str::<Vec<&RawValue>>(data.get()).ok()).unwrap_or_default();
    let is_it = |raw: &&RawValue| serde_json::from_str::<Named>(raw.get()).is_ok_and(|named| is_sought(&named.id));
    [Some(bare), wrapped].into_iter().flatten().chain(listed).find(is_it).map(ToOwned::to_owned)
}

/// The lists in which Spaces tells what became of each message. Their entries are ids or objects; the spelling is the upstream's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lists {
    #[serde(default)]
    deleted_messages: Vec<Value>,
    #[serde(rename = "notFoundMmessages", alias = "notFoundMessages", default)]
    not_found: Vec<Value>,
    #[serde(default)]
    not_deleted_messages: Vec<Value>,
    #[serde(default)]
    no_permitted_messages: Vec<Value>,
}

impl Lists {
    fn tell(&self, id: &str) -> Option<Deletion> {
        let find = |list: &[Value]| list.iter().find(|entry| names(entry, id)).map(Reason::read);
        if let Some(reason) = find(&self.no_permitted_messages) {
            return Some(Deletion::NotPermitted(reason));
        }
        if let Some(reason) = find(&self.not_deleted_messages) {
            return Some(Deletion::NotDeleted(reason));
        }
        if find(&self.not_found).is_some() {
            return Some(Deletion::NotFound);
        }
        find(&self.deleted_messages).map(|_| Deletion::Deleted)
    }
}

fn names(entry: &Value, id: &str) -> bool {
    [entry, &entry["messageId"], &entry["_id"]].into_iter().any(|value| value.as_str() == Some(id))
}

impl Reason {
    fn read(entry: &Value) -> Self {
        let text = |name: &str| entry["reason"][name].as_str().map(str::to_owned);
        Self { code: text("code"), message: text("message").or_else(|| entry["reason"].as_str().map(str::to_owned)) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tell(answer: Value) -> Option<Deletion> {
        serde_json::from_value::<Lists>(answer).expect("lists").tell("m1")
    }

    #[test]
    fn each_list_tells_its_part() {
        let reason = || Reason { code: Some("a.b".to_owned()), message: Some("no".to_owned()) };
        let entry = json!({"messageId": "m1", "reason": {"code": "a.b", "message": "no"}});
        assert_eq!(tell(json!({"deletedMessages": ["m0", "m1"]})), Some(Deletion::Deleted));
        assert_eq!(tell(json!({"deletedMessages": [{"_id": "m1"}]})), Some(Deletion::Deleted));
        assert_eq!(tell(json!({"notFoundMmessages": ["m1"], "deletedMessages": []})), Some(Deletion::NotFound));
        assert_eq!(tell(json!({"notFoundMessages": [{"messageId": "m1"}]})), Some(Deletion::NotFound));
        assert_eq!(tell(json!({"notDeletedMessages": [entry]})), Some(Deletion::NotDeleted(reason())));
        assert_eq!(tell(json!({"noPermittedMessages": [entry]})), Some(Deletion::NotPermitted(reason())));
        let bare = Some(Deletion::NotPermitted(Reason::default()));
        assert_eq!(tell(json!({"noPermittedMessages": ["m1"]})), bare);
        assert_eq!(tell(json!({"deletedMessages": ["m2"]})), None);
        assert_eq!(tell(json!({})), None);
    }

    #[test]
    fn the_message_is_found_in_every_shape_of_answer() {
        for (answer, found) in [
            (r#"{"_id":"m1","x":1}"#, true),
            (r#"{"data":{"_id":"m1"}}"#, true),
            (r#"{"data":[{"_id":"m1"}]}"#, true),
            (r#"{"_id":"m2"}"#, false),
            (r#"{"data":[7]}"#, false),
            ("", false),
            ("<html>", false),
        ] {
            assert_eq!(message_in(answer.as_bytes(), |id| id == "m1").is_some(), found, "{answer}");
        }
    }
}
