//! What comes in: JSON, a form, or plain text, whatever it says of itself.

use std::collections::BTreeMap;

use serde_json::Value;

/// The body of a call of an incoming hook.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// Words.
    Text(String),
    /// JSON.
    Json(Value),
}

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// It is not UTF-8.
    #[error("the body is no UTF-8 text")]
    NotText,
    /// It says that it is JSON and is not.
    #[error("the body is announced as JSON and cannot be read as such: {0}")]
    NotJson(String),
    /// The field `payload` of a form is no JSON.
    #[error("the form's field `payload` cannot be read as JSON: {0}")]
    PayloadNotJson(String),
    /// It is empty.
    #[error("the body is empty")]
    Empty,
}

impl PayloadError {
    /// Whether there is text all the same, that people can make sense of.
    pub(super) fn is_text(&self) -> bool {
        match self {
            Self::NotJson(_) | Self::PayloadNotJson(_) => true,
            Self::NotText | Self::Empty => false,
        }
    }
}

impl Payload {
    /// The body as people read it.
    pub(super) fn to_text(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Self::Text(text) => text.into(),
            Self::Json(value) => value.to_string().into(),
        }
    }

    /// Reads a body. `media_type` is what its sender says that it is; many say nothing, or always that it is a form, so that
    /// what begins like JSON is tried as such.
    pub fn read(media_type: Option<&str>, body: &[u8]) -> Result<Self, PayloadError> {
        let text = std::str::from_utf8(body).map_err(|_| PayloadError::NotText)?;
        // Some senders put a mark of byte order before their JSON.
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Err(PayloadError::Empty);
        }
        let essence =
            media_type.and_then(|media_type| media_type.split(';').next()).unwrap_or_default().trim().to_ascii_lowercase();
        let looks_like_json = text.starts_with(['{', '[']);
        let says_json = essence == "application/json" || essence.ends_with("+json");
        if says_json || looks_like_json {
            match serde_json::from_str(text) {
                Ok(Value::String(text)) => {
                    return if text.trim().is_empty() { Err(PayloadError::Empty) } else { Ok(Self::Text(text)) };
                }
                Ok(value) => return Ok(Self::Json(value)),
                Err(error) if says_json => return Err(PayloadError::NotJson(error.to_string())),
                Err(_) => {}
            }
        }
        if essence == "application/x-www-form-urlencoded" { Self::read_form(text) } else { Ok(Self::Text(text.to_owned())) }
    }

    fn read_form(text: &str) -> Result<Self, PayloadError> {
        let fields: BTreeMap<String, String> = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        if let Some(payload) = fields.get("payload") {
            let value = serde_json::from_str(payload).map_err(|error| PayloadError::PayloadNotJson(error.to_string()))?;
            return Ok(Self::Json(value));
        }
        // `curl -d 'words'` announces a form although it is none.
        if let [(name, value)] = &*fields.iter().collect::<Vec<_>>()
            && value.is_empty()
            && !text.contains('=')
        {
            return Ok(Self::Text((*name).clone()));
        }
        Ok(Self::Json(
            fields.into_iter().map(|(name, value)| (name, Value::String(value))).collect::<serde_json::Map<_, _>>().into(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

    fn text(text: &str) -> Payload {
        Payload::Text(text.to_owned())
    }

    #[test]
    fn whatever_anyone_posts_is_read() {
        for (media_type, body, expected) in [
            (Some("application/json; charset=utf-8"), &br#"{"a":1}"#[..], Payload::Json(json!({"a": 1}))),
            (None, b"\xef\xbb\xbf {\"a\":1}\n", Payload::Json(json!({"a": 1}))),
            (Some("text/plain"), b"[1]", Payload::Json(json!([1]))),
            (Some("text/plain"), b"{not json", text("{not json")),
            (None, b" words \n", text("words")),
            (Some("application/json"), br#""words""#, text("words")),
            (FORM, b"payload=%7B%22text%22%3A%22a%22%7D", Payload::Json(json!({"text": "a"}))),
            (FORM, b"text=a+b&username=c", Payload::Json(json!({"text": "a b", "username": "c"}))),
            (FORM, b"the+build is done", text("the build is done")),
            (FORM, br#"{"text":"a"}"#, Payload::Json(json!({"text": "a"}))),
        ] {
            assert_eq!(Payload::read(media_type, body), Ok(expected), "{}", String::from_utf8_lossy(body));
        }
        for (media_type, empty) in [(Some("application/json"), &br#""""#[..]), (None, b" \n")] {
            assert_eq!(Payload::read(media_type, empty), Err(PayloadError::Empty));
        }
        assert_eq!(Payload::read(None, b"\xff"), Err(PayloadError::NotText));
        assert!(matches!(Payload::read(Some("application/json"), b"{"), Err(PayloadError::NotJson(_))));
        assert!(matches!(Payload::read(FORM, b"payload=x"), Err(PayloadError::PayloadNotJson(_))));
    }
}
