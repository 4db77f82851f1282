//! Signs that the user gives to a space beside messages: that it is typing, and how far it has read.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;

use super::AppState;
use super::auth::{MayRead, MaySend};
use super::error::ApiError;
use super::extract::ApiPath;
use super::idempotency::{IdempotencyHeader, Keyed, NoBody};
use super::space_password::{SpacePassword, SpacePasswordHeader};
use crate::domain::SpaceId;
use crate::upstream::InSpace;

/// Tell a space that the user is typing
///
/// What others see of it goes away by itself after about two seconds. The sign goes at once, over the session's connection, or not at
/// all: it leaves what Spaces allows to messages and subscriptions if that is scarce.
#[utoipa::path(
    post,
    path = "/spaces/{spaceId}/typing",
    tag = "Spaces",
    params(
        ("spaceId" = String, Path, description = "The space, as Spaces numbers it.", pattern = "^[A-Za-z0-9_-]{1,128}$", example = "64f0a1b2c3d4e5f601020304"),
        IdempotencyHeader,
    ),
    responses(
        (status = 204, description = "The space has been told."),
        (status = 403, description = "`space_forbidden`: Spaces does not let this user in. `account_required`: the admin key stands for no user."),
        (status = 404, description = "`space_not_found`: Spaces does not know the space."),
        (status = 409, description = "`subscription_refused`: Spaces does not let this session listen to the space."),
        (status = 429, description = "`emit_budget_exhausted`: there is nothing to spare for it. `session_busy`: too much at once."),
        (status = 503, description = "`not_connected`: no connection to Spaces in time. Also `session_closed`."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn tell_typing(
    State(app): State<AppState>,
    MaySend(caller): MaySend,
    ApiPath(space): ApiPath<SpaceId>,
    Keyed(call, NoBody): Keyed<NoBody>,
) -> Result<Response, ApiError> {
    caller.check_space(&space)?;
    let scope = caller.scope(&app).await?;
    let work = |_| {
        let app = app.clone();
        async move {
            let wait = app.settings.default_wait;
            caller
                .with_session(&app, |session| {
                    let space = space.clone();
                    async move { session.typing(space, wait).await }
                })
                .await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
    };
    call.once(&app, &scope, work).await
}

/// Mark a space as read
///
/// All that is in the space counts as read by the user from now on, in every client of Spaces.
#[utoipa::path(
    post,
    path = "/spaces/{spaceId}/read",
    tag = "Spaces",
    params(
        ("spaceId" = String, Path, description = "The space, as Spaces numbers it.", pattern = "^[A-Za-z0-9_-]{1,128}$", example = "64f0a1b2c3d4e5f601020304"),
        IdempotencyHeader,
        SpacePasswordHeader,
    ),
    responses(
        (status = 204, description = "It is marked."),
        (status = 403, description = "`upstream_forbidden`: Spaces does not let this user in, or wants the space's password (`X-Space-Password`). `account_required`: the admin key stands for no user."),
        (status = 404, description = "`upstream_not_found`: Spaces does not know the space."),
        (status = 409, description = "`upstream_conflict`: Spaces sees a conflict."),
        (status = 422, description = "`upstream_refused`: Spaces refused it."),
        (status = 429, description = "`call_budget_exhausted`: as many calls as Spaces allows this user have been made. `upstream_rate_limited`: Spaces wants fewer calls. `session_busy`: too many sessions."),
        (status = 502, description = "`upstream_error`: Spaces failed."),
        (status = 503, description = "`upstream_unreachable`: Spaces is out of reach. `not_connected`: it is not known yet who the caller is."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn mark_read(
    State(app): State<AppState>,
    MayRead(caller): MayRead,
    ApiPath(space): ApiPath<SpaceId>,
    SpacePassword(password): SpacePassword,
    Keyed(call, NoBody): Keyed<NoBody>,
) -> Result<Response, ApiError> {
    caller.check_space(&space)?;
    let scope = caller.scope(&app).await?;
    let work = |_| {
        let app = app.clone();
        async move {
            let session = caller.session(&app)?;
            let at = InSpace { credential: session.credential(), space: &space, password: password.as_ref() };
            app.rest.mark_read(at).await.map_err(|error| caller.told(error))?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
    };
    call.once(&app, &scope, work).await
}
