//! [`OwnSends`]: what the sessions of one account have emitted of late, so that each of them knows the copies of the others' messages.
//!
//! Spaces gives `loopbackMetadata` back to the connection that sent a message and to no other. A copy on another connection of the same
//! user says nothing of the bridge; space and text tell whose it is.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::AccountId;

/// How long a message is remembered: as long as a late echo is waited for.
const REMEMBERED: Duration = Duration::from_mins(10);

/// Most messages remembered per account; beyond it the oldest go.
const MAX_REMEMBERED: usize = 1024;

/// The emitted messages of the sessions of one account, oldest first.
#[derive(Debug, Default)]
pub(super) struct OwnSends {
    emitted: Mutex<VecDeque<Emitted>>,
    /// Whether Spaces has given a `loopbackMetadata` back, so that a copy without one belongs to another session.
    loopback_works: AtomicBool,
    members: AtomicU64,
}

/// One session among those of its account.
#[derive(Debug)]
pub(super) struct Member {
    sends: Arc<OwnSends>,
    number: u64,
}

#[derive(Debug)]
struct Emitted {
    by: u64,
    content: u64,
    at: Instant,
    /// The id that Spaces gave it, once known.
    id: Option<Box<str>>,
}

/// Whose a message of the own user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// This session may have sent it, if any did.
    Mine,
    /// Another session of the account sent it.
    Other,
}

impl Member {
    /// Notes that this session emits a message.
    pub(super) fn emitted(&self, space: &str, plain_text: &str, now: Instant) {
        let mut emitted = self.sends.lock();
        while emitted.len() >= MAX_REMEMBERED || emitted.front().is_some_and(|oldest| now >= oldest.at + REMEMBERED) {
            emitted.pop_front();
        }
        emitted.push_back(Emitted { by: self.number, content: content(space, plain_text), at: now, id: None });
    }

    /// Notes that Spaces gave a message of this session the id `id`.
    pub(super) fn echoed(&self, space: &str, plain_text: &str, id: &str, with_loopback: bool) {
        if with_loopback && !self.sends.loopback_works.load(Ordering::Relaxed) {
            self.sends.loopback_works.store(true, Ordering::Relaxed);
        }
        let content = content(space, plain_text);
        let mut emitted = self.sends.lock();
        let known = |entry: &Emitted| entry.id.as_deref() == Some(id);
        let mine = |entry: &Emitted| entry.by == self.number && entry.content == content && entry.id.is_none();
        let Some(index) = emitted.iter().position(known).or_else(|| emitted.iter().position(mine)) else { return };
        if self.is_alone() {
            emitted.remove(index);
        } else {
            emitted[index].by = self.number;
            emitted[index].id = Some(id.into());
        }
    }

    /// Tells whose the message `id` is, which the own user sent and which came without `loopbackMetadata`.
    pub(super) fn whose(&self, space: &str, plain_text: &str, id: &str, now: Instant) -> Whose {
        let content = content(space, plain_text);
        let mut emitted = self.sends.lock();
        if let Some(known) = emitted.iter().find(|entry| entry.id.as_deref() == Some(id)) {
            return if known.by == self.number { Whose::Mine } else { Whose::Other };
        }
        let not_mine = self.sends.loopback_works.load(Ordering::Relaxed);
        let candidate = emitted.iter_mut().find(|entry| {
            entry.content == content
                && entry.id.is_none()
                && now < entry.at + REMEMBERED
                && (!not_mine || entry.by != self.number)
        });
        match candidate {
            Some(entry) if entry.by != self.number => {
                entry.id = Some(id.into());
                Whose::Other
            }
            Some(_) | None => Whose::Mine,
        }
    }

    /// Whether no other session of the account is there.
    pub(super) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.sends) == 1
    }
}

impl OwnSends {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Emitted>> {
        self.emitted.lock().expect(LOCK)
    }
}

/// The tables of all accounts that have sessions.
#[derive(Debug, Default)]
pub(super) struct OwnSendsOfAccounts(Mutex<HashMap<AccountId, Weak<OwnSends>>>);

