//! Deliveries and their attempts, read from the store.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::auth::MayUseWebhooks;
use super::error::{ApiError, Resource};
use super::extract::{ApiPath, ApiQuery};
use super::page::{Limit, Page, PageQuery};
use super::reach::Reach;
use super::webhooks::owned;
use crate::domain::{self, DeliveryId, DeliveryState, EventId, EventType, MessageRef, SpaceId, Timestamp, WebhookId};
use crate::replies::{ReplyRecord, ReplyState};
use crate::store::{Cursor, DeliveryFilter, Query, Rows, StateFilter};

/// Longest piece of a receiver's answer that is shown, in bytes.
const MAX_RESPONSE: usize = 16 << 10;

/// One event on its way to one webhook.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Delivery {
    /// Its id.
    #[schema(value_type = String, example = "dlv_17")]
    id: DeliveryId,
    /// Where it goes.
    #[schema(value_type = String, example = "wh_1b9d6bcd4bbb4d2d9b5dab8dfbbd4bed")]
    webhook_id: WebhookId,
    /// What is delivered; the `webhook-id` header of each attempt.
    #[schema(value_type = String, example = "evt_0f3c5a7e9b1d2f4a6c8e0b1d3f5a7c9e")]
    event_id: EventId,
    /// The event's type.
    #[schema(value_type = String, example = "message.created")]
    event_type: EventType,
    /// The event's space; `null` if it happened in none.
    #[schema(value_type = Option<String>, required, example = "64f0a1b2c3d4e5f601020304")]
    space_id: Option<SpaceId>,
    /// How far it has come.
    state: DeliveryStateName,
    /// Why it is not tried again, if it is dead: `exhausted`, `gone`, `aborted`, `webhook_deleted` or `format_refused`.
    #[schema(value_type = Option<String>, required, example = "exhausted")]
    reason: Option<&'static str>,
    /// When it is tried next; `null` if it is not waiting.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    next_attempt_at: Option<Timestamp>,
    /// Attempts made or under way.
    attempt_count: u32,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it came to its state.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DeliveryState)]
pub(super) enum DeliveryStateName {
    /// It waits for its next attempt.
    Waiting,
    /// An attempt is under way.
    InFlight,
    /// The receiver confirmed it.
    Delivered,
    /// It will not be tried again by itself.
    Dead,
}

impl From<DeliveryStateName> for StateFilter {
    fn from(state: DeliveryStateName) -> Self {
        match state {
            DeliveryStateName::Waiting => Self::Waiting,
            DeliveryStateName::InFlight => Self::InFlight,
            DeliveryStateName::Delivered => Self::Delivered,
            DeliveryStateName::Dead => Self::Dead,
        }
    }
}

impl From<domain::Delivery> for Delivery {
    fn from(delivery: domain::Delivery) -> Self {
        let (state, reason, next_attempt_at) = match delivery.state {
            DeliveryState::Waiting(at) => (DeliveryStateName::Waiting, None, Some(at)),
            DeliveryState::InFlight(_) => (DeliveryStateName::InFlight, None, None),
            DeliveryState::Delivered => (DeliveryStateName::Delivered, None, None),
            DeliveryState::Dead(reason) => (DeliveryStateName::Dead, Some(reason.as_str()), None),
        };
        Self {
            id: delivery.id,
            webhook_id: delivery.webhook,
            event_id: delivery.event,
            event_type: delivery.event_type,
            space_id: delivery.space.somewhere(),
            state,
            reason,
            next_attempt_at,
            attempt_count: delivery.attempts,
            created_at: delivery.created_at,
            updated_at: delivery.updated_at,
        }
    }
}

/// A delivery with its attempts.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeliveryDetail {
    #[serde(flatten)]
    delivery: Delivery,
    /// The attempts that have ended, first to last.
    attempts: Vec<Attempt>,
    /// What became of the words that the receiver answered with; `null` if it gave none, or gave them to another delivery of the
    /// event.
    #[schema(required)]
    reply: Option<DeliveryReply>,
}

/// What became of the words of a receiver.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeliveryReply {
    /// How far it has come: `waiting` to be posted, `posted`, `unconfirmed`, `failed` or `dropped`.
    #[schema(value_type = String, example = "posted")]
    status: &'static str,
    /// Its reference. If it is unconfirmed, `GET /messages/{ref}` tells what is known of it.
    #[schema(value_type = String, example = "ref_4f2b8a0d6c1e4b7f9a3d5e8c7b6a1f20")]
    r#ref: MessageRef,
    /// The id that Spaces gave it, if it is posted.
    #[schema(required, example = "650a0b0c0d0e0f1011121314")]
    message_id: Option<String>,
    /// Why it is not posted, for people.
    #[schema(required)]
    reason: Option<String>,
}

impl From<ReplyRecord> for DeliveryReply {
    fn from(record: ReplyRecord) -> Self {
        let (status, reason) = (record.state.as_str(), record.state.reason().map(str::to_owned));
        let message_id = match record.state {
            ReplyState::Posted { id } => Some(id),
            _ => None,
        };
        Self { status, r#ref: record.reference, message_id, reason }
    }
}

/// One HTTP request of a delivery.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attempt {
    /// 1 for the first.
    #[schema(minimum = 1)]
    number: u32,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// Milliseconds from start to end; `null` if the end was not seen.
    #[schema(required)]
    duration_ms: Option<u32>,
    /// The answer's status; `null` if there was none.
    #[schema(required, example = 200)]
    status: Option<u16>,
    /// What went wrong; `null` if nothing did. One of `dns`, `connect`, `tls`, `timeout`, `reset`, `http`, `too_large`, `address_blocked`, `unknown`.
    #[schema(value_type = Option<String>, required, example = "timeout")]
    error: Option<&'static str>,
    /// The same for people.
    #[schema(required)]
    detail: Option<String>,
    /// The first piece of the answer's body as text.
    #[schema(required)]
    response: Option<String>,
}

