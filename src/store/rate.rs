//! The token bucket by which a webhook's deliveries and a bridge key's calls are let go, as the generic cell rate algorithm (ITU-T I.371, annex A): one
//! number tells how far ahead of its rate the flow is.

use std::time::Duration;

use super::Rate;
use crate::domain::Timestamp;

/// A bucket of `count` tokens that fills within the rate's time. Without a rate it never runs dry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TokenBucket {
    /// The most tokens and the microseconds that one takes to come back; `None` without a rate.
    pub(super) rate: Option<(u32, i64)>,
    /// When the bucket is full again, in microseconds since 1970.
    pub(super) full_at: i64,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn full(rate: Option<Rate>) -> Self {
        let interval = |Rate { count, per }: Rate| {
            let count = count.max(1);
            let interval = micros(per).div_euclid(i64::from(count)).saturating_add(1);
            (count, if micros(per) % i64::from(count) == 0 { (interval - 1).max(1) } else { interval })
        };
        Self { rate: rate.map(interval), full_at: 0 }
    }

    /// The same bucket under `rate`; full if the rate is another one.
    pub(super) fn with_rate(self, rate: Option<Rate>) -> Self {
        let full = Self::full(rate);
        if full.rate == self.rate { self } else { full }
    }

    /// Tokens that are there at `now`.
    pub(crate) fn available(self, now: Timestamp) -> usize {
        let Some((count, interval)) = self.rate else { return usize::MAX };
        let ahead = self.full_at.saturating_sub(in_micros(now)).max(0);
        let missing = ahead / interval + i64::from(ahead % interval != 0);
        usize::try_from(i64::from(count).saturating_sub(missing)).unwrap_or(0)
    }

    /// Takes `tokens` at `now`.
    pub(crate) fn take(&mut self, tokens: usize, now: Timestamp) {
        let Some((_, interval)) = self.rate else { return };
        let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
        self.full_at = self.full_at.max(in_micros(now)).saturating_add(interval.saturating_mul(tokens));
    }

    /// When there is a token; a past time means now.
    pub(crate) fn ready_at(self) -> Timestamp {
        let Some((count, interval)) = self.rate else { return Timestamp::from_millis(i64::MIN) };
        let at = self.full_at.saturating_sub(interval.saturating_mul(i64::from(count) - 1));
        Timestamp::from_millis(at.div_euclid(1_000).saturating_add(i64::from(at.rem_euclid(1_000) != 0)))
    }

    /// When it is full again if nothing is taken; a past time means now.
    pub(crate) fn full_again_at(self) -> Timestamp {
        Timestamp::from_millis(self.full_at.div_euclid(1_000).saturating_add(i64::from(self.full_at.rem_euclid(1_000) != 0)))
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn in_micros(time: Timestamp) -> i64 {
    time.as_millis().saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_900_000_000_000 + millis)
    }

    fn bucket(count: u32, millis: u64) -> TokenBucket {
        TokenBucket::full(Some(Rate { count, per: Duration::from_millis(millis) }))
    }

    #[test]
    fn tokens_come_back_one_by_one() {
        let mut bucket = bucket(4, 1_000);
        assert_eq!(bucket.available(at(0)), 4);
        bucket.take(4, at(0));
        assert_eq!((bucket.available(at(0)), bucket.ready_at()), (0, at(250)));
        assert_eq!([249, 250, 499, 500, 1_000, 9_000].map(|millis| bucket.available(at(millis))), [0, 1, 1, 2, 4, 4]);
        bucket.take(1, at(250));
        assert_eq!((bucket.available(at(499)), bucket.available(at(500))), (0, 1));
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let mut bucket = TokenBucket::full(None);
        bucket.take(1_000_000, at(0));
        assert_eq!(bucket.available(at(0)), usize::MAX);
        assert!(bucket.ready_at() < at(0));
    }

    #[test]
    fn another_rate_begins_with_a_full_bucket_and_the_same_goes_on() {
        let mut bucket = bucket(2, 1_000);
        bucket.take(2, at(0));
        let rate = |count| Some(Rate { count, per: Duration::from_secs(1) });
        assert_eq!(bucket.with_rate(rate(2)).available(at(0)), 0);
        assert_eq!(bucket.with_rate(rate(3)).available(at(0)), 3);
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_gives_more_than_the_rate_and_one_bucket(
            count in 1..50_u32, per in 1..5_000_u64, steps in prop::collection::vec(0..400_i64, 1..60),
        ) {
            let mut bucket = bucket(count, per);
            let (mut now, mut taken) = (0, 0_u64);
            for step in steps {
                now += step;
                let tokens = bucket.available(at(now));
                prop_assert_eq!(tokens > 0, bucket.ready_at() <= at(now));
                bucket.take(tokens, at(now));
                taken += tokens as u64;
                let due = u64::from(count) + u64::try_from(now).unwrap_or(0) * u64::from(count) / per;
                prop_assert!(taken <= due, "{} taken of {}", taken, due);
            }
        }
    }
}
