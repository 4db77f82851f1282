//! Accounts whose tokens the bridge gets by itself. For the operator, who never sees a secret again once it was given.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::account_credential::CredentialBody;
use super::auth::Operator;
use super::error::ApiError;
use super::extract::{ApiJson, ApiPath, ApiQuery};
use super::idempotency::{IdempotencyHeader, Keyed, NoBody};
use super::page::{Page, PageQuery};
use super::sessions::{SessionStateName, TokenKindName};
use crate::accounts::{AccountView, CredentialKind, Failure, Standing};
use crate::domain::{AccountId, SessionId, SessionState, Timestamp};
use crate::idempotency::Scope;

/// Longest name, in characters.
const MAX_NAME: usize = 200;

/// An account whose tokens the bridge gets by itself.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Account {
    /// Its id, the same that webhooks and events of the user carry.
    #[schema(value_type = String, example = "acc_5a0b1c2d3e4f506172839405")]
    id: AccountId,
    /// The operator's name for it.
    #[schema(required)]
    name: Option<String>,
    /// How it stands with its credential.
    #[schema(value_type = AccountStateName)]
    state: Standing,
    /// The user; `null` while it is not known, as with service applications.
    #[schema(required)]
    user: Option<AccountUser>,
    /// The kind of its credential; nothing else of it is ever shown.
    #[schema(value_type = CredentialKindName)]
    credential_kind: CredentialKind,
    /// The kind of its present token.
    #[schema(value_type = TokenKindName)]
    token_kind: &'static str,
    /// When the present token ends; `null` if that is not known.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    token_expires_at: Option<Timestamp>,
    /// When the present token was got.
    #[schema(value_type = String, format = DateTime)]
    last_renewed_at: Timestamp,
    /// The last failure to get a token; `null` if there was none with this credential.
    #[schema(required)]
    last_failure: Option<AccountFailure>,
    /// The session of the account; `null` if there is none.
    #[schema(value_type = Option<String>, required, example = "ses_9c1f0e2d4b3a59687766554433221100")]
    session_id: Option<SessionId>,
    /// Where that session stands.
    #[schema(value_type = Option<SessionStateName>, required)]
    session_state: Option<SessionState>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// The user of an account.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AccountUser {
    /// The user's id in Spaces.
    id: String,
    /// The user's display name.
    #[schema(required)]
    display_name: Option<String>,
}

/// Why no token came, and when.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AccountFailure {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Why, for people.
    reason: String,
}

impl From<Failure> for AccountFailure {
    fn from(failure: Failure) -> Self {
        Self { at: failure.at, reason: failure.reason }
    }
}

/// How an account stands with its credential.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = AccountState)]
#[expect(dead_code, reason = "the states as the document shows them")]
pub(super) enum AccountStateName {
    /// The last token came and was taken into use.
    Active,
    /// A new token is being got.
    Renewing,
    /// The credential is not valid any more: replace it.
    CredentialRefused,
    /// The last try failed and is repeated.
    Unavailable,
}

/// The kinds of credential.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = CredentialKind)]
#[expect(dead_code, reason = "the kinds as the document shows them")]
pub(super) enum CredentialKindName {
    /// A token as it is.
    Token,
    /// An OAuth refresh token.
    OauthRefresh,
    /// A user's name and password.
    OauthPassword,
    /// A guest.
    Anonymous,
    /// A file.
    TokenFile,
    /// A command.
    TokenCommand,
    /// An address.
    TokenUrl,
}

impl Account {
    fn of(app: &AppState, view: AccountView) -> Self {
        let session = app.sessions.of_account(&view.id).or_else(|| app.sessions.get(&view.session));
        let (session_id, session_state) = session.map(|session| (session.id().clone(), session.state())).unzip();
        Self {
            id: view.id,
            name: view.name,
            state: view.standing,
            user: view.user_id.map(|id| AccountUser { id, display_name: view.display_name }),
            credential_kind: view.credential_kind,
            token_kind: view.token_kind.as_str(),
            token_expires_at: view.token_expires_at,
            last_renewed_at: view.last_renewed_at,
            last_failure: view.last_failure.map(AccountFailure::from),
            session_id,
            session_state,
            created_at: view.created_at,
        }
    }
}

