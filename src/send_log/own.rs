//! Messages, and changes of messages, that are the account's own although no echo says so: those that went over REST, and messages of
//! an earlier process.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::AccountId;

/// Most messages remembered; beyond it the oldest are forgotten.
const MAX_REMEMBERED: usize = 10_000;

type Known = (AccountId, Box<str>);

/// The messages, by account and id.
#[derive(Default)]
pub(super) struct OwnMessages(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    known: HashSet<Known>,
    order: VecDeque<Known>,
    /// Accounts of which all that is on record is among them.
    complete: HashSet<AccountId>,
}

impl OwnMessages {
    pub(super) fn insert(&self, account: &AccountId, id: &str) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let message: Known = (account.clone(), id.into());
        if remembered.known.insert(message.clone()) {
            remembered.order.push_back(message);
        }
        while remembered.order.len() > MAX_REMEMBERED {
            if let Some(oldest) = remembered.order.pop_front() {
                remembered.known.remove(&oldest);
            }
        }
    }

    /// Notes that all that is on record of `account` has been [inserted](Self::insert).
    pub(super) fn complete(&self, account: &AccountId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).complete.insert(account.clone());
    }

    pub(super) fn is_complete(&self, account: &AccountId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).complete.contains(account)
    }

    pub(super) fn contains(&self, account: &AccountId, id: &str) -> bool {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !remembered.known.is_empty() && remembered.known.contains(&(account.clone(), id.into()))
    }
}

/// Most changes whose echo may be outstanding; beyond it the oldest are forgotten.
const MAX_CHANGES: usize = 1024;

/// How long the echo of a change may take.
const ECHO_TIME: Duration = Duration::from_mins(10);

/// Edits and deletions that the bridge makes over REST, each until its echo comes, which says nothing of who made it.
#[derive(Default)]
pub(super) struct OwnChanges(Mutex<VecDeque<(Known, Instant)>>);

impl OwnChanges {
    pub(super) fn insert(&self, account: &AccountId, id: &str, now: Instant) {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while changes.len() >= MAX_CHANGES || changes.front().is_some_and(|(_, at)| now >= *at + ECHO_TIME) {
            changes.pop_front();
        }
        changes.push_back(((account.clone(), id.into()), now));
    }

    /// Takes a change of the message, if there is one.
    pub(super) fn take(&self, account: &AccountId, id: &str, now: Instant) -> bool {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |((of, known), at): &(Known, Instant)| **known == *id && of == account && now < *at + ECHO_TIME;
        changes.iter().position(is_it).and_then(|index| changes.remove(index)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_stands_for_one_echo_and_not_for_ever() {
        let (changes, account) = (OwnChanges::default(), "acc_1".parse().expect("an id"));
        let now = Instant::now();
        changes.insert(&account, "m1", now);
        assert!(!changes.take(&"acc_2".parse().expect("an id"), "m1", now));
        assert!(changes.take(&account, "m1", now) && !changes.take(&account, "m1", now));
        changes.insert(&account, "m1", now);
        assert!(!changes.take(&account, "m1", now + ECHO_TIME));
        for number in 0..=MAX_CHANGES {
            changes.insert(&account, &number.to_string(), now);
        }
        assert!(!changes.take(&account, "0", now) && changes.take(&account, "1", now));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let (own, account) = (OwnMessages::default(), "acc_1".parse().expect("an id"));
        for number in 0..=MAX_REMEMBERED {
            own.insert(&account, &number.to_string());
        }
        assert!(!own.contains(&account, "0") && own.contains(&account, "1"));
        assert!(!own.contains(&"acc_2".parse().expect("an id"), "1"));
    }
}