impl OwnSendsOfAccounts {
    /// Lets a session take part in the table of its account.
    pub(super) fn join(&self, account: &AccountId) -> Member {
        let mut tables = self.0.lock().expect(LOCK);
        let sends = tables.get(account).and_then(Weak::upgrade).unwrap_or_else(|| {
            // So that accounts without sessions do not pile up; seldom, and the more seldom the more there are.
            if tables.len() == tables.capacity() {
                tables.retain(|_, table| table.strong_count() > 0);
            }
            let sends = Arc::new(OwnSends::default());
            tables.insert(account.clone(), Arc::downgrade(&sends));
            sends
        });
        let number = sends.members.fetch_add(1, Ordering::Relaxed);
        Member { sends, number }
    }
}

fn content(space: &str, plain_text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (space, plain_text).hash(&mut hasher);
    hasher.finish()
}

const LOCK: &str = "no code panics while it holds this lock";

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> (Member, Member) {
        let accounts = OwnSendsOfAccounts::default();
        let account: AccountId = "acc_1".parse().expect("an id");
        (accounts.join(&account), accounts.join(&account))
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_of_the_others_message_is_known_and_an_own_one_is_not_taken_for_it() {
        let (one, other) = two();
        let now = Instant::now();
        one.emitted("s1", "hi", now);
        assert_eq!(other.whose("s2", "hi", "m0", now), Whose::Mine, "another space");
        assert_eq!(other.whose("s1", "hi", "m1", now), Whose::Other);
        assert_eq!(other.whose("s1", "hi", "m1", now), Whose::Other, "a repeat is the same message");
        assert_eq!(other.whose("s1", "hi", "m2", now), Whose::Mine, "one message stands for one copy");
        assert_eq!(one.whose("s1", "hi", "m1", now), Whose::Mine);
    }

    #[tokio::test(start_paused = true)]
    async fn an_echo_that_came_first_tells_the_id() {
        let (one, other) = two();
        let now = Instant::now();
        one.emitted("s1", "hi", now);
        one.echoed("s1", "hi", "m1", true);
        assert_eq!(other.whose("s1", "hi", "m9", now), Whose::Mine);
        assert_eq!(other.whose("s1", "hi", "m1", now), Whose::Other);
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_that_say_the_same_the_older_is_meant_unless_an_own_one_would_come_back_marked() {
        let (one, other) = two();
        let now = Instant::now();
        other.emitted("s1", "same", now);
        one.emitted("s1", "same", now);
        assert_eq!(other.whose("s1", "same", "m1", now), Whose::Mine);
        other.echoed("s1", "same", "m1", false);
        assert_eq!(other.whose("s1", "same", "m2", now), Whose::Other);

        let (one, other) = two();
        other.emitted("s1", "earlier", now);
        other.echoed("s1", "earlier", "m0", true);
        other.emitted("s1", "same", now);
        one.emitted("s1", "same", now);
        assert_eq!(other.whose("s1", "same", "m1", now), Whose::Other);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_in_number_and_time() {
        let (one, other) = two();
        let now = Instant::now();
        for number in 0..2 * MAX_REMEMBERED {
            one.emitted("s1", &number.to_string(), now);
        }
        assert_eq!(one.sends.lock().len(), MAX_REMEMBERED);
        let newest = (2 * MAX_REMEMBERED - 1).to_string();
        assert_eq!(other.whose("s1", &newest, "m1", now + REMEMBERED), Whose::Mine, "it is too long ago");
        one.emitted("s1", "later", now + REMEMBERED);
        assert_eq!(one.sends.lock().len(), 1);
        drop(other);
        one.echoed("s1", "later", "m2", true);
        assert!(one.is_alone() && one.sends.lock().is_empty(), "nobody else would ask");
    }

    #[test]
    fn accounts_without_sessions_are_forgotten() {
        let accounts = OwnSendsOfAccounts::default();
        for number in 0..1_000 {
            accounts.join(&format!("acc_{number}").parse().expect("an id"));
        }
        assert!(accounts.0.lock().expect(LOCK).len() < 10);
    }
}
