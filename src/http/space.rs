//! One space, and who is in it.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::auth::MayRead;
use super::error::ApiError;
use super::extract::{ApiPath, ApiQuery};
use super::page::{Limit, Page, PageQuery};
use super::space_password::{SpacePassword, SpacePasswordHeader};
use super::upstream_list::{FilteredPlace, Gathering, Taken, check_search};
use crate::domain::{SpaceId, Timestamp};
use crate::upstream::{InSpace, Person, SpaceDetails, TopicType};

/// A space with what everyone in it may know.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpaceDetail {
    /// Its id.
    #[schema(value_type = String, example = "64f0a1b2c3d4e5f601020304")]
    id: SpaceId,
    /// Its title.
    #[schema(required, example = "Ops")]
    title: Option<String>,
    /// Its description as Spaces keeps it, HTML.
    #[schema(required, example = "<p>Who is on call</p>")]
    description: Option<String>,
    /// `group`, `direct` or `personal`; `null` for a kind that the bridge does not know.
    #[schema(value_type = Option<String>, required, example = "group")]
    r#type: Option<&'static str>,
    /// The user who made it.
    #[schema(required, example = "5a0b1c2d3e4f506172839405")]
    owner_id: Option<String>,
    /// What is not allowed in it, in the words of Spaces.
    #[schema(example = json!(["deny_guest_access_history_msg"]))]
    restrictions: Vec<String>,
    /// When it was made.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    created_at: Option<Timestamp>,
}

impl SpaceDetail {
    fn new(id: SpaceId, details: SpaceDetails) -> Self {
        let SpaceDetails { title, description, kind, owner, restrictions, created } = details;
        let created_at = created.as_deref().and_then(Timestamp::parse);
        Self { id, title, description, r#type: kind.map(TopicType::as_str), owner_id: owner, restrictions, created_at }
    }
}

/// Someone in a space.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Member {
    /// The user's id in Spaces.
    #[schema(example = "5a0b1c2d3e4f506172839405")]
    user_id: String,
    /// `user` or `anonymous`, in the words of Spaces.
    #[schema(required, example = "user")]
    r#type: Option<String>,
    /// The login name.
    #[schema(required, example = "ana@corp.example")]
    username: Option<String>,
    /// The name shown.
    #[schema(required, example = "Ana Ruiz")]
    display_name: Option<String>,
    /// `admin`, `member` or `guest`, in the words of Spaces.
    #[schema(required, example = "member")]
    role: Option<String>,
}

impl From<Person> for Member {
    fn from(Person { id, kind, username, display_name, role }: Person) -> Self {
        Self { user_id: id, r#type: kind, username, display_name, role }
    }
}

/// Show a space
///
/// As Spaces knows it now. What opens its conferences is not shown.
#[utoipa::path(
    get,
    path = "/spaces/{spaceId}",
    tag = "Spaces",
    params(
        ("spaceId" = String, Path, description = "The space, as Spaces numbers it.", pattern = "^[A-Za-z0-9_-]{1,128}$", example = "64f0a1b2c3d4e5f601020304"),
        SpacePasswordHeader,
    ),
    responses(
        (status = 200, description = "The space.", body = SpaceDetail),
        (status = 403, description = "`upstream_forbidden`: Spaces does not let this user in, or wants the space's password (`X-Space-Password`). `account_required`: the admin key stands for no user."),
        (status = 404, description = "`upstream_not_found`: Spaces does not know the space."),
        (status = 409, description = "`upstream_conflict`: Spaces sees a conflict."),
        (status = 422, description = "`upstream_refused`: Spaces refused to answer."),
        (status = 429, description = "`call_budget_exhausted`: as many calls as Spaces allows this user have been made. `upstream_rate_limited`: Spaces wants fewer calls. `session_busy`: too many sessions."),
        (status = 502, description = "`upstream_error`: Spaces failed."),
        (status = 503, description = "`upstream_unreachable`: Spaces is out of reach."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn get_space(
    State(app): State<AppState>,
    MayRead(caller): MayRead,
    ApiPath(space): ApiPath<SpaceId>,
    SpacePassword(password): SpacePassword,
) -> Result<Json<SpaceDetail>, ApiError> {
    caller.check_space(&space)?;
    let session = caller.session(&app)?;
    let at = InSpace { credential: session.credential(), space: &space, password: password.as_ref() };
    let details = app.rest.space(at).await.map_err(|error| caller.told(error))?;
    Ok(Json(SpaceDetail::new(space, details)))
}

/// Which members.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MemberQuery {
    /// Only those whose names have this in them, as Spaces compares them.
    #[param(min_length = 1, max_length = 200, nullable = false)]
    search: Option<String>,
    /// Most entries of the page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200, default = 50, nullable = false)]
    limit: Option<Limit>,
    /// Where to go on: `nextCursor` of the page before, with the same `search`.
    #[param(max_length = 4096, nullable = false)]
    cursor: Option<String>,
}

/// List who is in a space
///
/// In the order of Spaces.
#[utoipa::path(
    get,
    path = "/spaces/{spaceId}/members",
    tag = "Spaces",
    params(
        ("spaceId" = String, Path, description = "The space, as Spaces numbers it.", pattern = "^[A-Za-z0-9_-]{1,128}$", example = "64f0a1b2c3d4e5f601020304"),
        MemberQuery,
        SpacePasswordHeader,
    ),
    responses(
        (status = 200, description = "A page of members.", body = Page<Member>),
        (status = 403, description = "`upstream_forbidden`: Spaces does not let this user in, or wants the space's password (`X-Space-Password`). `account_required`: the admin key stands for no user."),
        (status = 404, description = "`upstream_not_found`: Spaces does not know the space."),
        (status = 409, description = "`upstream_conflict`: Spaces sees a conflict."),
        (status = 422, description = "`upstream_refused`: Spaces refused to answer."),
        (status = 429, description = "`call_budget_exhausted`: as many calls as Spaces allows this user have been made. `upstream_rate_limited`: Spaces wants fewer calls. `session_busy`: too many sessions."),
        (status = 502, description = "`upstream_error`: Spaces failed."),
        (status = 503, description = "`upstream_unreachable`: Spaces is out of reach."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn list_members(
    State(app): State<AppState>,
    MayRead(caller): MayRead,
    ApiPath(space): ApiPath<SpaceId>,
    ApiQuery(MemberQuery { search, limit, cursor }): ApiQuery<MemberQuery>,
    SpacePassword(password): SpacePassword,
) -> Result<Json<Page<Member>>, ApiError> {
    caller.check_space(&space)?;
    check_search(search.as_deref())?;
    let query = PageQuery::new(limit, cursor);
    let (search, place) = FilteredPlace::of(&query, search)?.split();
    let session = caller.session(&app)?;
    let at = InSpace { credential: session.credential(), space: &space, password: password.as_ref() };
    let mut gathering = Gathering::new(place, query.limit());
    while let Some(next) = gathering.wants() {
        let page = app.rest.members_page(at, search.as_deref(), next.as_deref()).await.map_err(|error| caller.told(error))?;
        gathering.add(page.people, page.next, |person| Taken::Given(Member::from(person)));
    }
    let (members, next) = gathering.end();
    Ok(Json(Page::new(members, next.map(|place| FilteredPlace::new(search, place)))))
}
