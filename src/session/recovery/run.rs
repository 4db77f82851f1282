//! One space's recovery: what is read, what failed, and where it stands.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{SpaceId, Timestamp};
use crate::session::gaps::{Gap, GapReason};

/// Which of the two histories of Spaces is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Source {
    /// The record of activity, which knows changes and deletions.
    Activity,
    /// The query of messages.
    Messages,
}

impl Source {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Activity => Self::Messages,
            Self::Messages => Self::Activity,
        }
    }
}

/// A page to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) struct Read {
    /// Of this space.
    pub(in crate::session) space: SpaceId,
    /// For this recovery; a later one of the same space has another number.
    pub(in crate::session) run: u64,
    /// In this history.
    pub(in crate::session) source: Source,
    /// From when on.
    pub(in crate::session) from: Timestamp,
    /// Where the page before said that this one is.
    pub(in crate::session) next: Option<String>,
}

/// Why a page could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Failure {
    /// Spaces will not give it.
    Refused,
    /// Spaces does not take the token.
    TokenRefused,
    /// It may work another time, the other history perhaps now.
    Failing(Option<Duration>),
    /// Too much was asked for.
    Limited(Option<Duration>),
}

/// What became of a space's gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Outcome {
    /// Everything since the watermark is durable.
    Closed,
    /// Nothing can be done for it.
    GivenUp,
}

/// What follows a page or a failure.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::session) enum After<T> {
    /// It goes on by itself.
    More,
    /// That was the last page. What was held comes next, and then [`Recovery::settle`].
    Complete(Vec<T>),
    /// All messages were read, and what was held comes next. Changes and deletions are still to be read, so the gap stays open.
    ChangesLeft(Vec<T>),
    /// The gap stays: tell of it; then as above.
    Gap(Gap, Vec<T>),
}

/// A recovery that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) struct Ended {
    pub(in crate::session) outcome: Outcome,
    pub(in crate::session) took: Duration,
}

/// What is held of a space.
#[derive(Debug)]
pub(super) struct Hold<T> {
    pub(super) items: VecDeque<(T, usize)>,
    pub(super) since: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// Until the subscription is confirmed.
    Awaiting,
    /// A page is to be read, not before this time.
    Due(Instant),
    /// A page is being read.
    Reading,
    /// All is read; so many events of the session have to be durable.
    Settling(u64, Outcome),
}

/// What a history is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A gap is to be closed.
    Gap,
    /// It is closed, and only what came into the history late is looked for.
    SecondLook,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each says that a step of the run was made, and they come in any order")]
pub(super) struct Run<T> {
    pub(super) number: u64,
    pub(super) stage: Stage,
    /// `None` once nothing is held any more.
    pub(super) hold: Option<Hold<T>>,
    pub(super) since: Instant,
    pub(super) from: Timestamp,
    /// When the subscription was confirmed.
    pub(super) confirmed_at: Timestamp,
    pub(super) source: Source,
    pub(super) next: Option<String>,
    pub(super) pages: u32,
    pub(super) refused: [bool; 2],
    /// Whether the other history was tried as well since the last page.
    pub(super) tried_other: bool,
    /// Whether only the record of activity is left to be read: the query of messages, which was read to its end, does not tell what
    /// became of older ones.
    pub(super) has_messages: bool,
    pub(super) failures: u32,
    pub(super) failing_since: Option<(Instant, GapReason)>,
    pub(super) told: bool,
    /// Whether it read the history together with that of other spaces, so that it does not again.
    pub(super) was_together: bool,
    pub(super) purpose: Purpose,
}

impl<T> Run<T> {
    pub(super) fn new(number: u64, now: Instant) -> Self {
        Self {
            number,
            stage: Stage::Awaiting,
            hold: Some(Hold { items: VecDeque::new(), since: None }),
            since: now,
            from: Timestamp::from_millis(0),
            confirmed_at: Timestamp::from_millis(0),
            source: Source::Activity,
            next: None,
            pages: 0,
            refused: [false; 2],
            tried_other: false,
            has_messages: false,
            failures: 0,
            failing_since: None,
            told: false,
            was_together: false,
            purpose: Purpose::Gap,
        }
    }

    /// Whether its gap is closed already.
    pub(super) fn is_second(&self) -> bool {
        self.purpose == Purpose::SecondLook
    }

    /// Whether its history is still to be read.
    pub(super) fn is_left(&self) -> bool {
        !self.is_second() && !matches!(self.stage, Stage::Awaiting)
    }

    pub(super) fn release_at(&self, hold: Duration) -> Option<Instant> {
        Some(self.hold.as_ref()?.since? + hold)
    }

    pub(super) fn tell_at(&self, tell_after: Duration) -> Option<Instant> {
        self.failing_since.filter(|_| !self.told).map(|(since, _)| since + tell_after)
    }

    /// Reads the other history, from the beginning: its pages are others.
    pub(super) fn turn_to(&mut self, source: Source, now: Instant) {
        self.source = source;
        self.next = None;
        self.stage = Stage::Due(now);
    }
}