impl From<domain::Attempt> for Attempt {
    fn from(attempt: domain::Attempt) -> Self {
        let outcome = attempt.outcome;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_RESPONSE)]).into_owned();
        Self {
            number: attempt.number,
            started_at: attempt.started_at,
            duration_ms: outcome.duration_ms,
            status: outcome.status,
            error: outcome.error.map(domain::ErrorClass::as_str),
            detail: outcome.detail,
            response: outcome.response.map(text),
        }
    }
}

/// Which deliveries, and which page of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveryQuery {
    state: Option<DeliveryStateName>,
    #[serde(rename = "type")]
    event_type: Option<EventType>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    limit: Option<Limit>,
    cursor: Option<String>,
}

/// List a webhook's deliveries
///
/// The deliveries of a webhook, newest first.
#[utoipa::path(
    get,
    path = "/webhooks/{id}/deliveries",
    tag = "Webhooks",
    params(
        ("id" = String, Path, description = "The webhook.", pattern = "^wh_[A-Za-z0-9_-]{1,128}$", example = "wh_1b9d6bcd4bbb4d2d9b5dab8dfbbd4bed"),
        ("state" = Option<DeliveryStateName>, Query, description = "In this state only.", nullable = false),
        ("type" = Option<String>, Query, description = "Of events of this type only.", nullable = false, pattern = "^[A-Za-z0-9_]+([.][A-Za-z0-9_]+)*$", max_length = 100, example = "message.created"),
        ("since" = Option<String>, Query, description = "Created at this time or later.", nullable = false, format = DateTime),
        ("until" = Option<String>, Query, description = "Created before this time.", nullable = false, format = DateTime),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of deliveries.", body = Page<Delivery>),
        (status = 404, description = "`webhook_not_found`: there is none, or not of this account."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn list_deliveries(
    State(app): State<AppState>,
    MayUseWebhooks(caller): MayUseWebhooks,
    ApiPath(webhook): ApiPath<WebhookId>,
    ApiQuery(DeliveryQuery { state, event_type, since, until, limit, cursor }): ApiQuery<DeliveryQuery>,
) -> Result<Json<Page<Delivery>>, ApiError> {
    let reach = caller.reach(&app).await?;
    owned(&app, &reach, &webhook)?;
    let page = PageQuery::new(limit, cursor);
    let filter = DeliveryFilter { webhook, state: state.map(StateFilter::from), event: None, event_type, since, until };
    let query = Query::Deliveries { filter, cursor: page.place()?.map(Cursor), limit: page.limit() };
    let found = app.engine.query(query).await?;
    let rows = deliveries(found.rows)?.into_iter().filter(|delivery| reach.shows_delivery(delivery));
    Ok(Json(Page::new(rows.map(Delivery::from).collect(), found.next.map(|cursor| cursor.0))))
}

/// Show a delivery
///
/// The delivery with its attempts: when, how long, with which answer or error.
#[utoipa::path(
    get,
    path = "/deliveries/{id}",
    tag = "Webhooks",
    params(("id" = String, Path, description = "The delivery.", pattern = "^dlv_[1-9][0-9]{0,17}$", example = "dlv_17")),
    responses(
        (status = 200, description = "The delivery.", body = DeliveryDetail),
        (status = 404, description = "`delivery_not_found`: there is none, or not of a webhook of this account."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn get_delivery(
    State(app): State<AppState>,
    MayUseWebhooks(caller): MayUseWebhooks,
    ApiPath(id): ApiPath<DeliveryId>,
) -> Result<Json<DeliveryDetail>, ApiError> {
    let reach = caller.reach(&app).await?;
    let delivery = owned_delivery(&app, &reach, id).await?;
    let attempts = attempts_of(&app, id).await?;
    let reply = app.replies.find(&delivery.webhook, &delivery.event).await?;
    let reply = reply.filter(|reply| reply.delivery == id).map(DeliveryReply::from);
    Ok(Json(DeliveryDetail { delivery: delivery.into(), attempts, reply }))
}

/// The delivery `id`, if it is of a webhook of the account and within reach.
pub(super) async fn owned_delivery(app: &AppState, reach: &Reach, id: DeliveryId) -> Result<domain::Delivery, ApiError> {
    let found = deliveries(app.engine.query(Query::Delivery(id)).await?.rows)?;
    let is_own = |delivery: &domain::Delivery| reach.shows_delivery(delivery) && owned(app, reach, &delivery.webhook).is_ok();
    found.into_iter().next().filter(is_own).ok_or(ApiError::NotFound(Resource::Delivery))
}

/// The attempts of a delivery that have ended, first to last.
pub(super) async fn attempts_of(app: &AppState, id: DeliveryId) -> Result<Vec<Attempt>, ApiError> {
    match app.engine.query(Query::Attempts(id)).await?.rows {
        Rows::Attempts(attempts) => Ok(attempts.into_iter().map(Attempt::from).collect()),
        other => Err(unexpected(&other)),
    }
}

pub(super) fn deliveries(rows: Rows) -> Result<Vec<domain::Delivery>, ApiError> {
    match rows {
        Rows::Deliveries(deliveries) => Ok(deliveries),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(rows: &Rows) -> ApiError {
    let kind = match rows {
        Rows::Events(_) => "events",
        Rows::Deliveries(_) => "deliveries",
        Rows::Attempts(_) => "attempts",
        Rows::Depths { .. } => "depths",
        Rows::Flows(_) => "flows",
    };
    ApiError::Internal(format!("the store answered with {kind} to another question"))
}
