//! What a session is kept for: the spaces that webhooks and subscriptions of its account care about.

use std::collections::BTreeSet;

use crate::domain::{AccountId, SpaceId};

/// The spaces that an account cares about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interest {
    /// All group and personal spaces of the user.
    pub all: bool,
    /// All direct spaces of the user.
    pub direct: bool,
    /// These spaces.
    pub spaces: BTreeSet<SpaceId>,
}

impl Interest {
    /// Whether nothing is cared about.
    pub fn is_empty(&self) -> bool {
        !self.all && !self.direct && self.spaces.is_empty()
    }

    /// Whether the user's list of spaces is needed to know what is meant.
    pub fn needs_list(&self) -> bool {
        self.all || self.direct
    }
}

/// Knows what accounts care about.
pub trait InterestSource: Send + Sync + 'static {
    /// What `account` cares about now.
    fn interest(&self, account: &AccountId) -> Interest;
}
