//! Subscriptions: spaces that the caller's session listens to, beyond what webhooks want.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::auth::MayRead;
use super::error::{ApiError, Resource};
use super::extract::{ApiPath, ApiQuery, OptionalJson};
use super::page::{Page, PageQuery};
use super::since::checked_since;
use crate::domain::{SpaceId, SpaceSelector, Timestamp};
use crate::session::{ChannelState, SessionHandle, SpaceChannel};

/// A space that a session listens to.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subscription {
    /// The space.
    #[schema(value_type = String, example = "64f0a1b2c3d4e5f601020304")]
    space_id: SpaceId,
    /// How far it is.
    state: SubscriptionState,
    /// Why Spaces refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
}

/// How far a subscription is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SubscriptionState {
    /// Asked for, or waiting to be.
    Pending,
    /// Spaces confirmed it.
    Subscribed,
    /// Spaces refused it.
    Refused,
}

impl From<SpaceChannel> for Subscription {
    fn from(channel: SpaceChannel) -> Self {
        let (state, detail) = match channel.state {
            ChannelState::Pending => (SubscriptionState::Pending, None),
            ChannelState::Subscribed => (SubscriptionState::Subscribed, None),
            ChannelState::Refused { detail } => (SubscriptionState::Refused, Some(detail)),
        };
        Self { space_id: channel.space, state, detail }
    }
}

/// How to listen to a space.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SubscriptionRequest {
    /// From when on the account wants what happened before, as far as the space's history tells and the log does not have it yet. Not in
    /// the future; without it, the subscription begins now.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-11-20T00:00:00Z")]
    since: Option<Timestamp>,
}

/// Listen to a space
///
/// Makes the caller's session listen to the space, also after reconnects and restarts: the token is stored, sealed. Answers once
/// Spaces has confirmed it. A repeat changes nothing. Webhooks imply the subscriptions that they need. With `since`, the history of the
/// space from then on is read once; what the log does not have yet comes as events with `recovered: true`.
#[utoipa::path(
    put,
    path = "/spaces/{spaceId}/subscription",
    tag = "Subscriptions",
    params(("spaceId" = String, Path, description = "The space, as Spaces numbers it.", pattern = "^[A-Za-z0-9_-]{1,128}$", example = "64f0a1b2c3d4e5f601020304")),
    request_body(content = Option<SubscriptionRequest>, content_type = "application/json"),
    responses(
        (status = 200, description = "The session listens.", body = Subscription),
        (status = 403, description = "`space_forbidden`: Spaces does not let this user listen. `account_required`: the admin key stands for no user."),
        (status = 404, description = "`space_not_found`: Spaces does not know the space."),
        (status = 409, description = "`subscription_refused`: Spaces refused otherwise."),
        (status = 422, description = "`invalid_body`: `errors` says which field is wrong, and how."),
        (status = 429, description = "`session_busy`, `emit_budget_exhausted`: too much at once, or in the time over which Spaces counts."),
        (status = 503, description = "`not_connected`: no connection to Spaces in time. Also `store_unavailable`."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn put_subscription(
    State(app): State<AppState>,
    MayRead(caller): MayRead,
    ApiPath(space): ApiPath<SpaceId>,
    OptionalJson(request): OptionalJson<SubscriptionRequest>,
) -> Result<Json<Subscription>, ApiError> {
    caller.check_space(&space)?;
    let since = checked_since(request.since, &app)?;
    let wait = app.settings.default_wait;
    let subscribe = |session: SessionHandle| {
        let space = space.clone();
        async move {
            let identity = session.identity(wait).await?;
            session.subscribe(space, wait).await?;
            Ok((session, identity))
        }
    };
    let (session, identity) = caller.with_session(&app, subscribe).await?;
    let subscribed = Subscription { space_id: space.clone(), state: SubscriptionState::Subscribed, detail: None };
    let work = {
        let app = app.clone();
        async move {
            app.subscriptions.put(&identity.account, &space).await?;
            app.sessions.keep(&session, &identity).await?;
            app.sessions.interest_changed(&identity.account).await?;
            if let Some(since) = since {
                app.sessions.read_back(&identity.account, vec![SpaceSelector::One(space)], since).await?;
            }
            Ok(())
        }
    };
    app.to_the_end(work).await?;
    Ok(Json(subscribed))
}

/// Stop listening to a space
///
/// Ends the subscription; a webhook that wants the space keeps it.
#[utoipa::path(
    delete,
    path = "/spaces/{spaceId}/subscription",
    tag = "Subscriptions",
    params(("spaceId" = String, Path, description = "The space, as Spaces numbers it.", pattern = "^[A-Za-z0-9_-]{1,128}$", example = "64f0a1b2c3d4e5f601020304")),
    responses(
        (status = 204, description = "The subscription has ended."),
        (status = 404, description = "`subscription_not_found`: there was none."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn delete_subscription(
    State(app): State<AppState>,
    MayRead(caller): MayRead,
    ApiPath(space): ApiPath<SpaceId>,
) -> Result<StatusCode, ApiError> {
    caller.check_space(&space)?;
    let account = caller.account(&app).await?;
    let work = {
        let app = app.clone();
        async move {
            if !app.subscriptions.delete(&account, &space).await? {
                return Err(ApiError::NotFound(Resource::Subscription));
            }
            Ok(app.sessions.interest_changed(&account).await?)
        }
    };
    app.to_the_end(work).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List subscriptions
///
/// The spaces that the caller's account listens to by `PUT /spaces/{spaceId}/subscription`, in the order of their ids.
#[utoipa::path(
    get,
    path = "/subscriptions",
    tag = "Subscriptions",
    params(PageQuery),
    responses((status = 200, description = "A page of subscriptions.", body = Page<Subscription>)),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn list_subscriptions(
    State(app): State<AppState>,
    MayRead(caller): MayRead,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<Page<Subscription>>, ApiError> {
    let reach = caller.reach(&app).await?;
    let channels = caller.session(&app).map(|session| session.status().channels).unwrap_or_default();
    let state_of = |space: SpaceId| {
        let known = channels.iter().find(|channel| channel.space == space).cloned();
        known.unwrap_or(SpaceChannel { space, state: ChannelState::Pending }).into()
    };
    let all: Vec<Subscription> =
        app.subscriptions.of_account(&reach.account).into_iter().filter(|space| reach.includes(space)).map(state_of).collect();
    Ok(Json(Page::cut(all, &query, |subscription| subscription.space_id.as_str())?))
}
