//! [`Breaker`]: keeps a dead endpoint from costing more than a probe now and then, whatever waits for it.
//!
//! Attempts that found nobody there count against the endpoint. After [`OPENS_AFTER`] in a row all its deliveries are held back;
//! when the hold is over one of them goes first, and only what becomes of it decides on the others. Holds and the phase of probing
//! are the store's, so they survive a restart; what is kept here is how long the next hold is. Pure: times come in as arguments.

use std::time::Duration;

use crate::domain::{ErrorClass, Timestamp};

/// Attempts in a row that find nobody there before the endpoint counts as dead.
pub const OPENS_AFTER: u32 = 5;

/// The first hold of an endpoint that counts as dead; each failing probe doubles it.
pub const FIRST_HOLD: Duration = Duration::from_secs(30);

/// The longest hold.
pub const LONGEST_HOLD: Duration = Duration::from_mins(15);

/// What an attempt says of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It took the delivery.
    Up,
    /// It answered, and did not want the delivery.
    Answers,
    /// It could not be reached, did not answer in whole, or said that it is broken.
    Down,
    /// Nothing.
    Nothing,
}

impl Finding {
    /// What an attempt with this answer or this failure says.
    pub fn of(status: Option<u16>, error: Option<ErrorClass>) -> Self {
        match error {
            None => Self::Up,
            Some(ErrorClass::Http) if status.is_some_and(|status| status >= 500) => Self::Down,
            Some(ErrorClass::Http | ErrorClass::TooLarge) => Self::Answers,
            Some(
                ErrorClass::Dns
                | ErrorClass::Connect
                | ErrorClass::Tls
                | ErrorClass::Timeout
                | ErrorClass::Reset
                | ErrorClass::AddressBlocked,
            ) => Self::Down,
            Some(ErrorClass::Unknown) => Self::Nothing,
        }
    }
}

