//! Messages that are the account's own although no echo says so: those that went over REST, and those of an earlier process.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

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

#[cfg(test)]
mod tests {
    use super::*;

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
