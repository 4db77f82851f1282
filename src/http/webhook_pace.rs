//! The pace of a webhook as the API shows and takes it: schedule of repeats, time limit, rate.

use utoipa::ToSchema;

use super::error::ApiError;
use crate::domain::{MAX_TIMEOUT, OutOfBounds, RateLimit, RetryPolicy};

/// When a failed delivery is tried again: `standard` (ten attempts over 75 hours), the waits one by one, or waits that grow by a
/// factor. Every wait varies by up to a fifth either way, is never shorter than the receiver's `Retry-After`, and never longer
/// than 24 hours.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = RetryPolicy)]
#[expect(dead_code, reason = "the domain's policies as the document shows them")]
pub(super) enum RetryPolicyForm {
    Standard(RetryWord),
    Steps(RetrySteps),
    Exponential(RetryExponential),
}

/// The schedule of Standard Webhooks.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "as the document shows it")]
pub(super) enum RetryWord {
    Standard,
}

/// The waits one by one.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "as the document shows it")]
pub(super) struct RetrySteps {
    /// The wait before each attempt after the first, in seconds. None at all means a single attempt.
    #[schema(max_items = 19, example = json!([10, 60, 600]))]
    steps: Vec<WaitSeconds>,
}

/// A wait in seconds.
#[derive(ToSchema)]
#[schema(minimum = 1, maximum = 86_400)]
#[expect(dead_code, reason = "as the document shows it")]
pub(super) struct WaitSeconds(u32);

/// Waits that grow by a factor.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "as the document shows it")]
pub(super) struct RetryExponential {
    exponential: ExponentialWaits,
}

/// Waits that grow by a factor up to a longest one.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "as the document shows it")]
pub(super) struct ExponentialWaits {
    /// The first wait, in seconds.
    #[schema(minimum = 1, maximum = 86_400, example = 10)]
    first: u32,
    /// What each wait is multiplied by for the next, to a thousandth.
    #[schema(minimum = 1, maximum = 10, example = 2)]
    factor: f64,
    /// The longest wait, in seconds.
    #[schema(minimum = 1, maximum = 86_400, example = 3600)]
    max: u32,
    /// Attempts in all, the first included.
    #[schema(minimum = 1, maximum = 20, example = 10)]
    attempts: u32,
}

/// Most attempts in a time. All of them may come at once; after a pause of the whole time the full number is there again.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = RateLimit)]
#[expect(dead_code, reason = "the domain's rate as the document shows it")]
pub(super) struct RateLimitForm {
    /// So many attempts.
    #[schema(minimum = 1, maximum = 10_000, example = 60)]
    count: u32,
    /// In so many seconds.
    #[schema(minimum = 1, maximum = 3600, example = 60)]
    per_seconds: u32,
}

pub(super) fn checked_retry(retry: RetryPolicy) -> Result<RetryPolicy, ApiError> {
    retry.check().map_err(|error| out_of_bounds("/retry", &error))?;
    Ok(retry)
}

pub(super) fn checked_timeout(timeout: Option<u32>) -> Result<Option<u32>, ApiError> {
    match timeout {
        Some(seconds) if !(1..=MAX_TIMEOUT.as_secs()).contains(&seconds.into()) => {
            Err(ApiError::field("/timeout", format!("it is between 1 and {}", MAX_TIMEOUT.as_secs())))
        }
        _ => Ok(timeout),
    }
}

pub(super) fn checked_rate(rate: Option<RateLimit>) -> Result<Option<RateLimit>, ApiError> {
    if let Some(rate) = &rate {
        rate.check().map_err(|error| out_of_bounds("/rateLimit", &error))?;
    }
    Ok(rate)
}

fn out_of_bounds(field: &str, error: &OutOfBounds) -> ApiError {
    ApiError::field(format!("{field}{}", error.pointer), error.problem.clone())
}
