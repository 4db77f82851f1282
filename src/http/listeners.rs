//! How many streams and long polls of an account are open, and that there are not too many.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;

use crate::domain::AccountId;

/// The open streams and long polls by account.
#[derive(Debug)]
pub(super) struct Listeners {
    by_account: Mutex<HashMap<AccountId, usize>>,
    gauge: IntGauge,
}

/// The place of one of them, given back at its end.
#[derive(Debug)]
pub(super) struct Place {
    listeners: Arc<Listeners>,
    account: AccountId,
}

impl Listeners {
    pub(super) fn new(gauge: IntGauge) -> Self {
        Self { by_account: Mutex::default(), gauge }
    }

    /// A place for one more, if there are fewer than `limit`.
    pub(super) fn enter(listeners: &Arc<Self>, account: &AccountId, limit: usize) -> Option<Place> {
        let mut by_account = listeners.lock();
        let open = by_account.get(account).copied().unwrap_or(0);
        if open >= limit {
            return None;
        }
        by_account.insert(account.clone(), open + 1);
        listeners.gauge.inc();
        Some(Place { listeners: Arc::clone(listeners), account: account.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AccountId, usize>> {
        self.by_account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.listeners.gauge.dec();
        let mut by_account = self.listeners.lock();
        if let Some(open) = by_account.get_mut(&self.account) {
            *open -= 1;
            if *open == 0 {
                by_account.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_account_and_given_back() {
        let gauge = IntGauge::new("listeners", "open").expect("a gauge");
        let listeners = Arc::new(Listeners::new(gauge));
        let (one, other): (AccountId, AccountId) = ("acc_1".parse().expect("an id"), "acc_2".parse().expect("an id"));
        let first = Listeners::enter(&listeners, &one, 2).expect("a place");
        let second = Listeners::enter(&listeners, &one, 2);
        assert!(second.is_some() && Listeners::enter(&listeners, &one, 2).is_none());
        assert!(Listeners::enter(&listeners, &other, 2).is_some());
        drop(first);
        assert!(Listeners::enter(&listeners, &one, 2).is_some());
        drop(second);
        assert!(listeners.lock().is_empty());
        assert_eq!(listeners.gauge.get(), 0);
    }
}
