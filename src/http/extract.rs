//! Extractors that fail with an [`ApiError`]: path, query, JSON body and the headers of a send.

use std::time::Duration;

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::AppState;
use super::error::ApiError;

/// The parts of the path, parsed.
#[derive(Debug)]
pub(super) struct ApiPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for ApiPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, app).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::InvalidPath { detail: rejection.body_text() }),
        }
    }
}

/// The query, parsed; unknown parameters are refused by the type that it is parsed into.
#[derive(Debug)]
pub(super) struct ApiQuery<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for ApiQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        match Query::from_request_parts(parts, app).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::InvalidQuery { detail: rejection.body_text() }),
        }
    }
}

/// The body as JSON bytes, complete and announced as JSON, not parsed yet.
#[derive(Debug)]
pub(super) struct JsonBytes(pub(super) Bytes);

impl FromRequest<AppState> for JsonBytes {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::UnsupportedMediaType);
        }
        read_body(request, app).await.map(Self)
    }
}

/// The body as it came, complete.
pub(super) async fn read_body(request: Request, app: &AppState) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(app.settings.request_timeout, Bytes::from_request(request, app)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(rejection)) => Err(unreadable(&rejection, app.settings.body_limit)),
        Err(_) => Err(ApiError::RequestTimeout),
    }
}

fn unreadable(rejection: &BytesRejection, limit: usize) -> ApiError {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::BodyTooLarge { limit },
        _ => ApiError::BodyUnreadable,
    }
}

/// Whether the body is announced as `application/json` or a format on top of it.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(media_type) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let Some((_, subtype)) = essence.split_once('/').filter(|(kind, _)| kind.eq_ignore_ascii_case("application")) else {
        return false;
    };
    subtype.eq_ignore_ascii_case("json") || subtype.len() > 5 && subtype[subtype.len() - 5..].eq_ignore_ascii_case("+json")
}

/// The body as a value; unknown fields are refused by the type that it is parsed into.
#[derive(Debug)]
pub(super) struct ApiJson<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<AppState> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        let JsonBytes(bytes) = JsonBytes::from_request(request, app).await?;
        parse_json(&bytes).map(Self)
    }
}

/// The body as a value, or the default if there is no body and none is announced, or if it is `null`.
#[derive(Debug)]
pub(super) struct OptionalJson<T>(pub(super) T);

impl<T: DeserializeOwned + Default> FromRequest<AppState> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        if request.headers().contains_key(CONTENT_TYPE) {
            let JsonBytes(bytes) = JsonBytes::from_request(request, app).await?;
            return if bytes.trim_ascii() == b"null" { Ok(Self(T::default())) } else { parse_json(&bytes).map(Self) };
        }
        if read_body(request, app).await?.is_empty() { Ok(Self(T::default())) } else { Err(ApiError::UnsupportedMediaType) }
    }
}

/// Parses a body and names what is wrong with it: where it is no JSON, or which field is not as it should be.
pub(super) fn parse_json<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, ApiError> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_none() {
        return Err(ApiError::MalformedJson { detail: "it is empty".to_owned() });
    }
    if first != Some(&b'{') {
        // serde would also take an array for a structure.
        let valid = serde_json::from_slice::<serde::de::IgnoredAny>(bytes);
        return Err(match valid {
            Ok(_) => ApiError::field("", "it must be a JSON object"),
            Err(error) => ApiError::MalformedJson { detail: error.to_string() },
        });
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = json_pointer(error.path());
        not_parsed(&error.into_inner(), pointer)
    })?;
    deserializer.end().map_err(|error| not_parsed(&error, String::new()))?;
    Ok(value)
}

fn not_parsed(error: &serde_json::Error, pointer: String) -> ApiError {
    if error.is_data() {
        let text = error.to_string();
        // The pointer says where; serde_json's line and column would only repeat it.
        let detail = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
        ApiError::field(pointer, in_words_of_json(detail))
    } else {
        ApiError::MalformedJson { detail: error.to_string() }
    }
}

/// serde's words for what was expected, without the names that types have inside.
fn in_words_of_json(detail: &str) -> String {
    let Some((found, expected)) = detail.rsplit_once(", expected ") else { return detail.to_owned() };
    let is_object =
        ["struct ", "internally tagged enum ", "adjacently tagged enum "].iter().any(|kind| expected.starts_with(kind));
    let expected = if is_object || expected == "a map" { "an object" } else { expected };
    let found = match found.strip_suffix("sequence") {
        Some(before) => format!("{before}array"),
        None => found.to_owned(),
    };
    format!("{}, expected {expected}", found.replace("invalid type: map", "invalid type: object"))
}

fn json_pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                pointer.push('/');
                pointer.push_str(&index.to_string());
            }
            Segment::Map { key } | Segment::Enum { variant: key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Unknown => {}
        }
    }
    pointer
}

