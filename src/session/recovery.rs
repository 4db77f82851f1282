//! [`Recovery`]: closes the gap that a lost connection leaves in each space, and keeps the order.
//!
//! From the loss on, what comes in live of a space is held. Once the subscription is confirmed anew, the history is read from the
//! watermark on, page by page; what was held follows it. Copies are no concern: an event has one id wherever it comes from, and the log
//! takes it once. What is held is bounded in number and time: then it goes on, and the watermark stands until the history was read.
//!
//! This is the decision only: the session's task reads, appends and tells the time.

mod run;
mod second;
#[cfg(test)]
mod tests;
mod together;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

pub(super) use self::run::{After, Ended, Failure, Outcome, Read, Source};
use self::run::{Hold, Purpose, Run, Stage};
use self::second::SecondLooks;
use self::together::Trust;
pub(super) use self::together::{Changes, Together};

use super::gaps::{Gap, GapReason, RecoveryState, RecoveryStatus};
use super::watermarks::{Reach, Watermarks};
use crate::domain::{SpaceId, Timestamp};

/// Histories that one session reads at a time.
const READS: usize = 2;

/// Events of one space, and of all spaces of a session, that are held.
const HELD_PER_SPACE: usize = 512;
const HELD: usize = 4_096;

/// Bytes of events that a session holds.
const HELD_BYTES: usize = 4 << 20;

/// The first wait between tries while the history cannot be read; each is twice the one before, up to the setting.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Pages read of one gap: 50,000 messages.
const MAX_PAGES: u32 = 1_000;

/// Gaps that are remembered for the API.
const MAX_GAPS: usize = 20;

/// The settings of recoveries.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecoverySettings {
    /// How far back to read.
    pub(super) reach: Reach,
    /// How long an event is held at most.
    pub(super) hold: Duration,
    /// How long the history may fail until that is told.
    pub(super) tell_after: Duration,
    /// The longest wait between tries while the history cannot be read.
    pub(super) longest_wait: Duration,
    /// How long after a gap was closed the end of its history is read again; zero for not at all.
    pub(super) second_look: Duration,
}

/// The recoveries of a session. `T` is an event as the session holds it.
#[derive(Debug)]
pub(super) struct Recovery<T> {
    marks: Watermarks,
    settings: RecoverySettings,
    runs: BTreeMap<SpaceId, Run<T>>,
    next_number: u64,
    /// Reads under way, those included whose answer is of no use any more.
    reads: usize,
    held: usize,
    held_bytes: usize,
    preferred: Source,
    /// Whether the record of activity was refused where the query worked.
    activity_barred: bool,
    /// Whether the changes of many spaces are asked for at once.
    trust: Trust,
    second_looks: SecondLooks,
    gaps: VecDeque<Gap>,
    recovered: u64,
    last_at: Option<Timestamp>,
}

impl<T> Recovery<T> {
    pub(super) fn new(settings: RecoverySettings) -> Self {
        Self {
            marks: Watermarks::default(),
            settings,
            runs: BTreeMap::new(),
            next_number: 0,
            reads: 0,
            held: 0,
            held_bytes: 0,
            preferred: Source::Activity,
            activity_barred: false,
            trust: Trust::default(),
            second_looks: SecondLooks::default(),
            gaps: VecDeque::new(),
            recovered: 0,
            last_at: None,
        }
    }

    pub(super) fn marks(&self) -> &Watermarks {
        &self.marks
    }

    pub(super) fn marks_mut(&mut self) -> &mut Watermarks {
        &mut self.marks
    }

    /// Whether nothing is known of the space, and nothing of it waits.
    pub(super) fn is_new(&self, space: &SpaceId) -> bool {
        !self.marks.is_known(space) && !self.runs.contains_key(space)
    }

    /// Whether what comes in of the space has to wait.
    pub(super) fn holds(&self, space: &SpaceId) -> bool {
        !self.runs.is_empty() && self.runs.get(space).is_some_and(|run| run.hold.is_some())
    }

