//! What Spaces says of its limits (`GET /api/limit`, <https://spaces.avayacloud.com/developers/docs/guides/limit>), and how the calls
//! that it limits are named.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use url::Url;

use super::rest::{RestClient, RestError};
use crate::domain::Credential;
use crate::governor::{Quota, ReportedLimits};

/// Longest time over which a limit is believed to be counted.
const LONGEST_INTERVAL: u64 = 86_400;

/// Resources whose limits are read.
const MAX_RESOURCES: usize = 1_000;

const KIB: u64 = 1 << 10;

impl RestClient {
    /// What Spaces allows the user of the token.
    pub async fn limits(&self, credential: &Credential) -> Result<ReportedLimits, RestError> {
        let answer: Value = self.call(credential, Method::GET, self.path(&["api", "limit"])).await?;
        let reported = read(&answer);
        if reported == ReportedLimits::default() {
            return Err(RestError::Unreadable { detail: "no limits in the answer" });
        }
        Ok(reported)
    }
}

/// The name of what a call asks for: the method and the path, with `*` for what varies.
pub(super) fn resource(method: &Method, url: &Url, base: &Url) -> String {
    let path = url.path().strip_prefix(base.path().trim_end_matches('/')).unwrap_or(url.path());
    name(method.as_str(), path)
}

fn name(method: &str, path: &str) -> String {
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    segments.fold(method.to_ascii_uppercase() + " ", |name, segment| name + "/" + if is_word(segment) { segment } else { "*" })
}

/// Whether a segment belongs to the path itself: ids have digits, and places for them are marked by `:`, `{` or `*`.
fn is_word(segment: &str) -> bool {
    segment.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// Reads the answer leniently: part by part, and what makes no sense is left out.
fn read(answer: &Value) -> ReportedLimits {
    let (rest_api, socketio) = (&answer["global"]["rest_api"], &answer["global"]["socketio"]);
    ReportedLimits {
        emits: quota(socketio, None),
        rest_calls: quota(rest_api, None),
        payload_bytes: number(&socketio["payload_size"]).and_then(|kib| usize::try_from(kib.saturating_mul(KIB)).ok()),
        connections: number(&socketio["max_connections"]).map(saturated),
        file_bytes: number(&rest_api["max_upload_file_size"]).map(|kib| kib.saturating_mul(KIB)),
        resources: answer["resource"]
            .as_array()
            .map(|resources| resources.iter().take(MAX_RESOURCES).filter_map(named_quota).collect::<HashMap<_, _>>()),
    }
}

fn named_quota(resource: &Value) -> Option<(String, Quota)> {
    // What is said without a time is a limit per minute, as the documentation's are.
    let quota = quota(resource, Some(60))?;
    Some((name(resource["method"].as_str()?, resource["path"].as_str()?), quota))
}

/// The rate, if it makes sense.
fn quota(part: &Value, default_interval: Option<u64>) -> Option<Quota> {
    let interval = number(&part["rate_interval"]).or(default_interval).filter(|seconds| *seconds <= LONGEST_INTERVAL)?;
    Some(Quota { count: saturated(number(&part["rate_limit"])?), per: Duration::from_secs(interval) })
}

/// A number of one or more, also if it is written as a text.
fn number(value: &Value) -> Option<u64> {
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
    number.filter(|number| *number > 0)
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn per(count: u32, seconds: u64) -> Quota {
        Quota { count, per: Duration::from_secs(seconds) }
    }

    #[test]
    fn the_documented_answer_is_read() {
        let limits = read(&json!({
            "global": {
                "rest_api": {"rate_limit": 600, "rate_interval": 300, "max_upload_file_size": 1_048_576},
                "socketio": {"max_connections": 3, "rate_limit": 600, "rate_interval": 60, "payload_size": 16},
            },
            "resource": [
                {"path": "/api/files/getuploadurl", "method": "POST", "rate_limit": 30, "rate_interval": 60},
                {"path": "/api/spaces/:id/invite", "method": "post", "rate_limit": 10},
                {"path": 7},
                "odd",
            ],
        }));
        let resources = HashMap::from([
            ("POST /api/files/getuploadurl".to_owned(), per(30, 60)),
            ("POST /api/spaces/*/invite".to_owned(), per(10, 60)),
        ]);
        assert_eq!(
            limits,
            ReportedLimits {
                emits: Some(per(600, 60)),
                rest_calls: Some(per(600, 300)),
                payload_bytes: Some(16 << 10),
                connections: Some(3),
                file_bytes: Some(1 << 30),
                resources: Some(resources),
            }
        );
    }

    #[test]
    fn what_makes_no_sense_is_left_to_the_documentation() {
        for body in [
            json!([]),
            json!("ok"),
            json!({}),
            json!({"global": 5, "resource": "x"}),
            json!({"global": {"socketio": {"rate_limit": 0, "rate_interval": 60, "payload_size": -1, "max_connections": "many"}}}),
            json!({"global": {"socketio": {"rate_limit": 600}, "rest_api": {"rate_limit": 600, "rate_interval": 0}}}),
            json!({"global": {"rest_api": {"rate_limit": 600, "rate_interval": 100_000_000}}}),
        ] {
            assert_eq!(read(&body), ReportedLimits::default(), "{body}");
        }
        let partly = read(&json!({"global": {"socketio": {"rate_limit": "90", "rate_interval": 60.5, "payload_size": "8"}}}));
        assert_eq!(partly, ReportedLimits { payload_bytes: Some(8 << 10), ..ReportedLimits::default() });
        let huge = read(&json!({"global": {"socketio": {"rate_limit": u64::MAX, "rate_interval": "60"}}}));
        assert_eq!(huge.emits, Some(per(u32::MAX, 60)));
    }

    #[test]
    fn a_resource_is_named_without_what_varies() {
        let base: Url = "https://rest.example/base/".parse().expect("an address");
        for (path, expected) in [
            ("api/users/me", "GET /api/users/me"),
            ("api/spaces/64f0a1b2c3d4e5f601020304/join?x=1", "GET /api/spaces/*/join"),
            ("api/spaces/direct/user/5a0b1c2d", "GET /api/spaces/direct/user/*"),
            ("api/users/me/spaces", "GET /api/users/me/spaces"),
        ] {
            let url = base.join(path).expect("an address");
            assert_eq!(resource(&Method::GET, &url, &base), expected);
        }
        assert_eq!(name("post", "/api/spaces/{spaceId}/invite/"), "POST /api/spaces/*/invite");
    }
}
