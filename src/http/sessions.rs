//! The sessions: callers see those of their own account, the operator sees all.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::{Caller, Operator};
use super::error::{ApiError, Resource};
use super::extract::{ApiPath, ApiQuery};
use super::idempotency::{IdempotencyHeader, Keyed, NoBody};
use super::limits::LimitsView;
use super::page::{Page, PageQuery};
use super::session_recovery::RecoveryView;
use super::subscriptions::Subscription;
use crate::domain::{AccountId, SessionId, SessionState, Timestamp};
use crate::idempotency::Scope;
use crate::session::{SessionHandle, SessionStatus};

/// One token's connection to Spaces.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Session {
    /// Its id; it tells nothing of the token.
    #[schema(value_type = String, example = "ses_9c1f0e2d4b3a59687766554433221100")]
    id: SessionId,
    /// The account that it acts for; `null` while it is not known.
    #[schema(value_type = Option<String>, required, example = "acc_5a0b1c2d3e4f506172839405")]
    account: Option<AccountId>,
    /// The user's id in Spaces; `null` while it is not known.
    #[schema(required)]
    user_id: Option<String>,
    /// The user's display name; `null` while it is not known.
    #[schema(required)]
    display_name: Option<String>,
    /// The kind of its token: `oauth`, `jwt` or `service_app`.
    #[schema(value_type = String, example = "jwt")]
    token_kind: &'static str,
    /// Where it stands.
    #[schema(value_type = SessionStateName)]
    state: SessionState,
    /// Why it stands there, for people.
    #[schema(required)]
    reason: Option<String>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// When it was opened.
    #[schema(value_type = String, format = DateTime)]
    opened_at: Timestamp,
    /// Connections made after the first.
    reconnects: u64,
    /// When the last event came.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last_event_at: Option<Timestamp>,
    /// Since when its events wait because the store takes none; `null` if it does.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    store_failing_since: Option<Timestamp>,
    /// Whether it comes back after a restart, because its token is stored.
    durable: bool,
    /// What Spaces allows its user, and what is left of it.
    limits: LimitsView,
    /// The spaces that it listens to.
    spaces: Vec<Subscription>,
    /// When its token ends; `null` if the token does not say so.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    token_expires_at: Option<Timestamp>,
    /// How it closes the gaps that lost connections have left.
    recovery: RecoveryView,
    /// When Spaces was last asked for a sign of life because the session was quiet; `null` if it never was.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last_probe_at: Option<Timestamp>,
    /// Whether the last one that has ended was answered; `null` if none has.
    #[schema(required)]
    last_probe_ok: Option<bool>,
}

/// Where a session stands.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = SessionState)]
#[expect(dead_code, reason = "the domain's states as the document shows them")]
pub(super) enum SessionStateName {
    /// The first connection is being made.
    Connecting,
    /// Joined.
    Online,
    /// The connection was lost and is being made again.
    Reconnecting,
    /// It was connected and heard nothing; another connection is being made.
    Degraded,
    /// Spaces refused the token.
    AuthFailed,
    /// Being closed on purpose.
    Closing,
    /// Gone; a later call opens a new one.
    Closed,
}

/// The kinds of token.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = TokenKind)]
#[expect(dead_code, reason = "the domain's kinds as the document shows them")]
pub(super) enum TokenKindName {
    /// An OAuth access token.
    Oauth,
    /// A user's or guest's JWT.
    Jwt,
    /// A JWT of a service application.
    ServiceApp,
}

impl Session {
    fn new(status: SessionStatus, now: Timestamp) -> Self {
        let (account, user_id, display_name) = match status.identity {
            Some(identity) => (Some(identity.account), identity.user_id, identity.display_name),
            None => (None, None, None),
        };
        Self {
            id: status.id,
            account,
            user_id,
            display_name,
            token_kind: status.token_kind.as_str(),
            state: status.state,
            reason: status.reason,
            since: status.since,
            opened_at: status.opened_at,
            reconnects: status.reconnects,
            last_event_at: status.last_event_at,
            store_failing_since: status.store_failing_since,
            durable: status.durable,
            limits: LimitsView::new(&status.governor, now),
            spaces: status.channels.into_iter().map(Subscription::from).collect(),
            token_expires_at: status.token_expires_at,
            recovery: status.recovery.into(),
            last_probe_at: status.last_probe_at,
            last_probe_ok: status.last_probe_ok,
        }
    }
}

/// Whose sessions a caller sees.
enum Seen {
    All,
    Of(AccountId),
}

impl Seen {
    async fn by(caller: &Caller, app: &AppState) -> Result<Self, ApiError> {
        match caller {
            Caller::Operator => Ok(Self::All),
            Caller::Account(caller) if caller.has_key() => Err(ApiError::NotForKeys),
            Caller::Account(caller) => Ok(Self::Of(caller.account(app).await?)),
        }
    }

