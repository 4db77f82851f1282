//! [`AccountRegistry`]: all managed accounts, in memory and in the store, and what the operator does with them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock, Weak};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use super::queue::RenewalQueue;
use super::record::{Failure, HeldToken, Record, Standing, removal};
use super::renewal::{Attempt, Cause};
use super::unfinished;
use super::{AccountCredential, AccountError, AccountSessions, AccountSettings, CredentialKind, MintError, TokenSources};
use crate::domain::{AccountId, Clock, Credential, Seed, SessionId, Timestamp, TokenKind};
use crate::event_log::EventLog;
use crate::metrics::Metrics;
use crate::seal::Keyring;
use crate::store::{DocKind, DocList, DocWrite, Engine, Expected, PutOutcome, Result as StoreResult};
use crate::upstream::{Profile, RestClient, RestError};

/// Renewals at a time, over all accounts.
const CONCURRENCY: usize = 16;

/// Documents read at a time.
const PAGE: usize = 500;

pub(super) const LOCK: &str = "no code panics while it holds this lock";

/// What accounts work with.
pub struct AccountParts {
    /// The store.
    pub engine: Arc<dyn Engine>,
    /// Seals credentials and tokens, and names sessions.
    pub keyring: Arc<Keyring>,
    /// Where failures are told.
    pub event_log: Arc<EventLog>,
    /// Tells whose a token is.
    pub rest: RestClient,
    /// Turns credentials into tokens.
    pub sources: TokenSources,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// How accounts behave.
    pub settings: AccountSettings,
}

/// All managed accounts. Cheap to clone.
#[derive(Clone)]
pub struct AccountRegistry(pub(super) Arc<Inner>);

impl std::fmt::Debug for AccountRegistry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AccountRegistry").finish_non_exhaustive()
    }
}

pub(super) struct Inner {
    pub(super) parts: AccountParts,
    /// Set once; sessions are made after accounts, and know them.
    pub(super) sessions: OnceLock<Weak<dyn AccountSessions>>,
    entries: RwLock<BTreeMap<AccountId, Arc<Entry>>>,
    pub(super) queue: Mutex<RenewalQueue>,
    /// Rung when the earliest time of the queue may have changed.
    pub(super) changed: Notify,
    pub(super) running: Semaphore,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// An account in memory.
pub(super) struct Entry {
    pub(super) id: AccountId,
    pub(super) live: Mutex<Live>,
    /// Held by whoever changes the account, over everything that belongs to one change.
    pub(super) changing: tokio::sync::Mutex<()>,
}

pub(super) struct Live {
    pub(super) record: Record,
    /// The renewal under way, which everyone who wants one shares.
    pub(super) attempt: Option<Attempt>,
    /// Failed tries in a row.
    pub(super) failures: u32,
    /// How long a server asked to be left alone.
    pub(super) patience: Option<Duration>,
    /// The token that was last found in the file that the credential names, as a hash.
    pub(super) found: Option<[u8; 32]>,
    pub(super) deleted: bool,
}

impl Entry {
    fn new(record: Record) -> Arc<Self> {
        let live = Live { record, attempt: None, failures: 0, patience: None, found: None, deleted: false };
        Arc::new(Self { id: live.record.account.clone(), live: Mutex::new(live), changing: tokio::sync::Mutex::default() })
    }

    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().expect(LOCK)
    }

    pub(super) fn record(&self) -> Record {
        self.live().record.clone()
    }
}

/// What an account looks like from outside. Nothing in it is secret.
#[derive(Debug, Clone)]
pub struct AccountView {
    /// Its id.
    pub id: AccountId,
    /// The operator's name for it.
    pub name: Option<String>,
    /// How it stands with its credential.
    pub standing: Standing,
    /// The user's id in Spaces, if it is known.
    pub user_id: Option<String>,
    /// The user's display name, if it is known.
    pub display_name: Option<String>,
    /// The kind of its credential.
    pub credential_kind: CredentialKind,
    /// The kind of its token.
    pub token_kind: TokenKind,
    /// When its token ends, if that is known.
    pub token_expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its token was got.
    pub last_renewed_at: Timestamp,
    /// The last failure.
    pub last_failure: Option<Failure>,
    /// The session that its token opens.
    pub session: SessionId,
}

