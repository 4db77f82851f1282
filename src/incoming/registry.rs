//! [`HookRegistry`]: all incoming hooks, in memory with their documents in the store.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use super::check::{CheckError, CheckKind};
use super::format::Format;
use super::hook::{Allowance, HookCheck, HookRate, IncomingHook, SecretHash, hash_of, new_secret};
use crate::domain::{AccountId, Clock, HookId, Interest, Secret, SpaceId, SpaceSelector, Timestamp};
use crate::seal::{Keyring, Purpose, UnsealError};
use crate::store::{DocKind, DocList, DocWrite, Engine, Expected, StoreError, Version};

/// Most hooks of one account.
pub const MAX_HOOKS: usize = 200;

/// Documents read at a time.
const PAGE: usize = 500;

const LOCK: &str = "no code panics while it holds this lock";

/// A hook to be made.
#[derive(Debug, Clone)]
pub struct NewHook {
    /// What its owner calls it.
    pub name: Option<String>,
    /// Where it posts.
    pub space: SpaceId,
    /// What it takes.
    pub format: Format,
    /// How its senders prove themselves, and with what.
    pub check: Option<(CheckKind, Secret)>,
    /// How often it may be called.
    pub rate: HookRate,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// A change of a hook; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct HookPatch {
    /// Another name, or none.
    pub name: Option<Option<String>>,
    /// Another format.
    pub format: Option<Format>,
    /// Another check, or none.
    pub check: Option<Option<(CheckKind, Secret)>>,
    /// Another rate.
    pub rate: Option<HookRate>,
    /// Another end, or none.
    pub expires_at: Option<Option<Timestamp>>,
    /// Switched on or off.
    pub enabled: Option<bool>,
}

/// Why a hook could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// There is none.
    #[error("there is no such incoming hook")]
    NotFound,
    /// The account has as many as it may have.
    #[error("the account has {MAX_HOOKS} incoming hooks, which is the most it may have")]
    TooMany,
    /// Others changed it at the same time.
    #[error("the incoming hook was changed by others at the same time")]
    Changed,
    /// The store failed; nothing was changed.
    #[error("failed to store an incoming hook")]
    Store(#[from] StoreError),
}

/// Why a call of a hook is not taken.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No hook has this secret, or it has ended.
    #[error("there is no such incoming hook")]
    Unknown,
    /// It is called too often.
    #[error("the incoming hook is called too often")]
    TooOften {
        /// When to call again.
        retry_after: Duration,
    },
    /// The sender did not prove itself.
    #[error(transparent)]
    Unproven(#[from] CheckError),
    /// The hook's own secret does not open.
    #[error("the incoming hook's secret cannot be read")]
    Sealed(#[from] UnsealError),
}

struct Entry {
    hook: Arc<IncomingHook>,
    version: Version,
    allowance: Arc<Allowance>,
}

#[derive(Default)]
struct Hooks {
    by_id: HashMap<HookId, Entry>,
    by_hash: HashMap<String, HookId>,
}

/// All incoming hooks.
pub struct HookRegistry {
    engine: Arc<dyn Engine>,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    hooks: RwLock<Hooks>,
    /// Held while a document is written, so that memory and store change in the same order.
    writing: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for HookRegistry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HookRegistry").finish_non_exhaustive()
    }
}

impl HookRegistry {
    /// Reads what the store has.
    pub async fn load(engine: Arc<dyn Engine>, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let now = clock.now();
        let mut hooks = Hooks::default();
        let mut after = None;
        loop {
            let list = DocList { kind: DocKind::IncomingHook, account: None, after: after.take(), limit: PAGE };
            let documents = engine.doc_list(list).await?;
            for document in &documents {
                let read = document.id.parse().map_err(Into::into).and_then(|id| IncomingHook::from_body(id, &document.body));
                let hook = read.map_err(|source| StoreError::Failed { operation: "read an incoming hook", source })?;
                hooks.insert(hook, document.version, now);
            }
            match documents.last() {
                Some(document) if documents.len() == PAGE => after = Some(document.id.clone()),
                _ => break,
            }
        }
        Ok(Self { engine, keyring, clock, hooks: RwLock::new(hooks), writing: tokio::sync::Mutex::new(()) })
    }

