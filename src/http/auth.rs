//! Who calls: the extractors [`Caller`], [`AccountCaller`] and [`Operator`], made from the `Authorization` header alone, and [`MaySend`],
//! [`MayRead`] and its like, which also ask for a scope of a bridge key. A token in the query is never looked at.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use tracing::Instrument as _;

use super::AppState;
use super::error::ApiError;
use super::reach::Reach;
use crate::domain::{AccountId, Credential, Secret, SpaceId, TokenKind};
use crate::idempotency::Scope;
use crate::keys::{self, KeyScope, KnownKey};
use crate::session::{Identity, SessionError, SessionHandle};
use crate::upstream::RestError;

/// Overrides the kind of token that `Authorization` lets one suppose.
pub(super) const TOKEN_TYPE: &str = "x-spaces-token-type";

/// Longest token that is taken, in bytes; those of Spaces take far less than half.
const MAX_TOKEN: usize = 8 << 10;

/// Sessions that one call opens at most, if each closes under its hands.
const OPENINGS: usize = 3;

/// Whoever calls.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// Someone who stands for an account.
    Account(AccountCaller),
    /// The operator, with the admin key.
    Operator,
}

/// Someone who stands for an account: with a Spaces token for the token's own, with a bridge key for the one that the key was made for.
#[derive(Debug, Clone)]
pub(super) struct AccountCaller(Proof);

#[derive(Debug, Clone)]
enum Proof {
    Token(Credential),
    Key(Arc<KnownKey>),
}

/// The operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operator;

/// Someone who may send messages for an account.
#[derive(Debug)]
pub(super) struct MaySend(pub(super) AccountCaller);

/// Someone who may read for an account.
#[derive(Debug)]
pub(super) struct MayRead(pub(super) AccountCaller);

/// Someone who may see what became of an account's messages.
#[derive(Debug)]
pub(super) struct MaySendOrRead(pub(super) AccountCaller);

/// Someone who may work with an account's webhooks.
#[derive(Debug)]
pub(super) struct MayUseWebhooks(pub(super) AccountCaller);

impl AccountCaller {
    /// The caller's session: with a token opened if this is the first call with it, with a key the one that serves the account.
    pub(super) fn session(&self, app: &AppState) -> Result<SessionHandle, ApiError> {
        match &self.0 {
            Proof::Token(credential) => Ok(app.sessions.open(credential.clone())?),
            Proof::Key(key) => app.sessions.of_account(&key.account).ok_or_else(|| app.once_ready(ApiError::AccountHasNoSession)),
        }
    }

    /// The caller's session, if it is open already.
    pub(super) fn known_session(&self, app: &AppState) -> Option<SessionHandle> {
        match &self.0 {
            Proof::Token(credential) => app.sessions.find(credential),
            Proof::Key(key) => app.sessions.of_account(&key.account),
        }
    }

