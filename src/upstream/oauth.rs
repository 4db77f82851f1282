//! Where tokens come from: the accounts server's OAuth 2 (<https://spaces.avayacloud.com/developers/docs/api/accounts/accounts_accesstoken/>)
//! and the guests' door of the REST API (<https://spaces.avayacloud.com/developers/docs/api/users/anonymous_auth/>).
//!
//! A refresh answers another refresh token, and the one before counts as dead from then on.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::domain::Secret;

/// Largest answer that is read, in bytes; a few tokens.
const MAX_ANSWER: usize = 64 << 10;

/// Longest piece of the upstream's words that is passed on, in characters.
const MAX_WORDS: usize = 300;

/// Where tokens are asked for.
#[derive(Debug, Clone)]
pub struct TokenServerSettings {
    /// The base address of the accounts server; without one there is no OAuth.
    pub accounts: Option<Url>,
    /// The base address of the REST API.
    pub rest: Url,
    /// Most time for one call.
    pub timeout: Duration,
}

/// An OAuth application, as it was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OauthApplication {
    /// Its public id.
    pub client_id: String,
    /// Its secret, if it has one.
    pub client_secret: Option<Secret>,
    /// What it asks for; left to the server if not given.
    pub scope: Option<String>,
}

/// What the accounts server gives.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The access token.
    pub access_token: Secret,
    /// The refresh token to use next, if the server gave one.
    pub refresh_token: Option<Secret>,
    /// How long the access token lives.
    pub expires_in: Option<Duration>,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The server says that what it was given is not valid; asking again is of no use.
    #[error("{0}")]
    Refused(String),
    /// The server does not answer, or not sensibly, or wants to be asked later.
    #[error("{detail}")]
    Unavailable {
        /// What happened, without secrets.
        detail: String,
        /// When to ask again, if the server said so.
        retry_after: Option<Duration>,
    },
}

/// Asks for tokens.
#[derive(Debug, Clone)]
pub struct TokenServer {
    http: reqwest::Client,
    accounts: Option<Url>,
    rest: Url,
}

impl TokenServer {
    /// A client for the servers of `settings` that uses the given TLS configuration.
    pub fn new(settings: TokenServerSettings, tls: rustls::ClientConfig) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .user_agent(concat!("spaces-bridge/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, accounts: settings.accounts, rest: settings.rest })
    }

    /// Whether there is an accounts server to ask.
    pub fn has_accounts(&self) -> bool {
        self.accounts.is_some()
    }

    /// Trades a refresh token in (`grant_type=refresh_token`). It counts as dead afterwards.
    pub async fn refresh(&self, application: &OauthApplication, refresh_token: &Secret) -> Result<Grant, GrantError> {
        self.access_token("refresh_token", application, &[("refresh_token", refresh_token.expose())]).await
    }

    /// Logs a user in (`grant_type=password`).
    pub async fn log_in(&self, application: &OauthApplication, username: &str, password: &Secret) -> Result<Grant, GrantError> {
        self.access_token("password", application, &[("username", username), ("password", password.expose())]).await
    }

    /// Makes a guest (`POST /api/anonymous/auth`): each time a new one, with another id.
    pub async fn make_guest(&self, display_name: &str, user_name: Option<&str>) -> Result<Secret, GrantError> {
        let mut names = serde_json::json!({"displayname": display_name});
        if let Some(user_name) = user_name {
            names["username"] = user_name.into();
        }
        let guest: Guest = self.post(self.http.post(below(&self.rest, &["api", "anonymous", "auth"])).json(&names)).await?;
        Ok(guest.token)
    }

    async fn access_token(
        &self,
        grant_type: &str,
        application: &OauthApplication,
        fields: &[(&str, &str)],
    ) -> Result<Grant, GrantError> {
        let Some(accounts) = &self.accounts else {
            return Err(GrantError::Refused("no accounts server is set (`upstream.accounts_url`)".to_owned()));
        };
        let mut form = vec![("grant_type", grant_type), ("client_id", &application.client_id)];
        form.extend_from_slice(fields);
        form.extend(application.client_secret.iter().map(|secret| ("client_secret", secret.expose())));
        form.extend(application.scope.iter().map(|scope| ("scope", scope.as_str())));
        let form = Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self.http.post(below(accounts, &["oauth2", "access_token"])).body(form);
        let answer: Tokens = self.post(request.header(CONTENT_TYPE, "application/x-www-form-urlencoded")).await?;
        let expires_in = answer.expires_in.as_ref().and_then(serde_json::Value::as_f64);
        Ok(Grant {
            access_token: answer.access_token,
            refresh_token: answer.refresh_token,
            expires_in: expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        })
    }

    async fn post<T: serde::de::DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, GrantError> {
        let answer = request.send().await.map_err(|error| unavailable(describe(&error)))?;
        let (status, retry_after) = (answer.status(), retry_after(&answer));
        let body = read_at_most(answer, MAX_ANSWER).await.map_err(unavailable)?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|_| unavailable("the answer is not the expected JSON"));
        }
        Err(refusal(status, retry_after, &body))
    }
}

