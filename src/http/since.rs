//! The time from which on a new webhook or subscription wants to have what happened before it.

use super::AppState;
use super::error::ApiError;
use crate::domain::Timestamp;

/// A time that is neither to come nor longer ago than the history is read.
pub(super) fn checked_since(since: Option<Timestamp>, app: &AppState) -> Result<Option<Timestamp>, ApiError> {
    let Some(since) = since else { return Ok(None) };
    let (now, limit) = (app.clock.now(), app.settings.recovery_limit);
    if since > now {
        return Err(ApiError::field("/since", "it is in the future"));
    }
    if now.since(since) > limit {
        let hours = limit.as_secs() / 3600;
        return Err(ApiError::field("/since", format!("the history is read {hours} hours back at most")));
    }
    Ok(Some(since))
}
