//! [`Serving`]: which session serves each account, and for whom it lives.

use std::collections::HashMap;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{AccountId, SessionId};

/// What is known of the accounts that have a session of their own.
#[derive(Debug, Default)]
pub(super) struct Serving(RwLock<HashMap<AccountId, Account>>);

/// What is known against an account's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Trouble {
    /// Nothing.
    #[default]
    None,
    /// It is refused and being renewed.
    Renewing,
    /// No token is good, and the account has been told.
    Told,
}

#[derive(Debug, Default)]
struct Account {
    /// The session that serves the account; its token is stored.
    kept: Option<SessionId>,
    /// The session that is about to take its place.
    successor: Option<SessionId>,
    /// Whether the account's token is managed, so that its session lives without webhooks and subscriptions.
    managed: bool,
    /// When its token was renewed last because Spaces had refused the one before.
    renewed_at: Option<Instant>,
    /// What is known against the token of the session that serves it.
    trouble: Trouble,
    /// Whether a refused token is being given another try.
    reviving: bool,
}

impl Serving {
    /// The session that serves `account`.
    pub(super) fn kept(&self, account: &AccountId) -> Option<SessionId> {
        self.read().get(account)?.kept.clone()
    }

    pub(super) fn is_kept(&self, account: &AccountId, session: &SessionId) -> bool {
        self.read().get(account).is_some_and(|known| known.kept.as_ref() == Some(session))
    }

    /// Lets `session` serve `account` from now on.
    pub(super) fn set_kept(&self, account: &AccountId, session: &SessionId) {
        self.change(account, |known| {
            known.kept = Some(session.clone());
            known.trouble = if known.trouble == Trouble::Renewing { Trouble::None } else { known.trouble };
            known.successor.take_if(|successor| successor == session);
        });
    }

    /// Lets `session` serve `account` no more.
    pub(super) fn clear_kept(&self, account: &AccountId, session: &SessionId) {
        self.change(account, |known| drop(known.kept.take_if(|kept| kept == session)));
    }

    /// The session that is about to serve `account`.
    pub(super) fn successor(&self, account: &AccountId) -> Option<SessionId> {
        self.read().get(account)?.successor.clone()
    }

    pub(super) fn is_successor(&self, account: &AccountId, session: &SessionId) -> bool {
        self.read().get(account).is_some_and(|known| known.successor.as_ref() == Some(session))
    }

    /// Lets `session` prepare to serve `account`. Answers the session that did so before, which is too late now.
    pub(super) fn set_successor(&self, account: &AccountId, session: &SessionId) -> Option<SessionId> {
        let before = self.change(account, |known| known.successor.replace(session.clone()));
        before.filter(|before| before != session)
    }

    /// Lets `session` prepare no more.
    pub(super) fn clear_successor(&self, account: &AccountId, session: &SessionId) {
        self.change(account, |known| drop(known.successor.take_if(|successor| successor == session)));
    }

    pub(super) fn is_managed(&self, account: &AccountId) -> bool {
        self.read().get(account).is_some_and(|known| known.managed)
    }

    pub(super) fn set_managed(&self, account: &AccountId, managed: bool) {
        self.change(account, |known| known.managed = managed);
    }

    /// Notes that a new token has been had in place of a refused one.
    pub(super) fn note_renewal(&self, account: &AccountId) {
        self.change(account, |known| known.renewed_at = Some(Instant::now()));
    }

    /// Notes that nothing came of that.
    pub(super) fn forget_renewal(&self, account: &AccountId) {
        self.change(account, |known| known.renewed_at = None);
    }

    /// Whether that was less than `time` ago.
    pub(super) fn renewed_within(&self, account: &AccountId, time: Duration) -> bool {
        self.read().get(account).and_then(|known| known.renewed_at).is_some_and(|at| at.elapsed() < time)
    }

    /// Notes that the token of the session that serves `account` is refused and being renewed.
    pub(super) fn note_refusal(&self, account: &AccountId) {
        self.change(account, |known| {
            if known.trouble == Trouble::None {
                known.trouble = Trouble::Renewing;
            }
        });
    }

    /// Whether that is so still.
    pub(super) fn is_refused(&self, account: &AccountId) -> bool {
        self.read().get(account).is_some_and(|known| known.trouble == Trouble::Renewing)
    }

    /// Notes that the account is told that no token of it is good. `false` if it has been, by another of its sessions.
    pub(super) fn tell_failure(&self, account: &AccountId) -> bool {
        self.change(account, |known| std::mem::replace(&mut known.trouble, Trouble::Told) != Trouble::Told)
    }

    /// Notes that a token of the account is good.
    pub(super) fn note_success(&self, account: &AccountId) {
        let told = self.read().get(account).is_some_and(|known| known.trouble == Trouble::Told);
        if told {
            self.change(account, |known| known.trouble = Trouble::None);
        }
    }

    /// Begins to give a refused token another try. `false` if that is being done.
    pub(super) fn begin_revival(&self, account: &AccountId) -> bool {
        self.change(account, |known| !std::mem::replace(&mut known.reviving, true))
    }

    pub(super) fn end_revival(&self, account: &AccountId) {
        self.change(account, |known| known.reviving = false);
    }

    fn change<T>(&self, account: &AccountId, change: impl FnOnce(&mut Account) -> T) -> T {
        let mut accounts = self.write();
        let known = accounts.entry(account.clone()).or_default();
        let result = change(known);
        if known.kept.is_none() && known.successor.is_none() && !known.managed && !known.reviving {
            accounts.remove(account);
        }
        result
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<AccountId, Account>> {
        self.0.read().expect(LOCK)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<AccountId, Account>> {
        self.0.write().expect(LOCK)
    }
}

const LOCK: &str = "no code panics while it holds this lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_successor_counts_and_becomes_the_one_that_serves() {
        let serving = Serving::default();
        let account: AccountId = "acc_1".parse().expect("an id");
        let [one, two, three] = ["ses_1", "ses_2", "ses_3"].map(|id| id.parse::<SessionId>().expect("an id"));
        serving.set_kept(&account, &one);
        assert_eq!(serving.set_successor(&account, &two), None);
        assert_eq!(serving.set_successor(&account, &two), None, "it takes nobody's place");
        assert_eq!(serving.set_successor(&account, &three), Some(two.clone()));
        serving.clear_successor(&account, &two);
        assert!(serving.is_successor(&account, &three), "only its own place is given up");
        serving.set_kept(&account, &three);
        assert_eq!((serving.kept(&account), serving.successor(&account)), (Some(three.clone()), None));
        serving.clear_kept(&account, &one);
        assert!(serving.is_kept(&account, &three));
        serving.clear_kept(&account, &three);
        assert!(serving.read().is_empty(), "nothing is left of an account without a session");
    }

    #[test]
    fn a_managed_account_is_remembered_without_a_session() {
        let serving = Serving::default();
        let account: AccountId = "acc_1".parse().expect("an id");
        serving.set_managed(&account, true);
        assert!(serving.is_managed(&account) && serving.kept(&account).is_none());
        serving.set_managed(&account, false);
        assert!(serving.read().is_empty());
    }
}