    /// Holds an event of a space that [holds](Self::holds). Answers what goes on at once, in order, where there is too much.
    pub(super) fn hold(&mut self, space: &SpaceId, item: T, bytes: usize, now: Instant) -> Vec<T> {
        let Some(hold) = self.runs.get_mut(space).and_then(|run| run.hold.as_mut()) else { return vec![item] };
        hold.since.get_or_insert(now);
        hold.items.push_back((item, bytes));
        self.held += 1;
        self.held_bytes += bytes;
        let is_full = hold.items.len() > HELD_PER_SPACE || self.held > HELD || self.held_bytes > HELD_BYTES;
        if is_full { self.release(space) } else { Vec::new() }
    }

    /// Takes an event out of what is held of the space, because the history has come to it.
    pub(super) fn take_held(&mut self, space: &SpaceId, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let hold = self.runs.get_mut(space)?.hold.as_mut()?;
        let index = hold.items.iter().position(|(item, _)| is_it(item))?;
        let (item, bytes) = hold.items.remove(index)?;
        self.held -= 1;
        self.held_bytes -= bytes;
        Some(item)
    }

    /// The connection is gone: each space has a gap until its history was read.
    pub(super) fn connection_lost(&mut self, at: Timestamp, now: Instant) {
        self.marks.online(at);
        self.new_connection(now);
    }

    /// There is a new connection, on which nothing has been heard yet.
    pub(super) fn new_connection(&mut self, now: Instant) {
        self.marks.connection_lost();
        if !self.activity_barred {
            self.preferred = Source::Activity;
        }
        self.trust.new_connection();
        self.second_looks.clear();
        self.expect_gaps(now);
    }

    /// What comes in of spaces that have a gap waits from now on.
    pub(super) fn expect_gaps(&mut self, now: Instant) {
        let gaps: Vec<SpaceId> = self.marks.spaces().filter(|space| self.marks.has_gap(space)).cloned().collect();
        for space in gaps {
            self.expect(&space, now);
        }
    }

    /// What comes in of the space waits from now on until [`Self::subscribed`].
    pub(super) fn expect(&mut self, space: &SpaceId, now: Instant) {
        let number = self.next_number();
        let run = self.runs.entry(space.clone()).or_insert_with(|| Run::new(number, now));
        run.stage = Stage::Awaiting;
        run.purpose = Purpose::Gap;
        run.number = number;
        run.hold.get_or_insert_with(|| Hold { items: VecDeque::new(), since: None });
    }

    /// The subscription to one space is gone.
    pub(super) fn lost(&mut self, space: &SpaceId, now: Instant) {
        if self.marks.is_known(space) {
            self.marks.lost(space);
            self.expect(space, now);
        }
    }

    /// The subscription is confirmed: a space that was never heard begins now, another one is read from where it was left. Answers
    /// what goes on at once, and a gap that is too old.
    pub(super) fn subscribed(&mut self, space: &SpaceId, at: Timestamp, now: Instant) -> (Vec<T>, Option<Gap>) {
        self.marks.returned(space, at);
        if !self.marks.is_known(space) {
            self.marks.start(space, at, true);
            return (self.dissolve(space), None);
        }
        let begun = self.runs.get(space).is_some_and(Run::is_left);
        if begun || !self.marks.has_gap(space) {
            return (Vec::new(), None);
        }
        let Some(read) = self.marks.read_from(space, self.settings.reach, at) else { return (Vec::new(), None) };
        let (number, preferred) = (self.next_number(), self.preferred);
        let run = self.runs.entry(space.clone()).or_insert_with(|| Run::new(number, now));
        *run = Run {
            stage: Stage::Due(now),
            from: read.from,
            confirmed_at: at,
            source: preferred,
            hold: run.hold.take(),
            told: run.told,
            failing_since: run.failing_since,
            ..Run::new(number, now)
        };
        let gap = read.too_old.map(|(since, until)| {
            let gap = Gap { space: space.clone(), since, until: Some(until), reason: GapReason::TooOld };
            self.note_gap(gap.clone());
            gap
        });
        (Vec::new(), gap)
    }

