//! What a session does about a refused token that someone can renew: it asks, and asks again while there is none.

use std::time::Duration;

use socketio_client::Backoff;
use tokio::time::Instant;

/// Waits between two questions: a random part of a time that doubles from the first to the last.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LAST_WAIT: Duration = Duration::from_mins(5);

/// A refusal so soon after a renewal means that the new token is refused as well.
pub(super) const TOO_SOON: Duration = Duration::from_mins(1);

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The token is good, as far as is known.
    Idle,
    /// A new one has been asked for.
    Asking,
    /// There was none; it is asked for again then.
    Waiting(Instant),
}

/// The renewal of one session's token.
#[derive(Debug)]
pub(super) struct Renewal {
    phase: Phase,
    waits: Backoff,
}

impl Default for Renewal {
    fn default() -> Self {
        Self { phase: Phase::Idle, waits: Backoff::new(FIRST_WAIT, LAST_WAIT, Duration::MAX) }
    }
}

impl Renewal {
    /// Whether a new token is wanted.
    pub(super) fn is_under_way(&self) -> bool {
        self.phase != Phase::Idle
    }

    /// Notes that the token was refused. `true` if a new one has to be asked for now.
    pub(super) fn refused(&mut self) -> bool {
        let first = self.phase == Phase::Idle;
        if first {
            self.phase = Phase::Asking;
        }
        first
    }

    /// Notes that there is none now; `draw` is a random number below one.
    pub(super) fn unavailable(&mut self, retry_after: Option<Duration>, draw: f64, now: Instant) {
        let wait = self.waits.next_delay(draw).max(FIRST_WAIT / 2);
        self.phase = Phase::Waiting(now + retry_after.map_or(wait, |least| least.saturating_add(wait)));
    }

    /// Whether it is time to ask again; if so, that is noted.
    pub(super) fn ask_again(&mut self, now: Instant) -> bool {
        let due = self.next_at().is_some_and(|at| at <= now);
        if due {
            self.phase = Phase::Asking;
        }
        due
    }

    /// When to ask again.
    pub(super) fn next_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting(at) => Some(at),
            Phase::Idle | Phase::Asking => None,
        }
    }

    /// Lets the next question come at once.
    pub(super) fn hurry(&mut self, now: Instant) {
        if let Phase::Waiting(at) = &mut self.phase {
            *at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_refusal_is_one_question() {
        let (mut renewal, now) = (Renewal::default(), Instant::now());
        assert!(renewal.refused());
        assert!(!renewal.refused() && !renewal.ask_again(now), "it has been asked");
        renewal.unavailable(Some(Duration::from_secs(30)), 0.5, now);
        let at = renewal.next_at().expect("a time");
        assert!(at > now + Duration::from_secs(30), "not before whoever was asked wants it");
        assert!(!renewal.refused(), "the wait is kept");
        assert!(!renewal.ask_again(at - Duration::from_millis(1)));
        assert!(renewal.ask_again(at));
        assert!(!renewal.ask_again(at), "once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hurry_shortens_a_wait_and_nothing_else() {
        let (mut renewal, now) = (Renewal::default(), Instant::now());
        renewal.hurry(now);
        assert!(!renewal.ask_again(now) && !renewal.is_under_way());
        renewal.refused();
        renewal.unavailable(None, 0.9, now);
        renewal.hurry(now);
        assert!(renewal.ask_again(now));
    }

    proptest! {
        #[test]
        fn waits_are_bounded(draws in prop::collection::vec(0.0..1.0_f64, 1..40)) {
            let (mut renewal, now) = (Renewal::default(), Instant::now());
            for draw in draws {
                renewal.unavailable(None, draw, now);
                let wait = renewal.next_at().expect("a time") - now;
                prop_assert!(wait >= FIRST_WAIT / 2 && wait <= LAST_WAIT, "{wait:?}");
            }
        }
    }
}
