//! Many spaces at once: one listing tells what has changed in up to fifteen of them.
//!
//! After a loss each space may have a gap, and most have none. Asking for each would take hours where the user is in thousands of
//! spaces, so a first look is taken at many together. It counts only if it makes sense: a space is read by itself where the look was
//! refused, told of more than a few pages, or showed nothing of an event that is known to be there.

use tokio::time::Instant;

use super::run::{After, Failure, Run, Source, Stage};
use super::{READS, Recovery};
use crate::domain::{SpaceId, Timestamp};

/// Spaces of one look: as many as Avaya documents.
pub(super) const MOST: usize = 15;

/// Spaces that are worth a look together.
pub(super) const LEAST: usize = 4;

/// Looks that fail one after the other until no more are taken.
const STRIKES: u8 = 2;

/// Looks at one space that fail until it is read by itself.
pub(super) const TRIES: u32 = 3;

/// A look to be taken at several spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) struct Together {
    /// The spaces, each with the number of its recovery and the time from which on it is read.
    pub(in crate::session) spaces: Vec<(SpaceId, u64, Timestamp)>,
    /// From when on all of them are read.
    pub(in crate::session) from: Timestamp,
}

/// What a look showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Changes {
    /// All changes; of this space there are some, or none.
    All { some: bool },
    /// Nothing that can be relied on.
    Unclear,
    /// Nothing, for this reason.
    Failed(Failure),
}

/// Whether looks at many spaces are worth taking.
#[derive(Debug, Default)]
pub(super) struct Trust {
    strikes: u8,
    has_worked: bool,
}

impl Trust {
    fn is_there(&self) -> bool {
        self.strikes < STRIKES
    }

    /// What worked once is tried again; what never did is not.
    pub(super) fn new_connection(&mut self) {
        if self.has_worked {
            self.strikes = 0;
        }
    }
}

impl<T> Recovery<T> {
    /// The next look at several spaces, if enough of them are due. Spaces whose live events wait go first.
    pub(in crate::session) fn next_together(&mut self, now: Instant) -> Option<Together> {
        if self.reads >= READS || !self.trust.is_there() {
            return None;
        }
        self.begin_second_looks(now);
        let is_due = |run: &Run<T>| {
            let untouched = run.pages == 0 && run.next.is_none() && run.refused == [false; 2];
            untouched && !run.was_together && !run.tried_other && matches!(run.stage, Stage::Due(at) if at <= now)
        };
        let mut due: Vec<(bool, bool, Timestamp, &SpaceId)> = self
            .runs
            .iter()
            .filter(|(_, run)| is_due(run))
            .map(|(space, run)| {
                let is_waited_for = run.hold.as_ref().is_some_and(|hold| hold.since.is_some());
                // Those that begin at about the same time go together, so that a look shows little that is known.
                (run.is_second(), !is_waited_for, run.from, space)
            })
            .collect();
        if due.len() < LEAST {
            return None;
        }
        due.sort_unstable();
        let spaces: Vec<SpaceId> = due.into_iter().take(MOST).map(|(_, _, _, space)| space.clone()).collect();
        let mut together = Together { spaces: Vec::with_capacity(spaces.len()), from: Timestamp::from_millis(i64::MAX) };
        for space in spaces {
            let Some(run) = self.runs.get_mut(&space) else { continue };
            run.stage = Stage::Reading;
            run.was_together = true;
            together.from = together.from.min(run.from);
            together.spaces.push((space, run.number, run.from));
        }
        self.reads += 1;
        Some(together)
    }

    /// A look has ended. Answers the spaces for which it is still of use.
    pub(in crate::session) fn together_ended(&mut self, together: &Together) -> Vec<(SpaceId, Timestamp)> {
        self.reads = self.reads.saturating_sub(1);
        let is_meant = |space: &SpaceId, number: u64| {
            self.runs.get(space).is_some_and(|run| run.number == number && run.stage == Stage::Reading)
        };
        let meant = together.spaces.iter().filter(|(space, number, _)| is_meant(space, *number));
        meant.map(|(space, _, from)| (space.clone(), *from)).collect()
    }

    /// How the look went as a whole: whether it made sense, or was refused or odd; `None` if that may pass.
    pub(in crate::session) fn judge(&mut self, made_sense: Option<bool>) {
        match made_sense {
            Some(true) => self.trust = Trust { strikes: 0, has_worked: true },
            None if self.trust.has_worked => {}
            Some(false) | None => self.trust.strikes = self.trust.strikes.saturating_add(1),
        }
    }

    /// What the look says of one of its spaces. Its events, if there are any, are on their way.
    pub(in crate::session) fn seen_together(&mut self, space: &SpaceId, changes: Changes, now: Instant) -> After<T> {
        let Some(run) = self.runs.get_mut(space) else { return After::More };
        match changes {
            Changes::All { some } if some || run.is_second() || !self.marks.ends_with_event(space) => {
                let preferred = self.preferred;
                // It tells of changes and deletions as the record of activity does.
                run.source = Source::Activity;
                let after = self.page(space, None, now);
                // It says nothing of the listings of single spaces.
                self.preferred = preferred;
                after
            }
            Changes::Failed(Failure::Limited(least) | Failure::Failing(least)) => {
                // Another source would be asked too much of as well, or fail as well.
                let after = self.failed(space, Failure::Limited(least), now);
                if let Some(run) = self.runs.get_mut(space) {
                    run.was_together = run.failures >= TRIES;
                }
                after
            }
            Changes::All { .. } | Changes::Unclear | Changes::Failed(_) => {
                run.stage = Stage::Due(now);
                After::More
            }
        }
    }
}
