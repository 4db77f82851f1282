//! [`TokenLife`]: what a JWT says of its own life.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::{Secret, Timestamp};

/// From when to when a token is valid, by its own word. Read and never verified: that is the upstream's business.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenLife {
    /// When it was issued (`iat`).
    pub issued_at: Option<Timestamp>,
    /// When it ends (`exp`).
    pub expires_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    iat: Option<serde_json::Value>,
    #[serde(default)]
    exp: Option<serde_json::Value>,
}

/// The last second that a claim may name: the end of the year 9999.
const LAST_SECOND: f64 = 253_402_300_799.0;

impl TokenLife {
    /// What `token` says; nothing, if it is no JWT.
    pub fn of(token: &Secret) -> Self {
        Self::read(token.expose()).unwrap_or_default()
    }

    fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
        let claims: Claims = serde_json::from_slice(&claims).ok()?;
        Some(Self { issued_at: moment(claims.iat.as_ref()), expires_at: moment(claims.exp.as_ref()) })
    }
}

/// The moment that a claim names in seconds since 1970, with or without a fraction. What makes no sense says nothing.
fn moment(claim: Option<&serde_json::Value>) -> Option<Timestamp> {
    let seconds = claim?.as_f64().filter(|seconds| (1.0..=LAST_SECOND).contains(seconds))?;
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds up to the year 9999 fit")]
    let millis = (seconds * 1000.0) as i64;
    Some(Timestamp::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(claims: &str) -> TokenLife {
        TokenLife::of(&Secret::new(format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))))
    }

    fn seconds(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp::from_millis(seconds * 1000))
    }

    #[test]
    fn the_life_of_a_jwt_is_read() {
        for (claims, issued_at, expires_at) in [
            (r#"{"iat":1700000000,"exp":1700086400}"#, seconds(1_700_000_000), seconds(1_700_086_400)),
            (r#"{"exp":1700086400,"ver":"2.0"}"#, None, seconds(1_700_086_400)),
            (r#"{"exp":1700086400.5}"#, None, Some(Timestamp::from_millis(1_700_086_400_500))),
            (r#"{"exp":"1700086400"}"#, None, None),
            (r#"{"exp":null,"iat":0}"#, None, None),
            (r#"{"exp":-5}"#, None, None),
            (r#"{"exp":1e300}"#, None, None),
            (r#"{"exp":99999999999999999999}"#, None, None),
            ("{}", None, None),
            ("[]", None, None),
            ("{", None, None),
        ] {
            assert_eq!(life(claims), TokenLife { issued_at, expires_at }, "{claims}");
        }
    }

    #[test]
    fn what_is_no_jwt_says_nothing() {
        for token in ["", "0a1b2c", "a.b", "a.b.c", "a.b.c.d", "..", "a.!!!.c", "e30.e30=.x.y"] {
            assert_eq!(TokenLife::of(&Secret::new(token)), TokenLife::default(), "{token}");
        }
        let padded = format!("e30.{}==.c2ln", URL_SAFE_NO_PAD.encode(r#"{"exp":1700086400}"#));
        assert_eq!(TokenLife::of(&Secret::new(padded)).expires_at, seconds(1_700_086_400));
    }
}
