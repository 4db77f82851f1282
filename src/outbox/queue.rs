//! The outbox in memory: which messages there are, in which order they leave, and who waits for them. The messages themselves stay on
//! disk.
//!
//! The messages of one account to one space stand in one lane and leave one after the other. A message that left by itself and is
//! only looked for stands in a lane of its own.

use std::collections::{BTreeSet, HashMap, VecDeque};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::domain::{AccountId, Interest, MessageRef, SessionId, SpaceId, Timestamp};
use crate::send_log::SendRecord;

/// Most messages that are worked on at a time.
const MAX_RUNNING: usize = 512;

/// Most messages of one account that are worked on at a time.
const MAX_RUNNING_PER_ACCOUNT: usize = 32;

/// Most messages that are only looked for; of those beyond it, a late echo alone tells.
const MAX_LOOKED_FOR: usize = 10_000;

/// What leaves one after the other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Lane {
    account: AccountId,
    space: SpaceId,
    alone: Option<MessageRef>,
}

/// A message as the queue knows it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) account: AccountId,
    pub(super) space: SpaceId,
    pub(super) accepted_at: Timestamp,
    /// Whether it is to be sent, and not only looked for.
    pub(super) resend: bool,
    pub(super) phase: Phase,
    /// What callers are shown of it.
    pub(super) shown: watch::Sender<SendRecord>,
    /// Callers who wait for its outcome.
    pub(super) waiters: usize,
    /// Tries or looks in a row that came to nothing.
    pub(super) failures: u32,
}

/// Where a message stands, as far as others than the one at work on it must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing of it can have left.
    Queued,
    /// It is being taken back.
    Cancelling,
    /// It leaves.
    Sending,
    /// It left, or may have.
    Doubtful(Doubt),
}

/// A message that left, or may have, and since when nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) since: Instant,
    /// The connection that carried it, by session and count of reconnects, if it may still be there.
    pub(super) carried_by: Option<(SessionId, u64)>,
    /// When that connection was seen to have ended.
    pub(super) ended_at: Option<Instant>,
    /// When it is looked for next; not looked for yet if there is none.
    pub(super) look_at: Option<Instant>,
}

impl Doubt {
    /// The doubt of a message whose connection is gone.
    pub(super) fn of_lost(now: Instant) -> Self {
        Self { since: now, carried_by: None, ended_at: Some(now), look_at: None }
    }

    /// The doubt of a message that went over a connection that may still be there.
    pub(super) fn of_silence(session: SessionId, reconnects: u64, now: Instant) -> Self {
        Self { since: now, carried_by: Some((session, reconnects)), ended_at: None, look_at: None }
    }
}

#[derive(Debug, Default)]
struct LaneState {
    order: VecDeque<MessageRef>,
    running: bool,
    /// When its first message is due; none while that is worked on or waits for room.
    due: Option<Instant>,
    /// Whether something happened meanwhile that makes it due at once.
    again: bool,
}

/// How much is in the outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depths {
    /// Messages that wait to leave or are leaving.
    pub queued: usize,
    /// Messages that left, or may have, and are looked for.
    pub doubtful: usize,
    /// When the oldest that has not left was accepted.
    pub oldest: Option<Timestamp>,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: HashMap<MessageRef, Entry>,
    lanes: HashMap<Lane, LaneState>,
    due: BTreeSet<(Instant, Lane)>,
    /// Messages to be sent, by account, places kept for those being written included.
    held: HashMap<AccountId, usize>,
    looked_for: usize,
    running: HashMap<AccountId, usize>,
    running_in_all: usize,
    /// Due lanes whose account has no room.
    parked: HashMap<AccountId, BTreeSet<Lane>>,
    last_number: u64,
}

impl Queue {
    /// Keeps places for `count` messages of `account`, and answers the number of the first; the others have those that follow. None
    /// if the account would have more than `most`.
    pub(super) fn reserve(&mut self, account: &AccountId, count: usize, most: usize) -> Option<u64> {
        let held = self.held.get(account).copied().unwrap_or_default().saturating_add(count);
        if held > most {
            return None;
        }
        self.held.insert(account.clone(), held);
        let first = self.last_number + 1;
        self.last_number += count as u64;
        Some(first)
    }

    /// Gives back `count` places.
    pub(super) fn release(&mut self, account: &AccountId, count: usize) {
        if let Some(held) = self.held.get_mut(account) {
            *held -= count;
            if *held == 0 {
                self.held.remove(account);
            }
        }
    }

    /// Whether one more message can be looked for.
    pub(super) fn has_room_to_look(&self) -> bool {
        self.looked_for < MAX_LOOKED_FOR
    }

    /// Takes in what an earlier process left, in the order of the numbers. The places are kept by this.
    pub(super) fn restore(&mut self, reference: MessageRef, number: u64, entry: Entry, now: Instant) {
        self.last_number = self.last_number.max(number);
        if entry.resend {
            *self.held.entry(entry.account.clone()).or_default() += 1;
        }
        self.insert(reference, entry, now);
    }

