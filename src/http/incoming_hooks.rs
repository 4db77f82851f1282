//! Incoming hooks, for those who own them: made, listed, shown, changed, removed, and given new addresses.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, HOST, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::{AccountCaller, MayUseHooks};
use super::direct;
use super::error::ApiError;
use super::extract::{ApiJson, ApiPath, ApiQuery, OptionalJson};
use super::hook_template::check_template;
use super::idempotency::{IdempotencyHeader, Keyed};
use super::incoming_hook_body::{CheckedHook, HookChange, HookCreation, ShownHook, Target};
use super::page::{Page, PageQuery};
use super::reach::Reach;
use super::webhooks::NO_STORE;
use crate::domain::{DEFAULT_OVERLAP, HookId, MAX_OVERLAP, Secret, Seed};
use crate::incoming::{HookError, IncomingHook, NewHook, Peer};

/// A rotation. Everything may be left out, the body too.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = IncomingHookRotation, example = json!({"overlapSeconds": 3600}))]
pub(super) struct HookRotation {
    /// For how many seconds the addresses before go on; not at all with 0.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 604_800, default = 86_400)]
    overlap_seconds: Option<u64>,
}

impl HookRotation {
    fn checked(&self) -> Result<Duration, ApiError> {
        let overlap = self.overlap_seconds.map_or(DEFAULT_OVERLAP, Duration::from_secs);
        if overlap <= MAX_OVERLAP {
            return Ok(overlap);
        }
        Err(ApiError::field("/overlapSeconds", format!("it is more than {} seconds", MAX_OVERLAP.as_secs())))
    }
}

