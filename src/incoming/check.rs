//! Whether a call comes from whom it says: by a signature or a token that its sender was given.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::domain::{Secret, Timestamp};

/// How a sender proves itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckKind {
    /// `X-Hub-Signature-256`, as GitHub signs:
    /// <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>.
    Github,
    /// `X-Gitlab-Token`, as GitLab sends it: <https://docs.gitlab.com/user/project/integrations/webhooks/>.
    Gitlab,
    /// The headers of Standard Webhooks: <https://www.standardwebhooks.com/>.
    Standard,
}

/// How far the time of a signature may be off.
const TOLERANCE: Duration = Duration::from_mins(5);

/// What the secrets of Standard Webhooks begin with.
const STANDARD_PREFIX: &str = "whsec_";

/// Why a call is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// A header is missing.
    #[error("the header `{0}` is missing")]
    Missing(&'static str),
    /// The signature or token is another one.
    #[error("`{0}` does not fit")]
    Wrong(&'static str),
    /// The signature is too old, or from the future.
    #[error("`webhook-timestamp` is more than five minutes off")]
    Time,
}

impl CheckKind {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Github, Self::Gitlab, Self::Standard];

    /// The kind's name in the API and the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Standard => "standard",
        }
    }

    /// Whether `secret` can be one of this kind.
    pub fn takes(self, secret: &Secret) -> bool {
        match self {
            Self::Github | Self::Gitlab => {
                let text = secret.expose();
                (8..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
            }
            Self::Standard => standard_key(secret).is_some_and(|key| (24..=64).contains(&key.len())),
        }
    }

    /// Checks a call.
    pub fn check(self, secret: &Secret, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), CheckError> {
        match self {
            Self::Github => {
                const NAME: &str = "x-hub-signature-256";
                let given = header(headers, NAME)?;
                let digits = given.strip_prefix("sha256=").ok_or(CheckError::Wrong(NAME))?;
                let expected = crate::domain::hex(&mac(secret.expose().as_bytes(), &[body]));
                same(expected.as_bytes(), digits.to_ascii_lowercase().as_bytes(), NAME)
            }
            Self::Gitlab => {
                const NAME: &str = "x-gitlab-token";
                same(secret.expose().as_bytes(), header(headers, NAME)?.as_bytes(), NAME)
            }
            Self::Standard => {
                const NAME: &str = "webhook-signature";
                let (id, given) = (header(headers, "webhook-id")?, header(headers, NAME)?);
                let timestamp = header(headers, "webhook-timestamp")?;
                let seconds: i64 = timestamp.parse().map_err(|_| CheckError::Time)?;
                let sent = Timestamp::from_millis(seconds.saturating_mul(1000));
                if now.since(sent).max(sent.since(now)) > TOLERANCE {
                    return Err(CheckError::Time);
                }
                let key = standard_key(secret).ok_or(CheckError::Wrong(NAME))?;
                let expected = STANDARD.encode(mac(&key, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body]));
                // All are compared, whichever fits.
                let fits = given
                    .split(' ')
                    .filter_map(|one| one.strip_prefix("v1,"))
                    .fold(false, |fits, one| fits | bool::from(expected.as_bytes().ct_eq(one.as_bytes())));
                if fits { Ok(()) } else { Err(CheckError::Wrong(NAME)) }
            }
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, CheckError> {
    let value = headers.get(name).ok_or(CheckError::Missing(name))?;
    value.to_str().map_err(|_| CheckError::Wrong(name))
}

fn same(expected: &[u8], given: &[u8], name: &'static str) -> Result<(), CheckError> {
    if bool::from(expected.ct_eq(given)) { Ok(()) } else { Err(CheckError::Wrong(name)) }
}

fn mac(key: &[u8], pieces: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for piece in pieces {
        mac.update(piece);
    }
    mac.finalize().into_bytes().into()
}

fn standard_key(secret: &Secret) -> Option<Vec<u8>> {
    STANDARD.decode(secret.expose().strip_prefix(STANDARD_PREFIX)?).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_str(value).expect("a value")))
            .collect()
    }

    #[test]
    fn githubs_own_example_fits() {
        // From GitHub's documentation of the signature.
        let (secret, body) = (Secret::new("It's a Secret to Everybody"), b"Hello, World!");
        let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let check = |value: &str| CheckKind::Github.check(&secret, &headers(&[("x-hub-signature-256", value)]), body, NOW);
        assert_eq!(check(good), Ok(()));
        assert_eq!(check(&good.to_uppercase().replace("SHA256", "sha256")), Ok(()));
        for bad in [&good.replace("757", "758"), "sha1=ab", "", &good[..20]] {
            assert_eq!(check(bad), Err(CheckError::Wrong("x-hub-signature-256")), "{bad}");
        }
        let none = CheckKind::Github.check(&secret, &HeaderMap::new(), body, NOW);
        assert_eq!(none, Err(CheckError::Missing("x-hub-signature-256")));
    }

    const NOW: Timestamp = Timestamp::from_millis(1_614_265_330_000);

    #[test]
    fn the_known_answer_of_standard_webhooks_fits() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = br#"{"test": 2432232314}"#;
        let check = |signature: &str, timestamp: &str, now| {
            let headers = headers(&[
                ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                ("webhook-timestamp", timestamp),
                ("webhook-signature", signature),
            ]);
            CheckKind::Standard.check(&secret, &headers, body, now)
        };
        let good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(check(good, "1614265330", NOW), Ok(()));
        assert_eq!(check(&format!("v1a,x v1,AAAA {good}"), "1614265330", NOW), Ok(()));
        assert_eq!(check("v1,AAAA", "1614265330", NOW), Err(CheckError::Wrong("webhook-signature")));
        assert_eq!(check(good, "1614265331", NOW), Err(CheckError::Wrong("webhook-signature")));
        for now in [NOW.saturating_add(Duration::from_secs(301)), NOW.saturating_sub(Duration::from_secs(301))] {
            assert_eq!(check(good, "1614265330", now), Err(CheckError::Time));
        }
        assert_eq!(check(good, "soon", NOW), Err(CheckError::Time));
    }

    #[test]
    fn gitlabs_token_is_compared_whole() {
        let secret = Secret::new("a-long-token");
        let check = |value: &str| CheckKind::Gitlab.check(&secret, &headers(&[("x-gitlab-token", value)]), b"", NOW);
        assert_eq!(check("a-long-token"), Ok(()));
        assert_eq!(check("a-long-toke"), Err(CheckError::Wrong("x-gitlab-token")));
    }

    #[test]
    fn a_secret_has_to_be_one() {
        assert!(CheckKind::Github.takes(&Secret::new("12345678")));
        for secret in ["short", "with space in it", ""] {
            assert!(!CheckKind::Gitlab.takes(&Secret::new(secret)), "{secret}");
        }
        assert!(CheckKind::Standard.takes(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")));
        for secret in ["whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_???"] {
            assert!(!CheckKind::Standard.takes(&Secret::new(secret)), "{secret}");
        }
    }
}
