//! Accounts whose tokens the bridge gets by itself.
//!
//! The operator gives a credential once ([`AccountCredential`], seven kinds); [`TokenSources`] turns it into tokens; the
//! [`AccountRegistry`] keeps both sealed, renews ahead of their end and when Spaces refuses them, and hands every new token to the
//! sessions, which go over to it without loss. To the sessions it is their [`TokenSource`](crate::session::TokenSource).
//!
//! What it promises:
//! - a refresh token that a server gave is on disk before the access token beside it is used;
//! - a credential is in one pair of hands at a time: whoever wants a new token while one is being fetched gets that one;
//! - what is not valid any more is not asked again and again; the account says `credential_refused` until the operator acts, or, where
//!   the credential leads to a file, a command or an address, until another token is found there.
//!
//! `schedule` says when, `queue` who is next, `renewal` what happens then.

mod command;
mod credential;
mod file;
mod found;
mod queue;
mod record;
mod registry;
mod renewal;
mod schedule;
mod source;
mod unfinished;
mod watching;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

pub use credential::{AccountCredential, CredentialKind, InvalidCredential};
pub use record::{Failure, Standing};
pub use registry::{AccountParts, AccountRegistry, AccountView};
pub use source::{MintError, TokenSources};

use crate::domain::{AccountId, Credential, SessionId, SessionState};
use crate::session::{Identity, SessionError, SessionRegistry};
use crate::store::StoreError;

/// How accounts behave.
#[derive(Debug, Clone)]
pub struct AccountSettings {
    /// Whether credentials may be commands of this machine.
    pub allow_commands: bool,
    /// The directories below which credentials may be files.
    pub token_directories: Vec<PathBuf>,
    /// How often files are looked at for another token.
    pub file_check: Duration,
    /// Most accounts.
    pub max_accounts: usize,
    /// Most time for one call of a server.
    pub timeout: Duration,
    /// How the names of environment variables begin that commands do not see.
    pub hidden_variables: &'static str,
}

/// The sessions, as accounts need them.
#[async_trait]
pub trait AccountSessions: Send + Sync + 'static {
    /// Lets the account go over to this token, and keeps its session from now on. A repeat changes nothing.
    async fn adopt(&self, identity: Identity, credential: Credential) -> Result<SessionId, SessionError>;

    /// Whether Spaces refused the token of this session.
    fn is_refused(&self, session: &SessionId) -> bool;

    /// The account is not managed any more.
    async fn release(&self, account: &AccountId) -> Result<(), SessionError>;
}

#[async_trait]
impl AccountSessions for SessionRegistry {
    async fn adopt(&self, identity: Identity, credential: Credential) -> Result<SessionId, SessionError> {
        self.adopt(identity, credential).await.map(|handle| handle.id().clone())
    }

    fn is_refused(&self, session: &SessionId) -> bool {
        self.get(session).is_some_and(|handle| handle.state() == SessionState::AuthFailed)
    }

    async fn release(&self, account: &AccountId) -> Result<(), SessionError> {
        self.release_account(account).await
    }
}

/// Why an account could not be made, found or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is no such account.
    #[error("there is no such account")]
    NotFound,
    /// The user of the credential has an account already.
    #[error("the user has the account `{0}` already; replace its credential by `PUT /accounts/{0}/credential`")]
    Exists(AccountId),
    /// There are as many accounts as there may be.
    #[error("there are {limit} accounts, which is the most there may be")]
    TooMany {
        /// The most.
        limit: usize,
    },
    /// The credential leads to another user than the account's.
    #[error("the credential leads to another user than the account's")]
    OtherUser,
    /// The settings do not allow the credential.
    #[error("{0}")]
    NotAllowed(String),
    /// The credential gives no token.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// A session could not be opened or ended.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The store failed; nothing was changed.
    #[error("failed to store the account")]
    Store(#[from] StoreError),
}
