//! Deliveries made again on request: one, all that failed, or everything since a time; and the dead ones of an account.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::auth::MayUseWebhooks;
use super::deliveries::{Attempt, Delivery, attempts_of, deliveries, owned_delivery};
use super::error::ApiError;
use super::extract::{ApiJson, ApiPath, ApiQuery};
use super::idempotency::{IdempotencyHeader, Keyed, NoBody};
use super::page::{Page, PageQuery, decode, encode};
use super::webhooks::owned;
use crate::domain::{self, DeliveryId, Timestamp, Webhook, WebhookId, WebhookStatus};
use crate::recovery::{Place, Progress, Replay, Span};
use crate::store::{Cursor, DeliveryFilter, Query, StateFilter};

/// Most deliveries a second that a replay may ask for.
const MAX_RATE: u32 = 10_000;

/// The two calls that may take several requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Call {
    Recover,
    Replay,
}

/// Which failed deliveries are made again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"since": "2026-11-20T00:00:00Z"}))]
pub(super) struct WebhookRecovery {
    /// Deliveries created from then on.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Deliveries created before then; the time of the first call if not given.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// `nextCursor` of the call before, to go on where it stopped, with everything else as it was.
    #[serde(default)]
    #[schema(max_length = 4096)]
    cursor: Option<String>,
}

/// Which events are delivered once more, and how fast.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"since": "2026-11-20T00:00:00Z", "dryRun": true}))]
pub(super) struct WebhookReplay {
    /// Events appended from then on, also such as are older than the webhook.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Events appended before then; the time of the first call if not given.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Only count what would be delivered.
    #[serde(default)]
    #[schema(default = false)]
    dry_run: bool,
    /// Deliveries a second at most, so that live events go in between; without it all are due at once.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10_000)]
    rate: Option<u32>,
    /// `nextCursor` of the call before, to go on where it stopped, with everything else as it was.
    #[serde(default)]
    #[schema(max_length = 4096)]
    cursor: Option<String>,
}

/// How far a call has come.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Recovered {
    /// Deliveries that this call made due again, or with `dryRun` would have.
    #[schema(minimum = 0)]
    count: usize,
    /// `cursor` of the next call; `null` when nothing is left.
    #[schema(required)]
    next_cursor: Option<String>,
    /// When the oldest event that is still kept was stored: a replay reaches no further back. `null` if none is kept.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    replayable_since: Option<Timestamp>,
}

