//! A bridge key, and what the process knows of it beyond what is stored.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::KeyRefusal;
use crate::domain::{AccountId, KeyId, RateLimit, Secret, SpaceId, Timestamp, hex};
use crate::store::{Rate, TokenBucket, Version};

/// What every key begins with.
pub const PREFIX: &str = "sbk_";

/// Random bytes of a key.
const KEY_BYTES: usize = 32;

/// How often the time of a key's last use is written.
const NOTED_EVERY: Duration = Duration::from_mins(1);

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyScope {
    /// Sending messages and seeing what became of them.
    Send,
    /// Reading the profile, spaces, events and subscriptions, and choosing which spaces are listened to.
    Read,
    /// Webhooks and their deliveries.
    Webhooks,
}

impl KeyScope {
    /// The scope's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Read => "read",
            Self::Webhooks => "webhooks",
        }
    }
}

/// What a key is to be, as its maker says.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What its owner calls it.
    pub name: String,
    /// What it may be used for.
    pub scopes: BTreeSet<KeyScope>,
    /// The only spaces that it reaches; `None` for all of the account.
    pub spaces: Option<Arc<BTreeSet<SpaceId>>>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Most calls in a time.
    pub rate_limit: Option<RateLimit>,
}

/// A bridge key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BridgeKey {
    /// Its id.
    pub id: KeyId,
    /// Whom it acts for.
    pub account: AccountId,
    /// What its owner calls it.
    pub name: String,
    /// What it may be used for.
    pub scopes: BTreeSet<KeyScope>,
    /// The only spaces that it reaches; `None` for all of the account.
    pub spaces: Option<Arc<BTreeSet<SpaceId>>>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Most calls in a time.
    pub rate_limit: Option<RateLimit>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The hash by which a key is known.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct KeyHash(String);

impl KeyHash {
    pub(super) fn of(secret: &Secret) -> Self {
        Self(hex(&Sha256::digest(secret.expose().as_bytes())))
    }
}

/// A new random key.
pub(super) fn random_secret() -> Secret {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(bytes.as_mut_slice()).expect("the operating system provides random numbers");
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()));
    Secret::new(format!("{PREFIX}{}", text.as_str()))
}

/// A key as the store keeps it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoredKey {
    #[serde(flatten)]
    pub(super) key: BridgeKey,
    pub(super) hash: KeyHash,
    pub(super) last_used_at: Option<Timestamp>,
}

/// A key that this process knows.
pub struct KnownKey {
    key: BridgeKey,
    pub(super) hash: KeyHash,
    /// Of its document.
    version: AtomicI64,
    last_used_at: AtomicI64,
    /// The last use that was written, or is being written.
    noted_at: AtomicI64,
    bucket: Mutex<TokenBucket>,
    pub(super) revoked: CancellationToken,
}

/// Stands for no time in the atomics.
const NEVER: i64 = i64::MIN;

impl fmt::Debug for KnownKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("KnownKey").field(&self.key.id).finish()
    }
}

impl Deref for KnownKey {
    type Target = BridgeKey;

    fn deref(&self) -> &BridgeKey {
        &self.key
    }
}

impl KnownKey {
    pub(super) fn new(stored: StoredKey, version: Version) -> Self {
        let StoredKey { key, hash, last_used_at } = stored;
        let last_used_at = last_used_at.map_or(NEVER, Timestamp::as_millis);
        let rate = key.rate_limit.map(|rate| Rate { count: rate.count, per: Duration::from_secs(rate.per_seconds.into()) });
        Self {
            key,
            hash,
            version: AtomicI64::new(version.0),
            last_used_at: AtomicI64::new(last_used_at),
            noted_at: AtomicI64::new(last_used_at),
            bucket: Mutex::new(TokenBucket::full(rate)),
            revoked: CancellationToken::new(),
        }
    }

    pub(super) fn to_stored(&self) -> StoredKey {
        StoredKey { key: self.key.clone(), hash: self.hash.clone(), last_used_at: self.last_used_at() }
    }

    pub(super) fn version(&self) -> Version {
        Version(self.version.load(Ordering::Acquire))
    }

    pub(super) fn set_version(&self, version: Version) {
        self.version.store(version.0, Ordering::Release);
    }

    /// When it was last used.
    pub fn last_used_at(&self) -> Option<Timestamp> {
        let millis = self.last_used_at.load(Ordering::Relaxed);
        (millis != NEVER).then(|| Timestamp::from_millis(millis))
    }

    /// Whether it may be used for `scope`.
    pub fn has(&self, scope: KeyScope) -> bool {
        self.key.scopes.contains(&scope)
    }

    /// Uses the key for one call.
    pub(super) fn use_once(&self, now: Timestamp) -> Result<(), KeyRefusal> {
        if self.key.expires_at.is_some_and(|end| end <= now) {
            return Err(KeyRefusal::Expired);
        }
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        if bucket.available(now) == 0 {
            return Err(KeyRefusal::TooFast {
                limit: self.key.rate_limit.map_or(0, |rate| rate.count),
                retry_after: bucket.ready_at().since(now),
                reset_after: bucket.full_again_at().since(now),
            });
        }
        bucket.take(1, now);
        drop(bucket);
        self.last_used_at.fetch_max(now.as_millis(), Ordering::Relaxed);
        Ok(())
    }

    /// Whether the time of its last use is to be written now; says so to one caller each time.
    pub fn is_to_be_noted(&self) -> bool {
        let used = self.last_used_at.load(Ordering::Relaxed);
        let noted = self.noted_at.load(Ordering::Relaxed);
        let late = i64::try_from(NOTED_EVERY.as_millis()).unwrap_or(i64::MAX);
        used.saturating_sub(noted) >= late
            && self.noted_at.compare_exchange(noted, used, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Waits until the key ends at `now` plus some time, or is revoked.
    pub async fn ended(&self, now: Timestamp) {
        let left = self.key.expires_at.map(|end| end.since(now));
        tokio::select! {
            () = self.revoked.cancelled() => {}
            () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => {}
        }
    }
}
