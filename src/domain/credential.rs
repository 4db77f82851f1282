//! A Spaces token and what kind it is.

use std::str::FromStr;

use super::Secret;

/// The kinds of token that Spaces knows; they differ in the scheme word of REST and in the socket's `tokenType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// An OAuth 2 access token: opaque text.
    Oauth,
    /// A user's or anonymous guest's JWT.
    Jwt,
    /// A JWT minted by a service application.
    ServiceApp,
}

/// A word that names no token kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown token kind; use `oauth`, `jwt` or `service_app`")]
pub struct UnknownTokenKind;

impl TokenKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Oauth, Self::Jwt, Self::ServiceApp];

    /// The word in configuration, API and store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oauth => "oauth",
            Self::Jwt => "jwt",
            Self::ServiceApp => "service_app",
        }
    }

    /// The kind that the look of a token lets one suppose: three parts in the letters of Base64 make a JWT.
    pub fn supposed(token: &str) -> Self {
        let is_part = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'='))
        };
        if token.split('.').count() == 3 && token.split('.').all(is_part) { Self::Jwt } else { Self::Oauth }
    }
}

impl FromStr for TokenKind {
    type Err = UnknownTokenKind;

    fn from_str(text: &str) -> Result<Self, UnknownTokenKind> {
        Self::ALL.into_iter().find(|kind| text.eq_ignore_ascii_case(kind.as_str())).ok_or(UnknownTokenKind)
    }
}

/// What opens a session: a token and its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The token's kind.
    pub kind: TokenKind,
    /// The token.
    pub token: Secret,
}