/// Try a delivery once more
///
/// Makes the delivery due now, with a fresh schedule and the same `webhook-id`, whether it waits, is dead or was delivered.
#[utoipa::path(
    post,
    path = "/deliveries/{id}/retry",
    tag = "Webhooks",
    params(
        ("id" = String, Path, description = "The delivery.", pattern = "^dlv_[1-9][0-9]{0,17}$", example = "dlv_17"),
        IdempotencyHeader,
    ),
    responses(
        (status = 202, description = "The delivery is due.", body = Delivery),
        (status = 404, description = "`delivery_not_found`: there is none, or not of a webhook of this account."),
        (status = 409, description = "`delivery_in_flight`: an attempt is under way. `webhook_not_enabled`: its webhook gets no deliveries now."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn retry_delivery(
    State(app): State<AppState>,
    MayUseWebhooks(caller): MayUseWebhooks,
    ApiPath(id): ApiPath<DeliveryId>,
    Keyed(call, NoBody): Keyed<NoBody>,
) -> Result<Response, ApiError> {
    let scope = caller.scope(&app).await?;
    let work = |_| {
        let app = app.clone();
        async move {
            let reach = caller.reach(&app).await?;
            let delivery = owned_delivery(&app, &reach, id).await?;
            enabled(&*owned(&app, &reach, &delivery.webhook)?)?;
            if !app.recovery.retry(&delivery.webhook, id).await? {
                return Err(ApiError::DeliveryInFlight);
            }
            let delivery = owned_delivery(&app, &reach, id).await?;
            Ok((StatusCode::ACCEPTED, Json(Delivery::from(delivery))).into_response())
        }
    };
    call.once(&app, &scope, work).await
}

/// Make failed deliveries again
///
/// Makes the dead deliveries of a webhook that were created in a stretch of time due now, oldest first, with fresh schedules. A call
/// takes about five seconds at most; one that has not come to the end answers a `nextCursor` to go on with.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/recover",
    tag = "Webhooks",
    params(
        ("id" = String, Path, description = "The webhook.", pattern = "^wh_[A-Za-z0-9_-]{1,128}$", example = "wh_1b9d6bcd4bbb4d2d9b5dab8dfbbd4bed"),
        IdempotencyHeader,
    ),
    request_body = WebhookRecovery,
    responses(
        (status = 200, description = "So many are due again.", body = Recovered),
        (status = 404, description = "`webhook_not_found`: there is none, or not of this account."),
        (status = 409, description = "`webhook_not_enabled`: it gets no deliveries now."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn recover_webhook(
    State(app): State<AppState>,
    MayUseWebhooks(caller): MayUseWebhooks,
    ApiPath(id): ApiPath<WebhookId>,
    Keyed(call, ApiJson(asked)): Keyed<ApiJson<WebhookRecovery>>,
) -> Result<Response, ApiError> {
    let span = checked_span(asked.since, asked.until)?;
    let place = asked.cursor.as_deref().map(|cursor| place_of(Call::Recover, cursor)).transpose()?;
    let scope = caller.scope(&app).await?;
    let work = |_| {
        let app = app.clone();
        async move {
            let webhook = owned(&app, &caller.reach(&app).await?, &id)?;
            enabled(&webhook)?;
            let progress = app.recovery.recover(&id, span, place).await?;
            recovered(&app, &webhook, Call::Recover, progress).await
        }
    };
    call.once(&app, &scope, work).await
}

/// Deliver everything since a time
///
/// Delivers the events of a stretch of time that the webhook wants, as it is now, once more, oldest first, also such as are older than
/// the webhook. Each keeps its `webhook-id`. An event that is on its way to the webhook is passed over. A call takes about five
/// seconds at most; one that has not come to the end answers a `nextCursor` to go on with.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/replay",
    tag = "Webhooks",
    params(
        ("id" = String, Path, description = "The webhook.", pattern = "^wh_[A-Za-z0-9_-]{1,128}$", example = "wh_1b9d6bcd4bbb4d2d9b5dab8dfbbd4bed"),
        IdempotencyHeader,
    ),
    request_body = WebhookReplay,
    responses(
        (status = 200, description = "So many are on their way, or would be.", body = Recovered),
        (status = 404, description = "`webhook_not_found`: there is none, or not of this account."),
        (status = 409, description = "`webhook_not_enabled`: it gets no deliveries now."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn replay_webhook(
    State(app): State<AppState>,
    MayUseWebhooks(caller): MayUseWebhooks,
    ApiPath(id): ApiPath<WebhookId>,
    Keyed(call, ApiJson(asked)): Keyed<ApiJson<WebhookReplay>>,
) -> Result<Response, ApiError> {
    let span = checked_span(asked.since, asked.until)?;
    if asked.rate.is_some_and(|rate| !(1..=MAX_RATE).contains(&rate)) {
        return Err(ApiError::field("/rate", format!("a rate is a number from 1 to {MAX_RATE}")));
    }
    let place = asked.cursor.as_deref().map(|cursor| place_of(Call::Replay, cursor)).transpose()?;
    let replay = Replay { span, dry_run: asked.dry_run, rate: asked.rate };
    let scope = caller.scope(&app).await?;
    let work = |_| {
        let app = app.clone();
        async move {
            let webhook = owned(&app, &caller.reach(&app).await?, &id)?;
            enabled(&webhook)?;
            let progress = app.recovery.replay(&webhook, replay, place).await?;
            recovered(&app, &webhook, Call::Replay, progress).await
        }
    };
    call.once(&app, &scope, work).await
}

/// A delivery that is not tried again by itself.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeadLetter {
    #[serde(flatten)]
    delivery: Delivery,
    /// Its last attempt; `null` if none was made.
    #[schema(required)]
    last_attempt: Option<Attempt>,
}

/// List dead deliveries
///
/// The deliveries of all the account's webhooks that are not tried again by themselves, newest first, each with its last attempt.
/// `POST /deliveries/{id}/retry` and `POST /webhooks/{id}/recover` drive them again.
#[utoipa::path(
    get,
    path = "/dead-letters",
    tag = "Webhooks",
    params(PageQuery),
    responses((status = 200, description = "A page of dead deliveries.", body = Page<DeadLetter>)),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn list_dead_letters(
    State(app): State<AppState>,
    MayUseWebhooks(caller): MayUseWebhooks,
    ApiQuery(page): ApiQuery<PageQuery>,
) -> Result<Json<Page<DeadLetter>>, ApiError> {
    let cursor = page.place()?.map(Cursor);
    let reach = caller.reach(&app).await?;
    let mut dead: Vec<domain::Delivery> = Vec::new();
    // An account has a hundred webhooks by default, and each list is one look at an index.
    for webhook in app.webhooks.of_account(&reach.account).into_iter().filter(|webhook| reach.shows(webhook)) {
        let filter = DeliveryFilter { state: Some(StateFilter::Dead), ..DeliveryFilter::of(webhook.id.clone()) };
        // One more than fits tells whether there is another page.
        let query = Query::Deliveries { filter, cursor, limit: page.limit() + 1 };
        dead.extend(deliveries(app.engine.query(query).await?.rows)?);
    }
    dead.sort_by_key(|delivery| std::cmp::Reverse(delivery.id));
    let more = dead.len() > page.limit();
    dead.truncate(page.limit());
    let next = dead.last().filter(|_| more).map(|last| last.id.number());
    let mut letters = Vec::with_capacity(dead.len());
    for delivery in dead.into_iter().filter(|delivery| reach.shows_delivery(delivery)) {
        let last_attempt = attempts_of(&app, delivery.id).await?.pop();
        letters.push(DeadLetter { delivery: delivery.into(), last_attempt });
    }
    Ok(Json(Page::new(letters, next)))
}

fn checked_span(since: Timestamp, until: Option<Timestamp>) -> Result<Span, ApiError> {
    if until.is_some_and(|until| until <= since) {
        return Err(ApiError::field("/until", "the end of the time is after its beginning".to_owned()));
    }
    Ok(Span { since, until })
}

/// Where the call that gave `cursor` stopped. The places of the two calls mean different things, so each cursor tells its call.
fn place_of(call: Call, cursor: &str) -> Result<Place, ApiError> {
    let place = decode::<(Call, Place)>(cursor).filter(|(of, _)| *of == call).map(|(_, place)| place);
    place.ok_or_else(|| ApiError::field("/cursor", "this is none that such a call gave as `nextCursor`".to_owned()))
}

/// Deliveries of a webhook that is off would only wait, and whoever asks for them expects them to arrive.
fn enabled(webhook: &Webhook) -> Result<(), ApiError> {
    match webhook.status {
        WebhookStatus::Enabled => Ok(()),
        status => Err(crate::event_log::TestError::Disabled(status).into()),
    }
}

async fn recovered(app: &AppState, webhook: &Webhook, call: Call, progress: Progress) -> Result<Response, ApiError> {
    let Progress { count, next } = progress;
    let replayable_since = app.recovery.reach(&webhook.account).await?;
    Ok(Json(Recovered { count, next_cursor: next.map(|place| encode(&(call, place))), replayable_since }).into_response())
}
