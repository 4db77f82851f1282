//! How fast and how often a webhook is posted to: its schedule of repeats, its time limit, its rate.

use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The longest wait between two attempts, and the longest that a receiver can ask for.
pub const MAX_WAIT: Duration = Duration::from_hours(24);

/// Most attempts of a delivery, whatever the schedule.
pub const MAX_ATTEMPTS: u32 = 20;

/// The longest time limit of an attempt.
pub const MAX_TIMEOUT: Duration = Duration::from_mins(1);

/// Attempts of the schedule of Standard Webhooks, the first included.
const STANDARD_ATTEMPTS: u32 = 10;

/// The waits of that schedule, in seconds: about three days.
const STANDARD: [u32; STANDARD_ATTEMPTS as usize - 1] = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];

const MAX_WAIT_SECONDS: u32 = 86_400;
const MAX_RATE_COUNT: u32 = 10_000;
const MAX_RATE_SECONDS: u32 = 3600;

/// What a webhook's owner decides of the pace of its deliveries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pace {
    /// When a failed delivery is tried again, and how often.
    pub retry: RetryPolicy,
    /// How long one attempt may take, in seconds; the service's own limit if not set.
    pub timeout: Option<u32>,
    /// Most attempts in a time.
    pub rate_limit: Option<RateLimit>,
}

impl Pace {
    /// How long one attempt may take, if the owner decided.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout.map(|seconds| Duration::from_secs(seconds.into()))
    }
}

/// When a failed delivery is tried again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RetryPolicy {
    /// Ten attempts over 75 hours, the example of Standard Webhooks.
    #[default]
    Standard,
    /// The wait before each attempt after the first, in seconds.
    Steps(Vec<u32>),
    /// Waits that grow by a factor.
    Exponential(Exponential),
}

impl<'de> Deserialize<'de> for RetryPolicy {
    /// By hand, because what is neither a word nor an object is of the wrong type, and not wrong JSON as serde has it for enums.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        enum Waits {
            Steps(Vec<u32>),
            Exponential(Exponential),
        }

        struct Policy;

        impl<'de> Visitor<'de> for Policy {
            type Value = RetryPolicy;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("`standard`, or an object with `steps` or `exponential`")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<RetryPolicy, E> {
                match word {
                    "standard" => Ok(RetryPolicy::Standard),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RetryPolicy, A::Error> {
                Waits::deserialize(MapAccessDeserializer::new(map)).map(|waits| match waits {
                    Waits::Steps(steps) => RetryPolicy::Steps(steps),
                    Waits::Exponential(exponential) => RetryPolicy::Exponential(exponential),
                })
            }
        }

        deserializer.deserialize_any(Policy)
    }
}

/// Waits that grow by a factor up to a longest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exponential {
    /// The first wait, in seconds.
    pub first: u32,
    /// What each wait is multiplied by for the next.
    pub factor: Factor,
    /// The longest wait, in seconds.
    pub max: u32,
    /// Attempts in all, the first included.
    pub attempts: u32,
}

/// A factor, exact to a thousandth, so that it comes back as it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "f64", into = "f64")]
pub struct Factor(u32);

impl From<f64> for Factor {
    fn from(factor: f64) -> Self {
        // What is no number, or out of range, ends at a bound of the type; the check then refuses it.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, as it is meant to")]
        Self((factor * 1000.0).round() as u32)
    }
}

impl From<Factor> for f64 {
    fn from(factor: Factor) -> Self {
        Self::from(factor.0) / 1000.0
    }
}

/// Most attempts in a time, the whole of which may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// So many attempts.
    pub count: u32,
    /// In so many seconds.
    pub per_seconds: u32,
}

/// A number that is out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct OutOfBounds {
    /// Where it is within its value, as a JSON pointer.
    pub pointer: String,
    /// What it has to be.
    pub problem: String,
}

fn within(pointer: &str, number: u32, least: u32, most: u32) -> Result<(), OutOfBounds> {
    if (least..=most).contains(&number) {
        return Ok(());
    }
    Err(OutOfBounds { pointer: pointer.to_owned(), problem: format!("it is between {least} and {most}") })
}

impl RetryPolicy {
    /// Whether every number is within its bounds.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        match self {
            Self::Standard => Ok(()),
            Self::Steps(steps) => {
                if steps.len() >= MAX_ATTEMPTS as usize {
                    let problem = format!("it has {} entries at most", MAX_ATTEMPTS - 1);
                    return Err(OutOfBounds { pointer: "/steps".to_owned(), problem });
                }
                let mut steps = steps.iter().enumerate();
                steps.try_for_each(|(index, step)| within(&format!("/steps/{index}"), *step, 1, MAX_WAIT_SECONDS))
            }
            Self::Exponential(exponential) => exponential.check(),
        }
    }

    /// The wait after attempt number `attempt` (1 for the first), without jitter; `None` after the last.
    pub fn wait_after(&self, attempt: u32) -> Option<Duration> {
        let index = attempt.max(1) - 1;
        let seconds = match self {
            Self::Standard => *STANDARD.get(index as usize)?,
            Self::Steps(steps) => *steps.get(index as usize)?,
            Self::Exponential(exponential) => return exponential.wait(index),
        };
        Some(Duration::from_secs(seconds.into()))
    }

    /// Attempts in all, the first included.
    pub fn attempts(&self) -> u32 {
        match self {
            Self::Standard => STANDARD_ATTEMPTS,
            Self::Steps(steps) => u32::try_from(steps.len()).map_or(u32::MAX, |steps| steps.saturating_add(1)),
            Self::Exponential(exponential) => exponential.attempts.max(1),
        }
    }
}

