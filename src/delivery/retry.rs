//! What follows from an attempt: the schedule of Standard Webhooks and the meaning of each answer.
//!
//! Everything here is pure; the time, the dice and the schedule come in as arguments.

use std::time::{Duration, SystemTime};

use http::StatusCode;

use crate::domain::{DeadReason, Timestamp};
use crate::store::{Hold, Verdict};

/// Attempts of a delivery, the first included.
pub const MAX_ATTEMPTS: u32 = 10;

/// The wait before each attempt after the first: the example of the Standard Webhooks specification, about three days in all.
const STEPS: [Duration; MAX_ATTEMPTS as usize - 1] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];

/// The longest wait that a receiver can ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// How far jitter moves a wait, as a part of it.
const JITTER: f64 = 0.2;

/// How long an overloaded receiver is left alone if it did not say.
const OVERLOAD_HOLD: Duration = Duration::from_secs(5);

/// How an attempt ended, as far as the next step depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The receiver answered in whole, and asked to wait for this long if it did.
    Status(StatusCode, Option<Duration>),
    /// No whole answer came.
    Failed,
}

/// What follows from an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextStep {
    /// What becomes of the delivery.
    pub verdict: Verdict,
    /// Holds every delivery of the webhook back for so long.
    pub hold: Option<Hold>,
}

impl NextStep {
    /// Whether the receiver said that it is gone for good.
    pub fn is_gone(self) -> bool {
        self.verdict == Verdict::Dead(DeadReason::Gone)
    }
}

/// What follows from `answer` to attempt number `attempt` (1 for the first). `jitter` is drawn evenly from -1 to 1.
pub fn next_step(answer: Answer, attempt: u32, jitter: f64) -> NextStep {
    let (status, retry_after) = match answer {
        Answer::Status(status, _) if status.is_success() => return NextStep { verdict: Verdict::Delivered, hold: None },
        Answer::Status(StatusCode::GONE, _) => return NextStep { verdict: Verdict::Dead(DeadReason::Gone), hold: None },
        Answer::Status(status, retry_after) => (Some(status), retry_after),
        Answer::Failed => (None, None),
    };
    let retry_after = retry_after.map(|wait| wait.min(MAX_RETRY_AFTER));
    let verdict = match delay_after(attempt, jitter) {
        Some(delay) => Verdict::Retry(delay.max(retry_after.unwrap_or_default()).min(MAX_RETRY_AFTER)),
        None => Verdict::Dead(DeadReason::Exhausted),
    };
    let overloaded = status.is_some_and(is_overload);
    NextStep { verdict, hold: overloaded.then(|| overload_hold(retry_after)) }
}

/// Leaves a receiver that gets too much alone for a while.
fn overload_hold(retry_after: Option<Duration>) -> Hold {
    Hold { time: retry_after.unwrap_or_default().max(OVERLOAD_HOLD), probe: false }
}

/// The wait after attempt number `attempt`, or `None` after the last.
fn delay_after(attempt: u32, jitter: f64) -> Option<Duration> {
    let index = usize::try_from(attempt.max(1) - 1).ok()?;
    STEPS.get(index).map(|step| step.mul_f64(1.0 + JITTER * jitter.clamp(-1.0, 1.0)))
}

/// Answers by which a receiver says that it gets too much.
fn is_overload(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
}

