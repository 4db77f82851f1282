//! Delays between attempts to connect.

use std::time::Duration;

/// How long to wait before each attempt to connect again: exponential, capped, with full jitter.
///
/// Full jitter (each delay drawn evenly between zero and the exponential bound) spreads thousands of clients that
/// lost the same server. Chance comes in as an argument, so that the owner decides where it comes from.
///
/// ```
/// use std::time::Duration;
/// use socketio_client::Backoff;
///
/// let mut backoff = Backoff::default();
/// assert_eq!(backoff.next_delay(0.5), Duration::from_millis(500));
/// assert_eq!(backoff.next_delay(0.5), Duration::from_secs(1));
/// backoff.ended_after(Duration::from_secs(3600));
/// assert_eq!(backoff.attempt(), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    stable_after: Duration,
    attempt: u32,
}

impl Default for Backoff {
    /// One second doubled up to thirty; a connection counts as stable after thirty seconds.
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(30), Duration::from_secs(30))
    }
}

impl Backoff {
    /// Makes a backoff whose bound begins at `base`, doubles up to `cap`, and begins anew after a connection that
    /// stayed joined for `stable_after`.
    pub fn new(base: Duration, cap: Duration, stable_after: Duration) -> Self {
        Self { base, cap, stable_after, attempt: 0 }
    }

    /// Returns the delay before attempt `attempt` (from 0) for a `draw` from `[0, 1)`.
    ///
    /// A draw outside of that, or no number, counts as the nearest bound.
    pub fn delay(&self, attempt: u32, draw: f64) -> Duration {
        let bound = 2_u32.checked_pow(attempt).and_then(|factor| self.base.checked_mul(factor)).unwrap_or(self.cap);
        let draw = if draw.is_nan() { 1.0 } else { draw.clamp(0.0, 1.0) };
        bound.min(self.cap).mul_f64(draw)
    }

    /// Returns the delay before the next attempt, and counts that attempt.
    pub fn next_delay(&mut self, draw: f64) -> Duration {
        let delay = self.delay(self.attempt, draw);
        self.attempt = self.attempt.saturating_add(1);
        delay
    }

    /// Notes that a connection ended which had been joined for this long; a stable one begins the count anew.
    ///
    /// The count does not begin anew on joining: a server that accepts and drops at once would be hammered.
    pub fn ended_after(&mut self, joined_for: Duration) {
        if joined_for >= self.stable_after {
            self.attempt = 0;
        }
    }

    /// Returns the number of attempts since the last stable connection.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let backoff = Backoff::default();
        let bounds: Vec<_> = (0..8).map(|attempt| backoff.delay(attempt, 1.0).as_secs()).collect();
        assert_eq!(bounds, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn only_a_stable_connection_begins_the_count_anew() {
        let mut backoff = Backoff::default();
        backoff.next_delay(0.0);
        backoff.next_delay(0.0);
        backoff.ended_after(Duration::from_secs(29));
        assert_eq!(backoff.attempt(), 2);
        backoff.ended_after(Duration::from_secs(30));
        assert_eq!(backoff.attempt(), 0);
    }

    proptest! {
        #[test]
        fn every_delay_is_within_its_bound(attempt in any::<u32>(), draw in any::<f64>()) {
            prop_assert!(Backoff::default().delay(attempt, draw) <= Duration::from_secs(30));
        }
    }
}
