//! [`KeyRegistry`]: all bridge keys, in memory and in the store.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tracing::warn;

use super::key::{KeyHash, StoredKey, random_secret};
use super::{BridgeKey, KnownKey, NewKey};
use crate::domain::{AccountId, Clock, KeyId, Secret};
use crate::store::{DocKind, DocList, DocWrite, Document, Engine, Expected, PutOutcome, StoreError, Version};

/// Most keys of an account.
pub const MAX_KEYS: usize = 100;

/// Keys read from the store at a time.
const LOAD_PAGE: usize = 500;

/// Why a key does not open the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRefusal {
    /// There is no such key, or not any more.
    Unknown,
    /// It has ended.
    Expired,
    /// It was used as often as it may be in a time.
    TooFast {
        /// As often as it may be.
        limit: u32,
        /// When it may be used again.
        retry_after: Duration,
        /// When it may be used that often again.
        reset_after: Duration,
    },
}

/// Why a key could not be made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no such key.
    #[error("there is no such key")]
    NotFound,
    /// The account has as many keys as it may have.
    #[error("the account has {MAX_KEYS} keys, which is the most it may have")]
    TooMany,
    /// The store failed; nothing was changed.
    #[error("failed to store the key")]
    Store(#[from] StoreError),
}

#[derive(Default)]
struct Index {
    by_hash: HashMap<KeyHash, Arc<KnownKey>>,
    by_id: BTreeMap<(AccountId, KeyId), Arc<KnownKey>>,
}

impl Index {
    fn insert(&mut self, key: &Arc<KnownKey>) {
        self.by_hash.insert(key.hash.clone(), Arc::clone(key));
        self.by_id.insert((key.account.clone(), key.id.clone()), Arc::clone(key));
    }

    fn remove(&mut self, key: &KnownKey) {
        self.by_hash.remove(&key.hash);
        self.by_id.remove(&(key.account.clone(), key.id.clone()));
    }

    fn of_account<'a>(&'a self, account: &'a AccountId) -> impl Iterator<Item = &'a Arc<KnownKey>> {
        // No id is shorter than its prefix, so this lies before all of the account's.
        let all = self.by_id.range((account.clone(), KeyId::least())..);
        all.take_while(move |((owner, _), _)| owner == account).map(|(_, key)| key)
    }
}

/// Every bridge key. A change is durable when its call returns.
pub struct KeyRegistry {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    index: RwLock<Index>,
    /// Held from counting an account's keys until the new one is among them.
    changing: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for KeyRegistry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("KeyRegistry").finish_non_exhaustive()
    }
}

impl KeyRegistry {
    /// Reads every key from the store.
    pub async fn load(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let (mut index, mut after) = (Index::default(), None);
        loop {
            let list = DocList { kind: DocKind::BridgeKey, account: None, after: after.take(), limit: LOAD_PAGE };
            let documents = engine.doc_list(list).await?;
            if documents.is_empty() {
                return Ok(Self { engine, clock, index: RwLock::new(index), changing: tokio::sync::Mutex::default() });
            }
            for document in documents {
                index.insert(&Arc::new(read(&document)?));
                after = Some(document.id);
            }
        }
    }

    /// Makes a key of `account` under this id, and shows it. A key that is there already under this id gets a new secret part: whoever
    /// asked for it was never told the one before.
    pub async fn create(&self, id: KeyId, account: AccountId, new: NewKey) -> Result<(Arc<KnownKey>, Secret), KeyError> {
        let _changing = self.changing.lock().await;
        let before = self.get(&account, &id);
        if before.is_none() && self.read().of_account(&account).count() >= MAX_KEYS {
            return Err(KeyError::TooMany);
        }
        let secret = random_secret();
        let NewKey { name, scopes, spaces, expires_at, rate_limit } = new;
        let key = BridgeKey { id, account, name, scopes, spaces, expires_at, rate_limit, created_at: self.clock.now() };
        let stored = StoredKey { key, hash: KeyHash::of(&secret), last_used_at: None };
        let version = self.put(&stored, Expected::Any).await?.unwrap_or(Version(1));
        let key = Arc::new(KnownKey::new(stored, version));
        let mut index = self.write();
        if let Some(before) = before {
            index.remove(&before);
            before.revoked.cancel();
        }
        index.insert(&key);
        Ok((key, secret))
    }

    /// A key of `account`.
    pub fn get(&self, account: &AccountId, id: &KeyId) -> Option<Arc<KnownKey>> {
        self.read().by_id.get(&(account.clone(), id.clone())).cloned()
    }

    /// The keys of `account`, in the order of their ids.
    pub fn of_account(&self, account: &AccountId) -> Vec<Arc<KnownKey>> {
        self.read().of_account(account).cloned().collect()
    }