    /// Makes a hook. Answers it with the secret of its address, which nobody can read again.
    pub async fn create(&self, account: AccountId, new: NewHook) -> Result<(Arc<IncomingHook>, Secret), HookError> {
        let _writing = self.writing.lock().await;
        if self.of_account(&account).len() >= MAX_HOOKS {
            return Err(HookError::TooMany);
        }
        let secret = new_secret();
        let hook = IncomingHook {
            id: HookId::random(),
            account,
            name: new.name,
            space: new.space,
            format: new.format,
            check: new.check.map(|check| self.seal(check)),
            rate: new.rate,
            expires_at: new.expires_at,
            enabled: true,
            secrets: vec![SecretHash { hash: hash_of(secret.expose()), expires_at: None }],
            created_at: self.clock.now(),
        };
        Ok((self.write(hook, Expected::Absent).await?, secret))
    }

    /// Changes a hook of `account`.
    pub async fn update(&self, account: &AccountId, id: &HookId, patch: HookPatch) -> Result<Arc<IncomingHook>, HookError> {
        let _writing = self.writing.lock().await;
        let (mut hook, version) = self.own(account, id)?;
        hook.name = patch.name.unwrap_or(hook.name);
        hook.format = patch.format.unwrap_or(hook.format);
        if let Some(check) = patch.check {
            hook.check = check.map(|check| self.seal(check));
        }
        hook.rate = patch.rate.unwrap_or(hook.rate);
        hook.expires_at = patch.expires_at.unwrap_or(hook.expires_at);
        hook.enabled = patch.enabled.unwrap_or(hook.enabled);
        self.write(hook, Expected::Version(version)).await
    }

    /// Gives a hook a new secret; the ones before it go on for `overlap`.
    pub async fn rotate(
        &self,
        account: &AccountId,
        id: &HookId,
        overlap: Duration,
    ) -> Result<(Arc<IncomingHook>, Secret), HookError> {
        let _writing = self.writing.lock().await;
        let (mut hook, version) = self.own(account, id)?;
        let (now, secret) = (self.clock.now(), new_secret());
        let end = now.saturating_add(overlap);
        hook.secrets.retain(|secret| secret.expires_at.is_none_or(|end| now < end));
        for old in &mut hook.secrets {
            old.expires_at = Some(old.expires_at.map_or(end, |before| before.min(end)));
        }
        hook.secrets.insert(0, SecretHash { hash: hash_of(secret.expose()), expires_at: None });
        Ok((self.write(hook, Expected::Version(version)).await?, secret))
    }

    /// Removes a hook of `account`; its address is unknown from now on.
    pub async fn delete(&self, account: &AccountId, id: &HookId) -> Result<(), HookError> {
        let _writing = self.writing.lock().await;
        let (hook, _) = self.own(account, id)?;
        self.engine.doc_put(vec![document(&hook, None, Expected::Any)]).await?;
        self.hooks.write().expect(LOCK).remove(id);
        Ok(())
    }

    /// The hook with this id, if `account` has it.
    pub fn get(&self, account: &AccountId, id: &HookId) -> Option<Arc<IncomingHook>> {
        let hooks = self.hooks.read().expect(LOCK);
        hooks.by_id.get(id).map(|entry| Arc::clone(&entry.hook)).filter(|hook| hook.account == *account)
    }

    /// The hooks of `account`, in the order of their ids.
    pub fn of_account(&self, account: &AccountId) -> Vec<Arc<IncomingHook>> {
        let hooks = self.hooks.read().expect(LOCK);
        let own = hooks.by_id.values().filter(|entry| entry.hook.account == *account);
        let mut own: Vec<_> = own.map(|entry| Arc::clone(&entry.hook)).collect();
        own.sort_by(|a, b| a.id.cmp(&b.id));
        own
    }

    /// The spaces that hooks of `account` post into.
    pub fn interest(&self, account: &AccountId) -> Interest {
        let mut interest = Interest::default();
        for hook in self.of_account(account).iter().filter(|hook| hook.is_open(self.clock.now())) {
            interest.add(&SpaceSelector::One(hook.space.clone()));
        }
        interest
    }

