//! Changing messages that are there: editing and deleting.
//!
//! Spaces changes a message by its id alone. That it is one of the space in the path is known from the space's history, which also
//! tells what an edit leaves as it is.

use std::borrow::Cow;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::AppState;
use super::auth::{AccountCaller, MaySend};
use super::error::ApiError;
use super::extract::{ApiJson, ApiPath};
use super::history::{self, SpaceMessage};
use super::limits;
use super::space_password::{SpacePassword, SpacePasswordHeader};
use crate::domain::{AccountId, Secret, SpaceId, Timestamp};
use crate::markup::{markdown_to_html, text_to_html};
use crate::session::SessionHandle;
use crate::upstream::{Deletion, InSpace, Reason, RestError, escape, plain_text};

/// What to change of a message; what is left out stays.
#[derive(Debug, Default, PartialEq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"text": "build 41 is green after all"}))]
pub(super) struct MessageEdit {
    /// What it says from now on, as plain text; of a post or task, what stands below the title.
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
    /// The title of a post or task, as plain text.
    #[serde(default)]
    #[schema(min_length = 1, nullable = false)]
    title: Option<String>,
    /// Whether a task is done. Spaces does not document that edits may change it; the answer shows what came of it.
    #[serde(default)]
    #[schema(inline, nullable = false)]
    status: Option<EditedStatus>,
    /// When a task is due. As for `status`.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    due_date: Option<Timestamp>,
}

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum EditedStatus {
    /// It is to be done.
    Pending,
    /// It is done.
    Completed,
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
    edit.check()?;
    let change = Change::begin(&app, caller, (space, id), password).await?;
    let found = change.find().await?;
    let content = edit.apply(&app, &found)?;
    let size = content.to_string().len();
    let limit = limits::payload_limit(&app, &change.caller);
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
    /// Checks what can be checked without the message.
    fn check(&self) -> Result<(), ApiError> {
        if *self == Self::default() {
            return Err(ApiError::field(
                "",
                "an edit changes at least one of `text`, `markdown`, `html`, `title`, `status` and `dueDate`",
            ));
        }
        let forms = [("/text", &self.text), ("/markdown", &self.markdown), ("/html", &self.html)];
        let mut given = forms.iter().filter(|(_, words)| words.is_some());
        if let (Some(_), Some((pointer, _))) = (given.next(), given.next()) {
            return Err(ApiError::field(*pointer, "an edit has one of `text`, `markdown` and `html`"));
        }
        match &self.title {
            Some(title) if title.trim().is_empty() => Err(ApiError::field("/title", "the title is empty")),
            Some(_) | None => Ok(()),
        }
    }

    /// The content that the message has from now on: what it has and what Spaces takes back, with what changes.
    fn apply(&self, app: &AppState, found: &SpaceMessage) -> Result<Value, ApiError> {
        let category = found.category();
        let of_tasks = [("/status", self.status.is_some()), ("/dueDate", self.due_date.is_some())];
        let of_titled = [("/title", self.title.is_some())];
        let refuse = |fields: &[(&str, bool)], whose| match fields.iter().find(|(_, given)| *given) {
            Some((pointer, _)) => Err(ApiError::field(*pointer, format!("only {whose} have it"))),
            None => Ok(()),
        };
        let is_titled = matches!(category, Some("post" | "task"));
        if !is_titled {
            refuse(&of_titled, "posts and tasks")?;
        }
        if category != Some("task") {
            refuse(&of_tasks, "tasks")?;
        }
        let mut content = found.content(KEPT);
        if let Some(html) = self.html(app)? {
            content.insert((if is_titled { "description" } else { "bodyText" }).to_owned(), html.into());
        }
        if let Some(title) = &self.title {
            content.insert("bodyText".to_owned(), escape(title.trim()).into());
        }
        if let Some(status) = self.status {
            content.insert("status".to_owned(), serde_json::json!(status));
        }
        if let Some(due_date) = self.due_date {
            content.insert("dueDate".to_owned(), due_date.to_string().into());
        }
        Ok(content.into())
    }

    /// The new words as HTML, if there are any.
    fn html(&self, app: &AppState) -> Result<Option<String>, ApiError> {
        let sanitizer = &app.internals().sanitizer;
        let (pointer, html) = match (&self.text, &self.markdown, &self.html) {
            (Some(text), _, _) => ("/text", text_to_html(text)),
            (_, Some(markdown), _) => ("/markdown", Cow::Owned(markdown_to_html(markdown, sanitizer))),
            (_, _, Some(html)) => ("/html", sanitizer.clean(html)),
            (None, None, None) => return Ok(None),
        };
        if plain_text(&html).is_empty() {
            return Err(ApiError::field(pointer, "the message would be empty"));
        }
        Ok(Some(html.into_owned()))
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
            edit.check().err().map(|error| error.code())
        };
        for wrong in
            ["{}", r#"{"text":null}"#, r#"{"text":"a","html":"b"}"#, r#"{"markdown":"a","html":"b"}"#, r#"{"title":" "}"#]
        {
            assert_eq!(check(wrong), Some("invalid_body"), "{wrong}");
        }
        for right in [r#"{"text":"a"}"#, r#"{"title":"a","markdown":"b"}"#, r#"{"status":"completed"}"#] {
            assert_eq!(check(right), None, "{right}");
        }
    }
}
