//! Sending, and what became of a send.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderName, HeaderValue, StatusCode};
use tokio::time::Instant;

use super::AppState;
use super::auth::{AccountCaller, MaySend, MaySendOrRead};
use super::durable::{self, Begun, Place};
use super::error::{ApiError, Resource};
use super::extract::{ApiPath, Wait};
use super::idempotency::{Call, IdempotencyHeader};
use super::limits::{self, show_allowance};
use super::message_body::MessageBody;
use super::message_input::{MessageForm, MessageInput};
use super::message_view::{Message, MessagePart};
use super::second_path;
use crate::domain::{AccountId, MessageRef, SpaceId};
use crate::outbox::Sender;
use crate::send_log::{SendFailure, SendRecord, SendStatus};
use crate::session::{Confirmed, OutgoingMessage, SendOutcome, SessionError, SessionHandle};

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Send a message
///
/// Sends a message to a space as the caller, and waits until Spaces has confirmed it: `201` carries the id that Spaces gave it. If
/// the time to wait ends first, the answer is `202`: the message is on its way, its outcome is not known yet, and the address in
/// `Location` tells what became of it. Any other answer means that nothing was posted, unless its code is `unconfirmed`.
///
/// With an `Idempotency-Key`, or with `Prefer: respond-async`, the message is on disk before anything of it leaves. It is sent in its
/// turn even if the service stops in between, and never twice: a call with the same key answers what became of the first.
///
/// Words that are too long for one message are refused with `413`, or with `split: true` cut at paragraphs, lines, sentences or words
/// into up to 20 messages, which are on disk before the first one leaves. They are sent in their order, each only once Spaces has the
/// one before; `parts` of the answer has them all. `201` then means that Spaces has all of them.
#[utoipa::path(
    post,
    path = "/spaces/{spaceId}/messages",
    tag = "Messages",
    params(
        ("spaceId" = String, Path, description = "The space, as Spaces numbers it.", pattern = "^[A-Za-z0-9_-]{1,128}$", example = "64f0a1b2c3d4e5f601020304"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: wait N seconds for the outcome, 60 at most; `respond-async`: take the message into the outbox and answer at once (RFC 7240).", example = "wait=20", nullable = false),
        IdempotencyHeader,
    ),
    request_body(content((MessageBody = "application/json"), (MessageForm = "multipart/form-data"))),
    responses(
        (status = 201, description = "Spaces has the message.", body = Message, headers(
            ("Location" = String, description = "Where to read this again."),
            ("Preference-Applied" = String, description = "What was heeded of `Prefer`."),
        )),
        (status = 202, description = "The message was sent or is queued; its outcome is not known yet.", body = Message, headers(
            ("Location" = String, description = "Where to read what became of it."),
            ("Preference-Applied" = String, description = "What was heeded of `Prefer`."),
        )),
        (status = 403, description = "`space_forbidden`, `message_forbidden`: Spaces does not let this user post there. `account_required`: the admin key stands for no user."),
        (status = 404, description = "`space_not_found`: Spaces does not know the space."),
        (status = 409, description = "`subscription_refused`, `subscription_required`: Spaces does not let this session listen to the space. `message_cancelled`: the message with this key was taken back."),
        (status = 413, description = "`message_too_large`: Spaces takes no message of this `size`, only up to `limit`, which it exceeds by `excess` bytes. `file_too_large`: Spaces takes files up to `limit` bytes. `body_too_large`: the service reads no body of this size."),
        (status = 422, description = "`invalid_body`: `errors` says which field is wrong. `message_refused`: Spaces refused the message."),
        (status = 429, description = "`session_busy`, `emit_budget_exhausted`: too many messages at once, or in the time over which Spaces counts them. `outbox_full`: too many of the account wait."),
        (status = 502, description = "`message_not_taken`: Spaces did not take the message, however often it was sent; it is not there. `message_incomplete`: of a message that was split Spaces has some `parts`, and the others will not be sent. `upload_failed`: a file did not get into Spaces. `upstream_error`: Spaces failed."),
        (status = 503, description = "`not_connected`: no connection to Spaces in the time to wait. `upload_room_exhausted`: the files that are being sent take all the room on disk. Also `upstream_unreachable`, `session_closed`, `store_unavailable`, `overloaded`, `timed_out`."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn post_message(
    State(app): State<AppState>,
    MaySend(caller): MaySend,
    ApiPath(space): ApiPath<SpaceId>,
    wait: Wait,
    input: MessageInput,
) -> Result<Response, ApiError> {
    caller.check_space(&space)?;
    let (call, draft) = input.read(&app, &caller).await?;
    let limit = limits::payload_limit(&app, &caller);
    let message = draft.body()?.prepare(&app, limit)?;
    let make = async || {
        // Whatever is wrong with the body is told before anything is uploaded for it.
        let parts = message.resolve(&app, &caller).await?.compose_parts(&app, limit, &space)?;
        if !draft.has_files() {
            return Ok(parts);
        }
        let message = draft.upload(&app, &caller, &space).await?.prepare(&app, limit)?;
        message.resolve(&app, &caller).await?.compose_parts(&app, limit, &space)
    };
    carry_out(&app, &caller, (&call, wait), make).await
}

/// Tell what became of a message
///
/// Answers for a message of the caller's account that went through the outbox or was answered with `202`, for seven days. Any other
/// message that was answered with `201` is confirmed already and is remembered only for a while.
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
    view(&app, find(&app, &caller, &reference).await?).await
}

/// Take a message back
///
/// Takes a message out of the outbox of which nothing has left. Once it is on its way it cannot be taken back: it may be in Spaces.
#[utoipa::path(
    delete,
    path = "/messages/{ref}",
    tag = "Messages",
    params(("ref" = String, Path, description = "The send's reference.", pattern = "^ref_[A-Za-z0-9_-]{1,128}$", example = "ref_4f2b8a0d6c1e4b7f9a3d5e8c7b6a1f20")),
    responses(
        (status = 200, description = "It is taken back, and will not be sent.", body = Message),
        (status = 404, description = "`message_not_found`: there is no such message of this account."),
        (status = 409, description = "`message_not_queued`: it has left, or may have, or has ended."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn cancel_message(
    State(app): State<AppState>,
    MaySend(caller): MaySend,
    ApiPath(reference): ApiPath<MessageRef>,
) -> Result<Json<Message>, ApiError> {
    find(&app, &caller, &reference).await?;
    let outbox = app.outbox.clone();
    let cancelled = app.to_the_end(async move { Ok(outbox.cancel(&reference).await?) }).await?;
    view(&app, cancelled).await
}

/// The message with what is known of its parts.
async fn view(app: &AppState, first: SendRecord) -> Result<Json<Message>, ApiError> {
    Ok(Json(Message::of_parts(app.sends.with_parts(first).await?)))
}

/// The record of a send of the caller's account.
async fn find(app: &AppState, caller: &AccountCaller, reference: &MessageRef) -> Result<SendRecord, ApiError> {
    let (account, before) = caller.accounts(app).await?;
    let record = match app.sends.get(reference).await? {
        Some(record) => Some(record),
        None => app.internals().recent_sends.get(reference).map(|record| SendRecord::clone(&record)),
    };
    // A message sent before the user was known belongs to the account that stood in.
    let is_own = |record: &SendRecord| record.account == account || before.as_ref() == Some(&record.account);
    let is_seen = |record: &SendRecord| is_own(record) && caller.check_space(&record.space).is_ok();
    record.filter(is_seen).ok_or(ApiError::NotFound(Resource::Message))
}

/// Sends what `make` makes, the parts of one message, the way that the caller wants it: through the outbox, or at once.
pub(super) async fn carry_out(
    app: &AppState,
    caller: &AccountCaller,
    (call, wait): (&Call, Wait),
    make: impl AsyncFnOnce() -> Result<Vec<OutgoingMessage>, ApiError>,
) -> Result<Response, ApiError> {
    let deadline = Instant::now() + wait.duration;
    let mut response = match durable::begin(app, caller, call, wait).await? {
        Begun::AtOnce => {
            let mut parts = make().await?;
            match parts.pop() {
                Some(message) if parts.is_empty() => send(app, caller, message, wait).await?,
                last => {
                    parts.extend(last);
                    let tickets = durable::submit(app, caller, Place::unclaimed(), parts).await?;
                    durable::answer_in_time(tickets, deadline, wait).await?
                }
            }
        }
        Begun::Known(tickets) => {
            tickets.iter().try_for_each(|ticket| caller.check_space(ticket.space()))?;
            durable::answer_in_time(tickets, deadline, wait).await?
        }
        Begun::New(place) => {
            let parts = match make().await {
                Ok(parts) => parts,
                Err(error) => {
                    durable::give_up(app, *place).await;
                    return Err(error);
                }
            };
            let tickets = durable::submit(app, caller, *place, parts).await?;
            durable::answer_in_time(tickets, deadline, wait).await?
        }
    };
    show_allowance(app, caller, &mut response);
    Ok(response)
}

/// Sends `message` in the caller's session and answers how it ended.
async fn send(app: &AppState, caller: &AccountCaller, message: OutgoingMessage, wait: Wait) -> Result<Response, ApiError> {
    let deadline = Instant::now() + wait.duration;
    if let Some(record) = second_path::take(app, caller, &message, deadline).await? {
        return answer(vec![record], wait);
    }
    let stand_in = AccountId::standing_in(caller.session(app)?.id());
    let (reference, space, category) = (message.reference.clone(), message.space.clone(), message.category.clone());
    let mut record = SendRecord::new(reference, stand_in, space, category, app.clock.now());
    let emitted = emit(app, caller, &message, deadline).await;
    let (session, outcome) = emitted.map_err(|error| second_path::explain(app, error, &message.payload))?;
    let status = session.status();
    if let Some(identity) = status.identity {
        record.account = identity.account;
    }
    match outcome {
        SendOutcome::Confirmed(Confirmed { id, created_at, message }) => {
            record.settle(SendStatus::Confirmed { id, created_at, message }, app.clock.now());
            app.internals().recent_sends.insert(record.clone());
        }
        SendOutcome::Unconfirmed(why) => {
            record.settle(SendStatus::Unconfirmed { reason: why.as_str().to_owned() }, app.clock.now());
            let sender = Sender { account: record.account.clone(), session: session.id().clone() };
            let looked_for = app.outbox.look_for(message, sender, (status.reconnects, why), record).await;
            record = looked_for.map_err(ApiError::SentUnrecorded)?;
        }
    }
    answer(vec![record], wait)
}

/// Hands the message to the session; to a new one if the session closed in between, because then nothing was emitted.
async fn emit(
    app: &AppState,
    caller: &AccountCaller,
    message: &OutgoingMessage,
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

/// The answer to a send, of which these are the parts.
pub(super) fn answer(parts: Vec<SendRecord>, wait: Wait) -> Result<Response, ApiError> {
    let (status, message) = outcome(parts)?;
    let location = HeaderValue::from_str(&format!("/messages/{}", message.reference())).expect("ids are safe in headers");
    let mut response = (status, Json(message)).into_response();
    response.headers_mut().insert(LOCATION, location);
    applied(&mut response, wait);
    Ok(response)
}

/// What a caller is told of a send, and with which status.
pub(super) fn outcome(parts: Vec<SendRecord>) -> Result<(StatusCode, Message), ApiError> {
    let posted = parts.iter().take_while(|part| part.status.confirmed_id().is_some()).count();
    let status = match parts.get(posted).map(|part| &part.status) {
        None | Some(SendStatus::Confirmed { .. }) => StatusCode::CREATED,
        Some(SendStatus::Queued { .. } | SendStatus::Sent { .. } | SendStatus::Unconfirmed { .. }) => StatusCode::ACCEPTED,
        Some(SendStatus::Failed { .. } | SendStatus::Cancelled) if posted > 0 => return Err(incomplete(posted, parts)),
        Some(SendStatus::Cancelled) => return Err(ApiError::MessageCancelled),
        Some(SendStatus::Failed { kind, code, message }) => return Err(failure(*kind, code.clone(), message.clone())),
    };
    Ok((status, Message::of_parts(parts)))
}

/// Says what was heeded of `Prefer`.
pub(super) fn applied(response: &mut Response, wait: Wait) {
    if let Some(applied) = wait.applied() {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
}

/// Spaces has the first `posted` of the parts, and will not get the others.
fn incomplete(posted: usize, parts: Vec<SendRecord>) -> ApiError {
    let why = parts.get(posted).and_then(|part| part.status.detail()).unwrap_or_else(|| "it was taken back".to_owned());
    let parts = parts.into_iter().map(MessagePart::from).collect();
    ApiError::MessageIncomplete { posted, why, parts }
}

pub(super) fn failure(kind: SendFailure, code: Option<String>, message: Option<String>) -> ApiError {
    match kind {
        SendFailure::MessageRefused => SessionError::MessageRefused { code, message }.into(),
        SendFailure::SpaceRefused => SessionError::SpaceRefused { code, message }.into(),
        SendFailure::TooLarge { size, limit } => SessionError::TooLarge { size, limit }.into(),
        SendFailure::Expired | SendFailure::NotTaken | SendFailure::PartMissing => {
            ApiError::MessageNotTaken(message.unwrap_or_default())
        }
    }
}