impl Exponential {
    fn check(&self) -> Result<(), OutOfBounds> {
        within("/exponential/first", self.first, 1, MAX_WAIT_SECONDS)?;
        if !(1000..=10_000).contains(&self.factor.0) {
            let problem = "it is between 1 and 10".to_owned();
            return Err(OutOfBounds { pointer: "/exponential/factor".to_owned(), problem });
        }
        within("/exponential/max", self.max, 1, MAX_WAIT_SECONDS)?;
        within("/exponential/attempts", self.attempts, 1, MAX_ATTEMPTS)
    }

    fn wait(&self, index: u32) -> Option<Duration> {
        if index + 1 >= self.attempts {
            return None;
        }
        let grown = f64::from(self.first) * f64::from(self.factor).powi(i32::try_from(index).unwrap_or(i32::MAX));
        Some(Duration::from_secs_f64(grown.min(f64::from(self.max))))
    }
}

impl RateLimit {
    /// Whether both numbers are within their bounds.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        within("/count", self.count, 1, MAX_RATE_COUNT)?;
        within("/perSeconds", self.per_seconds, 1, MAX_RATE_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(json: &str) -> RetryPolicy {
        serde_json::from_str(json).expect(json)
    }

    fn waits(policy: &RetryPolicy) -> Vec<u64> {
        (1..).map_while(|attempt| policy.wait_after(attempt)).map(|wait| wait.as_secs()).collect()
    }

    #[test]
    fn a_policy_says_its_waits() {
        for (json, expected) in [
            (r#""standard""#, vec![5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]),
            (r#"{"steps":[]}"#, vec![]),
            (r#"{"steps":[1,60]}"#, vec![1, 60]),
            (r#"{"exponential":{"first":2,"factor":3,"max":20,"attempts":5}}"#, vec![2, 6, 18, 20]),
            (r#"{"exponential":{"first":10,"factor":1.5,"max":86400,"attempts":4}}"#, vec![10, 15, 22]),
            (r#"{"exponential":{"first":10,"factor":1,"max":10,"attempts":1}}"#, vec![]),
            (r#"{"exponential":{"first":10,"factor":2,"max":4,"attempts":3}}"#, vec![4, 4]),
        ] {
            let policy = policy(json);
            policy.check().expect(json);
            assert_eq!(waits(&policy), expected, "{json}");
            assert_eq!(policy.attempts() as usize, expected.len() + 1, "{json}");
            assert_eq!(policy, serde_json::from_value(serde_json::to_value(&policy).expect("JSON")).expect("the same"));
        }
    }

    #[test]
    fn a_number_out_of_bounds_is_pointed_at() {
        for (json, pointer) in [
            (r#"{"steps":[1,0]}"#, "/steps/1"),
            (r#"{"steps":[86401]}"#, "/steps/0"),
            (r#"{"steps":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}"#, "/steps"),
            (r#"{"exponential":{"first":0,"factor":2,"max":10,"attempts":5}}"#, "/exponential/first"),
            (r#"{"exponential":{"first":1,"factor":0.9,"max":10,"attempts":5}}"#, "/exponential/factor"),
            (r#"{"exponential":{"first":1,"factor":-2,"max":10,"attempts":5}}"#, "/exponential/factor"),
            (r#"{"exponential":{"first":1,"factor":1e300,"max":10,"attempts":5}}"#, "/exponential/factor"),
            (r#"{"exponential":{"first":1,"factor":2,"max":0,"attempts":5}}"#, "/exponential/max"),
            (r#"{"exponential":{"first":1,"factor":2,"max":86401,"attempts":5}}"#, "/exponential/max"),
            (r#"{"exponential":{"first":1,"factor":2,"max":10,"attempts":0}}"#, "/exponential/attempts"),
            (r#"{"exponential":{"first":1,"factor":2,"max":10,"attempts":21}}"#, "/exponential/attempts"),
        ] {
            assert_eq!(policy(json).check().expect_err(json).pointer, pointer, "{json}");
        }
        for (count, per_seconds, pointer) in
            [(0, 1, "/count"), (10_001, 1, "/count"), (1, 0, "/perSeconds"), (1, 3601, "/perSeconds")]
        {
            assert_eq!(RateLimit { count, per_seconds }.check().expect_err("refused").pointer, pointer);
        }
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for json in [
            r#""often""#,
            r#"{"steps":[-1]}"#,
            r#"{"steps":[1],"exponential":{}}"#,
            r#"{"exponential":{"first":1}}"#,
            "{}",
            "null",
            "7",
            "[]",
            r#"{"steps":[],"more":1}"#,
        ] {
            assert!(serde_json::from_str::<RetryPolicy>(json).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn waits_never_shrink_nor_pass_a_day(first in 1_u32..=86_400, factor in 1.0_f64..=10.0, more in 0_u32..=86_400, attempts in 1_u32..=20) {
            let max = first.saturating_add(more).min(86_400);
            let policy = RetryPolicy::Exponential(Exponential { first, factor: factor.into(), max, attempts });
            prop_assert_eq!(policy.check(), Ok(()));
            let waits: Vec<_> = (1..=attempts).map_while(|attempt| policy.wait_after(attempt)).collect();
            prop_assert_eq!(u32::try_from(waits.len()), Ok(attempts - 1));
            prop_assert!(waits.is_sorted() && waits.iter().all(|wait| *wait <= MAX_WAIT));
        }
    }
}
