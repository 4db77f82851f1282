//! `POST /hooks/{secret}`: what anything that can post posts becomes a message, durable before the answer.
//!
//! Who calls is known by the secret alone, which stands nowhere but in the address: logs, traces and metrics name the route, and
//! failures name the hook to its owner only.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use tokio::time::Instant;
use tracing::{Instrument as _, info, warn};
use utoipa::ToSchema;

use super::AppState;
use super::error::ApiError;
use super::extract::{ApiPath, read_body};
use super::incoming_hook_body::FormatWord;
use super::messages::failure;
use crate::domain::{AccountId, MessageRef, SessionId, SpaceId};
use crate::event_log::SystemEvent;
use crate::incoming::{self, Activity, CallError, HookFailure, IncomingHook, Recipe, Rendered};
use crate::outbox::{Sender, Ticket};
use crate::send_log::{SendRecord, SendStatus};

/// Bodies up to this size become messages at once; larger ones apart from what serves other requests.
const SMALL: usize = 16 << 10;

/// Most messages of one call, if those before failed.
const MAX_ATTEMPTS: u32 = 20;

/// Milliseconds of an hour.
const HOUR: i64 = 3_600_000;

/// What was taken by an incoming hook.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct HookReceipt {
    /// The message; `GET /messages/{ref}` tells its owner what became of it.
    #[serde(rename = "ref")]
    #[schema(value_type = String, example = "ref_4f2b8a0d6c1e4b7f9a3d5e8c7b6a1f20")]
    reference: MessageRef,
    /// Where it stands: `queued` unless the call was made before.
    #[schema(example = "queued")]
    status: &'static str,
    /// The format that was used.
    #[schema(value_type = FormatWord)]
    format: &'static str,
    /// Whether the body made sense in that format; if not, the message quotes it.
    understood: bool,
}

/// Post by an incoming hook
///
/// Whoever knows the address posts: words, a form, Slack's or Mattermost's messages, or what a product posts by itself. The message is
/// on disk before the answer, and is sent in its turn. What makes no sense is quoted, so that nothing that came is lost. Of calls with the
/// same `Idempotency-Key`, `webhook-id`, `X-GitHub-Delivery` or `X-Gitlab-Event-UUID` one is posted, unless its message failed.
///
/// Hooks in the format `slack` or `mattermost`, and messages of that kind, are answered with `ok`, as Slack does; who asks for
/// `application/json` alone, and all others, get JSON.
#[utoipa::path(
    post,
    path = "/hooks/{secret}",
    tag = "Incoming hooks",
    params(("secret" = String, Path, description = "The secret of the address that `POST /incoming-hooks` gave.", pattern = "^[A-Za-z0-9_-]{1,128}$")),
    request_body(
        description = "Anything of the hook's format.",
        content(
            (serde_json::Value = "application/json", example = json!({"text": "build *41* is <https://ci.example.com/41|green>"})),
            (String = "text/plain", example = "build 41 is green"),
            (SlackForm = "application/x-www-form-urlencoded"),
        ),
    ),
    responses(
        (status = 200, description = "Taken, for who expects Slack's answer.", body = String, content_type = "text/plain", example = "ok"),
        (status = 202, description = "Taken.", body = HookReceipt, content_type = "application/json"),
        (status = 400, description = "`payload_unreadable`: the body is empty or no text. `body_unreadable`: it broke off."),
        (status = 403, description = "`incoming_hook_check_failed`: the sender did not prove itself. A call that was made before and whose message failed: why."),
        (status = 404, description = "`incoming_hook_not_found`: there is no such incoming hook, or not any more, or it is switched off."),
        (status = 409, description = "`message_cancelled`: the message of this call was taken back."),
        (status = 429, description = "`incoming_hook_rate_limited`: it is called too often. `outbox_full`: too many messages of the account wait."),
    ),
)]
pub(super) async fn call_incoming_hook(
    State(app): State<AppState>,
    ApiPath(secret): ApiPath<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let found = app.hooks.find(&secret).inspect_err(|_| count(&app, "unknown"))?;
    let (hook, activity) = found;
    let (parts, body) = request.into_parts();
    let result = take(&app, (&hook, &activity), Request::from_parts(parts.clone(), body)).await;
    match &result {
        Ok(taken) => {
            let outcome = if taken.is_new { taken.trouble.unwrap_or("taken") } else { "repeated" };
            count(&app, outcome);
        }
        Err(error) => refused(&app, (&hook, &activity), error),
    }
    let Taken { receipt, answers_ok, .. } = result?;
    let wants_json = parts.headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes() == b"application/json");
    if answers_ok && !wants_json {
        return Ok("ok".into_response());
    }
    Ok((StatusCode::ACCEPTED, Json(receipt)).into_response())
}

/// A form in Slack's manner; or any fields, which are then taken as a message of their own.
#[derive(ToSchema)]
#[schema(as = IncomingHookForm)]
#[expect(dead_code, reason = "the form as the document shows it")]
pub(super) struct SlackForm {
    /// A message in Slack's form, as JSON.
    #[schema(example = "{\"text\": \"build 41 is green\"}")]
    payload: Option<String>,
    /// The words, without JSON.
    text: Option<String>,
}

/// A call that was taken.
struct Taken {
    receipt: HookReceipt,
    answers_ok: bool,
    is_new: bool,
    /// What was odd about it.
    trouble: Option<&'static str>,
}