/// The breaker of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    /// Deliveries go out; so many attempts in a row found nobody.
    Closed {
        /// How many.
        failures: u32,
    },
    /// Deliveries are held back.
    Open {
        /// Until then; what was claimed earlier says nothing about the endpoint after it.
        until: Timestamp,
        /// How long.
        hold: Duration,
    },
    /// One delivery is on its way to find out.
    HalfOpen {
        /// Since the end of this hold.
        since: Timestamp,
        /// How long the hold was.
        hold: Duration,
    },
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    /// As it is after a restart in the middle of a hold until `until`, or after it.
    pub fn resumed(until: Timestamp) -> Self {
        Self::Open { until, hold: FIRST_HOLD }
    }

    /// Whether there is nothing to remember.
    pub fn is_at_rest(self) -> bool {
        self == Self::default()
    }

    /// An attempt begins that was claimed at `claimed_at`.
    #[must_use]
    pub fn begun(self, claimed_at: Timestamp) -> Self {
        match self {
            Self::Open { until, hold } if claimed_at >= until => Self::HalfOpen { since: until, hold },
            Self::Open { .. } | Self::Closed { .. } | Self::HalfOpen { .. } => self,
        }
    }

    /// An attempt that was claimed at `claimed_at` ended at `now`. Gives the state that follows, and how long all deliveries are
    /// to be held back from now on, if they are.
    #[must_use]
    pub fn found(self, finding: Finding, claimed_at: Timestamp, now: Timestamp) -> (Self, Option<Duration>) {
        match (self, finding) {
            (_, Finding::Nothing) => (self, None),
            // Claimed before the hold was over, so it says nothing that was not known when the hold began.
            (Self::Open { until, .. } | Self::HalfOpen { since: until, .. }, Finding::Answers | Finding::Down)
                if claimed_at < until =>
            {
                (self, None)
            }
            (_, Finding::Up | Finding::Answers) => (Self::default(), None),
            (Self::Closed { failures }, Finding::Down) if failures + 1 < OPENS_AFTER => {
                (Self::Closed { failures: failures + 1 }, None)
            }
            (Self::Closed { .. }, Finding::Down) => Self::opened(FIRST_HOLD, now),
            (Self::Open { hold, .. } | Self::HalfOpen { hold, .. }, Finding::Down) => {
                Self::opened((hold * 2).min(LONGEST_HOLD), now)
            }
        }
    }

    fn opened(hold: Duration, now: Timestamp) -> (Self, Option<Duration>) {
        (Self::Open { until: now.saturating_add(hold), hold }, Some(hold))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    /// A breaker that has just opened, at second 100.
    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 1..OPENS_AFTER {
            let (next, hold) = breaker.found(Finding::Down, at(99), at(100));
            assert_eq!(hold, None);
            breaker = next;
        }
        let (breaker, hold) = breaker.found(Finding::Down, at(99), at(100));
        assert_eq!(hold, Some(FIRST_HOLD));
        breaker
    }

    #[test]
    fn findings_follow_from_answers_and_failures() {
        use ErrorClass::{AddressBlocked, Connect, Dns, Http, Reset, Timeout, Tls, TooLarge, Unknown};
        for (status, error, expected) in [
            (Some(204), None, Finding::Up),
            (Some(301), Some(Http), Finding::Answers),
            (Some(404), Some(Http), Finding::Answers),
            (Some(429), Some(Http), Finding::Answers),
            (None, Some(TooLarge), Finding::Answers),
            (Some(500), Some(Http), Finding::Down),
            (Some(504), Some(Http), Finding::Down),
            (Some(200), Some(Timeout), Finding::Down),
            (Some(200), Some(Reset), Finding::Down),
            (None, Some(Dns), Finding::Down),
            (None, Some(Connect), Finding::Down),
            (None, Some(Tls), Finding::Down),
            (None, Some(AddressBlocked), Finding::Down),
            (None, Some(Unknown), Finding::Nothing),
        ] {
            assert_eq!(Finding::of(status, error), expected, "{status:?} {error:?}");
        }
    }

    #[test]
    fn holds_double_with_each_failing_probe_up_to_a_longest() {
        let (mut breaker, mut holds) = (opened(), Vec::new());
        while let Breaker::Open { until, hold } = breaker {
            holds.push(hold.as_secs());
            if holds.len() == 8 {
                break;
            }
            breaker = breaker.begun(until);
            assert!(matches!(breaker, Breaker::HalfOpen { .. }));
            breaker = breaker.found(Finding::Down, until, until).0;
        }
        assert_eq!(holds, [30, 60, 120, 240, 480, 900, 900, 900]);
    }

    #[test]
    fn what_began_before_the_hold_was_over_does_not_prolong_it() {
        for late in [opened(), opened().begun(at(130))] {
            assert_eq!(late.found(Finding::Down, at(99), at(125)), (late, None));
            assert_eq!(late.found(Finding::Answers, at(99), at(125)), (late, None));
        }
        assert_eq!(opened().begun(at(129)), opened());
    }

    #[test]
    fn one_success_or_answer_in_between_begins_the_count_anew() {
        for finding in [Finding::Up, Finding::Answers] {
            let almost = Breaker::Closed { failures: OPENS_AFTER - 1 };
            assert!(almost.found(finding, at(1), at(1)).0.is_at_rest());
        }
        assert!(opened().begun(at(130)).found(Finding::Up, at(130), at(131)).0.is_at_rest());
        assert!(opened().found(Finding::Up, at(99), at(131)).0.is_at_rest());
    }

    proptest! {
        /// Whatever happens, a hold is within its bounds, none begins without a failure, and one that is over lets a probe out.
        #[test]
        fn no_sequence_leaves_an_endpoint_alone_for_long(steps in proptest::collection::vec((0_usize..4, 0_i64..2_000), 1..200)) {
            let (mut breaker, mut now) = (Breaker::default(), 0);
            for (finding, pause) in steps {
                now += pause;
                let finding = [Finding::Up, Finding::Answers, Finding::Down, Finding::Nothing][finding];
                let (next, hold) = breaker.begun(at(now)).found(finding, at(now), at(now));
                let is_new = matches!(next, Breaker::Open { until, .. } if until > at(now)) && breaker != next;
                prop_assert_eq!(hold.is_some(), is_new);
                if let Some(hold) = hold {
                    prop_assert!(finding == Finding::Down && (FIRST_HOLD..=LONGEST_HOLD).contains(&hold));
                    let is_probe = matches!(next.begun(at(now).saturating_add(hold)), Breaker::HalfOpen { .. });
                    prop_assert!(is_probe, "no probe after {hold:?}");
                }
                breaker = next;
            }
        }
    }
}
