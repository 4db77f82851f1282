//! Credentials of accounts as they come in a body. They go in and never come out again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer};
use url::Url;
use utoipa::ToSchema;

use super::error::ApiError;
use super::sessions::TokenKindName;
use crate::accounts::AccountCredential;
use crate::domain::{Secret, TokenKind};
use crate::upstream::OauthApplication;

/// Longest text of a credential, in bytes; tokens take the most.
const MAX_TEXT: usize = 8 << 10;

/// Most arguments of a command, and headers of an address.
const MAX_PARTS: usize = 64;

/// Most seconds that a command may take, and how long it may if nothing is said.
const MAX_TIMEOUT: u64 = 300;
const DEFAULT_TIMEOUT: u64 = 30;

/// What the bridge gets an account's tokens with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
#[schema(as = AccountCredential, example = json!({"kind": "oauth_refresh", "clientId": "5f0a", "clientSecret": "…", "refreshToken": "…"}))]
pub(super) enum CredentialBody {
    /// A token as it is. When it ends, the account waits for another credential.
    #[schema(rename_all = "camelCase")]
    Token {
        /// The token.
        #[schema(value_type = String, max_length = 8192)]
        token: Secret,
        /// Its kind; by its look if left out: three parts make a `jwt`.
        #[serde(default, deserialize_with = "token_kind")]
        #[schema(value_type = Option<TokenKindName>)]
        token_kind: Option<TokenKind>,
    },
    /// An OAuth refresh token. The bridge uses it at once, keeps the one that comes for it, and so on.
    #[schema(rename_all = "camelCase")]
    OauthRefresh {
        /// The application's id.
        #[schema(max_length = 8192)]
        client_id: String,
        /// The application's secret, if it has one.
        #[serde(default)]
        #[schema(value_type = Option<String>, max_length = 8192)]
        client_secret: Option<Secret>,
        /// The refresh token. Nobody else may use it from now on.
        #[schema(value_type = String, max_length = 8192)]
        refresh_token: Secret,
        /// What to ask for, such as `email profile spaces`.
        #[serde(default)]
        #[schema(max_length = 8192)]
        scope: Option<String>,
    },
    /// The name and the password of a user, for OAuth's password grant.
    #[schema(rename_all = "camelCase")]
    OauthPassword {
        /// The application's id.
        #[schema(max_length = 8192)]
        client_id: String,
        /// The application's secret, if it has one.
        #[serde(default)]
        #[schema(value_type = Option<String>, max_length = 8192)]
        client_secret: Option<Secret>,
        /// The user's name.
        #[schema(max_length = 8192)]
        username: String,
        /// The user's password.
        #[schema(value_type = String, max_length = 8192)]
        password: Secret,
        /// What to ask for, such as `email profile spaces`.
        #[serde(default)]
        #[schema(max_length = 8192)]
        scope: Option<String>,
    },
    /// A guest. Spaces lets its token live for a day and makes another guest with another id after that; the account stays the same.
    #[schema(rename_all = "camelCase")]
    Anonymous {
        /// The name that people see.
        #[schema(max_length = 8192)]
        display_name: String,
        /// The guest's name towards Spaces.
        #[serde(default)]
        #[schema(max_length = 8192)]
        user_name: Option<String>,
    },
    /// A file with a token in it, below one of the directories of `accounts.token_directories`. It is read again when it changes.
    #[schema(rename_all = "camelCase")]
    TokenFile {
        /// Where it is, from `/` on.
        #[schema(value_type = String, max_length = 8192)]
        path: PathBuf,
        /// The token's kind; by its look if left out.
        #[serde(default, deserialize_with = "token_kind")]
        #[schema(value_type = Option<TokenKindName>)]
        token_kind: Option<TokenKind>,
    },
    /// A command that prints a token, or JSON with `token` and perhaps `expiresAt`. Needs `accounts.allow_commands`. No shell reads it.
    #[schema(rename_all = "camelCase")]
    TokenCommand {
        /// The program and its arguments.
        #[serde(deserialize_with = "words")]
        #[schema(value_type = Vec<String>, min_items = 1, max_items = 64)]
        command: Vec<Secret>,
        /// Most seconds that it may take.
        #[serde(default)]
        #[schema(minimum = 1, maximum = 300, default = 30)]
        timeout_seconds: Option<u64>,
        /// The token's kind; by its look if left out.
        #[serde(default, deserialize_with = "token_kind")]
        #[schema(value_type = Option<TokenKindName>)]
        token_kind: Option<TokenKind>,
    },
    /// An address that answers a token, or JSON with `token` and perhaps `expiresAt`, to `GET`. Redirects are not followed.
    #[schema(rename_all = "camelCase")]
    TokenUrl {
        /// The address.
        #[schema(value_type = String, format = "uri", max_length = 8192)]
        url: Secret,
        /// Headers to send along, by name.
        #[serde(default, deserialize_with = "headers")]
        #[schema(value_type = BTreeMap<String, String>)]
        headers: BTreeMap<String, Secret>,
        /// The token's kind; by its look if left out.
        #[serde(default, deserialize_with = "token_kind")]
        #[schema(value_type = Option<TokenKindName>)]
        token_kind: Option<TokenKind>,
    },
}