    /// Ends a key for good. Nobody gets in with it from now on, and the streams that it opened end.
    pub async fn revoke(&self, account: &AccountId, id: &KeyId) -> Result<(), KeyError> {
        let _changing = self.changing.lock().await;
        let key = self.get(account, id).ok_or(KeyError::NotFound)?;
        let delete = DocWrite { body: None, ..write(&key.to_stored(), Expected::Any) };
        self.engine.doc_put(vec![delete]).await?;
        self.write().remove(&key);
        key.revoked.cancel();
        Ok(())
    }

    /// The key that `secret` is, used for one call.
    pub fn authenticate(&self, secret: &Secret) -> Result<Arc<KnownKey>, KeyRefusal> {
        let hash = KeyHash::of(secret);
        let key = self.read().by_hash.get(&hash).cloned().ok_or(KeyRefusal::Unknown)?;
        key.use_once(self.clock.now())?;
        Ok(key)
    }

    /// Writes when `key` was last used.
    pub async fn note_use(&self, key: &KnownKey) {
        match self.put(&key.to_stored(), Expected::Version(key.version())).await {
            Ok(Some(version)) => key.set_version(version),
            // Revoked meanwhile.
            Ok(None) => {}
            Err(error) => warn!(
                key.id = %key.id,
                error = &error as &dyn std::error::Error,
                "the last use of key `{}` could not be written",
                key.id
            ),
        }
    }