/// How long the caller wants to wait for the outcome: `Prefer: wait=N` and `respond-async` (RFC 7240). Other preferences, and what
/// cannot be read as one, are ignored, as that document wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    /// How long to wait.
    pub(super) duration: Duration,
    /// Whether the caller asked for it.
    asked: bool,
    /// Whether the caller wants the message taken into the outbox, and does not wait unless it says how long.
    pub(super) respond_async: bool,
}

impl Wait {
    /// The value of `Preference-Applied`, if the caller's preference was.
    pub(super) fn applied(self) -> Option<HeaderValue> {
        let wait = self.asked.then(|| format!("wait={}", self.duration.as_secs()));
        let text = match (self.respond_async, wait) {
            (true, Some(wait)) => format!("respond-async, {wait}"),
            (true, None) => "respond-async".to_owned(),
            (false, wait) => wait?,
        };
        Some(HeaderValue::from_str(&text).expect("words and a number"))
    }

    fn read(headers: &HeaderMap, default: Duration, most: Duration) -> Self {
        let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        let preferences: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
        let respond_async = preferences.iter().copied().any(is_respond_async);
        match preferences.into_iter().find_map(read_wait) {
            Some(seconds) => Self { duration: Duration::from_secs(seconds).min(most), asked: true, respond_async },
            None if respond_async => Self { duration: Duration::ZERO, asked: false, respond_async },
            None => Self { duration: default, asked: false, respond_async },
        }
    }
}

/// Whether this is the preference `respond-async`, which has no value.
fn is_respond_async(preference: &str) -> bool {
    preference.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("respond-async"))
}

/// The seconds of the preference `wait=N`.
fn read_wait(preference: &str) -> Option<u64> {
    let (name, value) = preference.split(';').next()?.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("wait") {
        return None;
    }
    let digits = value.trim().trim_matches('"');
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

impl FromRequestParts<AppState> for Wait {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Self::Rejection> {
        Ok(Self::read(&parts.headers, app.settings.default_wait, app.settings.max_wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[serde(rename = "a/b")]
        _list: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        _id: u8,
    }

    fn fault(body: &str) -> ApiError {
        parse_json::<Body>(body.as_bytes()).expect_err(body)
    }

    #[test]
    fn a_wrong_field_is_pointed_at() {
        for (body, pointer, word) in [
            (r#"{"a/b":[{"_id":1},{"_id":"x"}]}"#, "/a~1b/1/_id", "invalid type"),
            (r#"{"a/b":[{}]}"#, "/a~1b/0", "missing field `_id`"),
            (r#"{"a/b":[],"colour":1}"#, "/colour", "unknown field `colour`"),
            (r#"{"a/b":[7]}"#, "/a~1b/0", "integer `7`, expected an object"),
            (r#"{"a/b":[{"_id":[]}]}"#, "/a~1b/0/_id", "invalid type: array, expected u8"),
            (r#"{"a/b":[{"_id":{}}]}"#, "/a~1b/0/_id", "invalid type: object, expected u8"),
            ("[]", "", "object"),
            ("7", "", "object"),
        ] {
            let ApiError::InvalidBody(errors) = fault(body) else { panic!("{body} was read otherwise") };
            assert_eq!(errors[0].pointer, pointer, "{body}");
            assert!(errors[0].detail.contains(word) && !errors[0].detail.contains("line"), "{body}: {}", errors[0].detail);
        }
    }

    #[test]
    fn what_is_no_json_is_said_to_be_none() {
        for body in ["", "{", "{]", r#"{"a/b":[]} x"#, "\u{feff}{}"] {
            assert_eq!(fault(body).code(), "malformed_json", "{body}");
        }
    }

    #[test]
    fn media_types_of_json_are_known() {
        for (media_type, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/vnd.x+json", true),
            ("text/json", false),
            ("application/jsonx", false),
            ("application", false),
            ("application/", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            assert_eq!(is_json(&headers), expected, "{media_type}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }

    #[test]
    fn a_preference_to_wait_is_read_and_bounded() {
        for (prefer, seconds, applied) in [
            ("wait=5", 5, Some("wait=5")),
            ("x, WAIT = \"7\"; x=1", 7, Some("wait=7")),
            ("Respond-Async, wait=7", 7, Some("respond-async, wait=7")),
            ("respond-async;x=1", 0, Some("respond-async")),
            ("respond-asynchronously, respond-async=1", 10, None),
            ("wait=600", 60, Some("wait=60")),
            ("wait=0", 0, Some("wait=0")),
            ("wait=soon", 10, None),
            ("wait=-1", 10, None),
            ("wait=", 10, None),
            ("return=minimal", 10, None),
            ("wait=99999999999999999999", 10, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("prefer", HeaderValue::from_static(prefer));
            let wait = Wait::read(&headers, Duration::from_secs(10), Duration::from_mins(1));
            assert_eq!(wait.duration.as_secs(), seconds, "{prefer}");
            assert_eq!(wait.applied().as_ref().and_then(|value| value.to_str().ok()), applied, "{prefer}");
        }
    }
}