    /// Does `work` with the caller's session; with a newly opened one if the session closed before the work had any effect, which
    /// is what [`SessionError::Closed`] says of it. The caller did nothing wrong and need not know.
    pub(super) async fn with_session<T, F>(&self, app: &AppState, work: impl Fn(SessionHandle) -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, SessionError>>,
    {
        for _ in 1..OPENINGS {
            match work(self.session(app)?).await {
                Err(SessionError::Closed) => {}
                result => return result.map_err(|error| self.told(error)),
            }
        }
        work(self.session(app)?).await.map_err(|error| self.told(error))
    }

    /// The caller's session and who it acts for.
    pub(super) async fn identity(&self, app: &AppState) -> Result<(SessionHandle, Identity), ApiError> {
        let wait = app.settings.default_wait;
        let identify = move |session: SessionHandle| async move {
            let identity = session.identity(wait).await?;
            Ok((session, identity))
        };
        self.with_session(app, identify).await
    }

    /// Whose idempotency keys the caller's are.
    pub(super) async fn scope(&self, app: &AppState) -> Result<Scope, ApiError> {
        let (account, before) = self.accounts(app).await?;
        Ok(Scope::Account { account, before })
    }

    /// The caller's account, and the one that stood in for it before its user was known.
    pub(super) async fn accounts(&self, app: &AppState) -> Result<(AccountId, Option<AccountId>), ApiError> {
        let account = self.account(app).await?;
        let before = self.session(app).ok().map(|session| AccountId::standing_in(session.id()));
        Ok((account, before))
    }

    /// The caller's account. A key tells it by itself, also if the account has no session.
    pub(super) async fn account(&self, app: &AppState) -> Result<AccountId, ApiError> {
        match &self.0 {
            Proof::Token(_) => Ok(self.identity(app).await?.1.account),
            Proof::Key(key) => Ok(key.account.clone()),
        }
    }

    /// What the caller may see of its account.
    pub(super) async fn reach(&self, app: &AppState) -> Result<Reach, ApiError> {
        Ok(Reach::new(self.account(app).await?, self.key().cloned()))
    }

    /// Whether the caller may do something in `space`.
    pub(super) fn check_space(&self, space: &SpaceId) -> Result<(), ApiError> {
        let spaces = self.key().and_then(|key| key.spaces.as_deref());
        if spaces.is_none_or(|spaces| spaces.contains(space)) { Ok(()) } else { Err(ApiError::SpaceNotInKey) }
    }

    /// Whether the caller may do what belongs to no space.
    pub(super) fn check_all_spaces(&self) -> Result<(), ApiError> {
        if self.is_limited_to_spaces() { Err(ApiError::SpaceNotInKey) } else { Ok(()) }
    }

    /// Whether the caller may do nothing beyond some spaces.
    pub(super) fn is_limited_to_spaces(&self) -> bool {
        self.key().is_some_and(|key| key.spaces.is_some())
    }

    /// Whether the caller came with a bridge key.
    pub(super) fn has_key(&self) -> bool {
        self.key().is_some()
    }

    fn key(&self) -> Option<&Arc<KnownKey>> {
        match &self.0 {
            Proof::Token(_) => None,
            Proof::Key(key) => Some(key),
        }
    }

    /// The caller, if it may do what any of `scopes` stands for.
    fn with_any(self, scopes: &'static [KeyScope]) -> Result<Self, ApiError> {
        match self.key() {
            Some(key) if !scopes.iter().any(|scope| key.has(*scope)) => Err(ApiError::ScopeMissing(scopes)),
            _ => Ok(self),
        }
    }

    /// The error in the words of this caller: who has a key cannot help it if Spaces refuses the account's token.
    pub(super) fn told(&self, error: impl Into<ApiError>) -> ApiError {
        match (&self.0, error.into()) {
            (Proof::Key(_), ApiError::Session(SessionError::AuthFailed { detail })) => ApiError::AccountTokenRefused { detail },
            (Proof::Key(_), ApiError::Rest(RestError::Refused { status: 401, message, .. })) => {
                ApiError::AccountTokenRefused { detail: message.unwrap_or_default() }
            }
            (_, error) => error,
        }
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        Ok(match read_shown(&parts.headers, app.settings.admin_key.as_ref())? {
            Shown::AdminKey => Self::Operator,
            Shown::Token(credential) => Self::Account(AccountCaller(Proof::Token(credential))),
            Shown::BridgeKey(secret) => Self::Account(AccountCaller(Proof::Key(known_key(app, &secret)?))),
        })
    }
}

/// The key that `secret` is, used for this call.
fn known_key(app: &AppState, secret: &Secret) -> Result<Arc<KnownKey>, ApiError> {
    let key = app.keys.authenticate(secret)?;
    if key.is_to_be_noted() {
        let (keys, key) = (Arc::clone(&app.keys), Arc::clone(&key));
        app.tasks.spawn(async move { keys.note_use(&key).await }.in_current_span());
    }
    Ok(key)
}

impl FromRequestParts<AppState> for AccountCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        match Caller::from_request_parts(parts, app).await? {
            Caller::Account(caller) => Ok(caller),
            Caller::Operator => Err(ApiError::AccountRequired),
        }
    }
}

impl FromRequestParts<AppState> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        match Caller::from_request_parts(parts, app).await? {
            Caller::Operator => Ok(Self),
            Caller::Account(_) => Err(ApiError::OperatorRequired),
        }
    }
}

/// Lets an extractor take callers with a bridge key only if it has one of some scopes.
macro_rules! asks_for {
    ($extractor:ident, $scopes:expr) => {
        impl FromRequestParts<AppState> for $extractor {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
                AccountCaller::from_request_parts(parts, app).await?.with_any(&$scopes).map(Self)
            }
        }
    };
}

asks_for!(MaySend, [KeyScope::Send]);
asks_for!(MayRead, [KeyScope::Read]);
asks_for!(MaySendOrRead, [KeyScope::Send, KeyScope::Read]);
asks_for!(MayUseWebhooks, [KeyScope::Webhooks]);

/// What the header shows.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    Token(Credential),
    BridgeKey(Secret),
    AdminKey,
}

fn read_shown(headers: &HeaderMap, admin_key: Option<&Secret>) -> Result<Shown, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let header = values.next().ok_or(ApiError::CredentialsMissing)?;
    if values.next().is_some() {
        return Err(ApiError::CredentialsInvalid("there is more than one `Authorization` header"));
    }
    let text = header.to_str().map_err(|_| ApiError::CredentialsInvalid(ODD_TOKEN))?;
    let (scheme, token) = text.split_once(' ').ok_or(ApiError::CredentialsInvalid(ODD_HEADER))?;
    let token = token.trim_matches(' ');
    if token.is_empty() {
        return Err(ApiError::CredentialsInvalid(ODD_HEADER));
    }
    if token.len() > MAX_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ApiError::CredentialsInvalid(ODD_TOKEN));
    }
    let supposed = kind_of(scheme, token)?;
    let token = Secret::new(token);
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    if is_bearer && admin_key == Some(&token) {
        return Ok(Shown::AdminKey);
    }
    if token.expose().starts_with(keys::PREFIX) {
        return if is_bearer { Ok(Shown::BridgeKey(token)) } else { Err(ApiError::CredentialsInvalid(KEY_AS_TOKEN)) };
    }
    let kind = named_kind(headers)?.unwrap_or(supposed);
    Ok(Shown::Token(Credential { kind, token }))
}

