//! [`Reach`]: how far a caller gets within its account. A bridge key may be limited to some spaces; what lies elsewhere is as good as
//! not there.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::ApiError;
use crate::domain::{AccountId, Clock, Delivery, SpaceId, SpaceSelector, Webhook};
use crate::keys::KnownKey;

/// What a caller may see and use.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    /// Of this account.
    pub(super) account: AccountId,
    key: Option<Arc<KnownKey>>,
}

impl Reach {
    pub(super) fn new(account: AccountId, key: Option<Arc<KnownKey>>) -> Self {
        Self { account, key }
    }

    /// The only spaces that are reached; `None` for all of the account.
    pub(super) fn spaces(&self) -> Option<&Arc<BTreeSet<SpaceId>>> {
        self.key.as_ref().and_then(|key| key.spaces.as_ref())
    }

    /// Whether what happens in `space` may be seen.
    pub(super) fn includes(&self, space: &SpaceId) -> bool {
        self.spaces().is_none_or(|spaces| spaces.contains(space))
    }

    /// Whether `space` may be asked for.
    pub(super) fn check(&self, space: &SpaceId) -> Result<(), ApiError> {
        if self.includes(space) { Ok(()) } else { Err(ApiError::SpaceNotInKey) }
    }

    /// Whether a webhook may want these spaces.
    pub(super) fn check_selectors(&self, selectors: &[SpaceSelector]) -> Result<(), ApiError> {
        if self.covers(selectors) { Ok(()) } else { Err(ApiError::SpaceNotInKey) }
    }

    /// Whether `webhook` is one of the account that may be seen: one that hears of no other space.
    pub(super) fn shows(&self, webhook: &Webhook) -> bool {
        webhook.account == self.account && self.covers(&webhook.spaces)
    }

    /// Whether `delivery` may be seen, if its webhook may.
    pub(super) fn shows_delivery(&self, delivery: &Delivery) -> bool {
        delivery.space.is_nowhere() || self.includes(&delivery.space)
    }

    /// Waits until whoever this is may come in no more.
    pub(super) async fn ended(&self, clock: &dyn Clock) {
        match &self.key {
            Some(key) => key.ended(clock.now()).await,
            None => std::future::pending().await,
        }
    }

    fn covers(&self, selectors: &[SpaceSelector]) -> bool {
        self.spaces().is_none_or(|spaces| {
            selectors.iter().all(|selector| match selector {
                SpaceSelector::One(space) => spaces.contains(space),
                SpaceSelector::All | SpaceSelector::Direct => false,
            })
        })
    }
}
