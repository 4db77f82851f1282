//! Where sessions get a new token when Spaces refuses the one they have.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{AccountId, Credential, SessionId};

/// Knows the accounts whose tokens the bridge renews itself, and renews them.
#[async_trait]
pub trait TokenSource: Send + Sync + 'static {
    /// Whether the bridge renews the tokens of `account`.
    fn manages(&self, account: &AccountId) -> bool;

    /// A token for `account` that is newer than the one of the session `refused`. Concurrent calls share one renewal.
    async fn renew(&self, account: &AccountId, refused: &SessionId) -> Result<Credential, RenewalError>;
}

/// Why there is no new token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenewalError {
    /// What tokens are made from is not valid any more: trying again helps only once someone has replaced it.
    #[error("the credential of the account is refused: {0}")]
    Refused(String),
    /// There is none now.
    #[error("the token cannot be renewed now: {detail}")]
    Unavailable {
        /// What stands in the way, without secrets.
        detail: String,
        /// When to try again, if whoever was asked said so.
        retry_after: Option<Duration>,
    },
}

/// The source of a service that manages no accounts.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTokenSource;

#[async_trait]
impl TokenSource for NoTokenSource {
    fn manages(&self, _account: &AccountId) -> bool {
        false
    }

    async fn renew(&self, account: &AccountId, _refused: &SessionId) -> Result<Credential, RenewalError> {
        Err(RenewalError::Refused(format!("account `{account}` is not managed")))
    }
}