    /// Writes a key; `None` if the expectation did not hold.
    async fn put(&self, stored: &StoredKey, expected: Expected) -> Result<Option<Version>, StoreError> {
        Ok(match self.engine.doc_put(vec![write(stored, expected)]).await? {
            PutOutcome::Stored(versions) => versions.first().copied(),
            PutOutcome::Conflict(_) => None,
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(stored: &StoredKey, expected: Expected) -> DocWrite {
    DocWrite {
        kind: DocKind::BridgeKey,
        id: stored.key.id.as_str().to_owned(),
        account: Some(stored.key.account.clone()),
        body: Some(serde_json::to_vec(stored).expect("a key is plain JSON").into()),
        expected,
        expires_at: None,
        flow: None,
    }
}

fn read(document: &Document) -> Result<KnownKey, StoreError> {
    let stored = serde_json::from_slice(&document.body)
        .map_err(|source| StoreError::Failed { operation: "read a bridge key", source: source.into() })?;
    Ok(KnownKey::new(stored, document.version))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::domain::{RateLimit, Seed, Timestamp};
    use crate::keys::{KeyScope, PREFIX};
    use crate::store::MemoryStore;

    #[derive(Default)]
    struct HandClock(AtomicI64);

    impl HandClock {
        fn advance(&self, seconds: i64) {
            self.0.fetch_add(seconds * 1_000, Ordering::Relaxed);
        }
    }

    impl Clock for HandClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(1_900_000_000_000 + self.0.load(Ordering::Relaxed))
        }
    }

    async fn registry() -> (KeyRegistry, Arc<HandClock>) {
        let clock = Arc::<HandClock>::default();
        let engine = Arc::new(MemoryStore::new(Arc::clone(&clock) as _));
        (KeyRegistry::load(engine, Arc::clone(&clock) as _).await.expect("an empty store"), clock)
    }

    async fn reloaded(registry: &KeyRegistry) -> KeyRegistry {
        KeyRegistry::load(Arc::clone(&registry.engine), Arc::clone(&registry.clock)).await.expect("the same store")
    }

    fn new() -> NewKey {
        NewKey {
            name: "nightly".to_owned(),
            scopes: BTreeSet::from([KeyScope::Send]),
            spaces: None,
            expires_at: None,
            rate_limit: None,
        }
    }

    fn id() -> KeyId {
        KeyId::of_seed(&Seed::random())
    }

    fn account(text: &str) -> AccountId {
        text.parse().expect("an id")
    }

    #[tokio::test]
    async fn a_key_is_known_by_its_hash_only_also_after_a_restart() {
        let (keys, _) = registry().await;
        let (key, secret) = keys.create(id(), account("acc_1"), new()).await.expect("made");
        assert!(secret.expose().starts_with(PREFIX) && secret.expose().len() == PREFIX.len() + 43);
        let list = DocList { kind: DocKind::BridgeKey, account: None, after: None, limit: 10 };
        let stored = keys.engine.doc_list(list).await.expect("listed");
        let body = String::from_utf8_lossy(&stored[0].body).into_owned();
        assert!(!body.contains(secret.expose()) && !body.contains(&secret.expose()[PREFIX.len()..]), "{body}");
        for keys in [&reloaded(&keys).await, &keys] {
            assert_eq!(keys.authenticate(&secret).expect("known").id, key.id);
            let almost = Secret::new(format!("{}x", secret.expose()));
            assert_eq!(keys.authenticate(&almost).err(), Some(KeyRefusal::Unknown));
        }
    }

    #[tokio::test]
    async fn a_revoked_key_is_unknown_at_once_and_for_ever() {
        let (keys, clock) = registry().await;
        let (key, secret) = keys.create(id(), account("acc_1"), new()).await.expect("made");
        assert!(matches!(keys.revoke(&account("acc_2"), &key.id).await, Err(KeyError::NotFound)), "another account's");
        let known = keys.authenticate(&secret).expect("known");
        keys.revoke(&account("acc_1"), &key.id).await.expect("revoked");
        assert_eq!(keys.authenticate(&secret).err(), Some(KeyRefusal::Unknown));
        known.ended(clock.now()).await;
        // A use that is written late brings nothing back.
        keys.note_use(&known).await;
        assert_eq!(reloaded(&keys).await.authenticate(&secret).err(), Some(KeyRefusal::Unknown));
        assert!(matches!(keys.revoke(&account("acc_1"), &key.id).await, Err(KeyError::NotFound)));
    }

    #[tokio::test]
    async fn a_key_ends_at_its_time() {
        let (keys, clock) = registry().await;
        let ends = Some(clock.now().saturating_add(Duration::from_mins(1)));
        let (_, secret) = keys.create(id(), account("acc_1"), NewKey { expires_at: ends, ..new() }).await.expect("made");
        clock.advance(59);
        assert!(keys.authenticate(&secret).is_ok());
        clock.advance(1);
        assert_eq!(keys.authenticate(&secret).err(), Some(KeyRefusal::Expired));
    }

    #[tokio::test]
    async fn a_key_goes_as_fast_as_it_may() {
        let (keys, clock) = registry().await;
        let rate_limit = Some(RateLimit { count: 2, per_seconds: 60 });
        let (_, secret) = keys.create(id(), account("acc_1"), NewKey { rate_limit, ..new() }).await.expect("made");
        assert!(keys.authenticate(&secret).is_ok() && keys.authenticate(&secret).is_ok());
        let seconds = Duration::from_secs;
        let refused = KeyRefusal::TooFast { limit: 2, retry_after: seconds(30), reset_after: seconds(60) };
        assert_eq!(keys.authenticate(&secret).err(), Some(refused));
        clock.advance(30);
        assert!(keys.authenticate(&secret).is_ok());
        assert!(keys.authenticate(&secret).is_err());
    }

    #[tokio::test]
    async fn the_last_use_is_written_once_a_minute() {
        let (keys, clock) = registry().await;
        let (key, secret) = keys.create(id(), account("acc_1"), new()).await.expect("made");
        assert_eq!(key.last_used_at(), None);
        let used = keys.authenticate(&secret).expect("known");
        assert!(used.is_to_be_noted() && !used.is_to_be_noted());
        keys.note_use(&used).await;
        let first = clock.now();
        clock.advance(59);
        keys.authenticate(&secret).expect("known");
        assert!(!key.is_to_be_noted());
        let last_used = |keys: &KeyRegistry| keys.of_account(&account("acc_1"))[0].last_used_at();
        assert_eq!((last_used(&keys), last_used(&reloaded(&keys).await)), (Some(clock.now()), Some(first)));
        clock.advance(1);
        keys.authenticate(&secret).expect("known");
        assert!(key.is_to_be_noted());
        keys.note_use(&key).await;
        assert_eq!(last_used(&reloaded(&keys).await), Some(clock.now()));
    }

    #[tokio::test]
    async fn a_key_made_again_under_its_id_is_one_key_with_a_new_secret() {
        let (keys, _) = registry().await;
        let id = id();
        let (_, lost) = keys.create(id.clone(), account("acc_1"), new()).await.expect("made");
        let (_, told) = keys.create(id, account("acc_1"), new()).await.expect("made again");
        assert_eq!(keys.of_account(&account("acc_1")).len(), 1);
        for keys in [&keys, &reloaded(&keys).await] {
            assert_eq!(keys.authenticate(&lost).err(), Some(KeyRefusal::Unknown));
            assert!(keys.authenticate(&told).is_ok());
        }
    }

    #[tokio::test]
    async fn an_account_has_so_many_keys_and_no_more() {
        let (keys, _) = registry().await;
        for _ in 0..MAX_KEYS {
            keys.create(id(), account("acc_1"), new()).await.expect("made");
        }
        assert!(matches!(keys.create(id(), account("acc_1"), new()).await, Err(KeyError::TooMany)));
        keys.create(id(), account("acc_10"), new()).await.expect("another account has its own limit");
        let listed = keys.of_account(&account("acc_1"));
        assert_eq!(listed.len(), MAX_KEYS);
        assert!(listed.is_sorted_by_key(|key| key.id.clone()));
        assert_eq!(keys.of_account(&account("acc_2")).len(), 0);
    }
}
