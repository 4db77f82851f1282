//! Signatures of Standard Webhooks over id, timestamp and body: HMAC-SHA-256 (`v1`) and ed25519 (`v1a`).

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderValue;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::domain::{ED25519_PREFIX, InvalidSecret, Secret, hmac_key};

/// What each symmetric signature begins with.
const HMAC_VERSION: &str = "v1,";

/// What each ed25519 signature begins with.
const ED25519_VERSION: &str = "v1a,";

/// Characters of the longest entry: an ed25519 signature with its version.
const ENTRY_CHARACTERS: usize = 92;

/// A text that is no key to sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidKey {
    #[error(transparent)]
    Secret(#[from] InvalidSecret),
    #[error("a private key is `whsk_` and the base64 of 32 private and 32 public bytes that belong together")]
    Private,
}

/// A key, ready for use.
#[derive(Clone)]
pub(super) enum SigningKey {
    /// Setting up its hash once saves half of the work of signing a short body.
    Hmac(Hmac<Sha256>),
    /// Shared among clones.
    Ed25519(std::sync::Arc<Ed25519KeyPair>),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl SigningKey {
    /// Reads a secret or private key as Standard Webhooks writes it.
    pub(super) fn parse(secret: &Secret) -> Result<Self, InvalidKey> {
        match secret.expose().strip_prefix(ED25519_PREFIX) {
            Some(text) => ed25519(text),
            None => Ok(Self::Hmac(Hmac::new_from_slice(&hmac_key(secret)?).map_err(|_| InvalidSecret)?)),
        }
    }

    fn sign(&self, id: &str, timestamp: &str, body: &[u8], header: &mut String) {
        let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        match self {
            Self::Hmac(key) => {
                let mut mac = key.clone();
                for part in parts {
                    mac.update(part);
                }
                header.push_str(HMAC_VERSION);
                STANDARD.encode_string(mac.finalize().into_bytes(), header);
            }
            Self::Ed25519(pair) => {
                header.push_str(ED25519_VERSION);
                STANDARD.encode_string(pair.sign(&parts.concat()), header);
            }
        }
    }
}

fn ed25519(text: &str) -> Result<SigningKey, InvalidKey> {
    let bytes = STANDARD.decode(text).map(Zeroizing::new).map_err(|_| InvalidKey::Private)?;
    let (private, public) = bytes.split_first_chunk::<32>().ok_or(InvalidKey::Private)?;
    let pair = Ed25519KeyPair::from_seed_and_public_key(private, public).map_err(|_| InvalidKey::Private)?;
    Ok(SigningKey::Ed25519(std::sync::Arc::new(pair)))
}

/// The value of `webhook-signature`: one entry per key, in the order of `keys`, which is newest first. `timestamp` is what
/// `webhook-timestamp` says, `body` the very bytes that are sent.
pub(super) fn signature_header<'a>(
    keys: impl Iterator<Item = &'a SigningKey>,
    id: &str,
    timestamp: &str,
    body: &[u8],
) -> HeaderValue {
    let mut header = String::with_capacity(ENTRY_CHARACTERS);
    for key in keys {
        if !header.is_empty() {
            header.push(' ');
        }
        key.sign(id, timestamp, body, &mut header);
    }
    HeaderValue::try_from(header).expect("base64, commas and spaces may stand in a header")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use standardwebhooks::Webhook;

    use super::*;
    use crate::domain::HMAC_PREFIX;

    /// A published sample, not a secret; so is the next.
    const SAMPLE: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const PRIVATE_SAMPLE: &str = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    const SAMPLE_ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
    const SAMPLE_TIMESTAMP: &str = "1649367553";

    fn key(secret: &str) -> SigningKey {
        SigningKey::parse(&Secret::new(secret)).expect("a secret")
    }

    fn secret_of(bytes: &[u8]) -> String {
        format!("{HMAC_PREFIX}{}", STANDARD.encode(bytes))
    }

    fn signed(keys: &[SigningKey], id: &str, timestamp: &str, body: &[u8]) -> String {
        signature_header(keys.iter(), id, timestamp, body).to_str().expect("visible characters").to_owned()
    }

    fn headers(id: &str, timestamp: &str, signature: &str) -> http::HeaderMap {
        let mut headers = http::HeaderMap::new();
        for (name, value) in [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)] {
            headers.insert(name, value.parse().expect("a header value"));
        }
        headers
    }

    #[test]
    fn the_known_answers_are_reproduced() {
        for (body, expected) in [
            (r#"{"email":"test@example.com","username":"test_user"}"#, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="),
            (r#"{"text":"Grüße 👋"}"#, "v1,dhFnmWG2iBaz8IN4uzcrEWO+K3WDt7xAQNR2DDLI7G4="),
        ] {
            assert_eq!(signed(&[key(SAMPLE)], SAMPLE_ID, SAMPLE_TIMESTAMP, body.as_bytes()), expected);
        }
    }

    #[test]
    fn the_known_answer_of_ed25519_is_reproduced() {
        let expected = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(signed(&[key(PRIVATE_SAMPLE)], "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body), expected);
    }

    #[test]
    fn each_secret_gives_an_entry_in_order_and_a_receiver_with_either_accepts() {
        let (new, old) = (secret_of(&[7; 32]), secret_of(&[9; 24]));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs().to_string();
        let both = signed(&[key(&new), key(&old)], "evt_1", &now, b"{}");
        assert_eq!(
            both,
            format!("{} {}", signed(&[key(&new)], "evt_1", &now, b"{}"), signed(&[key(&old)], "evt_1", &now, b"{}"))
        );
        for secret in [&new, &old] {
            let receiver = Webhook::new(secret).expect("a secret");
            assert!(receiver.verify(b"{}", &headers("evt_1", &now, &both)).is_ok());
            assert!(receiver.verify(b"{}", &headers("evt_1", &now, &format!("v2,zzz {both}"))).is_ok());
        }
        // Once the old secret is gone, a receiver that only knows that one refuses.
        let receiver = Webhook::new(&old).expect("a secret");
        assert!(receiver.verify(b"{}", &headers("evt_1", &now, &signed(&[key(&new)], "evt_1", &now, b"{}"))).is_err());
    }

    #[test]
    fn a_receiver_refuses_what_is_not_the_whole_signature() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        let receiver = Webhook::new(SAMPLE).expect("a secret");
        let whole = signed(&[key(SAMPLE)], "evt_1", &now.to_string(), b"{}");
        for signature in ["", "v1,", "v2,abc", &whole[..whole.len() - 4]] {
            assert!(
                receiver.verify(b"{}", &headers("evt_1", &now.to_string(), signature)).is_err(),
                "{signature:?} was accepted"
            );
        }
        // Whole seconds may pass between signing and checking, so the borders themselves are left out.
        for (offset, accepted) in [(-290, true), (290, true), (-310, false), (310, false)] {
            let timestamp = now.saturating_add_signed(offset).to_string();
            let signature = signed(&[key(SAMPLE)], "evt_1", &timestamp, b"{}");
            assert_eq!(receiver.verify(b"{}", &headers("evt_1", &timestamp, &signature)).is_ok(), accepted, "{offset} s");
        }
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for text in ["", "whsec_", "whsec_!!!!", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD", &secret_of(&[1; 23]), &secret_of(&[1; 65])] {
            assert!(SigningKey::parse(&Secret::new(text)).is_err(), "{text:?} was taken");
        }
        let swapped = format!("whsk_{}", STANDARD.encode([1; 64]));
        for text in ["whsk_", "whsk_!!!!", "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=", &swapped] {
            assert!(SigningKey::parse(&Secret::new(text)).is_err(), "{text:?} was taken");
        }
        for sample in [SAMPLE, PRIVATE_SAMPLE] {
            assert_eq!(format!("{:?}", key(sample)), "[redacted]");
        }
    }

    proptest! {
        #[test]
        fn the_official_library_signs_the_same(
            secret in proptest::collection::vec(any::<u8>(), 24..=64),
            id in "evt_[0-9a-f]{32}",
            timestamp in 0_i64..4_000_000_000,
            body in "\\PC{0,300}",
        ) {
            let secret = secret_of(&secret);
            let oracle = Webhook::new(&secret).expect("a secret").sign(&id, timestamp, body.as_bytes()).expect("a signature");
            prop_assert_eq!(signed(&[key(&secret)], &id, &timestamp.to_string(), body.as_bytes()), oracle);
        }
    }
}
