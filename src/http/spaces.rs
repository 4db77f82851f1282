//! The caller's profile and spaces, from the upstream.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::MayRead;
use super::error::ApiError;
use super::extract::ApiQuery;
use super::page::{Page, PageQuery};
use super::upstream_list::{Gathering, Taken};
use crate::domain::{AccountId, SessionId, SpaceId, TokenKind};
use crate::upstream::{Profile, SpaceInfo};

/// Who the caller is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Me {
    /// The account in the bridge.
    #[schema(value_type = String, example = "acc_5a0b1c2d3e4f506172839405")]
    account: AccountId,
    /// The caller's session.
    #[schema(value_type = String, example = "ses_9c1f0e2d4b3a59687766554433221100")]
    session_id: SessionId,
    /// The user's id in Spaces; `null` while it is not known.
    #[schema(required, example = "5a0b1c2d3e4f506172839405")]
    user_id: Option<String>,
    /// The name shown.
    #[schema(required, example = "Ana Ruiz")]
    display_name: Option<String>,
    /// The login name.
    #[schema(required, example = "ana@corp.example")]
    username: Option<String>,
    /// `user` or `anonymous`, in the upstream's words.
    #[schema(required, example = "user")]
    r#type: Option<String>,
}

/// A space of the caller.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Space {
    /// Its id.
    #[schema(value_type = String, example = "64f0a1b2c3d4e5f601020304")]
    id: SpaceId,
    /// Its title.
    #[schema(required, example = "Ops")]
    title: Option<String>,
    /// `group`, `direct` or `personal`; `null` for a kind that the bridge does not know.
    #[schema(value_type = Option<String>, required, example = "group")]
    r#type: Option<&'static str>,
}

impl From<SpaceInfo> for Space {
    fn from(space: SpaceInfo) -> Self {
        Self { id: space.id, title: space.title, r#type: space.kind.map(crate::upstream::TopicType::as_str) }
    }
}

/// Tell who the caller is
///
/// Asks Spaces whose token it is, and opens the caller's session if this is the first call with the token.
#[utoipa::path(
    get,
    path = "/me",
    tag = "Caller",
    responses(
        (status = 200, description = "The caller.", body = Me),
        (status = 403, description = "`upstream_forbidden`: Spaces does not tell. `account_required`: the admin key stands for no user."),
        (status = 404, description = "`upstream_not_found`: Spaces does not know the user."),
        (status = 409, description = "`upstream_conflict`: Spaces sees a conflict."),
        (status = 422, description = "`upstream_refused`: Spaces refused to answer."),
        (status = 429, description = "`call_budget_exhausted`: as many calls as Spaces allows this user have been made. `upstream_rate_limited`: Spaces wants fewer calls. `session_busy`: too many sessions."),
        (status = 502, description = "`upstream_error`: Spaces failed."),
        (status = 503, description = "`not_connected`, `upstream_unreachable`: Spaces is out of reach."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn get_me(State(app): State<AppState>, MayRead(caller): MayRead) -> Result<Json<Me>, ApiError> {
    let session = caller.session(&app)?;
    // A refused token is not shown to Spaces again. Spaces does not answer service applications here.
    let profile = match session.credential().kind {
        TokenKind::Oauth | TokenKind::Jwt if session.state().is_usable() => {
            Some(app.rest.me(session.credential()).await.map_err(|error| caller.told(error))?)
        }
        TokenKind::Oauth | TokenKind::Jwt | TokenKind::ServiceApp => None,
    };
    // Asked for after the profile, whose failure says more than that the session does not know its user yet.
    let (session, identity) = caller.identity(&app).await?;
    let (user_id, display_name, username, kind) = match profile {
        Some(Profile { id, username, displayname, kind }) => (Some(id), displayname, username, kind),
        None => (identity.user_id, identity.display_name, None, None),
    };
    let session_id = session.id().clone();
    Ok(Json(Me { account: identity.account, session_id, user_id, display_name, username, r#type: kind }))
}

/// List the caller's spaces
///
/// The spaces of all kinds that the caller has joined, in the order of Spaces: by recent activity.
#[utoipa::path(
    get,
    path = "/spaces",
    tag = "Caller",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of spaces.", body = Page<Space>),
        (status = 403, description = "`upstream_forbidden`: Spaces does not tell. `account_required`: the admin key stands for no user."),
        (status = 404, description = "`upstream_not_found`: Spaces does not know the page."),
        (status = 409, description = "`upstream_conflict`: Spaces sees a conflict."),
        (status = 422, description = "`upstream_refused`: Spaces refused to answer."),
        (status = 429, description = "`call_budget_exhausted`: as many calls as Spaces allows this user have been made. `upstream_rate_limited`: Spaces wants fewer calls. `session_busy`: too many sessions."),
        (status = 502, description = "`upstream_error`: Spaces failed."),
        (status = 503, description = "`upstream_unreachable`: Spaces is out of reach."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn list_spaces(
    State(app): State<AppState>,
    MayRead(caller): MayRead,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<Page<Space>>, ApiError> {
    let session = caller.session(&app)?;
    let mut gathering = Gathering::new(query.place()?.unwrap_or_default(), query.limit());
    while let Some(next) = gathering.wants() {
        let page = app.rest.spaces_page(session.credential(), next.as_deref()).await.map_err(|error| caller.told(error))?;
        gathering.add(page.spaces, page.next, |space| match caller.check_space(&space.id) {
            Ok(()) => Taken::Given(Space::from(space)),
            Err(_) => Taken::LeftOut,
        });
    }
    let (spaces, next) = gathering.end();
    Ok(Json(Page::new(spaces, next)))
}
