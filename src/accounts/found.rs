//! What a file holds, a command prints or an address answers: a token as it is, or JSON with one in it.

use std::time::Duration;

use serde::Deserialize;

use super::source::{MintError, Minted};
use crate::domain::{Credential, Secret, Timestamp, TokenKind, TokenLife};

/// Most bytes that are read.
pub(super) const MAX_FOUND: usize = 64 << 10;

/// Longest token, in bytes; the same that callers may use.
const MAX_TOKEN: usize = 8 << 10;

#[derive(Deserialize)]
struct Answer {
    #[serde(alias = "access_token")]
    token: Secret,
    #[serde(default, rename = "expiresAt")]
    expires_at: Option<Timestamp>,
    #[serde(default)]
    expires_in: Option<f64>,
}

/// Reads what was found at `now`.
pub(super) fn read(bytes: &[u8], kind: Option<TokenKind>, now: Timestamp) -> Result<Minted, MintError> {
    let text = std::str::from_utf8(bytes).map_err(|_| failed("it is no text"))?.trim();
    let (token, said) = if text.starts_with('{') {
        // The words of the error would repeat what was read.
        let answer: Answer = serde_json::from_str(text).map_err(|_| failed("it is no JSON with a `token`"))?;
        let life = answer.expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        (answer.token, answer.expires_at.or_else(|| life.map(|life| now.saturating_add(life))))
    } else {
        (Secret::new(text), None)
    };
    Minted::new(token, kind, now, said)
}

impl Minted {
    /// A token that is to be used, if it can be one.
    pub(super) fn new(
        token: Secret,
        kind: Option<TokenKind>,
        now: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> Result<Self, MintError> {
        let text = token.expose();
        if text.is_empty() || text.len() > MAX_TOKEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(failed("there is no token in it: 1 to 8192 visible ASCII characters"));
        }
        let kind = kind.unwrap_or_else(|| TokenKind::supposed(text));
        let credential = Credential { kind, token };
        let life = TokenLife::read(&credential);
        let obtained_at = life.issued_at.filter(|issued_at| *issued_at <= now).unwrap_or(now);
        Ok(Self { credential, obtained_at, expires_at: expires_at.or(life.expires_at), rotated: None })
    }
}

fn failed(detail: &str) -> MintError {
    MintError::Failed(detail.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    #[test]
    fn a_token_is_found_in_every_shape() {
        let jwt = "e30.eyJpYXQiOjE2OTk5OTk5OTAsImV4cCI6MTcwMDA4NjQwMH0.c2ln";
        for (found, kind, expires_at) in [
            ("0a1b2c\n".to_owned(), TokenKind::Oauth, None),
            (format!("  {jwt} \r\n"), TokenKind::Jwt, Some(1_700_086_400_000)),
            (r#"{"token":"0a1b2c"}"#.to_owned(), TokenKind::Oauth, None),
            (r#"{"token":"0a1b2c","expiresAt":"2023-11-14T23:13:20Z"}"#.to_owned(), TokenKind::Oauth, Some(1_700_003_600_000)),
            (r#"{"access_token":"0a1b2c","expires_in":60,"more":[]}"#.to_owned(), TokenKind::Oauth, Some(1_700_000_060_000)),
            (format!(r#"{{"token":"{jwt}","expires_in":-1}}"#), TokenKind::Jwt, Some(1_700_086_400_000)),
        ] {
            let minted = read(found.as_bytes(), None, NOW).expect("a token");
            assert_eq!((minted.credential.kind, minted.expires_at.map(Timestamp::as_millis)), (kind, expires_at), "{found}");
        }
        let minted = read(jwt.as_bytes(), Some(TokenKind::ServiceApp), NOW).expect("a token");
        assert_eq!((minted.credential.kind, minted.obtained_at.as_seconds()), (TokenKind::ServiceApp, 1_699_999_990));
    }

    #[test]
    fn what_is_no_token_is_refused_without_repeating_it() {
        let long = "a".repeat(MAX_TOKEN + 1);
        for found in [
            "",
            " \n",
            "two hidden-words",
            "{\"token\": \"\"}",
            "{\"tok\": \"hidden\"}",
            "{\"token\": [\"hidden\"]}",
            "{hidden",
            "tökén",
            &long,
        ] {
            let error = read(found.as_bytes(), None, NOW).expect_err(found);
            assert!(!error.to_string().contains("hidden") && matches!(error, MintError::Failed(_)), "{error}");
        }
        assert!(read(&[0xff, 0xfe], None, NOW).is_err());
    }
}