/// A token and whose it is.
struct Prepared {
    credential: AccountCredential,
    token: HeldToken,
    user: Option<Profile>,
}

impl AccountRegistry {
    /// Reads what the store has. Nothing is renewed before [`Self::start`].
    pub async fn load(parts: AccountParts) -> StoreResult<Self> {
        let mut entries = BTreeMap::new();
        let mut after = None;
        loop {
            let list = DocList { kind: DocKind::Account, account: None, after: after.take(), limit: PAGE };
            let documents = parts.engine.doc_list(list).await?;
            for document in documents.iter().filter(|document| !unfinished::is_one(document)) {
                match Record::read(document, &parts.keyring) {
                    Ok(record) => _ = entries.insert(record.account.clone(), Entry::new(record)),
                    Err(error) => error!(error = &error as &dyn std::error::Error, "an account is left out"),
                }
            }
            match documents.last() {
                Some(document) if documents.len() == PAGE => after = Some(document.id.clone()),
                _ => break,
            }
        }
        Ok(Self(Arc::new(Inner {
            parts,
            sessions: OnceLock::new(),
            entries: RwLock::new(entries),
            queue: Mutex::default(),
            changed: Notify::new(),
            running: Semaphore::new(CONCURRENCY),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })))
    }

    /// Whether the bridge gets the tokens of `account` by itself.
    pub fn is_managed(&self, account: &AccountId) -> bool {
        self.0.entry(account).is_some()
    }

    /// The account with this id.
    pub fn get(&self, account: &AccountId) -> Result<AccountView, AccountError> {
        Ok(self.0.view(&*self.0.entry(account).ok_or(AccountError::NotFound)?))
    }

    /// All accounts, in the order of their ids.
    pub fn list(&self) -> Vec<AccountView> {
        self.0.all().iter().map(|entry| self.0.view(entry)).collect()
    }

    /// Makes an account: gets a token, asks whose it is, stores both, and lets the sessions have it.
    pub async fn create(&self, name: Option<String>, credential: AccountCredential) -> Result<AccountView, AccountError> {
        self.create_once(name, credential, &Seed::random()).await
    }

    /// The same for a call that may be made again: an account that `seed` has made before is answered as it is now.
    pub async fn create_once(
        &self,
        name: Option<String>,
        credential: AccountCredential,
        seed: &Seed,
    ) -> Result<AccountView, AccountError> {
        let inner = &self.0;
        if let Some(entry) = inner.all().into_iter().find(|entry| entry.live().record.seed.as_ref() == Some(seed)) {
            return Ok(inner.view(&entry));
        }
        let limit = inner.parts.settings.max_accounts;
        if inner.entries.read().expect(LOCK).len() >= limit {
            return Err(AccountError::TooMany { limit });
        }
        inner.parts.sources.check(&credential)?;
        let prepared = inner.prepare(&credential).await?;
        let account = account_of(prepared.user.as_ref())?;
        let now = inner.parts.clock.now();
        let record = Record {
            account: account.clone(),
            name,
            credential: prepared.credential,
            token: prepared.token,
            user_id: prepared.user.as_ref().map(|user| user.id.clone()),
            display_name: prepared.user.and_then(|user| user.displayname),
            standing: Standing::Active,
            created_at: now,
            last_renewed_at: now,
            last_failure: None,
            seed: Some(seed.clone()),
        };
        let writes = vec![record.write(&inner.parts.keyring, Expected::Absent), unfinished::removal(&credential)];
        if let PutOutcome::Conflict(_) = inner.parts.engine.doc_put(writes).await? {
            return Err(AccountError::Exists(account));
        }
        let entry = Entry::new(record);
        inner.entries.write().expect(LOCK).insert(account.clone(), Arc::clone(&entry));
        info!(account.id = %account, kind = ?credential.kind(), "account `{account}` is managed from now on");
        inner.settle_in(&entry).await;
        Ok(inner.view(&entry))
    }

