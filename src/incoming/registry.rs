//! [`HookRegistry`]: all incoming hooks, in memory with their documents in the store.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use super::activity::Activity;
use super::check::{CheckError, CheckKind};
use super::format::{Format, Recipe};
use super::hook::{HookCheck, IncomingHook, Peer, SecretHash, hash_of, secret_of};
use super::template::Template;
use crate::domain::{AccountId, Clock, HookId, Interest, RateLimit, Secret, Seed, SpaceId, SpaceSelector, Timestamp};
use crate::seal::{Keyring, Purpose, UnsealError};
use crate::store::{DocKind, DocList, DocWrite, Engine, Expected, StoreError, Version};

/// Most hooks of one account.
pub const MAX_HOOKS: usize = 200;

/// Most secrets of a hook that are good at a time.
pub const MAX_SECRETS: usize = 5;

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
    /// Whom that space is with, if a person was named.
    pub direct: Option<Peer>,
    /// What it takes, and how messages are made of it.
    pub recipe: Recipe,
    /// How its senders prove themselves, and with what.
    pub check: Option<(CheckKind, Secret)>,
    /// How often it may be called.
    pub rate: RateLimit,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Whether it takes calls.
    pub enabled: bool,
}

/// A change of a hook; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct HookPatch {
    /// Another name, or none.
    pub name: Option<Option<String>>,
    /// Another format.
    pub format: Option<Format>,
    /// Another template, or none.
    pub template: Option<Option<Template>>,
    /// Another check, or none.
    pub check: Option<Option<(CheckKind, Secret)>>,
    /// Another rate.
    pub rate: Option<RateLimit>,
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
    /// It would have a template that is not used, or none that is.
    #[error("an incoming hook has a template if that is its format, and only then")]
    TemplateMismatch,
    /// As many secrets of it are good as may be at a time.
    #[error("{MAX_SECRETS} secrets of the incoming hook are good, which is the most there may be; rotate with a shorter overlap")]
    TooManySecrets,
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
    activity: Arc<Activity>,
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
        let mut hooks = Hooks::default();
        let mut after = None;
        loop {
            let list = DocList { kind: DocKind::IncomingHook, account: None, after: after.take(), limit: PAGE };
            let documents = engine.doc_list(list).await?;
            for document in &documents {
                let read = document.id.parse().map_err(Into::into).and_then(|id| IncomingHook::from_body(id, &document.body));
                let hook = read.map_err(|source| StoreError::Failed { operation: "read an incoming hook", source })?;
                hooks.insert(hook, document.version);
            }
            match documents.last() {
                Some(document) if documents.len() == PAGE => after = Some(document.id.clone()),
                _ => break,
            }
        }
        Ok(Self { engine, keyring, clock, hooks: RwLock::new(hooks), writing: tokio::sync::Mutex::new(()) })
    }

    /// Makes the hook of `seed`, once. Answers it with the secret of its address, which nobody can read again.
    pub async fn create(&self, account: AccountId, new: NewHook, seed: &Seed) -> Result<(Arc<IncomingHook>, Secret), HookError> {
        let _writing = self.writing.lock().await;
        let (id, secret) = (HookId::of_seed(seed), secret_of(&self.keyring, seed));
        if let Some(made) = self.get(&account, &id) {
            return Ok((made, secret));
        }
        if self.of_account(&account).len() >= MAX_HOOKS {
            return Err(HookError::TooMany);
        }
        let hook = IncomingHook {
            id,
            account,
            name: new.name,
            space: new.space,
            direct: new.direct,
            recipe: new.recipe,
            check: new.check.map(|check| self.seal(check)),
            rate: new.rate,
            expires_at: new.expires_at,
            enabled: new.enabled,
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
        hook.recipe = hook.recipe.changed(patch.format, patch.template).ok_or(HookError::TemplateMismatch)?;
        if let Some(check) = patch.check {
            hook.check = check.map(|check| self.seal(check));
        }
        hook.rate = patch.rate.unwrap_or(hook.rate);
        hook.expires_at = patch.expires_at.unwrap_or(hook.expires_at);
        hook.enabled = patch.enabled.unwrap_or(hook.enabled);
        self.write(hook, Expected::Version(version)).await
    }

    /// Gives a hook the secret of `seed`; the ones before it go on for `overlap`. If that is its newest already, nothing changes.
    pub async fn rotate(
        &self,
        account: &AccountId,
        id: &HookId,
        (overlap, seed): (Duration, &Seed),
    ) -> Result<(Arc<IncomingHook>, Secret), HookError> {
        let _writing = self.writing.lock().await;
        let (mut hook, version) = self.own(account, id)?;
        let (now, secret) = (self.clock.now(), secret_of(&self.keyring, seed));
        let hash = hash_of(secret.expose());
        if hook.secrets.first().is_some_and(|newest| newest.hash == hash) {
            return Ok((Arc::new(hook), secret));
        }
        let end = now.saturating_add(overlap);
        for old in &mut hook.secrets {
            old.expires_at = Some(old.expires_at.map_or(end, |before| before.min(end)));
        }
        hook.secrets.retain(|secret| secret.expires_at.is_none_or(|end| now < end));
        if hook.secrets.len() >= MAX_SECRETS {
            return Err(HookError::TooManySecrets);
        }
        hook.secrets.insert(0, SecretHash { hash, expires_at: None });
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

    /// What has happened at a hook of `account` since the service started.
    pub fn activity(&self, hook: &IncomingHook) -> Option<Arc<Activity>> {
        let hooks = self.hooks.read().expect(LOCK);
        hooks.by_id.get(&hook.id).map(|entry| Arc::clone(&entry.activity))
    }

    /// The hook of this secret, if it takes calls, and its activity. Whether the secret or its hook has ended, is switched off, or never
    /// was, makes no difference.
    pub fn find(&self, secret: &str) -> Result<(Arc<IncomingHook>, Arc<Activity>), CallError> {
        let (now, hash) = (self.clock.now(), hash_of(secret));
        let (hook, activity) = {
            let hooks = self.hooks.read().expect(LOCK);
            let entry = hooks.by_hash.get(&hash).and_then(|id| hooks.by_id.get(id)).ok_or(CallError::Unknown)?;
            (Arc::clone(&entry.hook), Arc::clone(&entry.activity))
        };
        let known = hook.secrets.iter().find(|known| known.hash == hash);
        if !hook.is_open(now) || known.is_none_or(|known| known.expires_at.is_some_and(|end| end <= now)) {
            return Err(CallError::Unknown);
        }
        Ok((hook, activity))
    }

    /// Counts a call, if there may be one now.
    pub fn admit(&self, hook: &IncomingHook, activity: &Activity) -> Result<(), CallError> {
        activity.admit(hook.rate, self.clock.now()).map_err(|retry_after| CallError::TooOften { retry_after })
    }

    /// Has the sender of a call prove itself, if the hook asks for that.
    pub fn prove(&self, hook: &IncomingHook, headers: &http::HeaderMap, body: &[u8]) -> Result<(), CallError> {
        let Some(check) = &hook.check else { return Ok(()) };
        let secret = self.keyring.unseal(Purpose::HookCheck, &check.secret)?;
        Ok(check.kind.check(&secret, headers, body, self.clock.now())?)
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
                Ok(self.hooks.write().expect(LOCK).insert(hook, version))
            }
            PutOutcome::Conflict(_) => Err(HookError::Changed),
        }
    }
}

impl Hooks {
    fn insert(&mut self, hook: IncomingHook, version: Version) -> Arc<IncomingHook> {
        let before = self.remove(&hook.id);
        for secret in &hook.secrets {
            self.by_hash.insert(secret.hash.clone(), hook.id.clone());
        }
        let activity = before.map_or_else(|| Arc::new(Activity::new(hook.rate)), |before| before.activity);
        let hook = Arc::new(hook);
        self.by_id.insert(hook.id.clone(), Entry { hook: Arc::clone(&hook), version, activity });
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
mod tests;
