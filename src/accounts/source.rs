//! [`TokenSources`]: how each kind of credential becomes a token.

use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};

use super::credential::token_address;
use super::found::{self, MAX_FOUND};
use super::{AccountCredential, AccountError, AccountSettings, command, file};
use crate::domain::{Credential, Secret, Timestamp, TokenKind};
use crate::upstream::{Grant, GrantError, OauthApplication, TokenServer, describe, is_passing, read_at_most, retry_after};

/// A token that was just got.
#[derive(Debug, Clone)]
pub(super) struct Minted {
    pub(super) credential: Credential,
    /// When its life began, as far as is known.
    pub(super) obtained_at: Timestamp,
    /// When it ends, if that is known.
    pub(super) expires_at: Option<Timestamp>,
    /// The credential to use from now on, where the token cost the one before.
    pub(super) rotated: Option<AccountCredential>,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// The credential is not valid (any more).
    #[error("the credential was refused: {0}")]
    Refused(String),
    /// What the credential leads to gives no token.
    #[error("the credential gives no token: {0}")]
    Failed(String),
    /// Not now: a server is out of reach, or wants to be asked later.
    #[error("the credential cannot be used at the moment: {detail}")]
    Unavailable {
        /// What happened.
        detail: String,
        /// When to try again, if the server said so.
        retry_after: Option<Duration>,
    },
}

impl From<GrantError> for MintError {
    fn from(error: GrantError) -> Self {
        match error {
            GrantError::Refused(detail) => Self::Refused(detail),
            GrantError::Unavailable { detail, retry_after } => Self::Unavailable { detail, retry_after },
        }
    }
}

/// Turns credentials into tokens.
#[derive(Debug, Clone)]
pub struct TokenSources {
    server: TokenServer,
    http: reqwest::Client,
    settings: AccountSettings,
}

impl TokenSources {
    /// Sources that ask `server`, and addresses with the given TLS configuration.
    ///
    /// The addresses are the operator's own, so they may lie anywhere, also inside the network; nobody else can name one, and what
    /// they answer is never shown. Redirects are not followed, so that the headers go where the operator meant them to.
    pub fn new(server: TokenServer, settings: AccountSettings, tls: rustls::ClientConfig) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .user_agent(concat!("spaces-bridge/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { server, http, settings })
    }

    /// Whether the settings allow `credential`.
    pub(super) fn check(&self, credential: &AccountCredential) -> Result<(), AccountError> {
        let not_allowed = |words: &str| Err(AccountError::NotAllowed(words.to_owned()));
        match credential {
            AccountCredential::TokenCommand { .. } if !self.settings.allow_commands => {
                not_allowed("credentials of the kind `token_command` need the setting `accounts.allow_commands`")
            }
            AccountCredential::TokenFile { path, .. } if !file::is_below(path, &self.settings.token_directories) => {
                not_allowed("the file is not below one of the directories of the setting `accounts.token_directories`")
            }
            AccountCredential::OauthRefresh { .. } | AccountCredential::OauthPassword { .. } if !self.server.has_accounts() => {
                not_allowed("OAuth needs the setting `upstream.accounts_url`")
            }
            _ => Ok(()),
        }
    }

    /// Gets a token.
    pub(super) async fn mint(&self, credential: &AccountCredential, now: Timestamp) -> Result<Minted, MintError> {
        // The settings may have changed since the credential was stored.
        self.check(credential).map_err(|error| MintError::Refused(error.to_string()))?;
        match credential {
            AccountCredential::Token { token, token_kind } => Minted::new(token.clone(), Some(*token_kind), now, None),
            AccountCredential::OauthRefresh { application, refresh_token } => {
                let grant = self.server.refresh(application, refresh_token).await?;
                let rotated = grant.refresh_token.clone().map(|refresh_token| rotate(application, refresh_token));
                Ok(Minted { rotated, ..granted(grant, now)? })
            }
            AccountCredential::OauthPassword { application, username, password } => {
                granted(self.server.log_in(application, username, password).await?, now)
            }
            AccountCredential::Anonymous { display_name, user_name } => {
                let token = self.server.make_guest(display_name, user_name.as_deref()).await?;
                Minted::new(token, Some(TokenKind::Jwt), now, None)
            }
            AccountCredential::TokenFile { path, token_kind } => {
                found::read(&file::read(path, &self.settings.token_directories).await?, *token_kind, now)
            }
            AccountCredential::TokenCommand { command, timeout, token_kind } => {
                found::read(&command::run(command, *timeout, self.settings.hidden_variables).await?, *token_kind, now)
            }
            AccountCredential::TokenUrl { url, headers, token_kind } => {
                let mut request = self.http.get(token_address(url).ok_or_else(|| failed("the address is none"))?);
                for (name, value) in headers {
                    let name = HeaderName::try_from(name).map_err(|_| failed("a header's name is none"))?;
                    let mut value = HeaderValue::try_from(value.expose()).map_err(|_| failed("a header's value is none"))?;
                    value.set_sensitive(true);
                    request = request.header(name, value);
                }
                found::read(&ask(request).await?, *token_kind, now)
            }
        }
    }
}

fn failed(detail: &str) -> MintError {
    MintError::Failed(detail.to_owned())
}

fn rotate(application: &OauthApplication, refresh_token: Secret) -> AccountCredential {
    AccountCredential::OauthRefresh { application: application.clone(), refresh_token }
}

/// Which of a token's words counts: what the server says of its life, else what the token says.
fn granted(grant: Grant, now: Timestamp) -> Result<Minted, MintError> {
    let expires_at = grant.expires_in.map(|life| now.saturating_add(life));
    // An access token that happens to look like a JWT is still one of OAuth.
    Minted::new(grant.access_token, Some(TokenKind::Oauth), now, expires_at)
}

async fn ask(request: reqwest::RequestBuilder) -> Result<Vec<u8>, MintError> {
    let unavailable = |detail: &str| MintError::Unavailable { detail: detail.to_owned(), retry_after: None };
    let answer = request.send().await.map_err(|error| unavailable(describe(&error)))?;
    let (status, retry_after) = (answer.status(), retry_after(&answer));
    if status.is_success() {
        return read_at_most(answer, MAX_FOUND).await.map_err(failed);
    }
    let detail = format!("the address answered {}", status.as_u16());
    Err(if is_passing(status) { MintError::Unavailable { detail, retry_after } } else { MintError::Refused(detail) })
}
