//! [`RenewalQueue`]: which account is to be looked at when. One time per account.

use std::collections::{BTreeSet, HashMap};

use crate::domain::{AccountId, Timestamp};

/// Accounts by the time at which something is to be done for them.
#[derive(Debug, Default)]
pub(super) struct RenewalQueue {
    order: BTreeSet<(Timestamp, AccountId)>,
    times: HashMap<AccountId, Timestamp>,
}

impl RenewalQueue {
    /// Sets the time of an account; `None` takes it out.
    pub(super) fn set(&mut self, account: &AccountId, at: Option<Timestamp>) {
        if let Some(before) = self.times.remove(account) {
            self.order.remove(&(before, account.clone()));
        }
        if let Some(at) = at {
            self.times.insert(account.clone(), at);
            self.order.insert((at, account.clone()));
        }
    }

    /// Takes the account that has been due longest.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<AccountId> {
        let (at, _) = self.order.first()?;
        if *at > now {
            return None;
        }
        let (_, account) = self.order.pop_first()?;
        self.times.remove(&account);
        Some(account)
    }

    /// The earliest time.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn account(number: u8) -> AccountId {
        format!("acc_{number}").parse().expect("an id")
    }

    proptest! {
        /// Against a plain list, whatever is set, moved and taken out.
        #[test]
        fn whoever_is_due_comes_out_in_order_and_once(
            steps in prop::collection::vec((0_u8..6, prop::option::of(0_i64..50), 0_i64..50), 1..60)
        ) {
            let (mut queue, mut model) = (RenewalQueue::default(), HashMap::new());
            for (number, at, now) in steps {
                queue.set(&account(number), at.map(Timestamp::from_millis));
                match at {
                    Some(at) => model.insert(number, at),
                    None => model.remove(&number),
                };
                prop_assert_eq!(queue.next().map(Timestamp::as_millis), model.values().min().copied());
                if let Some(taken) = queue.take_due(Timestamp::from_millis(now)) {
                    let found = model.iter().map(|(number, at)| (*at, account(*number))).min().expect("someone is due");
                    prop_assert!(found.0 <= now);
                    prop_assert_eq!(&taken, &found.1);
                    model.retain(|number, _| account(*number) != taken);
                } else {
                    prop_assert!(model.values().all(|at| *at > now));
                }
            }
        }
    }
}
