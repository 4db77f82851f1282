//! Who waits for new events of which account. A writer wakes them after its events are durable; while nobody waits, that costs it one
//! look at a number.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::EventLog;
use crate::domain::AccountId;

/// The accounts that someone waits for.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    waiting: AtomicUsize,
    by_account: Mutex<HashMap<AccountId, watch::Sender<()>>>,
}

/// Tells of new events of one account.
#[derive(Debug)]
pub struct NewEvents {
    watchers: Arc<Watchers>,
    account: AccountId,
    receiver: watch::Receiver<()>,
}

impl NewEvents {
    /// Waits until there may be events that were not there when this was made, or when it last returned. Safe to cancel.
    pub async fn wait(&mut self) {
        // The sender stays as long as this is here.
        let _ = self.receiver.changed().await;
    }
}

impl Drop for NewEvents {
    fn drop(&mut self) {
        let mut by_account = self.watchers.lock();
        // This one is still counted.
        if by_account.get(&self.account).is_some_and(|sender| sender.receiver_count() <= 1) {
            by_account.remove(&self.account);
        }
        self.watchers.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Watchers {
    /// Wakes whoever waits for these accounts. To be called after their events are durable: who begins to wait later finds them.
    pub(super) fn wake(&self, accounts: &[AccountId]) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let by_account = self.lock();
        for sender in accounts.iter().filter_map(|account| by_account.get(account)) {
            sender.send_replace(());
        }
    }

    fn watch(watchers: &Arc<Self>, account: &AccountId) -> NewEvents {
        // Counted first, so that a writer that sees nobody has written what the new one will read.
        watchers.waiting.fetch_add(1, Ordering::SeqCst);
        let receiver = watchers.lock().entry(account.clone()).or_insert_with(|| watch::channel(()).0).subscribe();
        NewEvents { watchers: Arc::clone(watchers), account: account.clone(), receiver }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AccountId, watch::Sender<()>>> {
        self.by_account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventLog {
    /// Tells of new events of `account` from now on: make this first, then read, then wait.
    pub fn watch(&self, account: &AccountId) -> NewEvents {
        Watchers::watch(&self.watchers, account)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn who_waits_is_woken_once_per_change_and_leaves_nothing_behind() {
        let watchers = Arc::new(Watchers::default());
        let (one, other): (AccountId, AccountId) = ("acc_1".parse().expect("an id"), "acc_2".parse().expect("an id"));
        let (mut first, mut second) = (Watchers::watch(&watchers, &one), Watchers::watch(&watchers, &one));
        let mut stranger = Watchers::watch(&watchers, &other);
        watchers.wake(std::slice::from_ref(&one));
        assert!(first.wait().now_or_never().is_some() && second.wait().now_or_never().is_some());
        assert!(first.wait().now_or_never().is_none() && stranger.wait().now_or_never().is_none());
        drop(first);
        watchers.wake(std::slice::from_ref(&one));
        assert!(second.wait().now_or_never().is_some(), "the one that is left is woken still");
        drop((second, stranger));
        assert!(watchers.lock().is_empty());
        assert_eq!(watchers.waiting.load(Ordering::SeqCst), 0);
    }
}
