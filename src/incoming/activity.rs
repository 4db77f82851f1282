//! What happens at an incoming hook: how often it may still be called, when it was, and what went wrong last.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::{RateLimit, Timestamp};
use crate::store::{Rate, TokenBucket};

/// The doings of one hook since the service started.
#[derive(Debug)]
pub struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    rate: RateLimit,
    bucket: TokenBucket,
    seen: Seen,
    /// What the owner has been told of, and in which hour.
    told: Vec<(&'static str, i64)>,
}

/// What was seen of a hook.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// When it was called last.
    pub last_call_at: Option<Timestamp>,
    /// What went wrong last.
    pub last_failure: Option<HookFailure>,
}

/// Something that went wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookFailure {
    /// When.
    pub at: Timestamp,
    /// What, in one word.
    pub reason: &'static str,
    /// What, in words.
    pub detail: String,
}

impl Activity {
    /// Nothing yet.
    pub(super) fn new(rate: RateLimit) -> Self {
        Self(Mutex::new(State { rate, bucket: bucket(rate), seen: Seen::default(), told: Vec::new() }))
    }

    /// Takes one call, or tells when the next may be made.
    pub(super) fn admit(&self, rate: RateLimit, now: Timestamp) -> Result<(), Duration> {
        let mut state = self.state();
        if state.rate != rate {
            (state.rate, state.bucket) = (rate, bucket(rate));
        }
        if state.bucket.available(now) == 0 {
            return Err(state.bucket.ready_at().since(now));
        }
        state.bucket.take(1, now);
        state.seen.last_call_at = Some(now);
        Ok(())
    }

    /// Notes that something went wrong.
    pub fn note(&self, failure: HookFailure) {
        self.state().seen.last_failure = Some(failure);
    }

    /// Whether the owner is to be told of `reason` now: once in an hour, whatever happens in it. Says so to one caller.
    pub fn is_to_be_told(&self, reason: &'static str, hour: i64) -> bool {
        let mut state = self.state();
        match state.told.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, known)) if *known == hour => false,
            Some((_, known)) => {
                *known = hour;
                true
            }
            None => {
                state.told.push((reason, hour));
                true
            }
        }
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.state().seen.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bucket(rate: RateLimit) -> TokenBucket {
    TokenBucket::full(Some(Rate { count: rate.count, per: Duration::from_secs(rate.per_seconds.into()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_and_come_back() {
        let rate = RateLimit { count: 2, per_seconds: 10 };
        let now = Timestamp::from_millis(1_000_000);
        let activity = Activity::new(rate);
        assert_eq!((activity.admit(rate, now), activity.admit(rate, now)), (Ok(()), Ok(())));
        let wait = activity.admit(rate, now).expect_err("there were two");
        assert_eq!(wait.as_secs(), 5);
        let later = now.saturating_add(wait);
        assert_eq!((activity.admit(rate, later), activity.seen().last_call_at), (Ok(()), Some(later)));
        assert!(activity.admit(rate, later).is_err());
        assert!(activity.admit(RateLimit { count: 1, per_seconds: 1 }, later).is_ok(), "a new rate begins anew");
    }

    #[test]
    fn the_owner_is_told_once_an_hour_of_each_kind() {
        let activity = Activity::new(RateLimit { count: 1, per_seconds: 1 });
        let told = [("a", 1), ("a", 1), ("b", 1), ("a", 2), ("b", 1)].map(|(reason, hour)| activity.is_to_be_told(reason, hour));
        assert_eq!(told, [true, false, true, true, false]);
    }
}