fn unavailable(detail: &str) -> GrantError {
    GrantError::Unavailable { detail: detail.to_owned(), retry_after: None }
}

/// Reads `{error, error_description}`, and Spaces' own `{code, message}`.
fn refusal(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> GrantError {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let texts = ["error", "code", "error_description", "message"].map(|name| value.get(name).and_then(serde_json::Value::as_str));
    let words: Vec<String> = texts.into_iter().flatten().map(shorten).collect();
    let said = if words.is_empty() { String::new() } else { format!(": {}", words.join(": ")) };
    let detail = format!("the server answered {}{said}", status.as_u16());
    if status.is_client_error() && !is_passing(status) {
        GrantError::Refused(detail)
    } else {
        GrantError::Unavailable { detail, retry_after }
    }
}

/// Whether the same call may succeed later.
pub(crate) fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

/// When a server wants to be asked again.
pub(crate) fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What happened, in words that carry neither address nor secret.
pub(crate) fn describe(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke"
    }
}

/// The body of an answer that may have so many bytes.
pub(crate) async fn read_at_most(mut answer: Response, most: usize) -> Result<Vec<u8>, &'static str> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| describe(&error))? {
        if body.len() + piece.len() > most {
            return Err("the answer is too large");
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

fn shorten(words: &str) -> String {
    words.chars().filter(|character| !character.is_control()).take(MAX_WORDS).collect()
}

fn below(base: &Url, segments: &[&str]) -> Url {
    let mut url = base.clone();
    url.path_segments_mut().expect("the configuration takes http addresses only").pop_if_empty().extend(segments);
    url
}

#[derive(Deserialize)]
struct Tokens {
    access_token: Secret,
    #[serde(default)]
    refresh_token: Option<Secret>,
    #[serde(default)]
    expires_in: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Guest {
    token: Secret,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_no_is_told_from_a_not_now() {
        for (status, body, refused, words) in [
            (400, r#"{"error":"invalid_grant","error_description":"it is used"}"#, true, "400: invalid_grant: it is used"),
            (401, r#"{"error":"invalid_client"}"#, true, "401: invalid_client"),
            (403, "<html>", true, "403"),
            (429, r#"{"code":"too.many","message":"slow down"}"#, false, "429: too.many: slow down"),
            (500, "", false, "500"),
            (503, "{", false, "503"),
            (302, "", false, "302"),
        ] {
            let error = refusal(StatusCode::from_u16(status).expect("a status"), None, body.as_bytes());
            assert_eq!(matches!(error, GrantError::Refused(_)), refused, "{status}");
            assert!(error.to_string().ends_with(words), "{error}");
        }
    }
}
