//! Sending, and what became of a send.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::AppState;
use super::auth::{AccountCaller, MaySend, MaySendOrRead};
use super::error::{ApiError, Resource};
use super::extract::{ApiPath, JsonBytes, NoIdempotencyKey, Wait};
use super::limits::{self, Standing};
use super::message_body::MessageBody;
use crate::domain::{AccountId, MessageRef, SpaceId, Timestamp};
use crate::send_log::{SendRecord, SendStatus};
use crate::session::{Confirmed, OutgoingMessage, SendOutcome, SessionError, SessionHandle, Unconfirmed};

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// What is known of a send.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    /// The send's reference, given by the bridge.
    #[schema(value_type = String, pattern = "^ref_[A-Za-z0-9_-]{1,128}$", example = "ref_4f2b8a0d6c1e4b7f9a3d5e8c7b6a1f20")]
    r#ref: MessageRef,
    /// How far it is.
    status: MessageStatus,
    /// Where it went.
    #[schema(value_type = String, example = "64f0a1b2c3d4e5f601020304")]
    space_id: SpaceId,
    /// What it is.
    category: Category,
    /// The id that Spaces gave it, once confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "650a0b0c0d0e0f1011121314")]
    id: Option<String>,
    /// When Spaces says it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    created_at: Option<Timestamp>,
    /// When the bridge accepted it.
    #[schema(value_type = String, format = DateTime)]
    accepted_at: Timestamp,
    /// When it came to its status.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// Why nothing more is known, or why it failed, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<String>,
    /// The code that Spaces gave for refusing it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    upstream_code: Option<String>,
    /// The message as Spaces sent it back, once confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "message")]
    #[schema(value_type = Option<Object>, nullable = false)]
    as_sent_back: Option<Box<RawValue>>,
}

/// How far a send is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum MessageStatus {
    /// It was emitted; Spaces has not confirmed it yet.
    Unconfirmed,
    /// Spaces has it.
    Confirmed,
    /// Spaces refused it.
    Failed,
}

/// What a message is, in the words of this API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Category {
    /// A chat message.
    Chat,
    /// A post.
    Post,
    /// A task.
    Task,
}

impl Category {
    fn of_upstream(word: &str) -> Self {
        match word {
            "idea" => Self::Post,
            "task" => Self::Task,
            _ => Self::Chat,
        }
    }
}

impl From<SendRecord> for Message {
    fn from(record: SendRecord) -> Self {
        let mut message = Self {
            r#ref: record.reference,
            status: MessageStatus::Unconfirmed,
            space_id: record.space,
            category: Category::of_upstream(&record.category),
            id: None,
            created_at: None,
            accepted_at: record.accepted_at,
            updated_at: record.updated_at,
            reason: None,
            upstream_code: None,
            as_sent_back: None,
        };
        match record.status {
            SendStatus::Unconfirmed { reason } => message.reason = Some(reason),
            SendStatus::Confirmed { id, created_at, message: raw } => {
                message.status = MessageStatus::Confirmed;
                (message.id, message.created_at, message.as_sent_back) = (Some(id), created_at, Some(raw));
            }
            SendStatus::Failed { code, message: words } => {
                message.status = MessageStatus::Failed;
                (message.upstream_code, message.reason) = (code, words);
            }
        }
        message
    }
}

