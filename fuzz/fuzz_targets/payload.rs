//! Whatever is posted to an incoming hook becomes harmless HTML or is refused, in every format.

#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use spaces_bridge::incoming::{Format, render};
use spaces_bridge::markup::Sanitizer;
use spaces_bridge_fuzz::assert_safe;

const FORMATS: [&str; 11] =
    ["auto", "text", "slack", "mattermost", "grafana", "alertmanager", "github", "gitlab", "jenkins", "sentry", "uptime_kuma"];

fuzz_target!(|body: &[u8]| {
    let sanitizer = Sanitizer::new();
    for media_type in ["application/json", "application/x-www-form-urlencoded", "text/plain"] {
        let headers = HeaderMap::from_iter([
            (http::header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
            (http::HeaderName::from_static("x-github-event"), HeaderValue::from_static("push")),
            (http::HeaderName::from_static("x-gitlab-event"), HeaderValue::from_static("Push Hook")),
        ]);
        for format in FORMATS {
            let format: Format = format.parse().expect("a format");
            if let Ok(rendered) = render(format, &headers, body, &sanitizer) {
                assert_safe(&rendered.html);
                assert!(!rendered.html.is_empty());
            }
        }
    }
});
