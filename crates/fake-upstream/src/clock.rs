//! Times as the upstream writes them: milliseconds inside, ISO 8601 in UTC on the wire.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, now.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// `2031-03-14T09:26:53.589Z`; a time outside the calendar becomes the epoch.
pub(crate) fn iso(milliseconds: i64) -> String {
    let timestamp = jiff::Timestamp::from_millisecond(milliseconds).unwrap_or_default();
    format!("{timestamp:.3}")
}

/// Reads an ISO 8601 time or a number of milliseconds.
pub(crate) fn parse(text: &str) -> Option<i64> {
    if let Ok(milliseconds) = text.parse::<i64>() {
        return Some(milliseconds);
    }
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_milliseconds_and_read_back() {
        assert_eq!(iso(1_700_000_000_042), "2023-11-14T22:13:20.042Z");
        assert_eq!(parse(&iso(1_700_000_000_042)), Some(1_700_000_000_042));
        assert_eq!(parse("1700000000042"), Some(1_700_000_000_042));
        assert_eq!(parse("yesterday"), None);
    }
}