/// An account to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AccountCreation {
    /// A name for it.
    #[serde(default)]
    #[schema(max_length = 200)]
    name: Option<String>,
    /// What the bridge gets its tokens with.
    credential: CredentialBody,
}

/// Make an account
///
/// Gets a token with the credential, asks Spaces whose it is, stores both sealed, and opens the user's session, which lives without
/// webhooks and over restarts. From then on the bridge renews the token at 80 % of its life and when Spaces refuses it.
///
/// A refresh token is used up by this. If the call fails after that, try it again with the same credential within a day.
#[utoipa::path(
    post,
    path = "/accounts",
    tag = "Accounts",
    params(IdempotencyHeader),
    request_body = AccountCreation,
    responses(
        (status = 201, description = "The account.", body = Account, headers(("Location" = String, description = "Where the account is."))),
        (status = 403, description = "`operator_required`: this call needs the admin key."),
        (status = 409, description = "`account_exists`: the user has one already. `account_limit_reached`: there are as many as there may be."),
        (status = 422, description = "`credential_refused`: the credential is not valid. `credential_failed`: it gives no token. `credential_not_allowed`: the settings do not allow it. `invalid_body`: `errors` says which field is wrong, and how."),
        (status = 503, description = "`credential_unavailable`: Spaces is out of reach, and there is no account. Also `store_unavailable`, `overloaded`, `timed_out`."),
    ),
    security(("adminKey" = [])),
)]
pub(super) async fn create_account(
    State(app): State<AppState>,
    _: Operator,
    Keyed(call, ApiJson(creation)): Keyed<ApiJson<AccountCreation>>,
) -> Result<Response, ApiError> {
    let name = creation.name.filter(|name| !name.trim().is_empty());
    if name.as_ref().is_some_and(|name| name.chars().count() > MAX_NAME) {
        return Err(ApiError::field("/name", format!("it is longer than {MAX_NAME} characters")));
    }
    let credential = creation.credential.checked("/credential")?;
    let work = |seed| {
        let app = app.clone();
        async move {
            let create = {
                let app = app.clone();
                async move { Ok(app.accounts.create_once(name, credential, &seed).await?) }
            };
            let view = app.to_the_end(create).await?;
            let location = HeaderValue::try_from(format!("/accounts/{}", view.id)).expect("ids are fit for headers");
            Ok((StatusCode::CREATED, [(LOCATION, location)], Json(Account::of(&app, view))).into_response())
        }
    };
    call.once(&app, &Scope::Operator, work).await
}

/// List accounts
///
/// All managed accounts, in the order of their ids.
#[utoipa::path(
    get,
    path = "/accounts",
    tag = "Accounts",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of accounts.", body = Page<Account>),
        (status = 403, description = "`operator_required`: this call needs the admin key."),
    ),
    security(("adminKey" = [])),
)]
pub(super) async fn list_accounts(
    State(app): State<AppState>,
    _: Operator,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<Page<Account>>, ApiError> {
    let page = Page::cut(app.accounts.list(), &query, |view| view.id.as_str())?;
    let data = page.data.into_iter().map(|view| Account::of(&app, view)).collect();
    Ok(Json(Page { data, next_cursor: page.next_cursor }))
}

/// Show an account
///
/// Its state, whose it is, and when its token was renewed and ends. The credential is never shown.
#[utoipa::path(
    get,
    path = "/accounts/{id}",
    tag = "Accounts",
    params(("id" = String, Path, description = "The account.", pattern = "^acc_[A-Za-z0-9_-]{1,128}$", example = "acc_5a0b1c2d3e4f506172839405")),
    responses(
        (status = 200, description = "The account.", body = Account),
        (status = 403, description = "`operator_required`: this call needs the admin key."),
        (status = 404, description = "`account_not_found`: there is none."),
    ),
    security(("adminKey" = [])),
)]
pub(super) async fn get_account(
    State(app): State<AppState>,
    _: Operator,
    ApiPath(id): ApiPath<AccountId>,
) -> Result<Json<Account>, ApiError> {
    let view = app.accounts.get(&id)?;
    Ok(Json(Account::of(&app, view)))
}

