//! An incoming hook, and how the store keeps it.

use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::check::CheckKind;
use super::format::Format;
use crate::domain::{AccountId, HookId, Sealed, Secret, SpaceId, Timestamp};

/// Random bytes of a hook's secret.
const SECRET_BYTES: usize = 32;

/// A secret address that posts into a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingHook {
    /// Its id.
    pub id: HookId,
    /// As whom it posts.
    pub account: AccountId,
    /// What its owner calls it.
    pub name: Option<String>,
    /// Where it posts.
    pub space: SpaceId,
    /// What it takes.
    pub format: Format,
    /// How its senders prove themselves, beside knowing the address.
    pub check: Option<HookCheck>,
    /// How often it may be called.
    pub rate: HookRate,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Whether it takes calls.
    pub enabled: bool,
    /// The hashes of its secrets, newest first.
    pub(super) secrets: Vec<SecretHash>,
    /// When it was created.
    pub created_at: Timestamp,
}

/// How senders prove themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCheck {
    /// The way.
    pub kind: CheckKind,
    /// With what.
    pub(super) secret: Sealed,
}

/// Most calls in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookRate {
    /// So many calls.
    pub count: u32,
    /// In so many seconds.
    pub per_seconds: u32,
}

impl Default for HookRate {
    /// One a second, sixty at once.
    fn default() -> Self {
        Self { count: 60, per_seconds: 60 }
    }
}

/// The hash of a secret, and when the secret ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecretHash {
    pub(super) hash: String,
    #[serde(default)]
    pub(super) expires_at: Option<Timestamp>,
}

/// A new secret: 43 characters that may stand in a URL.
pub(super) fn new_secret() -> Secret {
    let mut bytes = zeroize::Zeroizing::new([0; SECRET_BYTES]);
    getrandom::fill(bytes.as_mut_slice()).expect("the operating system provides random numbers");
    Secret::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()))
}

/// What is kept of a secret. It has more randomness than anyone can guess at, so that a plain hash is enough.
pub(super) fn hash_of(secret: &str) -> String {
    crate::domain::hex(&Sha256::digest(secret))
}

impl IncomingHook {
    /// Whether it takes calls at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.enabled && self.expires_at.is_none_or(|end| now < end)
    }

    pub(super) fn to_body(&self) -> Vec<u8> {
        let stored = StoredHook {
            account: self.account.clone(),
            name: self.name.clone(),
            space: self.space.clone(),
            format: self.format.as_str().to_owned(),
            check: self
                .check
                .as_ref()
                .map(|check| StoredCheck { kind: check.kind.as_str().to_owned(), secret: check.secret.clone() }),
            rate: self.rate,
            expires_at: self.expires_at,
            enabled: self.enabled,
            secrets: self.secrets.clone(),
            created_at: self.created_at,
        };
        serde_json::to_vec(&stored).expect("a record of texts serialises")
    }

    pub(super) fn from_body(id: HookId, body: &[u8]) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stored: StoredHook = serde_json::from_slice(body)?;
        let check = match stored.check {
            Some(check) => {
                let kind = [CheckKind::Github, CheckKind::Gitlab, CheckKind::Standard];
                let kind = kind.into_iter().find(|kind| kind.as_str() == check.kind).ok_or("an unknown kind of check")?;
                Some(HookCheck { kind, secret: check.secret })
            }
            None => None,
        };
        Ok(Self {
            id,
            account: stored.account,
            name: stored.name,
            space: stored.space,
            format: stored.format.parse()?,
            check,
            rate: stored.rate,
            expires_at: stored.expires_at,
            enabled: stored.enabled,
            secrets: stored.secrets,
            created_at: stored.created_at,
        })
    }
}

/// A hook as the store keeps it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredHook {
    account: AccountId,
    name: Option<String>,
    space: SpaceId,
    format: String,
    check: Option<StoredCheck>,
    rate: HookRate,
    expires_at: Option<Timestamp>,
    enabled: bool,
    secrets: Vec<SecretHash>,
    created_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredCheck {
    kind: String,
    secret: Sealed,
}

/// How many calls are left: a token bucket.
#[derive(Debug)]
pub(super) struct Allowance {
    state: Mutex<(HookRate, f64, Timestamp)>,
}

impl Allowance {
    pub(super) fn new(rate: HookRate, now: Timestamp) -> Self {
        Self { state: Mutex::new((rate, f64::from(rate.count), now)) }
    }

    /// Takes one call, or tells when the next may be made.
    pub(super) fn take(&self, rate: HookRate, now: Timestamp) -> Result<(), Duration> {
        let mut state = self.state.lock().expect("no code panics while it holds this lock");
        let (known, left, counted_at) = &mut *state;
        if *known != rate {
            *left = left.min(f64::from(rate.count));
            *known = rate;
        }
        let per_second = f64::from(rate.count) / f64::from(rate.per_seconds.max(1));
        *left = (*left + now.since(*counted_at).as_secs_f64() * per_second).min(f64::from(rate.count));
        *counted_at = now;
        if *left >= 1.0 {
            *left -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - *left) / per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_and_come_back() {
        let rate = HookRate { count: 2, per_seconds: 10 };
        let now = Timestamp::from_millis(1_000_000);
        let allowance = Allowance::new(rate, now);
        assert_eq!((allowance.take(rate, now), allowance.take(rate, now)), (Ok(()), Ok(())));
        let wait = allowance.take(rate, now).expect_err("there were two");
        assert_eq!(wait.as_secs(), 5);
        assert!(allowance.take(rate, now.saturating_add(wait)).is_ok());
        let more = HookRate { count: 100, per_seconds: 1 };
        assert!(allowance.take(more, now.saturating_add(wait)).is_err(), "another rate gives nothing at once");
    }

    #[test]
    fn secrets_are_long_and_differ() {
        let (one, two) = (new_secret(), new_secret());
        assert_ne!(one, two);
        assert_eq!(one.expose().len(), 43);
        assert_eq!(hash_of(one.expose()).len(), 64);
    }
}