    /// Puts a message at the end of its lane, due at `due` if it is the first there.
    pub(super) fn insert(&mut self, reference: MessageRef, entry: Entry, due: Instant) {
        if !entry.resend {
            self.looked_for += 1;
        }
        let lane = Lane {
            account: entry.account.clone(),
            space: entry.space.clone(),
            alone: (!entry.resend).then(|| reference.clone()),
        };
        self.entries.insert(reference.clone(), entry);
        let state = self.lanes.entry(lane.clone()).or_default();
        state.order.push_back(reference);
        if state.order.len() == 1 && !state.running {
            state.due = Some(due);
            self.due.insert((due, lane));
        }
    }

    pub(super) fn get(&self, reference: &MessageRef) -> Option<&Entry> {
        self.entries.get(reference)
    }

    pub(super) fn get_mut(&mut self, reference: &MessageRef) -> Option<&mut Entry> {
        self.entries.get_mut(reference)
    }

    /// When there is something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        if self.running_in_all >= MAX_RUNNING { None } else { self.due.first().map(|(at, _)| *at) }
    }

    /// Takes a lane that is due, and its first message.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(Lane, MessageRef)> {
        while self.running_in_all < MAX_RUNNING && self.due.first().is_some_and(|(at, _)| *at <= now) {
            let (_, lane) = self.due.pop_first()?;
            let Some(state) = self.lanes.get_mut(&lane) else { continue };
            state.due = None;
            let running = self.running.entry(lane.account.clone()).or_default();
            if *running >= MAX_RUNNING_PER_ACCOUNT {
                self.parked.entry(lane.account.clone()).or_default().insert(lane);
                continue;
            }
            let Some(first) = state.order.front().cloned() else { continue };
            *running += 1;
            self.running_in_all += 1;
            (state.running, state.again) = (true, false);
            return Some((lane, first));
        }
        None
    }

    /// Nobody is at work on the lane any more; what is first there then is due at `due`.
    pub(super) fn done(&mut self, lane: &Lane, due: Instant, now: Instant) {
        self.running_in_all -= 1;
        if let Some(running) = self.running.get_mut(&lane.account) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(&lane.account);
            }
        }
        for parked in self.parked.remove(&lane.account).unwrap_or_default() {
            self.make_due(parked, now);
        }
        let Some(state) = self.lanes.get_mut(lane) else { return };
        state.running = false;
        if state.order.is_empty() {
            self.lanes.remove(lane);
        } else {
            let due = if std::mem::take(&mut state.again) { now } else { due };
            self.make_due(lane.clone(), due);
        }
    }

    /// Makes a message due at once, if it is the first of its lane.
    pub(super) fn wake(&mut self, reference: &MessageRef, now: Instant) {
        let Some(entry) = self.entries.get(reference) else { return };
        let shared = Lane { account: entry.account.clone(), space: entry.space.clone(), alone: None };
        let lane = if entry.resend { shared } else { Lane { alone: Some(reference.clone()), ..shared } };
        let Some(state) = self.lanes.get_mut(&lane).filter(|state| state.order.front() == Some(reference)) else { return };
        if state.running {
            state.again = true;
        } else if state.due.is_some() {
            self.make_due(lane, now);
        }
    }

    /// Makes every message that is looked for due at once.
    pub(super) fn wake_doubtful(&mut self, now: Instant) {
        let doubtful = self.entries.iter().filter(|(_, entry)| matches!(entry.phase, Phase::Doubtful(_)));
        for reference in doubtful.map(|(reference, _)| reference.clone()).collect::<Vec<_>>() {
            self.wake(&reference, now);
        }
    }

    fn make_due(&mut self, lane: Lane, at: Instant) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        if let Some(before) = state.due.replace(at) {
            self.due.remove(&(before, lane.clone()));
        }
        self.due.insert((at, lane));
    }

    /// Takes a message out, wherever it stands.
    pub(super) fn remove(&mut self, reference: &MessageRef) -> Option<Entry> {
        let entry = self.entries.remove(reference)?;
        if entry.resend {
            self.release(&entry.account, 1);
        } else {
            self.looked_for -= 1;
        }
        let shared = Lane { account: entry.account.clone(), space: entry.space.clone(), alone: None };
        let lane = if entry.resend { shared } else { Lane { alone: Some(reference.clone()), ..shared } };
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.order.retain(|other| other != reference);
            if state.order.is_empty() && !state.running {
                if let Some(at) = state.due {
                    self.due.remove(&(at, lane.clone()));
                }
                self.lanes.remove(&lane);
            }
        }
        Some(entry)
    }

    /// Whether nothing of `account` is to be sent.
    pub(super) fn is_idle(&self, account: &AccountId) -> bool {
        !self.held.contains_key(account)
    }

    /// The spaces that messages of `account` wait for.
    pub(super) fn interest(&self, account: &AccountId) -> Interest {
        if self.is_idle(account) {
            return Interest::default();
        }
        let own = self.lanes.keys().filter(|lane| lane.account == *account && lane.alone.is_none());
        Interest { spaces: own.map(|lane| lane.space.clone()).collect(), ..Interest::default() }
    }

    pub(super) fn depths(&self) -> Depths {
        let mut depths = Depths::default();
        for entry in self.entries.values() {
            if matches!(entry.phase, Phase::Doubtful(_)) {
                depths.doubtful += 1;
            } else {
                depths.queued += 1;
                depths.oldest = Some(depths.oldest.map_or(entry.accepted_at, |oldest| oldest.min(entry.accepted_at)));
            }
        }
        depths
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry(account: &str, space: &str, resend: bool) -> (MessageRef, Entry) {
        let (account, space): (AccountId, SpaceId) = (account.parse().expect("an id"), space.parse().expect("an id"));
        let (reference, at) = (MessageRef::random(), Timestamp::from_millis(1));
        let record = SendRecord::new(reference.clone(), account.clone(), space.clone(), "chat".to_owned(), at);
        let phase = if resend { Phase::Queued } else { Phase::Doubtful(Doubt::of_lost(Instant::now())) };
        let shown = watch::Sender::new(record);
        (reference, Entry { account, space, accepted_at: at, resend, phase, shown, waiters: 0, failures: 0 })
    }

    fn add(queue: &mut Queue, account: &str, space: &str) -> MessageRef {
        let (reference, entry) = entry(account, space, true);
        queue.reserve(&entry.account, 1, usize::MAX).expect("room");
        queue.insert(reference.clone(), entry, Instant::now());
        reference
    }

    #[tokio::test(start_paused = true)]
    async fn messages_to_one_space_leave_one_after_the_other() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let [first, second, other] = [("acc_1", "s1"), ("acc_1", "s1"), ("acc_1", "s2")].map(|(a, s)| add(&mut queue, a, s));
        let mut taken: Vec<_> = std::iter::from_fn(|| queue.take_due(now)).collect();
        taken.sort_by_key(|(lane, _)| lane.space.clone());
        let references: Vec<_> = taken.iter().map(|(_, reference)| reference.clone()).collect();
        assert_eq!(references, [first.clone(), other]);
        queue.remove(&first);
        assert_eq!(queue.take_due(now), None, "the lane is still worked on");
        queue.done(&taken[0].0, now, now);
        assert_eq!(queue.take_due(now).map(|(_, reference)| reference), Some(second));
    }

    #[tokio::test(start_paused = true)]
    async fn one_account_leaves_room_for_others() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for number in 0..=MAX_RUNNING_PER_ACCOUNT {
            add(&mut queue, "acc_1", &format!("s{number}"));
        }
        let taken: Vec<_> = std::iter::from_fn(|| queue.take_due(now)).collect();
        assert_eq!((taken.len(), queue.next_due()), (MAX_RUNNING_PER_ACCOUNT, None));
        let other = add(&mut queue, "acc_2", "s1");
        assert_eq!(queue.take_due(now).map(|(_, reference)| reference), Some(other));
        queue.done(&taken[0].0, now + Duration::from_secs(9), now);
        assert!(queue.take_due(now).is_some(), "the one that found no room");
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_bounded_and_come_back() {
        let mut queue = Queue::default();
        let account: AccountId = "acc_1".parse().expect("an id");
        assert_eq!(
            (queue.reserve(&account, 3, 2), queue.reserve(&account, 2, 2), queue.reserve(&account, 1, 2)),
            (None, Some(1), None)
        );
        queue.release(&account, 1);
        assert_eq!((queue.reserve(&account, 1, 2), queue.reserve(&account, 1, 2)), (Some(3), None));
        queue.release(&account, 2);
        let reference = add(&mut queue, "acc_1", "s1");
        assert!(queue.reserve(&account, 1, 1).is_none() && !queue.interest(&account).is_empty());
        queue.remove(&reference);
        assert!(queue.is_idle(&account) && queue.interest(&account).is_empty() && queue.next_due().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_is_only_looked_for_holds_up_nobody() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let (alone, looked_for) = entry("acc_1", "s1", false);
        queue.insert(alone.clone(), looked_for, now + Duration::from_secs(9));
        let sent = add(&mut queue, "acc_1", "s1");
        assert_eq!(queue.take_due(now).map(|(_, reference)| reference), Some(sent));
        queue.wake(&alone, now);
        assert_eq!(queue.take_due(now).map(|(_, reference)| reference), Some(alone));
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_during_the_work_makes_it_due_at_once() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let reference = add(&mut queue, "acc_1", "s1");
        let (lane, _) = queue.take_due(now).expect("a message");
        queue.wake(&reference, now);
        queue.done(&lane, now + Duration::from_mins(1), now);
        assert_eq!(queue.next_due(), Some(now));
    }
}
