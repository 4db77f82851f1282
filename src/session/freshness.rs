//! Which of two tokens of one user is the fresher one, and so the better one to keep.

use std::time::Duration;

use crate::domain::{Timestamp, TokenLife};

/// How much later a token has to end to be worth a hand-over, at most and at least: some callers mint a token for every call.
const GAIN: Duration = Duration::from_mins(5);
const SMALLEST_GAIN: Duration = Duration::from_secs(30);

/// How much later a token of unknown life has to be seen first; those of OAuth live for an hour.
const UNKNOWN_GAIN: Duration = Duration::from_mins(30);

/// A token and when it was seen first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) life: TokenLife,
    pub(super) seen_at: Timestamp,
}

/// Whether `token` is so much fresher than `kept` that it should take its place: it ends clearly later, or was issued clearly later, or,
/// where neither can be compared, was seen clearly later. Two tokens never are both fresher than the other.
pub(super) fn is_fresher(token: Known, kept: Known, now: Timestamp) -> bool {
    if let (Some(ends), Some(kept_ends)) = (token.life.expires_at, kept.life.expires_at) {
        let left = kept_ends.since(now);
        return gains(ends, kept_ends, (left / 2).clamp(SMALLEST_GAIN, GAIN));
    }
    if let (Some(issued), Some(kept_issued)) = (token.life.issued_at, kept.life.issued_at) {
        return gains(issued, kept_issued, GAIN);
    }
    gains(token.seen_at, kept.seen_at, UNKNOWN_GAIN)
}

fn gains(later: Timestamp, earlier: Timestamp, enough: Duration) -> bool {
    later.since(earlier) >= enough
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000;

    fn at(minutes: f64) -> Timestamp {
        #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
        Timestamp::from_millis((minutes * 60_000.0) as i64)
    }

    fn token(issued_at: Option<f64>, expires_at: Option<f64>, seen_at: f64) -> Known {
        Known { life: TokenLife { issued_at: issued_at.map(at), expires_at: expires_at.map(at) }, seen_at: at(seen_at) }
    }

    #[test]
    fn the_end_decides_then_the_beginning_then_when_it_was_seen() {
        let now = at(100.0);
        for (new, kept, fresher, why) in [
            (token(None, Some(165.0), 100.0), token(None, Some(160.0), 40.0), true, "it ends five minutes later"),
            (token(None, Some(164.0), 100.0), token(None, Some(160.0), 40.0), false, "not worth it"),
            (token(None, Some(150.0), 100.0), token(None, Some(160.0), 40.0), false, "it ends earlier"),
            (token(None, Some(105.0), 100.0), token(None, Some(104.0), 99.0), false, "minted for one call each"),
            (token(None, Some(105.0), 100.0), token(None, Some(102.0), 97.0), true, "the kept one ends soon"),
            (token(None, Some(101.0), 100.0), token(None, Some(99.0), 40.0), true, "the kept one has ended"),
            (token(Some(99.0), None, 100.0), token(Some(40.0), None, 40.0), true, "it was issued later"),
            (token(Some(41.0), None, 100.0), token(Some(40.0), None, 40.0), false, "at about the same time"),
            (token(None, None, 100.0), token(None, None, 40.0), true, "it was seen an hour later"),
            (token(None, None, 60.0), token(None, None, 40.0), false, "both are in use"),
            (token(None, None, 100.0), token(None, Some(160.0), 90.0), false, "they cannot be compared"),
        ] {
            assert_eq!(is_fresher(new, kept, now), fresher, "{why}");
        }
    }

    fn any_time() -> impl Strategy<Value = Option<Timestamp>> {
        prop::option::of((0..300 * MINUTE).prop_map(Timestamp::from_millis))
    }

    fn any_token() -> impl Strategy<Value = Known> {
        (any_time(), any_time(), 0..300 * MINUTE).prop_map(|(issued_at, expires_at, seen_at)| Known {
            life: TokenLife { issued_at, expires_at },
            seen_at: Timestamp::from_millis(seen_at),
        })
    }

    proptest! {
        #[test]
        fn two_tokens_do_not_take_turns(one in any_token(), other in any_token(), now in 0..300 * MINUTE) {
            let now = Timestamp::from_millis(now);
            prop_assert!(!(is_fresher(one, other, now) && is_fresher(other, one, now)));
            prop_assert!(!is_fresher(one, one, now));
        }
    }
}