    /// Spaces refuses the subscription to a space that was heard before. Answers the gap, unless it is known.
    pub(super) fn refused(&mut self, space: &SpaceId) -> Option<Gap> {
        let since = self.marks.heard(space).filter(|_| self.marks.has_gap(space))?;
        let gap = Gap { space: space.clone(), since, until: None, reason: GapReason::SpaceRefused };
        if self.gaps.contains(&gap) {
            return None;
        }
        self.note_gap(gap.clone());
        Some(gap)
    }

    /// Nobody wants the space any more. Answers what was held.
    pub(super) fn removed(&mut self, space: &SpaceId) -> Vec<T> {
        self.marks.remove(space);
        self.gaps.retain(|gap| gap.space != *space);
        self.dissolve(space)
    }

    /// The space is not in the user's list any more. Answers what was held.
    pub(super) fn missing(&mut self, space: &SpaceId, at: Timestamp) -> Vec<T> {
        self.marks.missing(space, at);
        self.dissolve(space)
    }

    /// Lets the history of the space be read from `since` on. It has to be [subscribed](Self::subscribed) after that.
    pub(super) fn reach_back(&mut self, space: &SpaceId, since: Timestamp, now: Instant) {
        self.marks.reach_back(space, since);
        self.expect(space, now);
    }

    /// The next page to be read, if it is time for one. Spaces whose live events wait go first.
    pub(super) fn next_read(&mut self, now: Instant) -> Option<Read> {
        if self.reads >= READS {
            return None;
        }
        let due = |run: &Run<T>| matches!(run.stage, Stage::Due(at) if at <= now);
        let waited_for = |run: &Run<T>| run.hold.as_ref().is_some_and(|hold| hold.since.is_some());
        self.begin_second_looks(now);
        let runs = || self.runs.iter().filter(|(_, run)| due(run));
        let first = runs().find(|(_, run)| waited_for(run));
        let first = first.or_else(|| runs().find(|(_, run)| !run.is_second())).or_else(|| runs().next());
        let space = first.map(|(space, _)| space.clone())?;
        let run = self.runs.get_mut(&space)?;
        run.stage = Stage::Reading;
        self.reads += 1;
        Some(Read { space, run: run.number, source: run.source, from: run.from, next: run.next.clone() })
    }

    /// A read has ended. `false` if its answer is of no use any more.
    pub(super) fn read_ended(&mut self, read: &Read) -> bool {
        self.reads = self.reads.saturating_sub(1);
        self.runs.get(&read.space).is_some_and(|run| run.number == read.run && run.stage == Stage::Reading)
    }

    /// A page was read, its events are on their way, and this is where the next one is.
    pub(super) fn page(&mut self, space: &SpaceId, next: Option<String>, now: Instant) -> After<T> {
        let Some(run) = self.runs.get_mut(space) else { return After::More };
        if next.is_some() && next == run.next {
            // It would go round in circles.
            return self.failed(space, Failure::Failing(None), now);
        }
        run.pages += 1;
        run.failures = 0;
        run.tried_other = false;
        let may_miss_changes = run.source == Source::Messages && !run.refused[Source::Activity as usize] && !self.activity_barred;
        if !may_miss_changes {
            run.failing_since = None;
        }
        if run.is_second() && (next.is_none() || run.pages >= MAX_PAGES) {
            self.runs.remove(space);
            return After::More;
        }
        if next.is_some() && run.pages >= MAX_PAGES {
            return self.give_up(space, GapReason::TooLong);
        }
        if next.is_some() {
            run.next = next;
            run.stage = Stage::Due(now);
            return After::More;
        }
        if may_miss_changes {
            run.has_messages = true;
            run.pages = 0;
            run.failures = 1;
            run.turn_to(Source::Activity, now + FIRST_RETRY);
            return After::ChangesLeft(self.release(space));
        }
        let source = run.source;
        if source == Source::Messages && run.refused[Source::Activity as usize] {
            self.activity_barred = true;
        }
        self.preferred = source;
        After::Complete(self.release(space))
    }

