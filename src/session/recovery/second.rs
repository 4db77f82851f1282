//! A second look: what comes into the history late is found a while after the gap was closed.
//!
//! Nothing says that the history is as quick as the stream. A message that was sent shortly before the new connection may not be there
//! yet when the history is read. So its end is read once more, later; what is known already changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Recovery;
use super::run::{Purpose, Run, Stage};
use crate::domain::{SpaceId, Timestamp};

/// The looks that are to be taken.
#[derive(Debug, Default)]
pub(super) struct SecondLooks {
    spaces: BTreeMap<SpaceId, Look>,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    from: Timestamp,
    confirmed_at: Timestamp,
}

impl SecondLooks {
    pub(super) fn clear(&mut self) {
        self.spaces.clear();
    }

    pub(super) fn forget(&mut self, space: &SpaceId) {
        self.spaces.remove(space);
    }

    /// When the next one is due.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.spaces.values().map(|look| look.at).min()
    }

    fn take_due(&mut self, now: Instant) -> Vec<(SpaceId, Look)> {
        if self.next_at().is_none_or(|at| at > now) {
            return Vec::new();
        }
        let due: Vec<SpaceId> = self.spaces.iter().filter(|(_, look)| look.at <= now).map(|(space, _)| space.clone()).collect();
        due.into_iter().filter_map(|space| self.spaces.remove(&space).map(|look| (space, look))).collect()
    }
}

impl<T> Recovery<T> {
    /// Has the end of a history read again that was read to close a gap. What is longer ago than the overlap was there in time.
    pub(super) fn look_again(&mut self, space: &SpaceId, run: &Run<T>, now: Instant) {
        if self.settings.second_look > Duration::ZERO {
            let from = run.from.max(run.confirmed_at.saturating_sub(self.settings.reach.overlap));
            let look = Look { at: now + self.settings.second_look, from, confirmed_at: run.confirmed_at };
            self.second_looks.spaces.insert(space.clone(), look);
        }
    }

    /// Begins with the looks that are due.
    pub(super) fn begin_second_looks(&mut self, now: Instant) {
        for (space, look) in self.second_looks.take_due(now) {
            if self.runs.contains_key(&space) || !self.marks.is_known(&space) || self.marks.has_gap(&space) {
                continue;
            }
            let number = self.next_number();
            let run = Run {
                stage: Stage::Due(now),
                hold: None,
                from: look.from,
                confirmed_at: look.confirmed_at,
                source: self.preferred,
                purpose: Purpose::SecondLook,
                ..Run::new(number, now)
            };
            self.runs.insert(space, run);
        }
    }
}
