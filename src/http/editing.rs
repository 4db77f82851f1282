//! Changing messages that are there: editing and deleting.
//!
//! Spaces changes a message by its id alone. That it is one of the space in the path is known from the space's history, which also
//! tells what an edit leaves as it is.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::AppState;
use super::auth::{AccountCaller, MaySend};
use super::error::ApiError;
use super::extract::{ApiJson, ApiPath};
use super::history::{self, SpaceMessage};
use super::limits;
use super::message_body::{TaskStatus, Words, words_to_html};
use super::space_password::{SpacePassword, SpacePasswordHeader};
use crate::domain::{AccountId, Secret, SpaceId, Timestamp};
use crate::session::SessionHandle;
use crate::upstream::{Deletion, InSpace, Reason, RestError, escape};

/// What to change of a message; what is left out stays.
#[derive(Debug, Default, PartialEq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"text": "build 41 is green after all"}))]
pub(super) struct MessageEdit {
    /// What it says from now on, as plain text; of a post or task, what stands below the title. `@[Name](userId)` mentions somebody.
    #[serde(default)]
    #[schema(min_length = 1, nullable = false, example = "build 41 is green after all")]
    text: Option<String>,
    /// The same as Markdown.
    #[serde(default)]
    #[schema(min_length = 1, nullable = false)]
    markdown: Option<String>,
    /// The same as HTML, of which the elements stay that a message may have.
    #[serde(default)]
    #[schema(min_length = 1, nullable = false)]
    html: Option<String>,
    /// The same as `text`, of a post or task.
    #[serde(default)]
    #[schema(min_length = 1, nullable = false)]
    description: Option<String>,
    /// The title of a post or task, as plain text.
    #[serde(default)]
    #[schema(min_length = 1, nullable = false)]
    title: Option<String>,
    /// Whether a task is done. Spaces does not document that edits may change it; the answer shows what came of it.
    #[serde(default)]
    #[schema(inline, nullable = false)]
    status: Option<TaskStatus>,
    /// When a task is due. As for `status`.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    due_date: Option<Timestamp>,
}

