//! What a webhook's deliveries are signed with, and how keys follow each other.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::super::{Sealed, Secret, Timestamp};

/// Most keys that sign at a time. Each is an entry in a header of every delivery.
const MAX_KEYS: usize = 8;

/// How long an old key goes on signing beside the new one, unless the owner says otherwise.
pub const DEFAULT_OVERLAP: Duration = Duration::from_hours(24);

/// The longest overlap.
pub const MAX_OVERLAP: Duration = Duration::from_hours(7 * 24);

/// What a written symmetric secret begins with.
pub const HMAC_PREFIX: &str = "whsec_";

/// What a written ed25519 private key begins with.
pub const ED25519_PREFIX: &str = "whsk_";

/// What a written ed25519 public key begins with.
pub const PUBLIC_PREFIX: &str = "whpk_";

/// The kind of a webhook's signatures; it stays as it was at creation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signing {
    /// HMAC-SHA-256 with a secret that both sides know: `v1`.
    #[default]
    Hmac,
    /// ed25519, whose public key is all that the receiver knows: `v1a`.
    Ed25519,
}

/// A key as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredKey {
    /// The secret or private key, sealed.
    pub sealed: Sealed,
    /// The public key, if there is one.
    pub public_key: Option<String>,
    /// When it signs no more; never for the newest.
    pub expires_at: Option<Timestamp>,
}

impl StoredKey {
    /// Whether it signs at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// The keys of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeys {
    /// The kind of all of them.
    pub kind: Signing,
    /// Newest first; there is always one.
    keys: Vec<StoredKey>,
}

/// There are as many overlapping keys as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_KEYS} secrets sign already; wait until one expires, or rotate without an overlap")]
pub struct TooManyKeys;

impl SigningKeys {
    /// One key.
    pub fn new(kind: Signing, key: StoredKey) -> Self {
        Self { kind, keys: vec![key] }
    }

    /// All of them, newest first, expired ones included.
    pub fn all(&self) -> &[StoredKey] {
        &self.keys
    }

    /// The newest.
    pub fn newest(&self) -> Option<&StoredKey> {
        self.keys.first()
    }

    /// Those that sign at `now`, newest first.
    pub fn valid(&self, now: Timestamp) -> impl Iterator<Item = &StoredKey> {
        self.keys.iter().filter(move |key| key.is_valid(now))
    }

    /// Puts `key` in front. Those before it go on signing for `overlap` at most, and not at all if that is zero; what has expired
    /// is forgotten.
    pub fn rotate(&mut self, key: StoredKey, overlap: Duration, now: Timestamp) -> Result<(), TooManyKeys> {
        let end = now.saturating_add(overlap);
        let mut old: Vec<_> = self.valid(now).cloned().collect();
        for key in &mut old {
            key.expires_at = Some(key.expires_at.map_or(end, |expires| expires.min(end)));
        }
        old.retain(|key| key.is_valid(now));
        if old.len() >= MAX_KEYS {
            return Err(TooManyKeys);
        }
        self.keys = std::iter::once(key).chain(old).collect();
        Ok(())
    }
}

/// A text that is no signing secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a signing secret is `whsec_` and the base64 of 24 to 64 bytes")]
pub struct InvalidSecret;

/// The bytes of a symmetric secret as Standard Webhooks writes it.
pub fn hmac_key(secret: &Secret) -> Result<Zeroizing<Vec<u8>>, InvalidSecret> {
    let text = secret.expose().strip_prefix(HMAC_PREFIX).ok_or(InvalidSecret)?;
    let key = STANDARD.decode(text).map(Zeroizing::new).map_err(|_| InvalidSecret)?;
    if (24..=64).contains(&key.len()) { Ok(key) } else { Err(InvalidSecret) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> StoredKey {
        StoredKey { sealed: Sealed::from_bytes(vec![number]), public_key: None, expires_at: None }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn valid(keys: &SigningKeys, now: Timestamp) -> Vec<u8> {
        keys.valid(now).map(|key| key.sealed.as_bytes()[0]).collect()
    }

    #[test]
    fn the_new_key_comes_first_and_the_old_one_drops_out_at_its_time() {
        let mut keys = SigningKeys::new(Signing::Hmac, key(1));
        keys.rotate(key(2), Duration::from_mins(1), at(100)).expect("room");
        assert_eq!(valid(&keys, at(100)), [2, 1]);
        assert_eq!(valid(&keys, at(159)), [2, 1]);
        assert_eq!(valid(&keys, at(160)), [2]);
        keys.rotate(key(3), Duration::from_mins(10), at(130)).expect("room");
        assert_eq!(valid(&keys, at(159)), [3, 2, 1], "a longer overlap prolongs no older key");
        assert_eq!(valid(&keys, at(160)), [3, 2]);
        assert_eq!(valid(&keys, at(730)), [3]);
        keys.rotate(key(4), Duration::from_mins(10), at(800)).expect("room");
        assert_eq!(keys.all().len(), 2, "what has expired is forgotten");
    }

    #[test]
    fn without_an_overlap_every_older_key_ends_at_once() {
        let mut keys = SigningKeys::new(Signing::Ed25519, key(1));
        keys.rotate(key(2), MAX_OVERLAP, at(0)).expect("room");
        keys.rotate(key(3), Duration::ZERO, at(1)).expect("room");
        assert_eq!((valid(&keys, at(1)), keys.all().len()), (vec![3], 1));
    }

    #[test]
    fn overlapping_keys_are_bounded() {
        let mut keys = SigningKeys::new(Signing::Hmac, key(0));
        for number in 1..u8::try_from(MAX_KEYS).expect("few") {
            keys.rotate(key(number), MAX_OVERLAP, at(0)).expect("room");
        }
        let full = keys.clone();
        assert_eq!(keys.rotate(key(99), MAX_OVERLAP, at(0)), Err(TooManyKeys));
        assert_eq!(keys, full);
        keys.rotate(key(99), Duration::ZERO, at(0)).expect("the others end");
        assert_eq!(valid(&keys, at(0)), [99]);
    }

    #[test]
    fn a_secret_has_24_to_64_bytes() {
        for (bytes, taken) in [(23, false), (24, true), (64, true), (65, false)] {
            let secret = Secret::new(format!("{HMAC_PREFIX}{}", STANDARD.encode(vec![1; bytes])));
            assert_eq!(hmac_key(&secret).is_ok(), taken, "{bytes}");
        }
        for text in ["", "whsec_", "whsec_!!!!", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"] {
            assert_eq!(hmac_key(&Secret::new(text)).err(), Some(InvalidSecret), "{text:?}");
        }
    }
}