/// A list of texts. What is something else is not repeated in the refusal, since it may hold a secret.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Secret>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let words: Result<Vec<Secret>, _> = serde_json::from_value(value);
    words.map_err(|_| serde::de::Error::custom("`command` must be a list of texts"))
}

fn headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Secret>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let headers: Result<BTreeMap<String, Secret>, _> = serde_json::from_value(value);
    headers.map_err(|_| serde::de::Error::custom("`headers` must be an object of texts"))
}

fn token_kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TokenKind>, D::Error> {
    let kind = Option::<String>::deserialize(deserializer)?;
    let unknown = || serde::de::Error::custom("`tokenKind` must be `oauth`, `jwt` or `service_app`");
    kind.map(|kind| TokenKind::ALL.into_iter().find(|known| known.as_str() == kind).ok_or_else(unknown)).transpose()
}

impl CredentialBody {
    /// The credential, if all of it makes sense; `at` is where it stands in the body.
    pub(super) fn checked(self, at: &str) -> Result<AccountCredential, ApiError> {
        let secret = |name: &str, secret: &Secret| text(at, name, secret.expose());
        let optional = |name: &str, value: Option<&str>| value.map_or(Ok(()), |value| text(at, name, value));
        Ok(match self {
            Self::Token { token, token_kind } => {
                secret("token", &token)?;
                if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(ApiError::field(format!("{at}/token"), "a token has visible ASCII characters only"));
                }
                let token_kind = token_kind.unwrap_or_else(|| TokenKind::supposed(token.expose()));
                AccountCredential::Token { token, token_kind }
            }
            Self::OauthRefresh { client_id, client_secret, refresh_token, scope } => {
                secret("refreshToken", &refresh_token)?;
                let application = application(at, client_id, client_secret, scope)?;
                AccountCredential::OauthRefresh { application, refresh_token }
            }
            Self::OauthPassword { client_id, client_secret, username, password, scope } => {
                text(at, "username", &username)?;
                secret("password", &password)?;
                let application = application(at, client_id, client_secret, scope)?;
                AccountCredential::OauthPassword { application, username, password }
            }
            Self::Anonymous { display_name, user_name } => {
                text(at, "displayName", &display_name)?;
                optional("userName", user_name.as_deref())?;
                AccountCredential::Anonymous { display_name, user_name }
            }
            Self::TokenFile { path, token_kind } => {
                text(at, "path", &path.to_string_lossy())?;
                AccountCredential::TokenFile { path, token_kind }
            }
            Self::TokenCommand { command, timeout_seconds, token_kind } => {
                if !(1..=MAX_PARTS).contains(&command.len()) || command.iter().any(|word| word.expose().contains('\0')) {
                    return Err(ApiError::field(format!("{at}/command"), "a command has 1 to 64 words without NUL"));
                }
                if command.iter().map(|word| word.expose().len()).sum::<usize>() > MAX_TEXT {
                    return Err(ApiError::field(format!("{at}/command"), "the command is longer than 8192 bytes"));
                }
                let seconds = timeout_seconds.unwrap_or(DEFAULT_TIMEOUT);
                if !(1..=MAX_TIMEOUT).contains(&seconds) {
                    return Err(ApiError::field(format!("{at}/timeoutSeconds"), "it must be between 1 and 300"));
                }
                AccountCredential::TokenCommand { command, timeout: Duration::from_secs(seconds), token_kind }
            }
            Self::TokenUrl { url, headers, token_kind } => {
                secret("url", &url)?;
                let plain = Url::parse(url.expose()).is_ok_and(|url| {
                    matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
                });
                if !plain {
                    return Err(ApiError::field(format!("{at}/url"), "it must be an http or https address without a user in it"));
                }
                let is_header = |name: &String, value: &Secret| {
                    HeaderName::try_from(name).is_ok() && HeaderValue::try_from(value.expose()).is_ok()
                };
                let size: usize = headers.iter().map(|(name, value)| name.len() + value.expose().len()).sum();
                if headers.len() > MAX_PARTS || size > MAX_TEXT || !headers.iter().all(|(name, value)| is_header(name, value)) {
                    return Err(ApiError::field(format!("{at}/headers"), "they must be 64 headers and 8192 bytes at most"));
                }
                AccountCredential::TokenUrl { url, headers, token_kind }
            }
        })
    }
}

fn application(
    at: &str,
    client_id: String,
    client_secret: Option<Secret>,
    scope: Option<String>,
) -> Result<OauthApplication, ApiError> {
    text(at, "clientId", &client_id)?;
    if let Some(secret) = &client_secret {
        text(at, "clientSecret", secret.expose())?;
    }
    if let Some(scope) = &scope {
        text(at, "scope", scope)?;
    }
    Ok(OauthApplication { client_id, client_secret, scope })
}

fn text(at: &str, name: &str, value: &str) -> Result<(), ApiError> {
    let problem = if value.trim().is_empty() {
        "it is empty"
    } else if value.len() > MAX_TEXT {
        "it is longer than 8192 bytes"
    } else if value.contains('\0') {
        "it contains NUL"
    } else {
        return Ok(());
    };
    Err(ApiError::field(format!("{at}/{name}"), problem))
}