/// Replace an account's credential
///
/// With one of the same user, of any kind. Gets a token with it, and the session goes over to that without loss. This is also the way out
/// of `credential_refused`.
#[utoipa::path(
    put,
    path = "/accounts/{id}/credential",
    tag = "Accounts",
    params(("id" = String, Path, description = "The account.", pattern = "^acc_[A-Za-z0-9_-]{1,128}$", example = "acc_5a0b1c2d3e4f506172839405")),
    request_body = CredentialBody,
    responses(
        (status = 200, description = "The account, with its new credential.", body = Account),
        (status = 403, description = "`operator_required`: this call needs the admin key."),
        (status = 404, description = "`account_not_found`: there is none."),
        (status = 409, description = "`other_user`: the credential leads to another user. Nothing was changed."),
        (status = 422, description = "`credential_refused`: the credential is not valid. `credential_failed`: it gives no token. `credential_not_allowed`: the settings do not allow it. `invalid_body`: `errors` says which field is wrong, and how."),
        (status = 503, description = "`credential_unavailable`: Spaces is out of reach, and nothing was changed. Also `store_unavailable`, `overloaded`, `timed_out`."),
    ),
    security(("adminKey" = [])),
)]
pub(super) async fn replace_credential(
    State(app): State<AppState>,
    _: Operator,
    ApiPath(id): ApiPath<AccountId>,
    ApiJson(credential): ApiJson<CredentialBody>,
) -> Result<Json<Account>, ApiError> {
    let credential = credential.checked("")?;
    let work = {
        let app = app.clone();
        async move { Ok(app.accounts.replace(&id, credential).await?) }
    };
    let view = app.to_the_end(work).await?;
    Ok(Json(Account::of(&app, view)))
}

/// Renew an account's token now
///
/// Also with a credential that was refused. Calls that come while a token is being got share it. The answer comes when it is there, or
/// after ten seconds with the state `renewing`.
#[utoipa::path(
    post,
    path = "/accounts/{id}/renew",
    tag = "Accounts",
    params(
        ("id" = String, Path, description = "The account.", pattern = "^acc_[A-Za-z0-9_-]{1,128}$", example = "acc_5a0b1c2d3e4f506172839405"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, description = "The account.", body = Account),
        (status = 403, description = "`operator_required`: this call needs the admin key."),
        (status = 404, description = "`account_not_found`: there is none."),
        (status = 422, description = "`credential_refused`: the credential is not valid any more. `credential_failed`: it gives no token."),
        (status = 503, description = "`credential_unavailable`: not now; it is tried again. Also `store_unavailable`, `overloaded`, `timed_out`."),
    ),
    security(("adminKey" = [])),
)]
pub(super) async fn renew_account(
    State(app): State<AppState>,
    _: Operator,
    ApiPath(id): ApiPath<AccountId>,
    Keyed(call, NoBody): Keyed<NoBody>,
) -> Result<Response, ApiError> {
    let work = |_| {
        let app = app.clone();
        async move {
            let view = app.accounts.renew_now(&id, app.settings.default_wait).await?;
            Ok(Json(Account::of(&app, view)).into_response())
        }
    };
    call.once(&app, &Scope::Operator, work).await
}

/// Delete an account
///
/// Forgets its credential and its token. Its session ends unless a webhook, a subscription or a caller needs it; webhooks stay, and get
/// nothing new once it has ended.
#[utoipa::path(
    delete,
    path = "/accounts/{id}",
    tag = "Accounts",
    params(("id" = String, Path, description = "The account.", pattern = "^acc_[A-Za-z0-9_-]{1,128}$", example = "acc_5a0b1c2d3e4f506172839405")),
    responses(
        (status = 204, description = "The account is not managed any more."),
        (status = 403, description = "`operator_required`: this call needs the admin key."),
        (status = 404, description = "`account_not_found`: there is none."),
    ),
    security(("adminKey" = [])),
)]
pub(super) async fn delete_account(
    State(app): State<AppState>,
    _: Operator,
    ApiPath(id): ApiPath<AccountId>,
) -> Result<StatusCode, ApiError> {
    let work = {
        let app = app.clone();
        async move { Ok(app.accounts.delete(&id).await?) }
    };
    app.to_the_end(work).await?;
    Ok(StatusCode::NO_CONTENT)
}