/// Reads the value of a `Retry-After` header, seconds or an HTTP date (RFC 9110); `None` for anything else.
pub fn parse_retry_after(value: &[u8], now: Timestamp) -> Option<Duration> {
    let value = std::str::from_utf8(value).ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds are a long time all the same.
        return Some(value.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(now.as_millis()).ok()?);
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(code: u16) -> Answer {
        Answer::Status(StatusCode::from_u16(code).expect("a status"), None)
    }

    fn held(seconds: u64) -> Hold {
        Hold { time: Duration::from_secs(seconds), probe: false }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn without_jitter_the_schedule_is_that_of_the_specification() {
        let waits = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
        for (attempt, wait) in (1..).zip(waits) {
            assert_eq!(next_step(Answer::Failed, attempt, 0.0).verdict, Verdict::Retry(seconds(wait)), "after attempt {attempt}");
        }
        for attempt in [10, 11, u32::MAX] {
            assert_eq!(next_step(Answer::Failed, attempt, 0.0).verdict, Verdict::Dead(DeadReason::Exhausted));
        }
    }

    #[test]
    fn every_answer_has_its_meaning() {
        for code in [200, 201, 202, 204, 299] {
            assert_eq!(next_step(status(code), 1, 0.0), NextStep { verdict: Verdict::Delivered, hold: None }, "{code}");
        }
        for code in [300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 408, 422, 500, 501, 503, 599] {
            let expected = NextStep { verdict: Verdict::Retry(seconds(5)), hold: None };
            assert_eq!(next_step(status(code), 1, 0.0), expected, "{code}");
        }
        for code in [429, 502, 504] {
            let expected = NextStep { verdict: Verdict::Retry(seconds(5)), hold: Some(held(5)) };
            assert_eq!(next_step(status(code), 1, 0.0), expected, "{code}");
            let last = NextStep { verdict: Verdict::Dead(DeadReason::Exhausted), hold: Some(held(5)) };
            assert_eq!(next_step(status(code), 10, 0.0), last, "{code}");
        }
        let gone = next_step(status(410), 1, 0.0);
        assert_eq!(gone, NextStep { verdict: Verdict::Dead(DeadReason::Gone), hold: None });
        assert!(gone.is_gone());
    }

    #[test]
    fn the_receivers_wish_counts_if_it_is_longer_than_the_step() {
        let busy = |code, wait| Answer::Status(StatusCode::from_u16(code).expect("a status"), Some(wait));
        for (answer, attempt, wait, hold) in [
            (busy(503, seconds(60)), 1, 60, None),
            (busy(503, seconds(60)), 2, 300, None),
            (busy(429, seconds(60)), 1, 60, Some(60)),
            (busy(429, seconds(60)), 2, 300, Some(60)),
            (busy(429, seconds(1)), 1, 5, Some(5)),
            (busy(429, seconds(10 * 365 * 86_400)), 1, 86_400, Some(86_400)),
            (busy(502, Duration::MAX), 1, 86_400, Some(86_400)),
        ] {
            let expected = NextStep { verdict: Verdict::Retry(seconds(wait)), hold: hold.map(held) };
            assert_eq!(next_step(answer, attempt, 0.0), expected, "{answer:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::parse("1994-11-06T08:49:00Z").expect("a time");
        for (value, expected) in [
            ("0", Some(seconds(0))),
            ("120", Some(seconds(120))),
            (" 7 ", Some(seconds(7))),
            ("315360000", Some(seconds(315_360_000))),
            ("99999999999999999999999", Some(Duration::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(seconds(37))),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(seconds(37))),
            ("Sun Nov  6 08:49:37 1994", Some(seconds(37))),
            ("Sun, 06 Nov 1994 08:48:00 GMT", Some(seconds(0))),
            ("Sat, 06 Nov 2004 08:49:00 GMT", Some(seconds(315_619_200))),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("1994-11-06T08:49:37Z", None),
        ] {
            assert_eq!(parse_retry_after(value.as_bytes(), now), expected, "{value:?}");
        }
        assert_eq!(parse_retry_after(b"\xff", now), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn a_wait_stays_within_its_bounds(attempt in 1_u32..10, jitter in -1.0_f64..=1.0, asked in proptest::option::of(0_u64..200_000)) {
            let answer = Answer::Status(StatusCode::SERVICE_UNAVAILABLE, asked.map(seconds));
            let Verdict::Retry(wait) = next_step(answer, attempt, jitter).verdict else { panic!("no retry") };
            let step = STEPS[attempt as usize - 1];
            let asked = seconds(asked.unwrap_or(0)).min(MAX_RETRY_AFTER);
            prop_assert!(wait >= step.mul_f64(0.8).max(asked).min(MAX_RETRY_AFTER));
            prop_assert!(wait <= step.mul_f64(1.2).max(asked).min(MAX_RETRY_AFTER));
        }
    }

    proptest! {
        #[test]
        fn no_header_is_too_odd_to_read(value in proptest::collection::vec(any::<u8>(), 0..64), now in any::<i64>()) {
            let _ = parse_retry_after(&value, Timestamp::from_millis(now));
        }
    }
}
