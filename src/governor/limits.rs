//! [`Limits`]: what Spaces allows a user, from what it says, what its documentation says, and what the operator wants.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// So many uses in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Most uses.
    pub count: u32,
    /// In this time.
    pub per: Duration,
}

/// Avaya's documented limits of a user (<https://spaces.avayacloud.com/developers/docs/guides/limit>).
const EMITS: Quota = Quota { count: 200, per: Duration::from_mins(1) };
const REST_CALLS: Quota = Quota { count: 600, per: Duration::from_mins(5) };
const CALLS_OF_A_RESOURCE: Quota = Quota { count: 60, per: Duration::from_mins(1) };
const UPLOAD_ADDRESSES: Quota = Quota { count: 30, per: Duration::from_mins(1) };
const FILE_BYTES: u64 = 1 << 30;
const PAYLOAD_BYTES: usize = 16 << 10;
const CONNECTIONS: u32 = 3;

/// What the operator says of limits. Neither raises what Spaces allows.
#[derive(Debug, Clone, Copy, Default)]
pub struct LimitSettings {
    /// Most emits of a user in a minute.
    pub emits_per_minute: Option<u32>,
    /// Largest event in bytes.
    pub payload_bytes: Option<usize>,
}

/// Where limits come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitSource {
    /// Spaces said so.
    Live,
    /// The documentation says so; Spaces did not answer, or nothing that makes sense.
    Default,
    /// The operator wants less than Spaces allows.
    Setting,
}

impl LimitSource {
    /// The source's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Default => "default",
            Self::Setting => "setting",
        }
    }
}

/// What Spaces said of its limits; `None` where it said nothing that makes sense.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportedLimits {
    /// Socket.IO events of a user.
    pub emits: Option<Quota>,
    /// REST calls of a user.
    pub rest_calls: Option<Quota>,
    /// Bytes of one event.
    pub payload_bytes: Option<usize>,
    /// Connections of a user at a time.
    pub connections: Option<u32>,
    /// Bytes of one file.
    pub file_bytes: Option<u64>,
    /// Calls of single resources (`GET /api/users/me`, with `*` for what varies); the others have no limit of their own.
    pub resources: Option<HashMap<String, Quota>>,
}

/// What holds for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Where the numbers come from.
    pub source: LimitSource,
    /// Socket.IO events.
    pub emits: Quota,
    /// REST calls.
    pub rest_calls: Quota,
    /// Bytes of one event.
    pub payload_bytes: usize,
    /// Connections at a time.
    pub connections: u32,
    /// Bytes of one file.
    pub file_bytes: u64,
    pub(super) resources: Resources,
}

/// Limits of single resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resources {
    /// Each has the documented one.
    Documented,
    /// Those that Spaces named have theirs.
    Named(Arc<HashMap<String, Quota>>),
}

impl Resources {
    pub(super) fn quota(&self, resource: &str) -> Option<Quota> {
        match self {
            Self::Documented if resource == "POST /api/files/getuploadurl" => Some(UPLOAD_ADDRESSES),
            Self::Documented => Some(CALLS_OF_A_RESOURCE),
            Self::Named(named) => named.get(resource).copied(),
        }
    }
}

impl Limits {
    /// What holds if Spaces said `reported` and the operator says `settings`.
    pub(super) fn new(reported: ReportedLimits, settings: LimitSettings) -> Self {
        let said_something = reported.emits.is_some() || reported.rest_calls.is_some() || reported.payload_bytes.is_some();
        let emits = reported.emits.unwrap_or(EMITS);
        let payload_bytes = reported.payload_bytes.unwrap_or(PAYLOAD_BYTES);
        let most_emits = settings.emits_per_minute.map_or(u32::MAX, |per_minute| in_time(per_minute, emits.per));
        let most_bytes = settings.payload_bytes.unwrap_or(usize::MAX);
        let source = match (most_emits < emits.count || most_bytes < payload_bytes, said_something) {
            (true, _) => LimitSource::Setting,
            (false, true) => LimitSource::Live,
            (false, false) => LimitSource::Default,
        };
        Self {
            source,
            emits: Quota { count: emits.count.min(most_emits), per: emits.per },
            rest_calls: reported.rest_calls.unwrap_or(REST_CALLS),
            payload_bytes: payload_bytes.min(most_bytes),
            connections: reported.connections.unwrap_or(CONNECTIONS),
            file_bytes: reported.file_bytes.unwrap_or(FILE_BYTES),
            resources: reported.resources.map_or(Resources::Documented, |named| Resources::Named(Arc::new(named))),
        }
    }
}

/// What a limit per minute comes to in another time; at least one.
fn in_time(per_minute: u32, time: Duration) -> u32 {
    let count = u64::from(per_minute) * time.as_secs() / 60;
    u32::try_from(count).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn per_minute(count: u32) -> Quota {
        Quota { count, per: Duration::from_mins(1) }
    }

    fn limits(emits: Option<Quota>, cap: Option<u32>) -> (u32, LimitSource) {
        let reported = ReportedLimits { emits, ..ReportedLimits::default() };
        let limits = Limits::new(reported, LimitSettings { emits_per_minute: cap, payload_bytes: None });
        (limits.emits.count, limits.source)
    }

    #[test]
    fn the_setting_lowers_what_spaces_allows_and_never_raises_it() {
        for (emits, cap, expected) in [
            (None, None, (200, LimitSource::Default)),
            (None, Some(100), (100, LimitSource::Setting)),
            (None, Some(100_000), (200, LimitSource::Default)),
            (Some(per_minute(600)), None, (600, LimitSource::Live)),
            (Some(per_minute(600)), Some(600), (600, LimitSource::Live)),
            (Some(per_minute(600)), Some(50), (50, LimitSource::Setting)),
            (Some(per_minute(600)), Some(100_000), (600, LimitSource::Live)),
            (Some(Quota { count: 100, per: Duration::from_secs(10) }), Some(60), (10, LimitSource::Setting)),
            (Some(Quota { count: 100, per: Duration::from_secs(10) }), Some(1), (1, LimitSource::Setting)),
        ] {
            assert_eq!(limits(emits, cap), expected, "{emits:?} {cap:?}");
        }
    }

    #[test]
    fn without_a_word_of_spaces_each_resource_has_the_documented_limit() {
        let documented = Limits::new(ReportedLimits::default(), LimitSettings::default());
        assert_eq!(documented.resources.quota("GET /api/users/me"), Some(CALLS_OF_A_RESOURCE));
        assert_eq!(documented.resources.quota("POST /api/files/getuploadurl"), Some(per_minute(30)));
        assert_eq!(documented.file_bytes, 1 << 30);
        let named = HashMap::from([("POST /api/files/getuploadurl".to_owned(), per_minute(30))]);
        let named = ReportedLimits { resources: Some(named), ..ReportedLimits::default() };
        let named = Limits::new(named, LimitSettings::default());
        assert_eq!(named.resources.quota("POST /api/files/getuploadurl"), Some(per_minute(30)));
        assert_eq!(named.resources.quota("GET /api/users/me"), None);
    }
}
