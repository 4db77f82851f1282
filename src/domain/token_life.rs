//! From when to when a token is valid, as far as the token itself says.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::{Credential, Timestamp};

/// The times that a token claims. Nothing is verified: they serve to come in good time, not to trust anyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenLife {
    /// When it was issued (`iat`).
    pub issued_at: Option<Timestamp>,
    /// When it ends (`exp`).
    pub expires_at: Option<Timestamp>,
}

impl TokenLife {
    /// Reads the claims of a JWT; nothing is known of any other token.
    pub fn read(credential: &Credential) -> Self {
        Self::of_jwt(credential.token.expose()).unwrap_or_default()
    }

    fn of_jwt(token: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Claims {
            #[serde(default)]
            iat: Option<serde_json::Number>,
            #[serde(default)]
            exp: Option<serde_json::Number>,
        }
        let mut parts = token.split('.');
        let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
        let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
        let claims: Claims = serde_json::from_slice(&claims).ok()?;
        Some(Self { issued_at: claims.iat.as_ref().and_then(moment), expires_at: claims.exp.as_ref().and_then(moment) })
    }
}

/// A time as JWTs have it: seconds since 1970, which may have a fraction.
fn moment(seconds: &serde_json::Number) -> Option<Timestamp> {
    /// The end of the year 9999, beyond which a claim is no time.
    const LAST: f64 = 253_402_300_799.0;
    let seconds = seconds.as_f64().filter(|seconds| (0.0..=LAST).contains(seconds))?;
    #[expect(clippy::cast_possible_truncation, reason = "checked to be a time before the year 10000")]
    let millis = (seconds * 1000.0) as i64;
    Some(Timestamp::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Secret, TokenKind};

    fn life(token: &str) -> TokenLife {
        TokenLife::read(&Credential { kind: TokenKind::Jwt, token: Secret::new(token) })
    }

    fn jwt(claims: &str) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_claims_of_a_jwt_are_read() {
        let second = |seconds: i64| Some(Timestamp::from_millis(seconds * 1000));
        for (claims, issued_at, expires_at) in [
            (r#"{"exp":1700000000}"#, None, second(1_700_000_000)),
            (r#"{"iat":1699990000,"exp":1700000000,"iss":["zang","io"]}"#, second(1_699_990_000), second(1_700_000_000)),
            (r#"{"exp":1700000000.5}"#, None, Some(Timestamp::from_millis(1_700_000_000_500))),
            (r#"{"iat":1}"#, second(1), None),
            (r#"{"exp":null}"#, None, None),
            (r#"{"exp":-5}"#, None, None),
            (r#"{"exp":1e300}"#, None, None),
            ("{}", None, None),
        ] {
            assert_eq!(life(&jwt(claims)), TokenLife { issued_at, expires_at }, "{claims}");
        }
    }

    #[test]
    fn nothing_is_known_of_other_tokens() {
        for token in
            ["0a1b2c3d4e5f", "a.b", "a.b.c", "e30.e30.x.y", "", "..", &jwt("[]"), &jwt("no json"), &jwt(r#"{"exp":"soon"}"#)]
        {
            assert_eq!(life(token), TokenLife::default(), "{token}");
        }
    }
}
