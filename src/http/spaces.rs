//! The caller's profile and spaces, from the upstream.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::auth::MayRead;
use super::error::ApiError;
use super::extract::ApiQuery;
use super::page::{Page, PageQuery};
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

/// Pages of the upstream that one call looks at; a key may reach few of the spaces on them.
const MAX_LOOKED_AT: usize = 10;

/// A place in the upstream's listing: one of its pages, and how many of that page's spaces have been given.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Place {
    page: Option<String>,
    given: usize,
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
    let mut place: Place = query.place()?.unwrap_or_default();
    let mut spaces = Vec::new();
    for looked_at in 1.. {
        let page = app.rest.spaces_page(session.credential(), place.page.as_deref()).await;
        let page = page.map_err(|error| caller.told(error))?;
        let length = page.spaces.len();
        for (index, space) in page.spaces.into_iter().enumerate().skip(place.given) {
            if spaces.len() == query.limit() {
                place.given = index;
                return Ok(Json(Page::new(spaces, Some(place))));
            }
            if caller.check_space(&space.id).is_ok() {
                spaces.push(Space::from(space));
            }
        }
        place = match page.next {
            Some(next) if length > 0 => Place { page: Some(next), given: 0 },
            _ => return Ok(Json(Page::new(spaces, None::<Place>))),
        };
        if spaces.len() == query.limit() || looked_at == MAX_LOOKED_AT {
            break;
        }
    }
    Ok(Json(Page::new(spaces, Some(place))))
}
