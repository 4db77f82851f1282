//! How a webhook's endpoint does, and switching a webhook on again.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::auth::{AccountCaller, MayUseWebhooks};
use super::error::ApiError;
use super::extract::{ApiPath, OptionalJson};
use super::idempotency::{IdempotencyHeader, Keyed};
use super::webhook_body::Webhook;
use super::webhooks::{change, owned};
use crate::domain::{Timestamp, WebhookId, WebhookStatus};
use crate::recovery::MadeUp;
use crate::store::{FlowStatus, Query, Rows};
use crate::webhooks::WebhookPatch;

/// A webhook and how its endpoint does.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WebhookDetail {
    #[serde(flatten)]
    webhook: Webhook,
    /// How its endpoint does.
    health: WebhookHealth,
}

/// How a webhook's endpoint does.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WebhookHealth {
    /// In one word.
    state: HealthState,
    /// Since when no attempt has succeeded; `null` if the last one did, or there was none.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    failing_since: Option<Timestamp>,
    /// Until when all deliveries are held back; `null` if they are not.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    held_until: Option<Timestamp>,
    /// Deliveries that wait for an attempt.
    #[schema(minimum = 0)]
    waiting: u64,
    /// When the oldest of them was created.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    oldest_waiting_at: Option<Timestamp>,
}

/// How an endpoint does, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum HealthState {
    /// The last attempt succeeded, or there was none yet.
    Healthy,
    /// The last attempt failed.
    Failing,
    /// Several attempts in a row found nobody there: all deliveries are held back.
    Open,
    /// After that, one delivery at a time goes out, until one succeeds.
    HalfOpen,
}

impl WebhookHealth {
    fn of(flow: Option<FlowStatus>, now: Timestamp) -> Self {
        let Some(flow) = flow else {
            return Self {
                state: HealthState::Healthy,
                failing_since: None,
                held_until: None,
                waiting: 0,
                oldest_waiting_at: None,
            };
        };
        let held_until = flow.held_until.filter(|until| *until > now);
        let state = match (flow.probing, held_until, flow.failing_since) {
            (true, Some(_), _) => HealthState::Open,
            (true, None, _) => HealthState::HalfOpen,
            (false, _, Some(_)) => HealthState::Failing,
            (false, _, None) => HealthState::Healthy,
        };
        let (failing_since, oldest_waiting_at) = (flow.failing_since, flow.oldest_waiting);
        Self { state, failing_since, held_until, waiting: flow.waiting, oldest_waiting_at }
    }
}

/// Show a webhook
///
/// With how its endpoint does.
#[utoipa::path(
    get,
    path = "/webhooks/{id}",
    tag = "Webhooks",
    params(("id" = String, Path, description = "The webhook.", pattern = "^wh_[A-Za-z0-9_-]{1,128}$", example = "wh_1b9d6bcd4bbb4d2d9b5dab8dfbbd4bed")),
    responses(
        (status = 200, description = "The webhook, without its secret.", body = WebhookDetail),
        (status = 404, description = "`webhook_not_found`: there is none, or not of this account."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn get_webhook(
    State(app): State<AppState>,
    MayUseWebhooks(caller): MayUseWebhooks,
    ApiPath(id): ApiPath<WebhookId>,
) -> Result<Json<WebhookDetail>, ApiError> {
    let webhook = owned(&app, &caller.reach(&app).await?, &id)?;
    let flow = match app.engine.query(Query::Flow(id)).await?.rows {
        Rows::Flows(flows) => flows.into_iter().next(),
        _ => return Err(ApiError::Internal("the store answered another question than for a flow".to_owned())),
    };
    let health = WebhookHealth::of(flow, app.clock.now());
    Ok(Json(WebhookDetail { webhook: Webhook::from(&*webhook), health }))
}

/// What is to be made up for when a webhook is switched on.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"recoverSince": "2026-11-20T00:00:00Z"}))]
pub(super) struct WebhookEnabling {
    /// From then on: deliveries that are dead are tried again, and events that came while the webhook was off are delivered.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    recover_since: Option<Timestamp>,
}

/// A webhook that was switched on.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EnabledWebhook {
    #[serde(flatten)]
    webhook: Webhook,
    /// What is made up for; `null` if that was not asked for.
    #[schema(required)]
    recovered: Option<RecoveredOnEnabling>,
}

/// What is made up for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecoveredOnEnabling {
    /// Dead deliveries that are tried again.
    #[schema(minimum = 0)]
    dead: usize,
    /// Events that came while the webhook was off and are delivered now.
    #[schema(minimum = 0)]
    missed: usize,
}

/// Switch a webhook on
///
/// Whatever switched it off. What waited is delivered, and a hold of its endpoint ends: it is tried at once. With `recoverSince`,
/// what it missed since then is made up for, to the end, also if that takes longer than this call may.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/enable",
    tag = "Webhooks",
    params(
        ("id" = String, Path, description = "The webhook.", pattern = "^wh_[A-Za-z0-9_-]{1,128}$", example = "wh_1b9d6bcd4bbb4d2d9b5dab8dfbbd4bed"),
        IdempotencyHeader,
    ),
    request_body(content = Option<WebhookEnabling>, content_type = "application/json"),
    responses(
        (status = 200, description = "The webhook as it is now.", body = EnabledWebhook),
        (status = 404, description = "`webhook_not_found`: there is none, or not of this account."),
        (status = 409, description = "`webhook_changed`: others changed it at the same time; try again."),
        (status = 422, description = "`handshake_refused`, `handshake_failed`: the receiver does not permit deliveries, or could not be asked."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn enable_webhook(
    State(app): State<AppState>,
    MayUseWebhooks(caller): MayUseWebhooks,
    ApiPath(id): ApiPath<WebhookId>,
    Keyed(call, OptionalJson(asked)): Keyed<OptionalJson<WebhookEnabling>>,
) -> Result<Response, ApiError> {
    let scope = caller.scope(&app).await?;
    let work = |_| {
        let app = app.clone();
        async move { enable(app, &caller, id, asked.recover_since).await.map(|enabled| Json(enabled).into_response()) }
    };
    call.once(&app, &scope, work).await
}

async fn enable(
    app: AppState,
    caller: &AccountCaller,
    id: WebhookId,
    since: Option<Timestamp>,
) -> Result<EnabledWebhook, ApiError> {
    let before = owned(&app, &caller.reach(&app).await?, &id)?;
    let patch = WebhookPatch { enabled: Some(true), ..WebhookPatch::default() };
    let webhook = change(app.clone(), caller, id, patch).await?;
    let shown = Webhook::from(&*webhook);
    let recovered = match since {
        Some(since) => {
            let off_since = (before.status != WebhookStatus::Enabled).then_some(before.status_since);
            let work = {
                let app = app.clone();
                async move { Ok(app.recovery.make_up(&webhook, since, off_since).await?) }
            };
            let MadeUp { dead, missed } = app.to_the_end(work).await?;
            Some(RecoveredOnEnabling { dead, missed })
        }
        None => None,
    };
    Ok(EnabledWebhook { webhook: shown, recovered })
}
