//! [`AccountCredential`]: what the bridge gets an account's tokens with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use crate::domain::{Secret, TokenKind};
use crate::upstream::OauthApplication;

/// What the bridge gets an account's tokens with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountCredential {
    /// A token as it is. It ends when it ends.
    Token {
        /// The token.
        token: Secret,
        /// Its kind.
        token_kind: TokenKind,
    },
    /// An OAuth refresh token.
    OauthRefresh {
        /// The application that it was given to.
        application: OauthApplication,
        /// The refresh token to use next.
        refresh_token: Secret,
    },
    /// The name and the password of a user, for OAuth's password grant.
    OauthPassword {
        /// The application that logs in.
        application: OauthApplication,
        /// The user's name.
        username: String,
        /// The user's password.
        password: Secret,
    },
    /// A guest, made anew with each token: Spaces gives each another id.
    Anonymous {
        /// The name that people see.
        display_name: String,
        /// The guest's name towards Spaces.
        user_name: Option<String>,
    },
    /// A file that holds a token, and another one when it ends.
    TokenFile {
        /// Where it is.
        path: PathBuf,
        /// The token's kind; by its look, if not given.
        token_kind: Option<TokenKind>,
    },
    /// A command that prints a token.
    TokenCommand {
        /// The program and its arguments.
        command: Vec<Secret>,
        /// Most time that it may take.
        timeout: Duration,
        /// The token's kind; by its look, if not given.
        token_kind: Option<TokenKind>,
    },
    /// An address that answers a token.
    TokenUrl {
        /// The address, which may hold a secret.
        url: Secret,
        /// Headers to send along, by name.
        headers: BTreeMap<String, Secret>,
        /// The token's kind; by its look, if not given.
        token_kind: Option<TokenKind>,
    },
}

/// The kinds of credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
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

impl CredentialKind {
    /// Whether what is found there may be another token next time, whatever became of the last one.
    pub(super) fn leads_elsewhere(self) -> bool {
        match self {
            Self::TokenFile | Self::TokenCommand | Self::TokenUrl => true,
            Self::Token | Self::OauthRefresh | Self::OauthPassword | Self::Anonymous => false,
        }
    }
}

/// A stored credential that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a credential of an account")]
pub struct InvalidCredential;

impl AccountCredential {
    /// Its kind.
    pub fn kind(&self) -> CredentialKind {
        match self {
            Self::Token { .. } => CredentialKind::Token,
            Self::OauthRefresh { .. } => CredentialKind::OauthRefresh,
            Self::OauthPassword { .. } => CredentialKind::OauthPassword,
            Self::Anonymous { .. } => CredentialKind::Anonymous,
            Self::TokenFile { .. } => CredentialKind::TokenFile,
            Self::TokenCommand { .. } => CredentialKind::TokenCommand,
            Self::TokenUrl { .. } => CredentialKind::TokenUrl,
        }
    }

    /// Whether the server that gives the token vouches for whose it is: the same user as before.
    pub(super) fn is_vouched_for(&self) -> bool {
        matches!(self, Self::OauthRefresh { .. } | Self::OauthPassword { .. })
    }

    /// Whether each use of it gives another token.
    pub(super) fn is_minted(&self) -> bool {
        self.is_vouched_for() || matches!(self, Self::Anonymous { .. })
    }

    /// Everything of it in one text, to be sealed.
    pub(super) fn to_secret(&self) -> Secret {
        let kind = |kind: &Option<TokenKind>| kind.map(TokenKind::as_str);
        let exposed = |secret: &Secret| secret.expose().to_owned();
        let application = |application: &OauthApplication| {
            json!({"client_id": application.client_id, "client_secret": application.client_secret.as_ref().map(exposed),
                "scope": application.scope})
        };
        let value = match self {
            Self::Token { token, token_kind } => json!({"token": {"token": exposed(token), "token_kind": token_kind.as_str()}}),
            Self::OauthRefresh { application: given, refresh_token } => {
                json!({"oauth_refresh": {"application": application(given), "refresh_token": exposed(refresh_token)}})
            }
            Self::OauthPassword { application: given, username, password } => {
                json!({"oauth_password": {"application": application(given), "username": username, "password": exposed(password)}})
            }
            Self::Anonymous { display_name, user_name } => {
                json!({"anonymous": {"display_name": display_name, "user_name": user_name}})
            }
            Self::TokenFile { path, token_kind } => json!({"token_file": {"path": path, "token_kind": kind(token_kind)}}),
            Self::TokenCommand { command, timeout, token_kind } => {
                let command: Vec<String> = command.iter().map(exposed).collect();
                json!({"token_command": {"command": command, "timeout": timeout.as_secs(), "token_kind": kind(token_kind)}})
            }
            Self::TokenUrl { url, headers, token_kind } => {
                let headers: BTreeMap<&String, String> = headers.iter().map(|(name, value)| (name, exposed(value))).collect();
                json!({"token_url": {"url": exposed(url), "headers": headers, "token_kind": kind(token_kind)}})
            }
        };
        Secret::new(value.to_string())
    }

