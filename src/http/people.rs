//! People: found by their e-mail address or by their name.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::auth::{AccountCaller, MayRead};
use super::error::ApiError;
use super::extract::ApiQuery;
use super::page::{Limit, Page, PageQuery};
use super::remembered::Remembered;
use super::upstream_list::{FilteredPlace, Gathering, Taken, check_search};
use crate::domain::{AccountId, SpaceId};
use crate::upstream::{Person, RestError};

/// Longest e-mail address (RFC 5321, 4.5.3.1.3).
const MAX_EMAIL: usize = 254;

/// The user ids of addresses asked for lately. Who sees whom depends on the account.
pub(super) type UsersByEmail = Remembered<(AccountId, String), String>;

/// Someone whom the caller's user may know.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Person)]
pub(super) struct PersonFound {
    /// The user's id in Spaces, as `POST /direct/user/{id}` takes it.
    #[schema(example = "5a0b1c2d3e4f506172839405")]
    user_id: String,
    /// `user` or `anonymous`, in the words of Spaces; `null` if it does not say.
    #[schema(required, example = "user")]
    r#type: Option<String>,
    /// The login name.
    #[schema(required, example = "bo@corp.example")]
    username: Option<String>,
    /// The name shown; `null` if Spaces does not say.
    #[schema(required, example = "Bo Lind")]
    display_name: Option<String>,
}

/// Whom to find: either by `email` or by `search`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PeopleQuery {
    /// Whoever has exactly this e-mail address.
    #[param(max_length = 254, nullable = false, example = "bo@corp.example")]
    email: Option<String>,
    /// Those whose names have this in them, as Spaces compares them, among the people whom Spaces lets the user find.
    #[param(min_length = 1, max_length = 200, nullable = false)]
    search: Option<String>,
    /// Most entries of the page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200, default = 50, nullable = false)]
    limit: Option<Limit>,
    /// Where to go on: `nextCursor` of the page before, with the same `search`.
    #[param(max_length = 4096, nullable = false)]
    cursor: Option<String>,
}

/// Find people
///
/// Finds whom to write to, by e-mail address or by name. Nobody found is an empty list. Of who is found by e-mail address Spaces tells
/// the id alone.
#[utoipa::path(
    get,
    path = "/people",
    tag = "Spaces",
    params(PeopleQuery),
    responses(
        (status = 200, description = "Who was found.", body = Page<PersonFound>),
        (status = 403, description = "`upstream_forbidden`: Spaces does not tell. `account_required`: the admin key stands for no user."),
        (status = 404, description = "`upstream_not_found`: Spaces does not know the page."),
        (status = 409, description = "`upstream_conflict`: Spaces sees a conflict."),
        (status = 422, description = "`upstream_refused`: Spaces refused to answer."),
        (status = 429, description = "`call_budget_exhausted`: as many calls as Spaces allows this user have been made. `upstream_rate_limited`: Spaces wants fewer calls. `session_busy`: too many sessions."),
        (status = 502, description = "`upstream_error`: Spaces failed."),
        (status = 503, description = "`upstream_unreachable`: Spaces is out of reach. `not_connected`: it is not known yet who the caller is."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn list_people(
    State(app): State<AppState>,
    MayRead(caller): MayRead,
    ApiQuery(PeopleQuery { email, search, limit, cursor }): ApiQuery<PeopleQuery>,
) -> Result<Json<Page<PersonFound>>, ApiError> {
    caller.check_all_spaces()?;
    let query = PageQuery::new(limit, cursor);
    match (email, search) {
        (Some(email), None) => Ok(Json(Page::new(with_email(&app, &caller, email).await?, None::<()>))),
        (None, Some(search)) => by_name(&app, &caller, search, &query).await.map(Json),
        (Some(_), Some(_)) | (None, None) => {
            Err(ApiError::InvalidQuery { detail: "people are found either by `email` or by `search`".to_owned() })
        }
    }
}

async fn with_email(app: &AppState, caller: &AccountCaller, email: String) -> Result<Vec<PersonFound>, ApiError> {
    if !is_email(&email) {
        return Err(ApiError::InvalidQuery { detail: "`email` is no e-mail address".to_owned() });
    }
    match user_of_email(app, caller, &email).await {
        Ok(user_id) => Ok(vec![PersonFound { user_id, r#type: None, username: Some(email), display_name: None }]),
        Err(ApiError::PersonNotFound) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

async fn by_name(
    app: &AppState,
    caller: &AccountCaller,
    search: String,
    query: &PageQuery,
) -> Result<Page<PersonFound>, ApiError> {
    check_search(Some(&search))?;
    let (search, place) = FilteredPlace::of(query, search)?.split();
    let session = caller.session(app)?;
    let mut gathering = Gathering::new(place, query.limit());
    while let Some(next) = gathering.wants() {
        let page = app.rest.colleagues_page(session.credential(), &search, next.as_deref()).await;
        let page = page.map_err(|error| caller.told(error))?;
        gathering.add(page.people, page.next, |person| {
            let Person { id, kind, username, display_name, .. } = person;
            Taken::Given(PersonFound { user_id: id, r#type: kind, username, display_name })
        });
    }
    let (people, next) = gathering.end();
    Ok(Page::new(people, next.map(|place| FilteredPlace::new(search, place))))
}

/// Whether `text` looks like an e-mail address. Only Spaces knows whether it is one.
pub(super) fn is_email(text: &str) -> bool {
    let has_two_parts = text.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
    let is_plain = |character: char| !character.is_whitespace() && !character.is_control() && character != '/';
    text.len() <= MAX_EMAIL && has_two_parts && text.matches('@').count() == 1 && text.chars().all(is_plain)
}

/// The id of the user whom Spaces knows by `email`, as the caller's account may find it.
pub(super) async fn user_of_email(app: &AppState, caller: &AccountCaller, email: &str) -> Result<String, ApiError> {
    if !is_email(email) {
        return Err(ApiError::PersonNotFound);
    }
    let (session, identity) = caller.identity(app).await?;
    let key = (identity.account, email.to_lowercase());
    if let Some(user) = app.internals().users_by_email.get(&key) {
        return Ok(user);
    }
    let found = app.rest.user_by_email(session.credential(), &key.1).await.map_err(|error| caller.told(error))?;
    let user = found.ok_or(ApiError::PersonNotFound)?;
    if user.parse::<SpaceId>().is_err() {
        return Err(RestError::Unreadable { detail: "an odd user id" }.into());
    }
    app.internals().users_by_email.insert(key, user.clone());
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_other_texts() {
        for (text, expected) in [
            ("bo@corp.example", true),
            ("bo+x%y@corp", true),
            ("bö@corp.example", true),
            ("bo", false),
            ("@corp", false),
            ("bo@", false),
            ("bo@corp@example", false),
            ("b o@corp", false),
            ("bo@corp\u{0}", false),
            ("../bo@corp", false),
            ("", false),
        ] {
            assert_eq!(is_email(text), expected, "{text}");
        }
        assert!(!is_email(&format!("{}@b", "a".repeat(MAX_EMAIL))));
    }
}