const KEY_AS_TOKEN: &str = "a bridge key comes after `Bearer`";

const ODD_HEADER: &str = "`Authorization` is a scheme (`Bearer`, `jwt` or `service_app`), a space and a Spaces token";
const ODD_TOKEN: &str = "the token has more than 8192 characters or some that are not visible ASCII";

/// The kind that a scheme and the look of the token let one suppose.
fn kind_of(scheme: &str, token: &str) -> Result<TokenKind, ApiError> {
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(TokenKind::supposed(token));
    }
    [TokenKind::Jwt, TokenKind::ServiceApp]
        .into_iter()
        .find(|kind| scheme.eq_ignore_ascii_case(kind.as_str()))
        .ok_or(ApiError::CredentialsInvalid(ODD_HEADER))
}

/// The kind that the caller names.
fn named_kind(headers: &HeaderMap) -> Result<Option<TokenKind>, ApiError> {
    let Some(value) = headers.get(TOKEN_TYPE) else { return Ok(None) };
    let kind = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    kind.map(Some).ok_or(ApiError::CredentialsInvalid("`X-Spaces-Token-Type` is none of `oauth`, `jwt` and `service_app`"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const KEY: &str = "admin-key-of-24-characters-or-more";

    fn read(authorization: &str, token_type: Option<&'static str>) -> Result<Shown, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).expect("a header value"));
        if let Some(token_type) = token_type {
            headers.insert(TOKEN_TYPE, HeaderValue::from_static(token_type));
        }
        read_shown(&headers, Some(&Secret::new(KEY)))
    }

    fn kind(authorization: &str, token_type: Option<&'static str>) -> Option<TokenKind> {
        match read(authorization, token_type) {
            Ok(Shown::Token(credential)) => Some(credential.kind),
            _ => None,
        }
    }

    #[test]
    fn the_scheme_the_tokens_look_and_the_header_tell_the_kind() {
        for (authorization, token_type, expected) in [
            ("Bearer 0a1b2c", None, TokenKind::Oauth),
            ("bEARER   0a1b2c ", None, TokenKind::Oauth),
            ("Bearer aa.bb.cc", None, TokenKind::Jwt),
            ("Bearer aa..cc", None, TokenKind::Oauth),
            ("Bearer aa.bb.cc", Some("oauth"), TokenKind::Oauth),
            ("jwt aa.bb.cc", None, TokenKind::Jwt),
            ("JWT opaque", None, TokenKind::Jwt),
            ("Service_App aa.bb.cc", None, TokenKind::ServiceApp),
            ("Bearer aa.bb.cc", Some("Service_App"), TokenKind::ServiceApp),
        ] {
            assert_eq!(kind(authorization, token_type), Some(expected), "{authorization} {token_type:?}");
        }
    }

    #[test]
    fn odd_headers_are_refused() {
        let long = format!("Bearer {}", "a".repeat(MAX_TOKEN + 1));
        for authorization in [
            "",
            "Bearer",
            "Bearer ",
            "Basic YTpi",
            "token abc",
            "Bearer a b",
            "Bearer ä",
            &long,
            "jwt sbk_1",
            "service_app sbk_1",
        ] {
            let error = read(authorization, None).expect_err(authorization);
            assert_eq!(error.code(), "credentials_invalid", "{authorization}");
        }
        assert!(read("Bearer abc", Some("saml")).is_err());
        assert!(matches!(read_shown(&HeaderMap::new(), None), Err(ApiError::CredentialsMissing)));
        let mut twice = HeaderMap::new();
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert!(matches!(read_shown(&twice, None), Err(ApiError::CredentialsInvalid(_))));
    }

    #[test]
    fn a_bridge_key_is_told_by_its_beginning() {
        for authorization in ["Bearer sbk_1", "bearer sbk_1"] {
            assert_eq!(read(authorization, Some("jwt")).ok(), Some(Shown::BridgeKey(Secret::new("sbk_1"))), "{authorization}");
        }
        assert_eq!(kind("Bearer SBK_1", None), Some(TokenKind::Oauth));
    }

    #[test]
    fn the_admin_key_makes_the_operator() {
        assert_eq!(read(&format!("Bearer {KEY}"), None).ok(), Some(Shown::AdminKey));
        assert_eq!(kind(&format!("Bearer {KEY}x"), None), Some(TokenKind::Oauth));
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer "));
        assert!(read_shown(&headers, Some(&Secret::new(""))).is_err());
    }
}