/// Make an incoming hook
///
/// A secret address that posts into a space, or to a person, as the caller. Whoever knows the address may post there, without any
/// header: `POST /hooks/{secret}`. The caller's token is stored, sealed, so that the hook works on without the caller, also after a
/// restart. The answer alone shows the address; the service keeps only a hash of its secret. A bridge key needs both of the scopes
/// `webhooks` and `send`.
#[utoipa::path(
    post,
    path = "/incoming-hooks",
    tag = "Incoming hooks",
    params(IdempotencyHeader),
    request_body(content = HookCreation, content_type = "application/json"),
    responses(
        (status = 201, description = "The incoming hook, with its address this once.", body = ShownHook, headers(("Location" = String, description = "Where to read it again, without the address."))),
        (status = 403, description = "`upstream_forbidden`: Spaces makes no direct space with this person. `account_required`: the admin key stands for no user."),
        (status = 404, description = "`upstream_not_found`, `person_not_found`: Spaces does not know this person."),
        (status = 409, description = "`incoming_hook_limit_reached`: the account has as many as it may have. `upstream_conflict`."),
        (status = 422, description = "`invalid_body`: `errors` says which field is wrong, for a template also why. `incoming_hook_template_mismatch`: the format needs a template, or takes none. `upstream_refused`: Spaces does not take this id."),
        (status = 502, description = "`upstream_error`: Spaces failed."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn create_incoming_hook(
    State(app): State<AppState>,
    MayUseHooks(caller): MayUseHooks,
    headers: HeaderMap,
    Keyed(call, ApiJson(creation)): Keyed<ApiJson<HookCreation>>,
) -> Result<Response, ApiError> {
    let new = creation.checked(app.clock.now())?;
    if let Target::Space(space) = &new.target {
        caller.check_space(space)?;
    }
    let scope = caller.scope(&app).await?;
    let base = base_of(&app, &headers);
    call.once(&app, &scope, |seed| create(app.clone(), caller, (new, seed), base)).await
}

async fn create(
    app: AppState,
    caller: AccountCaller,
    (new, seed): (CheckedHook, Seed),
    base: String,
) -> Result<Response, ApiError> {
    let (session, identity) = caller.identity(&app).await?;
    check_template(&app, &identity.account, new.recipe.template.as_ref()).await?;
    let (space, direct) = match new.target {
        Target::Space(space) => (space, None),
        Target::Direct(person) => {
            let space = direct::named_space(&app, &caller, (person.kind, &person.id), "/direct/id").await?;
            caller.check_space(&space)?;
            (space, Some(Peer { kind: person.kind.as_str().to_owned(), id: person.id }))
        }
    };
    let CheckedHook { name, recipe, check, rate, expires_at, enabled, .. } = new;
    let new = NewHook { name, space, direct, recipe, check, rate, expires_at, enabled };
    let work = {
        let app = app.clone();
        async move {
            // The token first: a hook whose session does not come back after a restart would be a broken promise.
            app.sessions.keep(&session, &identity).await?;
            let created = app.hooks.create(identity.account.clone(), new, &seed).await;
            app.sessions.interest_changed(&identity.account).await?;
            Ok(created?)
        }
    };
    let (hook, secret) = app.to_the_end(work).await?;
    let location = HeaderValue::from_str(&format!("/incoming-hooks/{}", hook.id)).expect("ids are safe in headers");
    Ok((StatusCode::CREATED, [(LOCATION, location), (CACHE_CONTROL, NO_STORE)], Json(with_address(&app, &hook, &secret, &base)))
        .into_response())
}

/// List incoming hooks
///
/// Those of the caller's account, in the order of their ids, without their addresses.
#[utoipa::path(
    get,
    path = "/incoming-hooks",
    tag = "Incoming hooks",
    params(PageQuery),
    responses((status = 200, description = "A page of incoming hooks.", body = Page<ShownHook>)),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn list_incoming_hooks(
    State(app): State<AppState>,
    MayUseHooks(caller): MayUseHooks,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<Page<ShownHook>>, ApiError> {
    let reach = caller.reach(&app).await?;
    let hooks = app.hooks.of_account(&reach.account);
    let all = hooks.iter().filter(|hook| reach.includes(&hook.space)).map(|hook| ShownHook::of(&app, hook)).collect();
    Ok(Json(Page::cut(all, &query, |hook: &ShownHook| hook.id.as_str())?))
}

/// Show an incoming hook
///
/// Without its address.
#[utoipa::path(
    get,
    path = "/incoming-hooks/{id}",
    tag = "Incoming hooks",
    params(("id" = String, Path, description = "The incoming hook.", pattern = "^hook_[A-Za-z0-9_-]{1,128}$", example = "hook_7d1c0b4a5e6f48a9b2c3d4e5f6a7b8c9")),
    responses(
        (status = 200, description = "The incoming hook.", body = ShownHook),
        (status = 404, description = "`incoming_hook_not_found`: there is none, or not of this account."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn get_incoming_hook(
    State(app): State<AppState>,
    MayUseHooks(caller): MayUseHooks,
    ApiPath(id): ApiPath<HookId>,
) -> Result<Json<ShownHook>, ApiError> {
    let hook = owned(&app, &caller.reach(&app).await?, &id)?;
    Ok(Json(ShownHook::of(&app, &hook)))
}

/// Change an incoming hook
///
/// What is left out stays as it is; its address and where it posts always do. Switched off, its address answers as if there were none.
#[utoipa::path(
    patch,
    path = "/incoming-hooks/{id}",
    tag = "Incoming hooks",
    params(("id" = String, Path, description = "The incoming hook.", pattern = "^hook_[A-Za-z0-9_-]{1,128}$", example = "hook_7d1c0b4a5e6f48a9b2c3d4e5f6a7b8c9")),
    request_body(content = HookChange, content_type = "application/json"),
    responses(
        (status = 200, description = "The incoming hook as it is now.", body = ShownHook),
        (status = 404, description = "`incoming_hook_not_found`: there is none, or not of this account."),
        (status = 409, description = "`incoming_hook_changed`: others changed it at the same time; try again."),
        (status = 422, description = "`invalid_body`: `errors` says which field is wrong, for a template also why. `incoming_hook_template_mismatch`: the format needs a template, or takes none."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn update_incoming_hook(
    State(app): State<AppState>,
    MayUseHooks(caller): MayUseHooks,
    ApiPath(id): ApiPath<HookId>,
    ApiJson(change): ApiJson<HookChange>,
) -> Result<Json<ShownHook>, ApiError> {
    let patch = change.checked(app.clock.now())?;
    let reach = caller.reach(&app).await?;
    owned(&app, &reach, &id)?;
    check_template(&app, &reach.account, patch.template.as_ref().and_then(Option::as_ref)).await?;
    let (session, identity) = caller.identity(&app).await?;
    let work = {
        let app = app.clone();
        async move {
            let hook = app.hooks.update(&identity.account, &id, patch).await?;
            if hook.is_open(app.clock.now()) {
                app.sessions.keep(&session, &identity).await?;
            }
            app.sessions.interest_changed(&identity.account).await?;
            Ok(hook)
        }
    };
    let hook = app.to_the_end(work).await?;
    Ok(Json(ShownHook::of(&app, &hook)))
}

/// Delete an incoming hook
///
/// From now on its address answers as if there never was one.
#[utoipa::path(
    delete,
    path = "/incoming-hooks/{id}",
    tag = "Incoming hooks",
    params(("id" = String, Path, description = "The incoming hook.", pattern = "^hook_[A-Za-z0-9_-]{1,128}$", example = "hook_7d1c0b4a5e6f48a9b2c3d4e5f6a7b8c9")),
    responses(
        (status = 204, description = "The incoming hook is gone."),
        (status = 404, description = "`incoming_hook_not_found`: there is none, or not of this account."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn delete_incoming_hook(
    State(app): State<AppState>,
    MayUseHooks(caller): MayUseHooks,
    ApiPath(id): ApiPath<HookId>,
) -> Result<StatusCode, ApiError> {
    let reach = caller.reach(&app).await?;
    owned(&app, &reach, &id)?;
    let work = {
        let app = app.clone();
        async move {
            app.hooks.delete(&reach.account, &id).await?;
            Ok(app.sessions.interest_changed(&reach.account).await?)
        }
    };
    app.to_the_end(work).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give an incoming hook a new address
///
/// The answer alone shows it. The addresses before it go on until the overlap is over; with an overlap of 0 they end at once.
#[utoipa::path(
    post,
    path = "/incoming-hooks/{id}/rotate-secret",
    tag = "Incoming hooks",
    params(
        ("id" = String, Path, description = "The incoming hook.", pattern = "^hook_[A-Za-z0-9_-]{1,128}$", example = "hook_7d1c0b4a5e6f48a9b2c3d4e5f6a7b8c9"),
        IdempotencyHeader,
    ),
    request_body(content = Option<HookRotation>, content_type = "application/json"),
    responses(
        (status = 200, description = "The incoming hook, with its new address this once.", body = ShownHook),
        (status = 404, description = "`incoming_hook_not_found`: there is none, or not of this account."),
        (status = 409, description = "`incoming_hook_secret_limit_reached`: as many addresses are good as may be at a time. `incoming_hook_changed`: others changed it at the same time; try again."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn rotate_incoming_hook_secret(
    State(app): State<AppState>,
    MayUseHooks(caller): MayUseHooks,
    headers: HeaderMap,
    ApiPath(id): ApiPath<HookId>,
    Keyed(call, OptionalJson(rotation)): Keyed<OptionalJson<HookRotation>>,
) -> Result<Response, ApiError> {
    let reach = caller.reach(&app).await?;
    let overlap = rotation.checked()?;
    owned(&app, &reach, &id)?;
    let (scope, base) = (caller.scope(&app).await?, base_of(&app, &headers));
    let work = |seed: Seed| {
        let app = app.clone();
        async move {
            let rotating = {
                let app = app.clone();
                async move { Ok(app.hooks.rotate(&reach.account, &id, (overlap, &seed)).await?) }
            };
            let (hook, secret) = app.to_the_end(rotating).await?;
            Ok(([(CACHE_CONTROL, NO_STORE)], Json(with_address(&app, &hook, &secret, &base))).into_response())
        }
    };
    call.once(&app, &scope, work).await
}

/// The hook `id`, if it is the account's and within reach.
pub(super) fn owned(app: &AppState, reach: &Reach, id: &HookId) -> Result<Arc<IncomingHook>, ApiError> {
    let hook = app.hooks.get(&reach.account, id).filter(|hook| reach.includes(&hook.space));
    Ok(hook.ok_or(HookError::NotFound)?)
}

fn with_address(app: &AppState, hook: &IncomingHook, secret: &Secret, base: &str) -> ShownHook {
    let mut shown = ShownHook::of(app, hook);
    shown.url = Some(format!("{base}/hooks/{}", secret.expose()));
    shown
}

/// The beginning of the API's addresses: as the settings say, else as the caller reached it. It is told to that caller alone.
fn base_of(app: &AppState, headers: &HeaderMap) -> String {
    if let Some(url) = &app.settings.public_url {
        return url.as_str().trim_end_matches('/').to_owned();
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host =
        text("x-forwarded-host").or_else(|| text(HOST.as_str())).and_then(|host| host.parse::<http::uri::Authority>().ok());
    let Some(host) = host else { return String::new() };
    let is_https = text("x-forwarded-proto").is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    format!("{}://{host}", if is_https { "https" } else { "http" })
}