    /// A page could not be read.
    pub(super) fn failed(&mut self, space: &SpaceId, failure: Failure, now: Instant) -> After<T> {
        let Some(run) = self.runs.get_mut(space) else { return After::More };
        if run.is_second() && !matches!(failure, Failure::Limited(_)) {
            // What was to be told of the gap has been told.
            self.runs.remove(space);
            return After::More;
        }
        let reason = if failure == Failure::TokenRefused { GapReason::TokenRefused } else { GapReason::HistoryUnavailable };
        let failing_since = run.failing_since.map_or(now, |(since, _)| since);
        run.failing_since = Some((failing_since, reason));
        let other = run.source.other();
        let least = match failure {
            Failure::Refused => {
                run.refused[run.source as usize] = true;
                if run.has_messages {
                    // Nothing tells of changes, then.
                    self.activity_barred = true;
                    self.preferred = Source::Messages;
                    return After::Complete(self.release(space));
                }
                if run.refused == [true; 2] {
                    return self.give_up(space, GapReason::HistoryRefused);
                }
                run.turn_to(other, now);
                return After::More;
            }
            Failure::Failing(least) => {
                if !run.has_messages && !run.tried_other && !run.refused[other as usize] {
                    run.tried_other = true;
                    run.turn_to(other, now);
                    return After::More;
                }
                least
            }
            Failure::TokenRefused => None,
            Failure::Limited(least) => least,
        };
        let delay = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(run.failures)).min(self.settings.longest_wait);
        run.failures = run.failures.saturating_add(1);
        run.tried_other = false;
        run.stage = Stage::Due(now + delay.max(least.unwrap_or_default()));
        After::More
    }

    /// All that was read and held of the space is durable once `until` events of the session are.
    pub(super) fn settle(&mut self, space: &SpaceId, until: u64, outcome: Outcome) {
        if let Some(run) = self.runs.get_mut(space) {
            run.stage = Stage::Settling(until, outcome);
        }
    }

    /// So many events of the session are durable. Answers the recoveries that end with it.
    pub(super) fn drained(&mut self, count: u64, at: Timestamp, now: Instant) -> Vec<Ended> {
        let settled = |run: &Run<T>| match run.stage {
            Stage::Settling(until, outcome) if until <= count => Some(outcome),
            _ => None,
        };
        let ended: Vec<(SpaceId, Outcome)> =
            self.runs.iter().filter_map(|(space, run)| Some((space.clone(), settled(run)?))).collect();
        let mut done = Vec::new();
        for (space, outcome) in ended {
            let Some(run) = self.runs.remove(&space) else { continue };
            self.marks.closed(&space, run.confirmed_at);
            if outcome == Outcome::Closed {
                self.look_again(&space, &run, now);
            }
            if outcome == Outcome::Closed {
                self.gaps.retain(|gap| gap.space != space || !gap.reason.may_pass());
                self.last_at = Some(at);
            }
            done.push(Ended { outcome, took: now.saturating_duration_since(run.since) });
        }
        done
    }

    /// Lets go what has been held for long enough.
    pub(super) fn release_overdue(&mut self, now: Instant) -> Vec<T> {
        let hold = self.settings.hold;
        let overdue = |run: &Run<T>| run.release_at(hold).is_some_and(|at| at <= now);
        let spaces: Vec<SpaceId> = self.runs.iter().filter(|(_, run)| overdue(run)).map(|(space, _)| space.clone()).collect();
        spaces.iter().flat_map(|space| self.release(space)).collect()
    }

    /// The gaps that have been tried to close in vain for long enough to tell of them.
    pub(super) fn untold_gaps(&mut self, now: Instant) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (space, run) in &mut self.runs {
            if !run.is_second()
                && run.tell_at(self.settings.tell_after).is_some_and(|at| at <= now)
                && let Some((_, reason)) = run.failing_since
            {
                run.told = true;
                let since = self.marks.heard(space).unwrap_or(run.from);
                gaps.push(Gap { space: space.clone(), since, until: Some(run.confirmed_at), reason });
            }
        }
        for gap in &gaps {
            self.note_gap(gap.clone());
        }
        gaps
    }

    /// Everything that is held, at the end of the session.
    pub(super) fn release_all(&mut self) -> Vec<T> {
        let spaces: Vec<SpaceId> = self.runs.keys().cloned().collect();
        spaces.iter().flat_map(|space| self.release(space)).collect()
    }

    /// When there is something to do. `may_read` tells whether a page could be taken now.
    pub(super) fn next_at(&self, may_read: bool) -> Option<Instant> {
        let may_read = may_read && self.reads < READS;
        let (hold, tell_after) = (self.settings.hold, self.settings.tell_after);
        let times = self.runs.values().flat_map(|run| {
            let due = match run.stage {
                Stage::Due(at) if may_read => Some(at),
                _ => None,
            };
            [due, run.release_at(hold), run.tell_at(tell_after).filter(|_| !run.is_second())]
        });
        times.flatten().chain(self.second_looks.next_at().filter(|_| may_read)).min()
    }

    /// Spaces whose history is still to be read.
    pub(super) fn left(&self) -> usize {
        self.runs.values().filter(|run| run.is_left()).count()
    }

    /// Notes that an event of the history was new.
    pub(super) fn recovered(&mut self) {
        self.recovered += 1;
    }

    /// Whether events wait for the history before them.
    pub(super) fn is_holding(&self) -> bool {
        self.held > 0
    }

    /// Whether no gap is being closed.
    pub(super) fn is_idle(&self) -> bool {
        self.left() == 0
    }

    /// What the API shows.
    pub(super) fn status(&self) -> RecoveryStatus {
        let spaces_left = self.left();
        let state = match (spaces_left, self.gaps.is_empty()) {
            (0, true) => RecoveryState::Idle,
            (0, false) => RecoveryState::Failed,
            _ => RecoveryState::Running,
        };
        let gaps = self.gaps.iter().cloned().collect();
        RecoveryStatus { state, spaces_left, events_recovered: self.recovered, last_at: self.last_at, gaps }
    }

    fn give_up(&mut self, space: &SpaceId, reason: GapReason) -> After<T> {
        let held = self.release(space);
        let since = self.marks.heard(space);
        let Some((since, run)) = since.zip(self.runs.get(space)) else { return After::Complete(held) };
        let gap = Gap { space: space.clone(), since, until: Some(run.confirmed_at), reason };
        self.note_gap(gap.clone());
        After::Gap(gap, held)
    }

    fn note_gap(&mut self, gap: Gap) {
        self.gaps.retain(|known| known.space != gap.space || known.reason != gap.reason || !gap.reason.may_pass());
        self.gaps.push_back(gap);
        while self.gaps.len() > MAX_GAPS {
            self.gaps.pop_front();
        }
    }

    /// Lets go what is held of the space; from now on nothing of it is.
    fn release(&mut self, space: &SpaceId) -> Vec<T> {
        let Some(hold) = self.runs.get_mut(space).and_then(|run| run.hold.take()) else { return Vec::new() };
        self.held -= hold.items.len();
        self.held_bytes -= hold.items.iter().map(|(_, bytes)| bytes).sum::<usize>();
        hold.items.into_iter().map(|(item, _)| item).collect()
    }

    fn dissolve(&mut self, space: &SpaceId) -> Vec<T> {
        let held = self.release(space);
        self.second_looks.forget(space);
        self.runs.remove(space);
        held
    }

    fn next_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}