/// Edit a message
///
/// Gives a message other words, a post or task another title or body. That the message is one of this space is looked up in the space's
/// history first. Subscribers get `message.updated`, the account's own with `own: true`. Made again, the call does the same again, so
/// that it needs no `Idempotency-Key`.
#[utoipa::path(
    patch,
    path = "/spaces/{spaceId}/messages/{messageId}",
    tag = "Messages",
    params(
        ("spaceId" = String, Path, description = "The space, as Spaces numbers it.", pattern = "^[A-Za-z0-9_-]{1,128}$", example = "64f0a1b2c3d4e5f601020304"),
        ("messageId" = String, Path, description = "The message, as Spaces numbers it.", pattern = "^[A-Za-z0-9_-]{1,128}$", example = "650a0b0c0d0e0f1011121314"),
        SpacePasswordHeader,
    ),
    request_body(content = MessageEdit, content_type = "application/json"),
    responses(
        (status = 200, description = "The message as it is now.", body = SpaceMessage),
        (status = 403, description = "`upstream_forbidden`: Spaces does not let this user edit the message or read the space, or wants the space's password (`X-Space-Password`). `account_required`: the admin key stands for no user."),
        (status = 404, description = "`message_not_found`: the history of the space has no such message. `upstream_not_found`: Spaces does not know the space, or not the message any more."),
        (status = 409, description = "`message_edit_conflict`: the message is being edited at the same time; try again. `upstream_conflict`: Spaces sees a conflict."),
        (status = 413, description = "`message_too_large`: Spaces takes no message of this `size`, only up to `limit`. `body_too_large`: the service reads no body of this size."),
        (status = 422, description = "`invalid_body`: `errors` says which field is wrong. `upstream_refused`: Spaces refused the edit."),
        (status = 429, description = "`call_budget_exhausted`: as many calls as Spaces allows this user have been made. `upstream_rate_limited`: Spaces wants fewer calls. `session_busy`: too many sessions."),
        (status = 502, description = "`upstream_error`: Spaces failed."),
        (status = 503, description = "`upstream_unreachable`: Spaces is out of reach, and may have taken the edit. `not_connected`: it is not known yet who the caller is."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn edit_message(
    State(app): State<AppState>,
    MaySend(caller): MaySend,
    ApiPath((space, id)): ApiPath<(SpaceId, SpaceId)>,
    SpacePassword(password): SpacePassword,
    ApiJson(edit): ApiJson<MessageEdit>,
) -> Result<Json<SpaceMessage>, ApiError> {
    caller.check_space(&space)?;
    let (words, limit) = (edit.words()?, limits::payload_limit(&app, &caller));
    let html = words.as_ref().map(|words| words_to_html(words, &app, limit)).transpose()?;
    let change = Change::begin(&app, caller, (space, id), password).await?;
    let found = change.find().await?;
    let content = edit.apply(html, &found)?;
    let size = content.to_string().len();
    if size > limit {
        return Err(ApiError::MessageTooLarge { size, limit });
    }
    app.clone().to_the_end(async move { change.edit(&found, content).await }).await.map(Json)
}

/// Delete a message
///
/// That the message is one of this space is looked up in the space's history first. Subscribers get `message.deleted`, the account's own
/// with `own: true`. Made again, the call finds no message.
#[utoipa::path(
    delete,
    path = "/spaces/{spaceId}/messages/{messageId}",
    tag = "Messages",
    params(
        ("spaceId" = String, Path, description = "The space, as Spaces numbers it.", pattern = "^[A-Za-z0-9_-]{1,128}$", example = "64f0a1b2c3d4e5f601020304"),
        ("messageId" = String, Path, description = "The message, as Spaces numbers it.", pattern = "^[A-Za-z0-9_-]{1,128}$", example = "650a0b0c0d0e0f1011121314"),
        SpacePasswordHeader,
    ),
    responses(
        (status = 204, description = "It is deleted."),
        (status = 403, description = "`message_delete_forbidden`: Spaces lets only its sender and the space's admins delete it. `upstream_forbidden`: Spaces does not let this user read the space, or wants the space's password (`X-Space-Password`). `account_required`: the admin key stands for no user."),
        (status = 404, description = "`message_not_found`: the history of the space has no such message, or not any more. `upstream_not_found`: Spaces does not know the space."),
        (status = 409, description = "`message_not_deleted`: Spaces did not delete it and says why. `upstream_conflict`: Spaces sees a conflict."),
        (status = 422, description = "`upstream_refused`: Spaces refused the call."),
        (status = 429, description = "`call_budget_exhausted`: as many calls as Spaces allows this user have been made. `upstream_rate_limited`: Spaces wants fewer calls. `session_busy`: too many sessions."),
        (status = 502, description = "`upstream_error`: Spaces failed."),
        (status = 503, description = "`upstream_unreachable`: Spaces is out of reach, and may have deleted it. `not_connected`: it is not known yet who the caller is."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn delete_message(
    State(app): State<AppState>,
    MaySend(caller): MaySend,
    ApiPath((space, id)): ApiPath<(SpaceId, SpaceId)>,
    SpacePassword(password): SpacePassword,
) -> Result<StatusCode, ApiError> {
    caller.check_space(&space)?;
    let change = Change::begin(&app, caller, (space, id), password).await?;
    change.find().await?;
    app.clone().to_the_end(async move { change.delete().await }).await.map(|()| StatusCode::NO_CONTENT)
}

impl MessageEdit {
    /// Checks what can be checked without the message, and tells its words.
    fn words(&self) -> Result<Option<Words>, ApiError> {
        if *self == Self::default() {
            let detail =
                "an edit changes at least one of `text`, `markdown`, `html`, `description`, `title`, `status` and `dueDate`";
            return Err(ApiError::field("", detail));
        }
        if self.title.as_ref().is_some_and(|title| title.trim().is_empty()) {
            return Err(ApiError::field("/title", "the title is empty"));
        }
        let given = [
            self.text.clone().map(Words::Text),
            self.markdown.clone().map(Words::Markdown),
            self.html.clone().map(Words::Html),
            self.description.clone().map(Words::Description),
        ];
        let mut given = given.into_iter().flatten();
        let words = given.next();
        match given.next() {
            Some(more) => Err(ApiError::field(more.pointer(), "an edit has one of `text`, `markdown`, `html` and `description`")),
            None => Ok(words),
        }
    }

    /// The content that `found` has from now on: what it has and what Spaces takes back, with what changes.
    fn apply(&self, html: Option<String>, found: &SpaceMessage) -> Result<Value, ApiError> {
        let category = found.category();
        let is_task = category == Some("task");
        let is_titled = is_task || category == Some("post");
        for (pointer, is_wrong, whose) in [
            ("/title", self.title.is_some() && !is_titled, "posts and tasks have a title"),
            ("/description", self.description.is_some() && !is_titled, "posts and tasks have a description"),
            ("/status", self.status.is_some() && !is_task, "tasks have a status"),
            ("/dueDate", self.due_date.is_some() && !is_task, "tasks have a due date"),
        ] {
            if is_wrong {
                return Err(ApiError::field(pointer, format!("only {whose}")));
            }
        }
        let mut content = found.content(KEPT);
        if let Some(html) = html {
            content.insert((if is_titled { "description" } else { "bodyText" }).to_owned(), html.into());
        }
        if let Some(title) = &self.title {
            let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
            content.insert("bodyText".to_owned(), escape(&title).into());
        }
        if let Some(status) = self.status {
            content.insert("status".to_owned(), status.as_upstream().into());
        }
        if let Some(due_date) = self.due_date {
            content.insert("dueDate".to_owned(), due_date.to_string().into());
        }
        Ok(content.into())
    }
}

/// What an edit hands back to Spaces as it is, so that nothing is lost if Spaces takes the content for the whole.
const KEPT: &[&str] = &["bodyText", "description", "data", "assignees", "dueDate", "status"];

/// A change of one message that is being made.
struct Change {
    app: AppState,
    caller: AccountCaller,
    session: SessionHandle,
    account: AccountId,
    space: SpaceId,
    id: SpaceId,
    password: Option<Secret>,
}

impl Change {
    async fn begin(
        app: &AppState,
        caller: AccountCaller,
        (space, id): (SpaceId, SpaceId),
        password: Option<Secret>,
    ) -> Result<Self, ApiError> {
        let (session, identity) = caller.identity(app).await?;
        Ok(Self { app: app.clone(), caller, session, account: identity.account, space, id, password })
    }

    fn at(&self) -> InSpace<'_> {
        InSpace { credential: self.session.credential(), space: &self.space, password: self.password.as_ref() }
    }

    /// The message as the history of the space has it.
    async fn find(&self) -> Result<SpaceMessage, ApiError> {
        Ok(history::find(&self.app, &self.caller, self.at(), &self.id).await?.0)
    }

    async fn edit(&self, found: &SpaceMessage, content: Value) -> Result<SpaceMessage, ApiError> {
        self.app.sends.note_own_change(&self.account, self.id.as_str());
        let answer = self.app.rest.edit_message(self.at(), self.id.as_str(), &content).await;
        let edited = answer.map_err(|error| self.failed(conflict(error)))?;
        let is_whole = |message: &SpaceMessage| message.category().is_some();
        let answered = edited.and_then(|raw| SpaceMessage::read(&self.space, raw)).map(|(message, _)| message).filter(is_whole);
        match answered {
            Some(message) => Ok(message),
            None => found.with_content(content).ok_or_else(|| ApiError::Internal("a message has no form".to_owned())),
        }
    }

    async fn delete(&self) -> Result<(), ApiError> {
        self.app.sends.note_own_change(&self.account, self.id.as_str());
        let deletion = self.app.rest.delete_message(self.at(), self.id.as_str()).await;
        let refusal = match deletion.map_err(|error| self.failed(error.into()))? {
            Deletion::Deleted => return Ok(()),
            Deletion::NotFound => ApiError::MessageNotInSpace,
            Deletion::NotPermitted(Reason { code, message }) => ApiError::DeletionForbidden { code, message },
            Deletion::NotDeleted(Reason { code, message }) => ApiError::NotDeleted { code, message },
        };
        Err(self.failed(refusal))
    }

    /// The error for the caller. What was certainly not changed has no echo to come.
    fn failed(&self, error: ApiError) -> ApiError {
        let may_have_happened = match &error {
            ApiError::Rest(RestError::Unreachable { .. } | RestError::Unreadable { .. }) => true,
            ApiError::Rest(RestError::Refused { status, .. }) => !(400..500).contains(status) || *status == 408,
            _ => false,
        };
        if !may_have_happened {
            self.app.sends.take_own_change(&self.account, self.id.as_str());
        }
        self.caller.told(error)
    }
}

/// Spaces answers `400` to the second of two edits at a time, and documents no other reason for that; what it calls invalid is none.
fn conflict(error: RestError) -> ApiError {
    match error {
        RestError::Refused { status: 400, code, message, .. } if !is_invalid(code.as_deref(), message.as_deref()) => {
            ApiError::EditConflict { code, message }
        }
        error => error.into(),
    }
}

fn is_invalid(code: Option<&str>, message: Option<&str>) -> bool {
    let words = format!("{} {}", code.unwrap_or_default(), message.unwrap_or_default()).to_ascii_lowercase();
    ["invalid", "required", "missing", "parameter", "malformed"].iter().any(|word| words.contains(word))
}

impl SpaceMessage {
    /// What of its content stands in `fields`.
    fn content(&self, fields: &[&str]) -> Map<String, Value> {
        let object: Value = serde_json::from_str(self.upstream().get()).unwrap_or_default();
        let Some(content) = object["content"].as_object() else { return Map::new() };
        let kept = fields.iter().filter_map(|field| Some(((*field).to_owned(), content.get(*field)?.clone())));
        kept.filter(|(_, value)| !value.is_null()).collect()
    }

    /// The same message with another content.
    fn with_content(&self, content: Value) -> Option<Self> {
        let mut object: Map<String, Value> = serde_json::from_str(self.upstream().get()).ok()?;
        object.insert("content".to_owned(), content);
        let raw: Box<RawValue> = to_raw_value(&object).ok()?;
        Self::read(self.space(), raw).map(|(message, _)| message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_request_is_a_conflict_unless_it_says_otherwise() {
        let refused = |status, code: &str, message: &str| {
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            conflict(RestError::Refused { status, code: text(code), message: text(message), retry_after: None }).code()
        };
        assert_eq!(refused(400, "", ""), "message_edit_conflict");
        assert_eq!(refused(400, "message.locked", "being edited"), "message_edit_conflict");
        assert_eq!(refused(400, "invalid.parameters", ""), "upstream_refused");
        assert_eq!(refused(400, "", "content is Required"), "upstream_refused");
        assert_eq!(refused(409, "", ""), "upstream_conflict");
        assert_eq!(refused(422, "", ""), "upstream_refused");
    }

    #[test]
    fn an_edit_says_one_thing_at_least_and_its_words_once() {
        let check = |edit: &str| {
            let edit: MessageEdit = serde_json::from_str(edit).expect("an edit");
            edit.words().err().map(|error| error.code())
        };
        for wrong in
            ["{}", r#"{"text":null}"#, r#"{"text":"a","html":"b"}"#, r#"{"html":"a","description":"b"}"#, r#"{"title":" "}"#]
        {
            assert_eq!(check(wrong), Some("invalid_body"), "{wrong}");
        }
        for right in [r#"{"text":"a"}"#, r#"{"title":"a","markdown":"b"}"#, r#"{"status":"completed"}"#] {
            assert_eq!(check(right), None, "{right}");
        }
    }
}
