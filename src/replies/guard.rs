//! [`LoopGuard`]: what keeps answers from answering each other.
//!
//! What an account says through the bridge is marked as its own there, and its own webhooks do not answer it. Another account of
//! the same bridge sees it as anyone's message, so posted answers are remembered for a while. Whatever is left, two bridges that
//! talk to each other for example, ends at a number of answers per space and minute.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::domain::{SpaceId, Timestamp};

/// How long a posted answer is remembered. Its event is normally delivered within a second.
const REMEMBERED: Duration = Duration::from_mins(10);

/// Most posted answers that are remembered.
const MAX_REMEMBERED: usize = 10_000;

/// The time over which answers are counted.
const WINDOW: Duration = Duration::from_mins(1);

/// Spaces beyond which those without a recent answer are forgotten.
const MANY_SPACES: usize = 10_000;

/// What a posted answer is recognised by: a digest of its space, its sender and its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark([u8; 16]);

impl Mark {
    /// The mark of a message of the user `sender` in `space` that reads as `text`.
    pub(super) fn of(space: &SpaceId, sender: &str, text: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [space.as_str(), sender] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        for word in text.split_whitespace() {
            hash.update(word.as_bytes());
            hash.update([b' ']);
        }
        Self(*hash.finalize().first_chunk().expect("SHA-256 gives 32 bytes"))
    }
}

/// Knows what was answered lately.
#[derive(Debug)]
pub(super) struct LoopGuard {
    per_minute: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    marks: HashSet<Mark>,
    /// In the order of posting.
    order: VecDeque<(Timestamp, Mark)>,
    /// When answers were admitted, in order.
    admitted: HashMap<SpaceId, VecDeque<Timestamp>>,
}

impl LoopGuard {
    /// A guard that admits `per_minute` answers per space and minute.
    pub(super) fn new(per_minute: usize) -> Self {
        Self { per_minute, known: Mutex::default() }
    }

    /// Remembers an answer that is about to be posted.
    pub(super) fn note(&self, mark: Mark, now: Timestamp) {
        let mut known = self.known();
        known.forget(now);
        if known.marks.insert(mark) {
            known.order.push_back((now, mark));
        }
        if known.order.len() > MAX_REMEMBERED {
            known.drop_oldest();
        }
    }

    /// Whether this is an answer that was posted lately.
    pub(super) fn knows(&self, mark: Mark, now: Timestamp) -> bool {
        let mut known = self.known();
        known.forget(now);
        known.marks.contains(&mark)
    }

    /// Counts an answer in `space`, if there is room for one more in this minute.
    pub(super) fn admit(&self, space: &SpaceId, now: Timestamp) -> bool {
        let mut known = self.known();
        let since = now.saturating_sub(WINDOW);
        if known.admitted.len() > MANY_SPACES {
            known.admitted.retain(|_, times| times.back().is_some_and(|last| *last > since));
        }
        let times = known.admitted.entry(space.clone()).or_default();
        while times.front().is_some_and(|first| *first <= since) {
            times.pop_front();
        }
        let room = times.len() < self.per_minute;
        if room {
            times.push_back(now);
        }
        room
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn forget(&mut self, now: Timestamp) {
        let since = now.saturating_sub(REMEMBERED);
        while self.order.front().is_some_and(|(at, _)| *at <= since) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, mark)) = self.order.pop_front() {
            self.marks.remove(&mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(id: &str) -> SpaceId {
        id.parse().expect("an id")
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + seconds * 1000)
    }

    #[test]
    fn an_answer_is_recognised_by_space_sender_and_text_for_a_while() {
        let guard = LoopGuard::new(20);
        let mark = Mark::of(&space("s1"), "u1", "on  it\nnow");
        guard.note(mark, at(0));
        assert!(guard.knows(Mark::of(&space("s1"), "u1", "on it now"), at(1)));
        for other in [Mark::of(&space("s2"), "u1", "on it now"), Mark::of(&space("s1"), "u2", "on it now")] {
            assert!(!guard.knows(other, at(1)));
        }
        assert!(!guard.knows(Mark::of(&space("s1"), "u1", "on it"), at(1)));
        assert!(guard.knows(mark, at(599)));
        assert!(!guard.knows(mark, at(600)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let guard = LoopGuard::new(20);
        for number in 0..=MAX_REMEMBERED {
            guard.note(Mark::of(&space("s1"), "u1", &number.to_string()), at(0));
        }
        assert!(!guard.knows(Mark::of(&space("s1"), "u1", "0"), at(1)));
        assert!(guard.knows(Mark::of(&space("s1"), "u1", "1"), at(1)));
        assert_eq!(guard.known().marks.len(), MAX_REMEMBERED);
    }

    #[test]
    fn so_many_answers_are_admitted_per_space_and_minute() {
        let guard = LoopGuard::new(2);
        let admitted = [0, 10, 20, 59, 60, 61, 70].map(|second| guard.admit(&space("s1"), at(second)));
        assert_eq!(admitted, [true, true, false, false, true, false, true]);
        assert!(guard.admit(&space("s2"), at(61)), "another space has a count of its own");
    }
}
