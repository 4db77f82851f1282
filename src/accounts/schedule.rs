//! When an account's token is renewed. Time and chance come in as arguments.

use std::time::Duration;

use crate::domain::Timestamp;

/// The part of a token's life after which it is renewed, and how far chance moves that, so that tokens of one hour do not come back
/// together each hour.
const RENEW_AT: f64 = 0.80;
const SPREAD: f64 = 0.05;

/// The first wait after a failure; it doubles with each until it is the longest.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// The longest that a server may ask us to wait: beyond that it is asked anyway.
const MOST_PATIENCE: Duration = Duration::from_hours(1);

/// When a token that lives from `obtained_at` to `expires_at` is renewed: at 80 % of its life, moved by up to 5 % of it by `draw`, which
/// is between 0 and 1.
pub(super) fn renew_at(obtained_at: Timestamp, expires_at: Timestamp, draw: f64) -> Timestamp {
    let part = RENEW_AT + SPREAD * (2.0 * draw.clamp(0.0, 1.0) - 1.0);
    obtained_at.saturating_add(expires_at.since(obtained_at).mul_f64(part))
}

/// How long to wait after the failure number `failures` (1 for the first), moved down by up to a half by `draw`; never less than the
/// server asked for, within reason.
pub(super) fn wait_after(failures: u32, asked: Option<Duration>, draw: f64) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let wait = doubled.min(LONGEST_WAIT).mul_f64(1.0 - 0.5 * draw.clamp(0.0, 1.0));
    wait.max(asked.unwrap_or_default().min(MOST_PATIENCE))
}

/// A number between 0 and 1.
pub(super) fn draw() -> f64 {
    let mut bytes = [0_u8; 4];
    getrandom::fill(&mut bytes).expect("the operating system provides random numbers");
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_renewed_at_80_percent_of_its_life() {
        for (life, draw, after) in [(3600, 0.5, 2880), (3600, 0.0, 2700), (3600, 1.0, 3060), (0, 0.5, 0), (86_400, 0.5, 69_120)] {
            let begin = Timestamp::from_millis(1_700_000_000_000);
            let end = begin.saturating_add(Duration::from_secs(life));
            let seconds = renew_at(begin, end, draw).since(begin).as_secs_f64();
            assert!((seconds - f64::from(after)).abs() < 0.01, "{life} {draw}: {seconds}");
        }
        let begin = Timestamp::from_millis(1_700_000_000_000);
        assert_eq!(renew_at(begin, Timestamp::from_millis(0), 0.5), begin, "a token that has ended is renewed at once");
    }

    #[test]
    fn failures_are_waited_for_longer_and_longer() {
        for (failures, asked, most) in
            [(0, 0, 5), (1, 0, 5), (2, 0, 10), (4, 0, 40), (7, 0, 300), (200, 0, 300), (1, 60, 60), (1, 9999, 3600)]
        {
            let asked = Some(Duration::from_secs(asked));
            assert_eq!(wait_after(failures, asked, 0.0), Duration::from_secs(most), "{failures}");
        }
    }

    proptest! {
        #[test]
        fn a_renewal_is_within_the_life_of_its_token(life in 1_u64..1_000_000_000, draw in -1.0_f64..2.0) {
            let begin = Timestamp::from_millis(1_700_000_000_000);
            let end = begin.saturating_add(Duration::from_secs(life));
            let at = renew_at(begin, end, draw);
            prop_assert!(begin <= at && at < end);
        }

        #[test]
        fn a_wait_is_bounded(failures in 0_u32..1000, asked in 0_u64..100_000, draw in 0.0_f64..1.0) {
            let wait = wait_after(failures, Some(Duration::from_secs(asked)), draw);
            prop_assert!(wait >= FIRST_WAIT / 2 && wait <= MOST_PATIENCE);
        }
    }
}