    /// Takes a call: finds the hook of the secret, counts the call, and has its sender prove itself.
    pub fn call(&self, secret: &str, headers: &http::HeaderMap, body: &[u8]) -> Result<Arc<IncomingHook>, CallError> {
        let (now, hash) = (self.clock.now(), hash_of(secret));
        let (hook, allowance) = {
            let hooks = self.hooks.read().expect(LOCK);
            let entry = hooks.by_hash.get(&hash).and_then(|id| hooks.by_id.get(id)).ok_or(CallError::Unknown)?;
            (Arc::clone(&entry.hook), Arc::clone(&entry.allowance))
        };
        let known = hook.secrets.iter().find(|known| known.hash == hash);
        if !hook.is_open(now) || known.is_none_or(|known| known.expires_at.is_some_and(|end| end <= now)) {
            return Err(CallError::Unknown);
        }
        allowance.take(hook.rate, now).map_err(|retry_after| CallError::TooOften { retry_after })?;
        if let Some(check) = &hook.check {
            let secret = self.keyring.unseal(Purpose::HookCheck, &check.secret)?;
            check.kind.check(&secret, headers, body, now)?;
        }
        Ok(hook)
    }

    fn own(&self, account: &AccountId, id: &HookId) -> Result<(IncomingHook, Version), HookError> {
        let hooks = self.hooks.read().expect(LOCK);
        let entry = hooks.by_id.get(id).filter(|entry| entry.hook.account == *account).ok_or(HookError::NotFound)?;
        Ok((IncomingHook::clone(&entry.hook), entry.version))
    }

    fn seal(&self, (kind, secret): (CheckKind, Secret)) -> HookCheck {
        HookCheck { kind, secret: self.keyring.seal(Purpose::HookCheck, &secret) }
    }

    async fn write(&self, hook: IncomingHook, expected: Expected) -> Result<Arc<IncomingHook>, HookError> {
        use crate::store::PutOutcome;
        let body = bytes::Bytes::from(hook.to_body());
        match self.engine.doc_put(vec![document(&hook, Some(body), expected)]).await? {
            PutOutcome::Stored(versions) => {
                let version = versions.first().copied().ok_or(HookError::Changed)?;
                Ok(self.hooks.write().expect(LOCK).insert(hook, version, self.clock.now()))
            }
            PutOutcome::Conflict(_) => Err(HookError::Changed),
        }
    }
}

impl Hooks {
    fn insert(&mut self, hook: IncomingHook, version: Version, now: Timestamp) -> Arc<IncomingHook> {
        let before = self.remove(&hook.id);
        for secret in &hook.secrets {
            self.by_hash.insert(secret.hash.clone(), hook.id.clone());
        }
        let allowance = before.map_or_else(|| Arc::new(Allowance::new(hook.rate, now)), |before| before.allowance);
        let hook = Arc::new(hook);
        self.by_id.insert(hook.id.clone(), Entry { hook: Arc::clone(&hook), version, allowance });
        hook
    }

    fn remove(&mut self, id: &HookId) -> Option<Entry> {
        let entry = self.by_id.remove(id)?;
        for secret in &entry.hook.secrets {
            self.by_hash.remove(&secret.hash);
        }
        Some(entry)
    }
}