    /// Reads what [`Self::to_secret`] wrote.
    pub(super) fn from_secret(secret: &Secret) -> Result<Self, InvalidCredential> {
        let stored: Stored = serde_json::from_str(secret.expose()).map_err(|_| InvalidCredential)?;
        stored.read().ok_or(InvalidCredential)
    }
}

/// The address of a credential, if it is one that can be asked.
pub(super) fn token_address(text: &Secret) -> Option<Url> {
    Url::parse(text.expose()).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stored {
    Token { token: Secret, token_kind: String },
    OauthRefresh { application: StoredApplication, refresh_token: Secret },
    OauthPassword { application: StoredApplication, username: String, password: Secret },
    Anonymous { display_name: String, user_name: Option<String> },
    TokenFile { path: PathBuf, token_kind: Option<String> },
    TokenCommand { command: Vec<Secret>, timeout: u64, token_kind: Option<String> },
    TokenUrl { url: Secret, headers: BTreeMap<String, Secret>, token_kind: Option<String> },
}

#[derive(Deserialize)]
struct StoredApplication {
    client_id: String,
    client_secret: Option<Secret>,
    scope: Option<String>,
}

impl From<StoredApplication> for OauthApplication {
    fn from(stored: StoredApplication) -> Self {
        Self { client_id: stored.client_id, client_secret: stored.client_secret, scope: stored.scope }
    }
}

impl Stored {
    fn read(self) -> Option<AccountCredential> {
        let kind = |kind: Option<String>| kind.map(|kind| kind.parse::<TokenKind>()).transpose().ok();
        Some(match self {
            Self::Token { token, token_kind } => AccountCredential::Token { token, token_kind: token_kind.parse().ok()? },
            Self::OauthRefresh { application, refresh_token } => {
                AccountCredential::OauthRefresh { application: application.into(), refresh_token }
            }
            Self::OauthPassword { application, username, password } => {
                AccountCredential::OauthPassword { application: application.into(), username, password }
            }
            Self::Anonymous { display_name, user_name } => AccountCredential::Anonymous { display_name, user_name },
            Self::TokenFile { path, token_kind } => AccountCredential::TokenFile { path, token_kind: kind(token_kind)? },
            Self::TokenCommand { command, timeout, token_kind } => {
                AccountCredential::TokenCommand { command, timeout: Duration::from_secs(timeout), token_kind: kind(token_kind)? }
            }
            Self::TokenUrl { url, headers, token_kind } => {
                AccountCredential::TokenUrl { url, headers, token_kind: kind(token_kind)? }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<AccountCredential> {
        let secret = |text: &str| Secret::new(text);
        let application = OauthApplication {
            client_id: "c".to_owned(),
            client_secret: Some(secret("hidden-1")),
            scope: Some("email".to_owned()),
        };
        let public = OauthApplication { client_secret: None, scope: None, ..application.clone() };
        vec![
            AccountCredential::Token { token: secret("hidden-2"), token_kind: TokenKind::ServiceApp },
            AccountCredential::OauthRefresh { application, refresh_token: secret("hidden-3") },
            AccountCredential::OauthPassword { application: public, username: "ana".to_owned(), password: secret("hidden-4") },
            AccountCredential::Anonymous { display_name: "Lift".to_owned(), user_name: None },
            AccountCredential::TokenFile { path: "/run/token".into(), token_kind: Some(TokenKind::Jwt) },
            AccountCredential::TokenCommand {
                command: vec![secret("print-token"), secret("hidden-5")],
                timeout: Duration::from_secs(3),
                token_kind: None,
            },
            AccountCredential::TokenUrl {
                url: secret("https://a.example/?k=hidden-6"),
                headers: BTreeMap::from([("authorization".to_owned(), secret("hidden-7"))]),
                token_kind: None,
            },
        ]
    }

    #[test]
    fn what_is_sealed_is_read_again() {
        for credential in one_of_each() {
            assert_eq!(AccountCredential::from_secret(&credential.to_secret()), Ok(credential.clone()));
        }
        for text in ["", "{}", r#"{"token":{"token":"a","token_kind":"saml"}}"#, r#"{"magic":{}}"#] {
            assert_eq!(AccountCredential::from_secret(&Secret::new(text)), Err(InvalidCredential), "{text}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let printed = format!("{:?}", one_of_each());
        assert!(!printed.contains("hidden"), "{printed}");
    }
}