    /// Gives an account another credential of the same user.
    pub async fn replace(&self, account: &AccountId, credential: AccountCredential) -> Result<AccountView, AccountError> {
        let inner = &self.0;
        let entry = inner.entry(account).ok_or(AccountError::NotFound)?;
        inner.parts.sources.check(&credential)?;
        let changing = entry.changing.lock().await;
        let mut record = entry.record();
        if entry.live().deleted {
            return Err(AccountError::NotFound);
        }
        let prepared = inner.prepare(&credential).await?;
        let guests = [&record.credential, &credential].map(|credential| credential.kind() == CredentialKind::Anonymous);
        let user_id = prepared.user.as_ref().map(|user| &user.id);
        // A guest is another user each time; anyone else stays who he is, as far as that is known.
        let is_same =
            guests == [true; 2] || guests == [false; 2] && (record.user_id.is_none() || record.user_id.as_ref() == user_id);
        if !is_same {
            return Err(AccountError::OtherUser);
        }
        record.credential = prepared.credential;
        record.token = prepared.token;
        record.last_renewed_at = inner.parts.clock.now();
        record.standing = Standing::Active;
        record.last_failure = None;
        if let Some(user) = prepared.user {
            record.user_id = Some(user.id);
            record.display_name = user.displayname;
        }
        inner.save_with(&entry, record, vec![unfinished::removal(&credential)]).await?;
        info!(account.id = %account, kind = ?credential.kind(), "account `{account}` has another credential");
        drop(changing);
        inner.settle_in(&entry).await;
        Ok(inner.view(&entry))
    }

    /// Gets another token now, and waits for it for `wait` at most.
    pub async fn renew_now(&self, account: &AccountId, wait: Duration) -> Result<AccountView, AccountError> {
        let entry = self.0.entry(account).ok_or(AccountError::NotFound)?;
        let attempt = self.0.attempt(&entry, Cause::Asked);
        match tokio::time::timeout(wait, attempt).await {
            Ok(outcome) => outcome.map(|_| self.0.view(&entry)).map_err(AccountError::from),
            Err(_) => Ok(self.0.view(&entry)),
        }
    }

    /// Forgets an account's credential and token. Its session ends unless something else needs it.
    pub async fn delete(&self, account: &AccountId) -> Result<(), AccountError> {
        let inner = &self.0;
        let entry = inner.entry(account).ok_or(AccountError::NotFound)?;
        let _changing = entry.changing.lock().await;
        if entry.live().deleted {
            return Err(AccountError::NotFound);
        }
        inner.parts.engine.doc_put(vec![removal(account)]).await?;
        entry.live().deleted = true;
        inner.entries.write().expect(LOCK).remove(account);
        inner.queue.lock().expect(LOCK).set(account, None);
        info!(account.id = %account, "account `{account}` is not managed any more");
        if let Some(sessions) = inner.sessions() {
            sessions.release(account).await?;
        }
        Ok(())
    }

    /// Writes the present numbers into the metrics.
    pub fn observe(&self) {
        let now = self.0.parts.clock.now();
        let (mut counts, mut soonest) = (BTreeMap::new(), None::<Timestamp>);
        for view in self.list() {
            *counts.entry(view.standing.as_str()).or_insert(0_i64) += 1;
            soonest = [soonest, view.token_expires_at].into_iter().flatten().min();
        }
        let metrics = &self.0.parts.metrics;
        for standing in Standing::ALL {
            let count = counts.get(standing.as_str()).copied().unwrap_or_default();
            metrics.accounts.with_label_values(&[standing.as_str()]).set(count);
        }
        let left = soonest.map_or(0, |soonest| (soonest.as_millis() - now.as_millis()).div_euclid(1000));
        metrics.account_soonest_expiry.set(left);
    }
}

