//! What a session is kept for: the spaces that webhooks and subscriptions of its account care about.

use crate::domain::{AccountId, Interest};

/// Knows what accounts care about.
pub trait InterestSource: Send + Sync + 'static {
    /// What `account` cares about now.
    fn interest(&self, account: &AccountId) -> Interest;
}
