//! Bridge keys, for the operator: made for an account, shown once, revoked.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, LOCATION};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::auth::Operator;
use super::error::{ApiError, Resource};
use super::extract::{ApiJson, ApiPath, ApiQuery};
use super::idempotency::{IdempotencyHeader, Keyed};
use super::page::{Page, PageQuery};
use super::webhook_pace::{RateLimitForm, checked_rate};
use super::webhooks::NO_STORE;
use crate::domain::{AccountId, KeyId, RateLimit, SpaceId, Timestamp};
use crate::idempotency::Scope;
use crate::keys::{KeyError, KeyScope, KnownKey, NewKey};

/// Longest name of a key, in characters.
const MAX_NAME: usize = 100;

/// Most spaces that a key lists.
const MAX_SPACES: usize = 1_000;

/// A bridge key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BridgeKey)]
pub(super) struct ShownKey {
    /// Its id.
    #[schema(value_type = String, example = "key_7d1c0b4a5e6f48a9b2c3d4e5f6a7b8c9")]
    id: KeyId,
    /// The account that it acts for.
    #[schema(value_type = String, example = "acc_5a0b1c2d3e4f506172839405")]
    account: AccountId,
    /// What it is called.
    #[schema(example = "CI server")]
    name: String,
    /// What it may be used for.
    #[schema(value_type = Vec<KeyScopeName>)]
    scopes: BTreeSet<KeyScope>,
    /// The only spaces that it reaches; `null` for all of the account.
    #[schema(value_type = Option<Vec<String>>, required)]
    spaces: Option<Arc<BTreeSet<SpaceId>>>,
    /// When it ends by itself; `null` for never.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    expires_at: Option<Timestamp>,
    /// Most calls in a time; `null` for no limit.
    #[schema(value_type = Option<RateLimitForm>, required)]
    rate_limit: Option<RateLimit>,
    /// When it was last used; `null` if it never was. After a restart up to a minute old.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last_used_at: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The key itself, for `Authorization: Bearer`; shown when it is made and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^sbk_[A-Za-z0-9_-]{43}$")]
    key: Option<String>,
}

/// What a bridge key may be used for.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = KeyScope)]
#[expect(dead_code, reason = "the scopes as the document shows them")]
pub(super) enum KeyScopeName {
    /// Sending messages, and seeing what became of them.
    Send,
    /// Reading the profile, the spaces and the events, with consumers and subscriptions.
    Read,
    /// Webhooks and their deliveries.
    Webhooks,
}

impl From<&KnownKey> for ShownKey {
    fn from(key: &KnownKey) -> Self {
        Self {
            id: key.id.clone(),
            account: key.account.clone(),
            name: key.name.clone(),
            scopes: key.scopes.clone(),
            spaces: key.spaces.clone(),
            expires_at: key.expires_at,
            rate_limit: key.rate_limit,
            last_used_at: key.last_used_at(),
            created_at: key.created_at,
            key: None,
        }
    }
}

/// A bridge key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"name": "CI server", "scopes": ["send"], "spaces": ["64f0a1b2c3d4e5f601020304"]}))]
pub(super) struct KeyCreation {
    /// What it is called.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What it may be used for.
    #[schema(value_type = Vec<KeyScopeName>, min_items = 1)]
    scopes: Vec<KeyScope>,
    /// The only spaces that it reaches; all of the account if left out.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 1000)]
    spaces: Option<Vec<SpaceId>>,
    /// When it ends by itself; never if left out.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// Most calls in a time; no limit if left out.
    #[serde(default)]
    #[schema(value_type = Option<RateLimitForm>)]
    rate_limit: Option<RateLimit>,
}

impl KeyCreation {
    fn checked(self, now: Timestamp) -> Result<NewKey, ApiError> {
        if !(1..=MAX_NAME).contains(&self.name.chars().count()) || self.name.contains(char::is_control) {
            return Err(ApiError::field("/name", format!("a name has 1 to {MAX_NAME} characters and no control characters")));
        }
        if self.scopes.is_empty() {
            return Err(ApiError::field("/scopes", "a key has at least one scope"));
        }
        if let Some(spaces) = &self.spaces {
            if !(1..=MAX_SPACES).contains(&spaces.len()) {
                return Err(ApiError::field("/spaces", format!("it has 1 to {MAX_SPACES} entries")));
            }
            if let Some(index) = spaces.iter().position(SpaceId::is_nowhere) {
                return Err(ApiError::field(format!("/spaces/{index}"), "this is no space"));
            }
        }
        if self.expires_at.is_some_and(|end| end <= now) {
            return Err(ApiError::field("/expiresAt", "the end of a key lies in the future"));
        }
        Ok(NewKey {
            name: self.name,
            scopes: self.scopes.into_iter().collect(),
            spaces: self.spaces.map(|spaces| Arc::new(spaces.into_iter().collect())),
            expires_at: self.expires_at,
            rate_limit: checked_rate(self.rate_limit)?,
        })
    }
}

