//! What Spaces still allows, as headers of answers and as a part of a session.

use std::time::Duration;

use axum::response::Response;
use http::{HeaderMap, HeaderName};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::AppState;
use super::auth::AccountCaller;
use crate::domain::Timestamp;
use crate::governor::{Allowance, Governor};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// How a limit stands, as headers tell it.
pub(super) struct Standing {
    /// How much there may be in a time.
    pub(super) limit: u32,
    /// How much is left of it.
    pub(super) remaining: u32,
    /// How long until all of it is available again.
    pub(super) reset_after: Duration,
}

impl Standing {
    /// Tells it in `headers`.
    pub(super) fn show(&self, headers: &mut HeaderMap) {
        headers.insert(LIMIT, self.limit.into());
        headers.insert(REMAINING, self.remaining.into());
        headers.insert(RESET, whole_seconds(self.reset_after).into());
    }
}

impl From<&Allowance> for Standing {
    fn from(allowance: &Allowance) -> Self {
        Self { limit: allowance.limit, remaining: allowance.remaining, reset_after: allowance.reset_after }
    }
}

/// `duration` in whole seconds, rounded up.
pub(super) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_nanos().div_ceil(1_000_000_000).try_into().unwrap_or(u64::MAX)
}

/// Tells in `response` what the caller's user may still send, if the caller has a session.
pub(super) fn show_allowance(app: &AppState, caller: &AccountCaller, response: &mut Response) {
    if let Some(session) = caller.known_session(app) {
        Standing::from(&session.emit_allowance()).show(response.headers_mut());
    }
}

/// Largest message that Spaces takes from the caller, in bytes, as far as it is known. Opens no session.
pub(super) fn payload_limit(app: &AppState, caller: &AccountCaller) -> usize {
    let known = caller.known_session(app).map(|session| session.payload_limit());
    known.unwrap_or_else(|| app.rest.governors().payload_bytes())
}

/// What Spaces allows the user of a session, and what is left of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Limits)]
pub(super) struct LimitsView {
    /// Where the numbers come from.
    #[schema(value_type = LimitSourceName)]
    source: &'static str,
    /// Messages and subscriptions, over all sessions of the user.
    emits: AllowanceView,
    /// Calls of Spaces' REST API, over all sessions of the user.
    rest_calls: AllowanceView,
    /// Largest message in bytes, as Spaces gets it.
    payload_bytes: usize,
    /// Largest file in bytes.
    file_bytes: u64,
    /// Most connections of the user at a time, those of browsers and telephones included.
    max_connections: u32,
}

/// Where limits come from.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = LimitSource)]
#[expect(dead_code, reason = "the governor's sources as the document shows them")]
pub(super) enum LimitSourceName {
    /// Spaces said so.
    Live,
    /// The documentation of Spaces says so; Spaces itself did not tell yet, or nothing that makes sense.
    Default,
    /// A setting of the service is lower than what Spaces allows.
    Setting,
}

/// A limit and what is left of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Allowance)]
pub(super) struct AllowanceView {
    /// Most in the time.
    limit: u32,
    /// The time in seconds.
    per_seconds: u64,
    /// What is left now.
    remaining: u32,
    /// When all of it is available again if nothing more is used; `null` if all of it is now.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    reset_at: Option<Timestamp>,
}

impl LimitsView {
    pub(super) fn new(governor: &Governor, clock_now: Timestamp) -> Self {
        let (limits, now) = (governor.limits(), Instant::now());
        let view = |allowance: Allowance| AllowanceView {
            limit: allowance.limit,
            per_seconds: allowance.per.as_secs(),
            remaining: allowance.remaining,
            reset_at: (!allowance.reset_after.is_zero()).then(|| clock_now.saturating_add(allowance.reset_after)),
        };
        Self {
            source: limits.source.as_str(),
            emits: view(governor.emit_allowance(now)),
            rest_calls: view(governor.call_allowance(now)),
            payload_bytes: limits.payload_bytes,
            file_bytes: limits.file_bytes,
            max_connections: limits.connections,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up() {
        for (nanos, seconds) in [(0, 0), (1, 1), (1_000_000_000, 1), (1_000_000_001, 2), (1_500_000_000, 2)] {
            assert_eq!(whole_seconds(Duration::from_nanos(nanos)), seconds, "{nanos}");
        }
    }

    #[test]
    fn a_limit_is_told_in_three_headers() {
        let mut headers = HeaderMap::new();
        let reset_after = Duration::from_millis(41_200);
        Standing { limit: 200, remaining: 17, reset_after }.show(&mut headers);
        let header = |name: &str| headers[name].to_str().expect("a text").to_owned();
        assert_eq!(
            [header("X-RateLimit-Limit"), header("X-RateLimit-Remaining"), header("X-RateLimit-Reset")],
            ["200", "17", "42"]
        );
    }
}
