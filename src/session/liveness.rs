//! Whether a session that counts as connected is alive: when it is probed, when it is compared with the history, and what follows.
//!
//! Heartbeats show that the connection stands, not that anyone behind it still knows the session. So a session of which nothing was
//! heard for a while is probed, with a request that Spaces documents to refuse; and now and then the history of one of its spaces is
//! read: a message that stands there and never came shows that the session is deaf.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Bound;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{SpaceId, Timestamp};

/// How long the answer to a probe may take, unless probes are made more often than that.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Probes without an answer, one after the other, that make a session deaf.
const TRIES: u32 = 2;

/// When the first probe of a session is made while it is not known yet whether Spaces answers probes at all.
const FIRST_PROBE: Duration = Duration::from_secs(20);

/// How long a message may be on its way, and how far the clocks may differ, unless comparisons are made more often than that.
const GRACE: Duration = Duration::from_secs(30);

/// How far back a comparison looks at most.
const LONGEST_LOOK: Duration = Duration::from_hours(1);

/// When a comparison that was due is looked at again, if the history could not be read then.
const COMPARE_AGAIN: Duration = Duration::from_secs(15);

/// Messages that are remembered for comparisons.
const MAX_SEEN: usize = 4096;

/// The longest time between two reconnects for deafness that nothing mends.
const LONGEST_PATIENCE: Duration = Duration::from_hours(1);

/// How a session is watched. A time of zero is never.
#[derive(Debug, Clone, Copy)]
pub(super) struct LivenessSettings {
    /// After how long without a word a session is probed.
    pub(super) probe: Duration,
    /// How often a session is compared with the history.
    pub(super) compare: Duration,
    /// From 0 to 1: where in its time the session begins, so that many do not act at once.
    pub(super) spread: f64,
}

/// Why a session counts as deaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deafness {
    /// Probes are not answered, and others were.
    ProbeUnanswered,
    /// The history of this space shows a message that never came.
    EventsMissing(SpaceId),
}

impl Deafness {
    /// The word in events, logs and metrics.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::ProbeUnanswered => "probe_unanswered",
            Self::EventsMissing(_) => "events_missing",
        }
    }
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    /// Send a probe, then tell [`Liveness::probed`].
    Probe,
    /// Two probes were not answered. Whether that means anything depends on whether any ever was.
    Unanswered,
    /// Read the history of this space since the time, then tell [`Liveness::compared`].
    Compare(SpaceId, Timestamp),
}

/// How a session's life shows.
#[derive(Debug)]
pub(super) struct Liveness {
    settings: LivenessSettings,
    online: bool,
    /// Whether the next probe is to show that probes are answered at all, however much is heard.
    learning: bool,
    heard_at: Instant,
    probe_at: Option<Instant>,
    /// Until when the probe that is out may be answered.
    answer_by: Option<Instant>,
    tries: u32,
    /// Refusals of probes that may still come on this connection.
    refusals: u32,
    compare_at: Option<Instant>,
    comparing: bool,
    /// Since when the session listens to its spaces, on this connection.
    subscribed: BTreeMap<SpaceId, Timestamp>,
    /// How far the history of each space is known to have come, on this connection.
    compared_to: BTreeMap<SpaceId, Timestamp>,
    compared_last: Option<SpaceId>,
    seen: HashSet<u64>,
    /// The same with the time at which each came.
    seen_in_order: VecDeque<(u64, Timestamp)>,
    /// When the last one that is forgotten had come; comparisons look no further back.
    forgotten_at: Option<Timestamp>,
    /// What the session was last connected anew for, until that has shown to be mended.
    episode: Option<Deafness>,
    /// Reconnects for deafness in this episode.
    reconnects: u32,
    patient_until: Option<Instant>,
}

impl Liveness {
    pub(super) fn new(settings: LivenessSettings, now: Instant) -> Self {
        Self {
            settings,
            online: false,
            learning: false,
            heard_at: now,
            probe_at: None,
            answer_by: None,
            tries: 0,
            refusals: 0,
            compare_at: None,
            comparing: false,
            subscribed: BTreeMap::new(),
            compared_to: BTreeMap::new(),
            compared_last: None,
            seen: HashSet::new(),
            seen_in_order: VecDeque::new(),
            forgotten_at: None,
            episode: None,
            reconnects: 0,
            patient_until: None,
        }
    }