    fn includes(&self, status: &SessionStatus) -> bool {
        match self {
            Self::All => true,
            Self::Of(account) => status.identity.as_ref().is_some_and(|identity| identity.account == *account),
        }
    }

    /// The session with this id, if it is seen.
    fn find(&self, app: &AppState, id: &SessionId) -> Result<SessionStatus, ApiError> {
        let status = app.sessions.get(id).map(|session: SessionHandle| session.status());
        status.filter(|status| self.includes(status)).ok_or(ApiError::NotFound(Resource::Session))
    }
}

/// List sessions
///
/// The sessions of the caller's account, or all for the operator, in the order of their ids.
#[utoipa::path(
    get,
    path = "/sessions",
    tag = "Sessions",
    params(PageQuery),
    responses((status = 200, description = "A page of sessions.", body = Page<Session>)),
    security(("spacesToken" = []), ("spacesJwt" = []), ("adminKey" = [])),
)]
pub(super) async fn list_sessions(
    State(app): State<AppState>,
    caller: Caller,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<Page<Session>>, ApiError> {
    let seen = Seen::by(&caller, &app).await?;
    let statuses = app.sessions.list().into_iter().map(|session| session.status());
    let now = app.clock.now();
    let all: Vec<Session> = statuses.filter(|status| seen.includes(status)).map(|status| Session::new(status, now)).collect();
    Ok(Json(Page::cut(all, &query, |session| session.id.as_str())?))
}

/// Show a session
///
/// The state of the connection, the spaces that it listens to, what of Spaces' limits is left, and what is being read from the history.
#[utoipa::path(
    get,
    path = "/sessions/{id}",
    tag = "Sessions",
    params(("id" = String, Path, description = "The session.", pattern = "^ses_[A-Za-z0-9_-]{1,128}$", example = "ses_9c1f0e2d4b3a59687766554433221100")),
    responses(
        (status = 200, description = "The session.", body = Session),
        (status = 404, description = "`session_not_found`: there is none, or not of this account."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("adminKey" = [])),
)]
pub(super) async fn get_session(
    State(app): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<SessionId>,
) -> Result<Json<Session>, ApiError> {
    let seen = Seen::by(&caller, &app).await?;
    seen.find(&app, &id).map(|status| Json(Session::new(status, app.clock.now())))
}

/// Restart a session
///
/// Gives up the session's connection, if it has one, and makes another at once; so does one that waits to try again. A session whose
/// token was refused, or that has ended, is opened again. Sends under way stay on record: those that had left are `unconfirmed`, the
/// others go out over the new connection. Asking twice does it twice, but for an `Idempotency-Key`.
#[utoipa::path(
    post,
    path = "/sessions/{id}/restart",
    tag = "Sessions",
    params(
        ("id" = String, Path, description = "The session.", pattern = "^ses_[A-Za-z0-9_-]{1,128}$", example = "ses_9c1f0e2d4b3a59687766554433221100"),
        IdempotencyHeader,
    ),
    responses(
        (status = 202, description = "The session is being restarted; this is how it stands.", body = Session),
        (status = 403, description = "`operator_required`: this call needs the admin key."),
        (status = 404, description = "`session_not_found`: there is none."),
        (status = 429, description = "`session_busy`: the session has ended, and there are as many others as there may be."),
    ),
    security(("adminKey" = [])),
)]
pub(super) async fn restart_session(
    State(app): State<AppState>,
    _: Operator,
    ApiPath(id): ApiPath<SessionId>,
    Keyed(call, NoBody): Keyed<NoBody>,
) -> Result<Response, ApiError> {
    let work = |_| {
        let app = app.clone();
        async move {
            let restarted = app.sessions.restart(&id).await?.ok_or(ApiError::NotFound(Resource::Session))?;
            Ok((StatusCode::ACCEPTED, Json(Session::new(restarted.status(), app.clock.now()))).into_response())
        }
    };
    call.once(&app, &Scope::Operator, work).await
}

/// Close a session
///
/// Closes the connection and forgets the stored token. Webhooks of the account stay and get nothing new until a call with a token
/// opens a session again.
#[utoipa::path(
    delete,
    path = "/sessions/{id}",
    tag = "Sessions",
    params(("id" = String, Path, description = "The session.", pattern = "^ses_[A-Za-z0-9_-]{1,128}$", example = "ses_9c1f0e2d4b3a59687766554433221100")),
    responses(
        (status = 204, description = "The session is closed."),
        (status = 404, description = "`session_not_found`: there is none, or not of this account."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("adminKey" = [])),
)]
pub(super) async fn close_session(
    State(app): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<SessionId>,
) -> Result<StatusCode, ApiError> {
    let seen = Seen::by(&caller, &app).await?;
    seen.find(&app, &id)?;
    let work = {
        let app = app.clone();
        async move { Ok(app.sessions.close(&id).await?) }
    };
    if app.to_the_end(work).await? { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::NotFound(Resource::Session)) }
}