/// Make a bridge key
///
/// For a system that is to act for the account without a Spaces token, as far as the key's scopes and spaces go. The answer alone
/// shows the key; the service keeps only a hash of it.
#[utoipa::path(
    post,
    path = "/accounts/{id}/keys",
    tag = "Bridge keys",
    params(
        ("id" = String, Path, description = "The account.", pattern = "^acc_[A-Za-z0-9_-]{1,128}$", example = "acc_5a0b1c2d3e4f506172839405"),
        IdempotencyHeader,
    ),
    request_body(content = KeyCreation, content_type = "application/json"),
    responses(
        (status = 201, description = "The key, this once.", body = ShownKey, headers(("Location" = String, description = "The key's address."))),
        (status = 403, description = "`operator_required`: this call needs the admin key."),
        (status = 404, description = "`account_not_found`: the service holds no token of such an account and gets none by itself."),
        (status = 409, description = "`key_limit_reached`: the account has as many keys as it may have."),
    ),
    security(("adminKey" = [])),
)]
pub(super) async fn create_key(
    State(app): State<AppState>,
    _: Operator,
    ApiPath(account): ApiPath<AccountId>,
    Keyed(call, ApiJson(creation)): Keyed<ApiJson<KeyCreation>>,
) -> Result<Response, ApiError> {
    let new = creation.checked(app.clock.now())?;
    known(&app, &account)?;
    let work = |seed| {
        let app = app.clone();
        async move {
            let (key, secret) = app.keys.create(KeyId::of_seed(&seed), account, new).await?;
            let location = HeaderValue::from_str(&path_of(&key)).expect("ids are safe in headers");
            let body = ShownKey { key: Some(secret.expose().to_owned()), ..ShownKey::from(&*key) };
            Ok((StatusCode::CREATED, [(LOCATION, location), (CACHE_CONTROL, NO_STORE)], Json(body)).into_response())
        }
    };
    call.once(&app, &Scope::Operator, work).await
}

/// List an account's bridge keys
///
/// In the order of their ids, without the keys themselves.
#[utoipa::path(
    get,
    path = "/accounts/{id}/keys",
    tag = "Bridge keys",
    params(
        ("id" = String, Path, description = "The account.", pattern = "^acc_[A-Za-z0-9_-]{1,128}$", example = "acc_5a0b1c2d3e4f506172839405"),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of keys.", body = Page<ShownKey>),
        (status = 403, description = "`operator_required`: this call needs the admin key."),
        (status = 404, description = "`account_not_found`: there is no such account, and no key of one."),
    ),
    security(("adminKey" = [])),
)]
pub(super) async fn list_keys(
    State(app): State<AppState>,
    _: Operator,
    ApiPath(account): ApiPath<AccountId>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<Page<ShownKey>>, ApiError> {
    let all: Vec<ShownKey> = app.keys.of_account(&account).iter().map(|key| ShownKey::from(&**key)).collect();
    if all.is_empty() {
        known(&app, &account)?;
    }
    Ok(Json(Page::cut(all, &query, |key| key.id.as_str())?))
}

/// Show a bridge key
///
/// Without the key itself.
#[utoipa::path(
    get,
    path = "/accounts/{id}/keys/{keyId}",
    tag = "Bridge keys",
    params(
        ("id" = String, Path, description = "The account.", pattern = "^acc_[A-Za-z0-9_-]{1,128}$", example = "acc_5a0b1c2d3e4f506172839405"),
        ("keyId" = String, Path, description = "The key.", pattern = "^key_[A-Za-z0-9_-]{1,128}$", example = "key_7d1c0b4a5e6f48a9b2c3d4e5f6a7b8c9"),
    ),
    responses(
        (status = 200, description = "The key.", body = ShownKey),
        (status = 403, description = "`operator_required`: this call needs the admin key."),
        (status = 404, description = "`key_not_found`: there is none, or not of this account."),
    ),
    security(("adminKey" = [])),
)]
pub(super) async fn get_key(
    State(app): State<AppState>,
    _: Operator,
    ApiPath((account, id)): ApiPath<(AccountId, KeyId)>,
) -> Result<Json<ShownKey>, ApiError> {
    let key = app.keys.get(&account, &id).ok_or(KeyError::NotFound)?;
    Ok(Json(ShownKey::from(&*key)))
}

/// Revoke a bridge key
///
/// From now on nobody gets in with it, and the streams of events that were opened with it end.
#[utoipa::path(
    delete,
    path = "/accounts/{id}/keys/{keyId}",
    tag = "Bridge keys",
    params(
        ("id" = String, Path, description = "The account.", pattern = "^acc_[A-Za-z0-9_-]{1,128}$", example = "acc_5a0b1c2d3e4f506172839405"),
        ("keyId" = String, Path, description = "The key.", pattern = "^key_[A-Za-z0-9_-]{1,128}$", example = "key_7d1c0b4a5e6f48a9b2c3d4e5f6a7b8c9"),
    ),
    responses(
        (status = 204, description = "The key is gone."),
        (status = 403, description = "`operator_required`: this call needs the admin key."),
        (status = 404, description = "`key_not_found`: there is none, or not of this account."),
    ),
    security(("adminKey" = [])),
)]
pub(super) async fn delete_key(
    State(app): State<AppState>,
    _: Operator,
    ApiPath((account, id)): ApiPath<(AccountId, KeyId)>,
) -> Result<StatusCode, ApiError> {
    let work = {
        let app = app.clone();
        async move { Ok(app.keys.revoke(&account, &id).await?) }
    };
    app.to_the_end(work).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn path_of(key: &KnownKey) -> String {
    format!("/accounts/{}/keys/{}", key.account, key.id)
}

/// Whether there is such an account.
fn known(app: &AppState, account: &AccountId) -> Result<(), ApiError> {
    if app.sessions.stands_for(account) { Ok(()) } else { Err(app.once_ready(ApiError::NotFound(Resource::Account))) }
}
