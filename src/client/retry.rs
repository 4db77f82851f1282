//! When a call is made again.

use std::time::Duration;

use super::ClientError;

/// The first pause after a failure that does not say how long to wait; each one after it is twice as long.
const FIRST: Duration = Duration::from_millis(200);

/// The longest such pause.
const LONGEST: Duration = Duration::from_secs(5);

/// How long to wait before the next attempt, after `attempt` earlier ones and this `error`, with `left` of the patience; `None` if
/// there is to be none.
pub(super) fn pause(error: &ClientError, attempt: u32, left: Duration) -> Option<Duration> {
    let growing = FIRST.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(LONGEST);
    let pause = match error {
        ClientError::Unreachable(_)
        | ClientError::Broken(_)
        | ClientError::Silent
        | ClientError::NoBridge { status: 502..=504 } => growing,
        ClientError::Problem(problem) if problem.is_about_now() => problem.retry_after().unwrap_or(growing),
        ClientError::Problem(_)
        | ClientError::NoBridge { .. }
        | ClientError::NoStream
        | ClientError::Address(_)
        | ClientError::Token(_)
        | ClientError::Tls(_)
        | ClientError::File { .. }
        | ClientError::InDoubt(_) => return None,
    };
    (pause <= left && !left.is_zero()).then_some(pause)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Problem;
    use super::*;

    fn problem(status: u16, code: &str, retry_after: Option<u64>) -> ClientError {
        ClientError::Problem(Problem::read(status, json!({"code": code, "retryAfter": retry_after})).expect("a problem"))
    }

    #[test]
    fn what_may_pass_is_waited_for_as_long_as_patience_lasts() {
        let second = Duration::from_secs(1);
        for (error, left, expected) in [
            (ClientError::Silent, second, Some(FIRST)),
            (ClientError::Silent, Duration::ZERO, None),
            (ClientError::NoBridge { status: 503 }, second, Some(FIRST)),
            (ClientError::NoBridge { status: 404 }, second, None),
            (problem(503, "not_ready", Some(1)), second, Some(second)),
            (problem(503, "not_ready", Some(2)), second, None),
            (problem(429, "key_rate_limited", Some(1)), second, Some(second)),
            (problem(409, "idempotency_in_progress", Some(1)), second, Some(second)),
            (problem(409, "message_cancelled", None), second, None),
            (problem(503, "not_connected", None), second, Some(FIRST)),
            (problem(422, "invalid_body", None), second, None),
            (problem(401, "token_refused", None), second, None),
        ] {
            assert_eq!(pause(&error, 0, left), expected, "{error:?}");
        }
        assert_eq!(pause(&ClientError::Silent, 1, second), Some(FIRST * 2));
        assert_eq!(pause(&ClientError::Silent, 40, Duration::from_mins(1)), Some(LONGEST));
    }
}