impl Inner {
    pub(super) fn entry(&self, account: &AccountId) -> Option<Arc<Entry>> {
        self.entries.read().expect(LOCK).get(account).cloned()
    }

    pub(super) fn sessions(&self) -> Option<Arc<dyn AccountSessions>> {
        self.sessions.get().and_then(Weak::upgrade)
    }

    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        self.entries.read().expect(LOCK).values().cloned().collect()
    }

    fn view(&self, entry: &Entry) -> AccountView {
        let live = entry.live();
        let record = &live.record;
        AccountView {
            id: record.account.clone(),
            name: record.name.clone(),
            standing: if live.attempt.is_some() { Standing::Renewing } else { record.standing },
            user_id: record.user_id.clone(),
            display_name: record.display_name.clone(),
            credential_kind: record.credential.kind(),
            token_kind: record.token.credential.kind,
            token_expires_at: record.token.expires_at,
            created_at: record.created_at,
            last_renewed_at: record.last_renewed_at,
            last_failure: record.last_failure.clone(),
            session: record.token.session(&self.parts.keyring),
        }
    }

    /// Makes the account's record durable, and then the one in memory. Only for whoever holds `changing`.
    pub(super) async fn save(&self, entry: &Entry, record: Record) -> StoreResult<()> {
        self.save_with(entry, record, Vec::new()).await
    }

    async fn save_with(&self, entry: &Entry, record: Record, mut writes: Vec<DocWrite>) -> StoreResult<()> {
        writes.push(record.write(&self.parts.keyring, Expected::Any));
        self.parts.engine.doc_put(writes).await?;
        entry.live().record = record;
        Ok(())
    }

    /// Gets a token and asks whose it is.
    ///
    /// A refresh token that was used is used up. So what came for it is on disk before anything else is done with it, and the operator's
    /// next try with the same credential goes on from there if this one fails or the process ends.
    async fn prepare(&self, credential: &AccountCredential) -> Result<Prepared, AccountError> {
        let now = self.parts.clock.now();
        let (engine, keyring) = (&*self.parts.engine, &self.parts.keyring);
        let minted = match unfinished::find(engine, keyring, credential).await? {
            Some(minted) => minted,
            None => {
                let minted = self.parts.sources.mint(credential, now).await?;
                unfinished::keep(engine, keyring, credential, &minted, now).await?;
                minted
            }
        };
        let user = self.user_of(&minted.credential).await?;
        let credential = minted.rotated.clone().unwrap_or_else(|| credential.clone());
        Ok(Prepared { credential, token: minted.into(), user })
    }

    /// The user of a token; `None` if its kind may not ask.
    pub(super) async fn user_of(&self, credential: &Credential) -> Result<Option<Profile>, MintError> {
        match self.parts.rest.me(credential).await {
            Ok(profile) => Ok(Some(profile)),
            // Tokens of service applications may not ask, and whether they are valid shows when the session connects.
            Err(RestError::Refused { status: 401 | 403 | 404, .. }) if credential.kind == TokenKind::ServiceApp => Ok(None),
            Err(error) => Err(match error {
                RestError::Refused { status, code, message, .. } if error.is_final() => {
                    let words = message.or(code).map(|words| format!(": {words}")).unwrap_or_default();
                    MintError::Refused(format!("Spaces does not take the token ({status}{words})"))
                }
                other => MintError::Unavailable { detail: other.to_string(), retry_after: other.retry_after() },
            }),
        }
    }

    /// Lets the sessions have a token that was just stored. What fails is tried again by schedule.
    async fn settle_in(self: &Arc<Self>, entry: &Arc<Entry>) {
        // The outcome stands in the record.
        let _ = self.attempt(entry, Cause::Settling).await;
    }
}

/// The account of a user. Who is not known gets one of its own.
fn account_of(user: Option<&Profile>) -> Result<AccountId, MintError> {
    let Some(user) = user else { return Ok(AccountId::random()) };
    AccountId::of_user(&user.id).map_err(|_| MintError::Refused("Spaces gives the user an odd id".to_owned()))
}