/// Send a message
///
/// Sends a message to a space as the caller, and waits until Spaces has confirmed it: `201` carries the id that Spaces gave it. If
/// the time to wait ends first, the answer is `202`: the message is on its way, its outcome is not known yet, and the address in
/// `Location` tells what became of it. Any other answer means that nothing was posted, unless its code is `unconfirmed`.
#[utoipa::path(
    post,
    path = "/spaces/{spaceId}/messages",
    tag = "Messages",
    params(
        ("spaceId" = String, Path, description = "The space, as Spaces numbers it.", pattern = "^[A-Za-z0-9_-]{1,128}$", example = "64f0a1b2c3d4e5f601020304"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: wait N seconds for the outcome, 60 at most (RFC 7240).", example = "wait=20", nullable = false),
    ),
    request_body(content = MessageBody, content_type = "application/json"),
    responses(
        (status = 201, description = "Spaces has the message.", body = Message, headers(
            ("Location" = String, description = "Where to read this again."),
            ("Preference-Applied" = String, description = "The time waited at most, if the caller named one."),
        )),
        (status = 202, description = "The message was sent; its outcome is not known yet.", body = Message, headers(
            ("Location" = String, description = "Where to read what became of it."),
            ("Preference-Applied" = String, description = "The time waited at most, if the caller named one."),
        )),
        (status = 403, description = "`space_forbidden`, `message_forbidden`: Spaces does not let this user post there. `account_required`: the admin key stands for no user."),
        (status = 404, description = "`space_not_found`: Spaces does not know the space."),
        (status = 409, description = "`subscription_refused`, `subscription_required`: Spaces does not let this session listen to the space."),
        (status = 413, description = "`message_too_large`: Spaces takes no message of this `size`, only up to `limit`, which it exceeds by `excess` bytes. `body_too_large`: the service reads no body of this size."),
        (status = 422, description = "`invalid_body`: `errors` says which field is wrong. `message_refused`: Spaces refused the message."),
        (status = 429, description = "`session_busy`, `emit_budget_exhausted`: too many messages at once, or in the time over which Spaces counts them."),
        (status = 503, description = "`not_connected`: no connection to Spaces in the time to wait. Also `session_closed`, `store_unavailable`, `overloaded`, `timed_out`."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn post_message(
    State(app): State<AppState>,
    MaySend(caller): MaySend,
    ApiPath(space): ApiPath<SpaceId>,
    _: NoIdempotencyKey,
    wait: Wait,
    JsonBytes(body): JsonBytes,
) -> Result<Response, ApiError> {
    caller.check_space(&space)?;
    let message = MessageBody::parse(&body)?.into_outgoing(&app, limits::payload_limit(&app, &caller), space)?;
    send(&app, &caller, message, wait).await
}

/// Tell what became of a message
///
/// Answers for a message of the caller's account that was answered with `202`, for seven days. A message that was answered with
/// `201` is confirmed already and is remembered only for a while.
#[utoipa::path(
    get,
    path = "/messages/{ref}",
    tag = "Messages",
    params(("ref" = String, Path, description = "The send's reference.", pattern = "^ref_[A-Za-z0-9_-]{1,128}$", example = "ref_4f2b8a0d6c1e4b7f9a3d5e8c7b6a1f20")),
    responses(
        (status = 200, description = "What is known of it.", body = Message),
        (status = 404, description = "`message_not_found`: there is no such message of this account."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn get_message(
    State(app): State<AppState>,
    MaySendOrRead(caller): MaySendOrRead,
    ApiPath(reference): ApiPath<MessageRef>,
) -> Result<Json<Message>, ApiError> {
    let (account, before) = caller.accounts(&app).await?;
    let record = match app.sends.get(&reference).await? {
        Some(record) => Some(record),
        None => app.internals().recent_sends.get(&reference).map(|record| SendRecord::clone(&record)),
    };
    // A message sent before the user was known belongs to the account that stood in.
    let is_own = |record: &SendRecord| record.account == account || before.as_ref() == Some(&record.account);
    let is_seen = |record: &SendRecord| is_own(record) && caller.check_space(&record.space).is_ok();
    record.filter(is_seen).map(|record| Json(record.into())).ok_or(ApiError::NotFound(Resource::Message))
}

/// Sends `message` in the caller's session and answers how it ended.
pub(super) async fn send(
    app: &AppState,
    caller: &AccountCaller,
    message: OutgoingMessage,
    wait: Wait,
) -> Result<Response, ApiError> {
    let deadline = Instant::now() + wait.duration;
    let mut record = SendRecord {
        reference: message.reference.clone(),
        account: AccountId::standing_in(caller.session(app)?.id()),
        space: message.space.clone(),
        category: message.category.clone(),
        status: SendStatus::Unconfirmed { reason: String::new() },
        accepted_at: app.clock.now(),
        updated_at: app.clock.now(),
    };
    let (session, outcome) = emit(app, caller, message, deadline).await?;
    if let Some(identity) = session.status().identity {
        record.account = identity.account;
    }
    record.updated_at = app.clock.now();
    match outcome {
        SendOutcome::Confirmed(Confirmed { id, created_at, message }) => {
            record.status = SendStatus::Confirmed { id, created_at, message };
            app.internals().recent_sends.insert(record.clone());
        }
        SendOutcome::Unconfirmed(why) => {
            record.status = SendStatus::Unconfirmed { reason: words_of(why).to_owned() };
            record = record_unconfirmed(app, record).await?;
        }
    }
    let mut response = answer(record, wait)?;
    Standing::from(&session.emit_allowance()).show(response.headers_mut());
    Ok(response)
}

/// Hands the message to the session; to a new one if the session closed in between, because then nothing was emitted.
async fn emit(
    app: &AppState,
    caller: &AccountCaller,
    message: OutgoingMessage,
    deadline: Instant,
) -> Result<(SessionHandle, SendOutcome), ApiError> {
    let send = |session: SessionHandle| {
        let message = message.clone();
        async move {
            let outcome = session.send(message, deadline.saturating_duration_since(Instant::now())).await?;
            Ok((session, outcome))
        }
    };
    caller.with_session(app, send).await
}

async fn record_unconfirmed(app: &AppState, record: SendRecord) -> Result<SendRecord, ApiError> {
    app.sends.record_unconfirmed(record).await.map_err(ApiError::SentUnrecorded)
}

fn answer(record: SendRecord, wait: Wait) -> Result<Response, ApiError> {
    let status = match record.status {
        SendStatus::Confirmed { .. } => StatusCode::CREATED,
        SendStatus::Unconfirmed { .. } => StatusCode::ACCEPTED,
        // The refusal came just after the wait had ended.
        SendStatus::Failed { code, message } => return Err(SessionError::MessageRefused { code, message }.into()),
    };
    let location = HeaderValue::from_str(&format!("/messages/{}", record.reference)).expect("ids are safe in headers");
    let mut response = (status, Json(Message::from(record))).into_response();
    response.headers_mut().insert(LOCATION, location);
    if let Some(applied) = wait.applied() {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

fn words_of(why: Unconfirmed) -> &'static str {
    match why {
        Unconfirmed::WaitEnded => "the time to wait ended before Spaces confirmed the message",
        Unconfirmed::ConnectionLost => "the connection to Spaces ended before Spaces confirmed the message",
    }
}