    /// There is a connection. `answers_known` tells whether Spaces is known to answer probes.
    pub(super) fn connected(&mut self, answers_known: bool, now: Instant) {
        self.online = true;
        self.heard_at = now;
        self.learning = !answers_known;
        self.probe_at = self.quiet().map(|quiet| now + if answers_known { quiet } else { quiet.min(FIRST_PROBE) });
        self.compare_at = self.spread(self.settings.compare).map(|time| now + time);
    }

    /// The connection is gone, and with it what was known of it.
    pub(super) fn disconnected(&mut self) {
        self.online = false;
        (self.probe_at, self.answer_by, self.compare_at) = (None, None, None);
        (self.tries, self.refusals) = (0, 0);
        self.subscribed.clear();
        self.compared_to.clear();
    }

    /// Something came from Spaces itself. `true` if a probe was out, which needs no answer any more.
    pub(super) fn heard(&mut self, now: Instant) -> bool {
        self.heard_at = now;
        let was_out = self.answer_by.take().is_some();
        if was_out {
            self.tries = 0;
            self.mended(|deafness| *deafness == Deafness::ProbeUnanswered);
            self.probe_at = self.quiet().map(|quiet| now + quiet);
        }
        was_out
    }

    /// A refusal came that names no space. `true` if it is the answer to a probe.
    pub(super) fn take_refusal(&mut self) -> bool {
        let is_answer = self.refusals > 0;
        self.refusals = self.refusals.saturating_sub(1);
        is_answer
    }

    pub(super) fn subscribed(&mut self, space: &SpaceId, at: Timestamp) {
        self.subscribed.entry(space.clone()).or_insert(at);
    }

    pub(super) fn left(&mut self, space: &SpaceId) {
        self.subscribed.remove(space);
        self.compared_to.remove(space);
        self.mended(|deafness| matches!(deafness, Deafness::EventsMissing(missing) if missing == space));
    }

    /// A message came, live or out of the history.
    pub(super) fn saw(&mut self, id: &str, now: Timestamp) {
        let id = digest(id);
        if self.settings.compare.is_zero() || !self.seen.insert(id) {
            return;
        }
        self.seen_in_order.push_back((id, now));
        if self.seen_in_order.len() > MAX_SEEN
            && let Some((oldest, came_at)) = self.seen_in_order.pop_front()
        {
            self.seen.remove(&oldest);
            self.forgotten_at = Some(came_at);
        }
    }

    /// What is to be done now. `may_compare` tells whether the history can be read and nothing is on its way into the log.
    pub(super) fn due(&mut self, may_compare: bool, wall: Timestamp, now: Instant) -> Option<Due> {
        if !self.online || self.patient_until.is_some_and(|until| now < until) {
            return None;
        }
        if self.answer_by.is_some_and(|by| by <= now) {
            self.answer_by = None;
            if self.tries >= TRIES {
                (self.tries, self.refusals) = (0, 0);
                self.probe_at = self.quiet().map(|quiet| now + quiet);
                return Some(Due::Unanswered);
            }
            return Some(Due::Probe);
        }
        if let Some(quiet) = self.quiet()
            && self.answer_by.is_none()
            && self.probe_at.is_some_and(|at| at <= now)
        {
            if self.learning || self.heard_at + quiet <= now {
                return Some(Due::Probe);
            }
            // Something has come in the meantime.
            self.probe_at = Some(self.heard_at + quiet);
        }
        if !self.comparing && self.compare_at.is_some_and(|at| at <= now) {
            if !may_compare {
                // Not at once, or the session would wake for nothing all the time.
                self.compare_at = Some(now + COMPARE_AGAIN);
                return None;
            }
            self.compare_at = self.spread(self.settings.compare).map(|time| now + time);
            let (space, since) = self.next_to_compare()?;
            let since = since.max(self.compared_to.get(&space).copied().unwrap_or(since));
            let since = since.max(wall.saturating_sub(LONGEST_LOOK)).max(self.forgotten_at.unwrap_or(since));
            let from = since.saturating_add(self.grace());
            if from < wall.saturating_sub(self.grace()) {
                self.comparing = true;
                return Some(Due::Compare(space, from));
            }
        }
        None
    }

    /// A probe was sent.
    pub(super) fn probed(&mut self, now: Instant) {
        self.tries += 1;
        self.refusals += 1;
        self.learning = false;
        self.probe_at = None;
        self.answer_by = Some(now + ANSWER_TIME.min(self.settings.probe));
    }

    /// A probe could not be sent yet; it is tried again after `wait`.
    pub(super) fn probe_later(&mut self, wait: Duration, now: Instant) {
        self.probe_at = Some(now + wait.max(Duration::from_secs(1)));
    }