fn document(hook: &IncomingHook, body: Option<bytes::Bytes>, expected: Expected) -> DocWrite {
    DocWrite {
        kind: DocKind::IncomingHook,
        id: hook.id.as_str().to_owned(),
        account: Some(hook.account.clone()),
        body,
        expected,
        expires_at: None,
        flow: None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::domain::SystemClock;
    use crate::store::MemoryStore;

    fn new_hook() -> NewHook {
        let space = "s1".parse().expect("an id");
        NewHook { name: None, space, format: Format::Auto, check: None, rate: HookRate::default(), expires_at: None }
    }

    async fn registry() -> (HookRegistry, Arc<dyn Engine>, Arc<Keyring>) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let engine: Arc<dyn Engine> = Arc::new(MemoryStore::new(Arc::clone(&clock)));
        let keyring = Arc::new(Keyring::random());
        let registry = HookRegistry::load(Arc::clone(&engine), Arc::clone(&keyring), clock).await.expect("loaded");
        (registry, engine, keyring)
    }

    fn ana() -> AccountId {
        "acc_ana".parse().expect("an id")
    }

    #[tokio::test]
    async fn a_hook_is_found_by_its_secret_alone_and_survives_a_restart() {
        let (registry, engine, keyring) = registry().await;
        let check = Some((CheckKind::Gitlab, Secret::new("a-long-token")));
        let (hook, secret) = registry.create(ana(), NewHook { check, ..new_hook() }).await.expect("created");
        let again = HookRegistry::load(engine, keyring, Arc::new(SystemClock)).await.expect("loaded");
        let mut headers = HeaderMap::new();
        assert!(matches!(again.call(secret.expose(), &headers, b""), Err(CallError::Unproven(_))));
        headers.insert("x-gitlab-token", http::HeaderValue::from_static("a-long-token"));
        assert_eq!(again.call(secret.expose(), &headers, b"").expect("known"), hook);
        assert!(matches!(again.call("x", &headers, b""), Err(CallError::Unknown)));
        assert!(matches!(again.call(hook.id.as_str(), &headers, b""), Err(CallError::Unknown)));
    }

    #[tokio::test]
    async fn what_has_ended_or_is_off_is_unknown() {
        let (registry, _, _) = registry().await;
        let (hook, secret) = registry.create(ana(), new_hook()).await.expect("created");
        let call = || registry.call(secret.expose(), &HeaderMap::new(), b"");
        let change = async |patch| registry.update(&ana(), &hook.id, patch).await.expect("changed");
        change(HookPatch { enabled: Some(false), ..HookPatch::default() }).await;
        assert!(matches!(call(), Err(CallError::Unknown)));
        assert!(registry.interest(&ana()).is_empty());
        change(HookPatch { enabled: Some(true), ..HookPatch::default() }).await;
        assert!(call().is_ok());
        change(HookPatch { expires_at: Some(Some(Timestamp::from_millis(1))), ..HookPatch::default() }).await;
        assert!(matches!(call(), Err(CallError::Unknown)));
        change(HookPatch { expires_at: Some(None), ..HookPatch::default() }).await;
        registry.delete(&ana(), &hook.id).await.expect("deleted");
        assert!(matches!(call(), Err(CallError::Unknown)));
    }

    #[tokio::test]
    async fn a_rotated_secret_goes_on_for_its_overlap() {
        let (registry, _, _) = registry().await;
        let (hook, first) = registry.create(ana(), new_hook()).await.expect("created");
        let call = |secret: &Secret| registry.call(secret.expose(), &HeaderMap::new(), b"").is_ok();
        let (_, second) = registry.rotate(&ana(), &hook.id, Duration::from_hours(1)).await.expect("rotated");
        assert!(call(&first) && call(&second));
        let (_, third) = registry.rotate(&ana(), &hook.id, Duration::ZERO).await.expect("rotated");
        assert!(!call(&first) && !call(&second) && call(&third));
    }

    #[tokio::test]
    async fn others_see_nothing_and_nobody_calls_too_often() {
        let (registry, _, _) = registry().await;
        let rate = HookRate { count: 1, per_seconds: 3600 };
        let (hook, secret) = registry.create(ana(), NewHook { rate, ..new_hook() }).await.expect("created");
        let bo: AccountId = "acc_bo".parse().expect("an id");
        assert!(registry.get(&bo, &hook.id).is_none() && registry.of_account(&bo).is_empty());
        assert!(matches!(registry.delete(&bo, &hook.id).await, Err(HookError::NotFound)));
        assert!(registry.call(secret.expose(), &HeaderMap::new(), b"").is_ok());
        let refused = registry.call(secret.expose(), &HeaderMap::new(), b"");
        assert!(matches!(refused, Err(CallError::TooOften { retry_after }) if retry_after > Duration::from_mins(59)));
    }
}
