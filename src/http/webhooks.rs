//! Webhooks: who gets which events where.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, LOCATION};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::{AccountCaller, MayUseWebhooks};
use super::error::{ApiError, Resource};
use super::extract::{ApiJson, ApiPath, ApiQuery};
use super::idempotency::{IdempotencyHeader, Keyed, NoBody};
use super::page::{Page, PageQuery};
use super::reach::Reach;
use super::since::checked_since;
use super::webhook_body::{Webhook, WebhookChange, WebhookCreation, checked_url};
use super::webhook_secret::WebhookSecret;
use crate::delivery::ask_permission;
use crate::domain::{self, EventId, Seed, Timestamp, WebhookId};
use crate::webhooks::{NewWebhook, WebhookPatch, WebhookUrl};

/// A test that is on its way.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WebhookTest {
    /// The event; `GET /webhooks/{id}/deliveries` shows its delivery.
    #[schema(value_type = String, example = "evt_0f3c5a7e9b1d2f4a6c8e0b1d3f5a7c9e")]
    event_id: EventId,
}

/// Register a webhook
///
/// Events of the spaces that it wants are posted to its address, signed as Standard Webhooks says, at least once each. The caller's
/// token is stored, sealed, so that the session listens on without the caller, also after a restart; a later call with a fresher
/// token of the same user takes its place. With `since`, the history of its spaces from then on is read once; what the log does not have
/// yet comes as events with `recovered: true`. The answer alone, and `GET /webhooks/{id}/secret`, show the signing secret or public key.
#[utoipa::path(
    post,
    path = "/webhooks",
    tag = "Webhooks",
    params(IdempotencyHeader),
    request_body(content = WebhookCreation, content_type = "application/json"),
    responses(
        (status = 201, description = "The webhook, with its secret.", body = Webhook, headers(("Location" = String, description = "The webhook's address."))),
        (status = 409, description = "`webhook_limit_reached`: the account has as many webhooks as it may have. `webhook_changed`: try again."),
        (status = 422, description = "`invalid_body`: `errors` says which field is wrong, and how. `handshake_refused`, `handshake_failed`: the receiver does not permit deliveries, or could not be asked."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn create_webhook(
    State(app): State<AppState>,
    MayUseWebhooks(caller): MayUseWebhooks,
    Keyed(call, ApiJson(creation)): Keyed<ApiJson<WebhookCreation>>,
) -> Result<Response, ApiError> {
    let since = checked_since(creation.since, &app)?;
    let new = creation.checked(&app)?;
    if since.is_some() && !new.enabled {
        return Err(ApiError::field("/since", "it is for a webhook that is enabled"));
    }
    caller.reach(&app).await?.check_selectors(&new.spaces)?;
    let scope = caller.scope(&app).await?;
    call.once(&app, &scope, |seed| create(app.clone(), caller, WebhookId::of_seed(&seed), (new, since))).await
}

/// Registers a webhook under this id, to the end. If it is registered already, that is the answer.
async fn create(
    app: AppState,
    caller: AccountCaller,
    id: WebhookId,
    (new, since): (NewWebhook, Option<Timestamp>),
) -> Result<Response, ApiError> {
    let (session, identity) = caller.identity(&app).await?;
    if new.handshake {
        ask_permission(&app.receivers, &new.url, new.pace.rate_limit).await?;
    }
    let work = {
        let app = app.clone();
        async move {
            // The token first: a webhook whose session does not come back after a restart would be a broken promise.
            app.sessions.keep(&session, &identity).await?;
            let spaces = new.spaces.clone();
            let created = app.webhooks.create_once(id, identity.account.clone(), new).await;
            app.sessions.interest_changed(&identity.account).await?;
            let created = created?;
            if let Some(since) = since {
                app.sessions.read_back(&identity.account, spaces, since).await?;
            }
            Ok(created)
        }
    };
    let webhook = app.to_the_end(work).await?;
    let location = HeaderValue::from_str(&format!("/webhooks/{}", webhook.id)).expect("ids are safe in headers");
    let WebhookSecret { secret, public_key, .. } = WebhookSecret::of(&app, &webhook)?;
    let body = Webhook::from(&*webhook).with_secret(secret, public_key);
    Ok((StatusCode::CREATED, [(LOCATION, location), (CACHE_CONTROL, NO_STORE)], Json(body)).into_response())
}

/// Secrets are not for caches.
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// List webhooks
///
/// The webhooks of the caller's account, in the order of their ids, without their secrets.
#[utoipa::path(
    get,
    path = "/webhooks",
    tag = "Webhooks",
    params(PageQuery),
    responses((status = 200, description = "A page of webhooks.", body = Page<Webhook>)),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn list_webhooks(
    State(app): State<AppState>,
    MayUseWebhooks(caller): MayUseWebhooks,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<Page<Webhook>>, ApiError> {
    let reach = caller.reach(&app).await?;
    let webhooks = app.webhooks.of_account(&reach.account);
    let all: Vec<Webhook> =
        webhooks.iter().filter(|webhook| reach.shows(webhook)).map(|webhook| Webhook::from(&**webhook)).collect();
    Ok(Json(Page::cut(all, &query, |webhook| webhook.id.as_str())?))
}

/// Change a webhook
///
/// What is left out stays as it is. Switching a webhook off holds its deliveries back; switching it on lets them go.
#[utoipa::path(
    patch,
    path = "/webhooks/{id}",
    tag = "Webhooks",
    params(("id" = String, Path, description = "The webhook.", pattern = "^wh_[A-Za-z0-9_-]{1,128}$", example = "wh_1b9d6bcd4bbb4d2d9b5dab8dfbbd4bed")),
    request_body(content = WebhookChange, content_type = "application/json"),
    responses(
        (status = 200, description = "The webhook as it is now.", body = Webhook),
        (status = 404, description = "`webhook_not_found`: there is none, or not of this account."),
        (status = 409, description = "`webhook_changed`: others changed it at the same time; try again."),
        (status = 422, description = "`invalid_body`: `errors` says which field is wrong, and how. `handshake_refused`, `handshake_failed`: the receiver does not permit deliveries, or could not be asked."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn update_webhook(
    State(app): State<AppState>,
    MayUseWebhooks(caller): MayUseWebhooks,
    ApiPath(id): ApiPath<WebhookId>,
    ApiJson(change): ApiJson<WebhookChange>,
) -> Result<Json<Webhook>, ApiError> {
    let patch = change.checked(&app)?;
    let webhook = self::change(app, &caller, id, patch).await?;
    Ok(Json(Webhook::from(&*webhook)))
}

/// Changes a webhook of the caller's, to the end.
pub(super) async fn change(
    app: AppState,
    caller: &AccountCaller,
    id: WebhookId,
    patch: WebhookPatch,
) -> Result<Arc<domain::Webhook>, ApiError> {
    let reach = caller.reach(&app).await?;
    let before = owned(&app, &reach, &id)?;
    patch.spaces.as_ref().map_or(Ok(()), |spaces| reach.check_selectors(spaces))?;
    let (session, identity) = caller.identity(&app).await?;
    if let Some(url) = url_to_ask(&before, &patch, &app) {
        ask_permission(&app.receivers, &url?, patch.rate_limit.unwrap_or(before.pace.rate_limit)).await?;
    }
    let work = {
        let app = app.clone();
        async move {
            let webhook = app.webhooks.update(&id, patch).await?;
            if webhook.status == domain::WebhookStatus::Enabled {
                app.sessions.keep(&session, &identity).await?;
            }
            app.sessions.interest_changed(&identity.account).await?;
            Ok(webhook)
        }
    };
    app.to_the_end(work).await
}

/// Delete a webhook
///
/// Deliveries that wait are given up.
#[utoipa::path(
    delete,
    path = "/webhooks/{id}",
    tag = "Webhooks",
    params(("id" = String, Path, description = "The webhook.", pattern = "^wh_[A-Za-z0-9_-]{1,128}$", example = "wh_1b9d6bcd4bbb4d2d9b5dab8dfbbd4bed")),
    responses(
        (status = 204, description = "The webhook is gone."),
        (status = 404, description = "`webhook_not_found`: there is none, or not of this account."),
        (status = 409, description = "`webhook_changed`: others changed it at the same time; try again."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn delete_webhook(
    State(app): State<AppState>,
    MayUseWebhooks(caller): MayUseWebhooks,
    ApiPath(id): ApiPath<WebhookId>,
) -> Result<StatusCode, ApiError> {
    let reach = caller.reach(&app).await?;
    owned(&app, &reach, &id)?;
    let work = {
        let app = app.clone();
        async move {
            app.webhooks.delete(&id).await?;
            Ok(app.sessions.interest_changed(&reach.account).await?)
        }
    };
    app.to_the_end(work).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Try a webhook
///
/// Sends a `webhook.test` event to this webhook alone, on the way that every event takes: signed, and tried again if it fails.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/test",
    tag = "Webhooks",
    params(
        ("id" = String, Path, description = "The webhook.", pattern = "^wh_[A-Za-z0-9_-]{1,128}$", example = "wh_1b9d6bcd4bbb4d2d9b5dab8dfbbd4bed"),
        IdempotencyHeader,
    ),
    responses(
        (status = 202, description = "The test event is stored and on its way.", body = WebhookTest),
        (status = 404, description = "`webhook_not_found`: there is none, or not of this account."),
        (status = 409, description = "`webhook_not_enabled`: it gets no deliveries now."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn test_webhook(
    State(app): State<AppState>,
    MayUseWebhooks(caller): MayUseWebhooks,
    ApiPath(id): ApiPath<WebhookId>,
    Keyed(call, NoBody): Keyed<NoBody>,
) -> Result<Response, ApiError> {
    let scope = caller.scope(&app).await?;
    let work = |seed: Seed| {
        let app = app.clone();
        async move {
            owned(&app, &caller.reach(&app).await?, &id)?;
            let event_id = app.event_log.append_test(&id, EventId::of_seed(&seed)).await?;
            Ok((StatusCode::ACCEPTED, Json(WebhookTest { event_id })).into_response())
        }
    };
    call.once(&app, &scope, work).await
}

/// The webhook `id`, if it is the account's and within reach.
pub(super) fn owned(app: &AppState, reach: &Reach, id: &WebhookId) -> Result<Arc<domain::Webhook>, ApiError> {
    let webhook = app.webhooks.get(id).filter(|webhook| reach.shows(webhook));
    webhook.ok_or(ApiError::NotFound(Resource::Webhook))
}

/// The address whose receiver has to be asked before `patch` is applied, if any has.
fn url_to_ask(before: &domain::Webhook, patch: &WebhookPatch, app: &AppState) -> Option<Result<WebhookUrl, ApiError>> {
    let moved = patch.url.as_ref().is_some_and(|url| url.as_str() != before.url);
    let begins = !before.request.handshake;
    let switched_on = patch.enabled == Some(true) && before.status != domain::WebhookStatus::Enabled;
    let repaced = patch.rate_limit.is_some_and(|limit| limit != before.pace.rate_limit);
    let asks = patch.handshake.unwrap_or(before.request.handshake) && (moved || begins || switched_on || repaced);
    asks.then(|| patch.url.clone().map_or_else(|| checked_url(&before.url, app), Ok))
}