    /// A comparison has ended. Of the messages in the history, with their times, any that never came makes the session deaf; `None`
    /// if the history could not be read.
    pub(super) fn compared<'a>(
        &mut self,
        space: &SpaceId,
        from: Timestamp,
        messages: Option<impl Iterator<Item = (&'a str, Timestamp)>>,
        wall: Timestamp,
    ) -> Compared {
        self.comparing = false;
        let Some(messages) = messages else { return Compared::Unknown };
        if !self.online || self.subscribed.get(space).is_none_or(|since| *since > from) {
            // Another connection by now, on which the space was asked for later.
            return Compared::Unknown;
        }
        if self.forgotten_at.is_some_and(|at| at > from) {
            return Compared::Unknown;
        }
        let until = wall.saturating_sub(self.grace());
        let (mut newest, mut missing) = (None, None::<Timestamp>);
        for (id, at) in messages.filter(|(_, at)| *at >= from && *at <= until) {
            if !self.seen.contains(&digest(id)) {
                missing = Some(missing.map_or(at, |before| before.min(at)));
            }
            newest = newest.max(Some(at));
        }
        if let Some(since) = missing {
            return Compared::Missing { since };
        }
        // A space in which nothing was written shows nothing.
        if let Some(newest) = newest {
            self.compared_to.insert(space.clone(), newest.saturating_sub(GRACE));
            self.mended(|deafness| matches!(deafness, Deafness::EventsMissing(missing) if missing == space));
        }
        Compared::Complete
    }

    /// The session is to be reconnected because it is deaf. Answers whether that is to be told: once until what showed it has shown
    /// the contrary. Each further time it is given longer.
    pub(super) fn reconnecting(&mut self, deafness: &Deafness, now: Instant) -> bool {
        self.episode = Some(deafness.clone());
        let first = self.reconnects == 0;
        let shortest = [self.settings.probe, self.settings.compare].into_iter().filter(|time| !time.is_zero()).min();
        let patience = shortest.unwrap_or(LONGEST_PATIENCE).saturating_mul(1 << self.reconnects.min(10)).min(LONGEST_PATIENCE);
        // The first time mends most of what can be mended; only what comes after that waits.
        self.patient_until = (!first).then(|| now + patience);
        self.reconnects = self.reconnects.saturating_add(1);
        first
    }

    /// Compares at the next occasion.
    pub(super) fn compare_soon(&mut self, now: Instant) {
        if !self.settings.compare.is_zero() {
            self.compare_at = Some(now);
        }
    }

    /// When [`Self::due`] may have something.
    pub(super) fn next_at(&self) -> Option<Instant> {
        if !self.online {
            return None;
        }
        let probe = self.answer_by.or(self.probe_at);
        let compare = self.compare_at.filter(|_| !self.comparing);
        let earliest = [probe, compare].into_iter().flatten().min()?;
        Some(self.patient_until.map_or(earliest, |until| earliest.max(until)))
    }

    /// Ends the episode, if it is one that what was seen now says something about.
    fn mended(&mut self, is_shown: impl Fn(&Deafness) -> bool) {
        if self.episode.as_ref().is_some_and(is_shown) {
            self.episode = None;
            self.reconnects = 0;
            self.patient_until = None;
        }
    }

    fn grace(&self) -> Duration {
        GRACE.min(self.settings.compare)
    }

    /// After how long without a word the session is probed.
    fn quiet(&self) -> Option<Duration> {
        self.spread(self.settings.probe)
    }

    /// Between three quarters of a time and the whole: sessions that connected together do not act together.
    fn spread(&self, time: Duration) -> Option<Duration> {
        (!time.is_zero()).then(|| time.mul_f64(0.75 + self.settings.spread.clamp(0.0, 1.0) / 4.0))
    }

    fn next_to_compare(&mut self) -> Option<(SpaceId, Timestamp)> {
        let after = self.compared_last.take().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.subscribed.range((after, Bound::Unbounded)).next().or_else(|| self.subscribed.iter().next());
        let (space, since) = next.map(|(space, since)| (space.clone(), *since))?;
        self.compared_last = Some(space.clone());
        Some((space, since))
    }
}

/// What a comparison showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    /// Everything came.
    Complete,
    /// Something did not: what was written then, and perhaps more since.
    Missing {
        /// When the first of it was written.
        since: Timestamp,
    },
    /// Nothing can be said.
    Unknown,
}

impl Compared {
    /// The word in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Missing { .. } => "missing",
            Self::Unknown => "unknown",
        }
    }
}

fn digest(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