async fn take(app: &AppState, (hook, activity): (&IncomingHook, &Activity), request: Request) -> Result<Taken, ApiError> {
    app.hooks.admit(hook, activity)?;
    let headers = request.headers().clone();
    let body = read_body(request, app).await?;
    app.hooks.prove(hook, &headers, &body)?;
    let rendered = render(app, (&hook.account, &hook.recipe), &headers, &body).await?;
    let session = app.sessions.of_account(&hook.account);
    let session = session.ok_or_else(|| app.once_ready(ApiError::AccountHasNoSession))?;
    let limit = session.payload_limit();
    let mut attempt = 1;
    let (record, is_new) = loop {
        let reference = incoming::reference_of(&hook.id, &headers, &body, attempt);
        let ticket = submit(app, hook, (&rendered, reference, limit), session.id()).await?;
        let is_new = ticket.is_new();
        let record = ticket.outcome(Instant::now()).await;
        // Whoever makes the call again after its message failed wants it sent.
        if is_new || !matches!(record.status, SendStatus::Failed { .. }) || attempt >= MAX_ATTEMPTS {
            break (record, is_new);
        }
        attempt += 1;
    };
    if let (Some(trouble), true) = (&rendered.trouble, is_new) {
        let told = (trouble.reason(), trouble.to_string());
        report(app, (hook, activity), told, Some(record.reference.clone()));
    }
    Ok(Taken {
        answers_ok: rendered.format.answers_ok(),
        is_new,
        trouble: rendered.trouble.as_ref().map(incoming::Trouble::reason),
        receipt: receipt(record, &rendered)?,
    })
}

/// What a body becomes that is posted to a hook of `account`.
pub(super) async fn render(
    app: &AppState,
    (account, recipe): (&AccountId, &Recipe),
    headers: &HeaderMap,
    body: &bytes::Bytes,
) -> Result<Rendered, ApiError> {
    let sanitizer = &app.internals().sanitizer;
    if let Some(template) = &recipe.template {
        return Ok(incoming::render_by((template, account), &app.renderer, (headers, body), sanitizer).await?);
    }
    if body.len() <= SMALL {
        return Ok(incoming::render(recipe.format, headers, body, sanitizer)?);
    }
    let (app, format, headers, body) = (app.clone(), recipe.format, headers.clone(), body.clone());
    let rendered = AppState::apart(move || incoming::render(format, &headers, &body, &app.internals().sanitizer)).await?;
    Ok(rendered?)
}

async fn submit(
    app: &AppState,
    hook: &IncomingHook,
    (rendered, reference, limit): (&Rendered, MessageRef, usize),
    session: &SessionId,
) -> Result<Ticket, ApiError> {
    let place: (MessageRef, SpaceId) = (reference, hook.space.clone());
    let message = incoming::fitted(rendered, place, limit, &app.internals().sanitizer);
    let sender = Sender { account: hook.account.clone(), session: session.clone() };
    let outbox = app.outbox.clone();
    app.to_the_end(async move { Ok(outbox.submit(message, sender).await?) }).await
}

fn receipt(record: SendRecord, rendered: &Rendered) -> Result<HookReceipt, ApiError> {
    let status = match record.status {
        SendStatus::Queued { .. } => "queued",
        SendStatus::Sent { .. } => "sent",
        SendStatus::Unconfirmed { .. } => "unconfirmed",
        SendStatus::Confirmed { .. } => "confirmed",
        SendStatus::Cancelled => return Err(ApiError::MessageCancelled),
        SendStatus::Failed { kind, code, message } => return Err(failure(kind, code, message)),
    };
    let (format, understood) = (rendered.format.as_str(), rendered.trouble.is_none());
    Ok(HookReceipt { reference: record.reference, status, format, understood })
}

fn refused(app: &AppState, (hook, activity): (&IncomingHook, &Activity), error: &ApiError) {
    let (reason, detail) = (error.code(), error.to_string());
    if let ApiError::HookCall(CallError::Unproven(_)) = error {
        count(app, "unproven");
        // The account is not told: anyone may try that.
        return activity.note(HookFailure { at: app.clock.now(), reason, detail });
    }
    count(app, if matches!(error, ApiError::HookCall(CallError::TooOften { .. })) { "rate_limited" } else { "refused" });
    report(app, (hook, activity), (reason, detail), None);
}

/// Notes what went wrong, and tells the account.
fn report(
    app: &AppState,
    (hook, activity): (&IncomingHook, &Activity),
    (reason, detail): (&'static str, String),
    reference: Option<MessageRef>,
) {
    let now = app.clock.now();
    activity.note(HookFailure { at: now, reason, detail: detail.clone() });
    let hour = now.as_millis().div_euclid(HOUR);
    if !activity.is_to_be_told(reason, hour) {
        return;
    }
    info!(hook.id = %hook.id, reason, "incoming hook `{}`: {reason}", hook.id);
    let event = SystemEvent::HookFailed { hook_id: hook.id.clone(), reason, detail, reference, hour };
    let (log, account) = (Arc::clone(&app.event_log), hook.account.clone());
    let tell = async move {
        if let Err(error) = log.append_system(&account, &event).await {
            warn!(error = &error as &dyn std::error::Error, "an account was not told that one of its incoming hooks fails");
        }
    };
    app.tasks.spawn(tell.in_current_span());
}

fn count(app: &AppState, outcome: &str) {
    app.metrics.hook_calls.with_label_values(&[outcome]).inc();
}
