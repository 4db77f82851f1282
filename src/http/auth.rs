//! Who calls: the extractors [`Caller`], [`AccountCaller`] and [`Operator`], made from the `Authorization` header alone. A token in
//! the query is never looked at.

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::AppState;
use super::error::ApiError;
use crate::domain::{AccountId, Credential, Secret, TokenKind};
use crate::session::{Identity, SessionError, SessionHandle};

/// Overrides the kind of token that `Authorization` lets one suppose.
pub(super) const TOKEN_TYPE: &str = "x-spaces-token-type";

/// Longest token that is taken, in bytes; those of Spaces take far less than half.
const MAX_TOKEN: usize = 8 << 10;

/// Sessions that one call opens at most, if each closes under its hands.
const OPENINGS: usize = 3;

/// What the keys of bridge accounts begin with.
const BRIDGE_KEY_PREFIX: &str = "sbk_";

/// Whoever calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// Someone with a Spaces token, for that token's account.
    Spaces(AccountCaller),
    /// The operator, with the admin key.
    Operator,
}

/// Someone with a Spaces token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AccountCaller {
    credential: Credential,
}

/// The operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operator;

impl AccountCaller {
    /// The caller's session, opened if this is the first call with the token.
    pub(super) fn session(&self, app: &AppState) -> Result<SessionHandle, ApiError> {
        Ok(app.sessions.open(self.credential.clone())?)
    }

    /// The caller's session, if it is open already.
    pub(super) fn known_session(&self, app: &AppState) -> Option<SessionHandle> {
        app.sessions.find(&self.credential)
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
                result => return Ok(result?),
            }
        }
        Ok(work(self.session(app)?).await?)
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

    /// The caller's account.
    pub(super) async fn account(&self, app: &AppState) -> Result<AccountId, ApiError> {
        Ok(self.identity(app).await?.1.account)
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        read_caller(&parts.headers, app.settings.admin_key.as_ref())
    }
}

impl FromRequestParts<AppState> for AccountCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        match Caller::from_request_parts(parts, app).await? {
            Caller::Spaces(caller) => Ok(caller),
            Caller::Operator => Err(ApiError::AccountRequired),
        }
    }
}

impl FromRequestParts<AppState> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        match Caller::from_request_parts(parts, app).await? {
            Caller::Operator => Ok(Self),
            Caller::Spaces(_) => Err(ApiError::OperatorRequired),
        }
    }
}

fn read_caller(headers: &HeaderMap, admin_key: Option<&Secret>) -> Result<Caller, ApiError> {
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
    if scheme.eq_ignore_ascii_case("bearer") && admin_key == Some(&token) {
        return Ok(Caller::Operator);
    }
    if token.expose().starts_with(BRIDGE_KEY_PREFIX) {
        return Err(ApiError::CredentialsInvalid("this service knows no bridge keys; use a Spaces token"));
    }
    let kind = named_kind(headers)?.unwrap_or(supposed);
    Ok(Caller::Spaces(AccountCaller { credential: Credential { kind, token } }))
}

const ODD_HEADER: &str = "`Authorization` is a scheme (`Bearer`, `jwt` or `service_app`), a space and a Spaces token";
const ODD_TOKEN: &str = "the token has more than 8192 characters or some that are not visible ASCII";

/// The kind that a scheme and the look of the token let one suppose.
fn kind_of(scheme: &str, token: &str) -> Result<TokenKind, ApiError> {
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(if is_jwt(token) { TokenKind::Jwt } else { TokenKind::Oauth });
    }
    [TokenKind::Jwt, TokenKind::ServiceApp]
        .into_iter()
        .find(|kind| scheme.eq_ignore_ascii_case(kind.as_str()))
        .ok_or(ApiError::CredentialsInvalid(ODD_HEADER))
}

/// Whether `token` has the three parts of a signed JWT.
fn is_jwt(token: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'='))
    };
    token.split('.').count() == 3 && token.split('.').all(is_part)
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

    fn read(authorization: &str, token_type: Option<&'static str>) -> Result<Caller, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).expect("a header value"));
        if let Some(token_type) = token_type {
            headers.insert(TOKEN_TYPE, HeaderValue::from_static(token_type));
        }
        read_caller(&headers, Some(&Secret::new(KEY)))
    }

    fn kind(authorization: &str, token_type: Option<&'static str>) -> Option<TokenKind> {
        match read(authorization, token_type) {
            Ok(Caller::Spaces(caller)) => Some(caller.credential.kind),
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
        for authorization in ["", "Bearer", "Bearer ", "Basic YTpi", "token abc", "Bearer a b", "Bearer ä", &long, "Bearer sbk_1"]
        {
            let error = read(authorization, None).expect_err(authorization);
            assert_eq!(error.code(), "credentials_invalid", "{authorization}");
        }
        assert!(read("Bearer abc", Some("saml")).is_err());
        assert!(matches!(read_caller(&HeaderMap::new(), None), Err(ApiError::CredentialsMissing)));
        let mut twice = HeaderMap::new();
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert!(matches!(read_caller(&twice, None), Err(ApiError::CredentialsInvalid(_))));
    }

    #[test]
    fn the_admin_key_makes_the_operator() {
        assert_eq!(read(&format!("Bearer {KEY}"), None).ok(), Some(Caller::Operator));
        assert_eq!(kind(&format!("Bearer {KEY}x"), None), Some(TokenKind::Oauth));
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer "));
        assert!(read_caller(&headers, Some(&Secret::new(""))).is_err());
    }
}
