//! [`WebhookRegistry`]: the webhooks, in memory and in the store.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::EventView;
use super::change::{NewWebhook, WebhookPatch, apply, limits};
use super::index::{Entry, Index, target};
use super::keys::NewKey;
use super::matching::{filter_agrees, may_match};
use crate::domain::{
    AccountId, Clock, EventType, Filter, Interest, RequestOptions, Secret, SigningKeys, TooManyKeys, Webhook, WebhookId,
    WebhookStatus,
};
use crate::seal::{Keyring, UnsealError};
use crate::store::{DocKind, DocList, DocWrite, Document, Engine, Expected, Flow, PutOutcome, StoreError, Target, Version};

/// Most webhooks of one account, unless the settings say otherwise.
pub const DEFAULT_LIMIT: usize = 100;

/// Webhooks read from the store at a time.
const LOAD_PAGE: usize = 500;

/// Tries of an update that others overtake; each failed one means that another succeeded, so this many in a row are unheard of.
const UPDATE_TRIES: usize = 16;

/// Why a webhook could not be registered or changed.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// There is no such webhook.
    #[error("there is no such webhook")]
    NotFound,
    /// The account has as many webhooks as it may have.
    #[error("the account has {limit} webhooks, which is the most it may have")]
    TooMany {
        /// The most it may have.
        limit: usize,
    },
    /// As many secrets sign as may at a time.
    #[error(transparent)]
    TooManySecrets(#[from] TooManyKeys),
    /// A secret of the webhook does not open with the service's keys.
    #[error("a secret of the webhook does not open")]
    Sealed(#[from] UnsealError),
    /// Others changed the webhook again and again in the meantime.
    #[error("the webhook is being changed by others")]
    Contended,
    /// The store failed; nothing was changed.
    #[error("failed to store the webhook")]
    Store(#[from] StoreError),
}

/// The webhooks that get an event, unless their filters say no. Apart from the registry, so that nobody waits for it meanwhile.
#[derive(Debug)]
pub struct Candidates(Vec<Arc<Webhook>>);

impl Candidates {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether some filter searches with patterns, which may take some milliseconds each.
    pub fn searches(&self) -> bool {
        self.0.iter().any(|webhook| webhook.filter.as_ref().is_some_and(Filter::searches))
    }

    /// Who gets `event`.
    pub fn targets(&self, event: &EventView<'_>) -> Vec<Target> {
        let wanting = self.0.iter().filter(|webhook| filter_agrees(webhook, event));
        wanting.map(|webhook| target(webhook, event.space)).collect()
    }
}

/// Every webhook. A change is durable when its call returns, and only then shows in memory.
pub struct WebhookRegistry {
    engine: Arc<dyn Engine>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) clock: Arc<dyn Clock>,
    limit: usize,
    index: RwLock<Index>,
    /// Held from counting an account's webhooks until the new one is among them.
    creating: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for WebhookRegistry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WebhookRegistry").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl WebhookRegistry {
    /// Reads every webhook from the store.
    pub async fn load(engine: Arc<dyn Engine>, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let mut index = Index::default();
        let mut after = None;
        loop {
            let list = DocList { kind: DocKind::Webhook, account: None, after: after.take(), limit: LOAD_PAGE };
            let documents = engine.doc_list(list).await?;
            if documents.is_empty() {
                break;
            }
            for document in documents {
                index.insert(read(&document)?);
                after = Some(document.id);
            }
        }
        let (limit, creating) = (DEFAULT_LIMIT, tokio::sync::Mutex::new(()));
        Ok(Self { engine, keyring, clock, limit, index: RwLock::new(index), creating })
    }

    /// The same registry with another limit of webhooks per account.
    #[must_use]
    pub fn with_limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Registers a webhook of `account` under this id. One that `account` has registered under it already is left as it is and
    /// answered.
    pub async fn create_once(&self, id: WebhookId, account: AccountId, new: NewWebhook) -> Result<Arc<Webhook>, WebhookError> {
        let _creating = self.creating.lock().await;
        match self.get(&id).filter(|known| known.account == account) {
            Some(known) => Ok(known),
            None => self.create_as(id, account, new).await.map(|(webhook, _)| webhook),
        }
    }

    /// Registers a webhook of `account` and gives it a signing secret, or a private key.
    pub async fn create(&self, account: AccountId, new: NewWebhook) -> Result<(Arc<Webhook>, Secret), WebhookError> {
        let _creating = self.creating.lock().await;
        self.create_as(WebhookId::random(), account, new).await
    }

    async fn create_as(
        &self,
        id: WebhookId,
        account: AccountId,
        new: NewWebhook,
    ) -> Result<(Arc<Webhook>, Secret), WebhookError> {
        if self.read().of_account(&account).count() >= self.limit {
            return Err(WebhookError::TooMany { limit: self.limit });
        }
        let key = NewKey::random(new.signing);
        let now = self.clock.now();
        let webhook = Webhook {
            id,
            account,
            url: new.url.as_str().to_owned(),
            events: new.events,
            spaces: new.spaces,
            filter: new.filter,
            ordering: new.ordering,
            pace: new.pace,
            ignore_own: new.ignore_own,
            reply: new.reply,
            description: new.description,
            status: if new.enabled { WebhookStatus::Enabled } else { WebhookStatus::Disabled },
            status_since: now,
            request: RequestOptions {
                format: new.format,
                handshake: new.handshake,
                headers: self.seal_headers(&new.headers),
                authorization: new.authorization.as_ref().map(|authorization| self.seal_authorization(authorization)),
            },
            signing: SigningKeys::new(new.signing, self.seal_key(&key)),
            opened_at: now,
            created_at: now,
            updated_at: now,
        };
        let flow = if new.enabled { Flow::Open(limits(&webhook)) } else { Flow::Paused };
        let version = self.put(&webhook, Expected::Absent, Some(flow)).await?.ok_or(WebhookError::Contended)?;
        let webhook = Arc::new(webhook);
        self.write().insert(Entry { webhook: Arc::clone(&webhook), version });
        Ok((webhook, key.secret))
    }

    /// The webhook with this id.
    pub fn get(&self, id: &WebhookId) -> Option<Arc<Webhook>> {
        self.read().get(id).map(|entry| Arc::clone(&entry.webhook))
    }

    /// The webhooks of `account` in the order of their ids.
    pub fn of_account(&self, account: &AccountId) -> Vec<Arc<Webhook>> {
        self.read().of_account(account).cloned().collect()
    }

    /// The accounts that have webhooks.
    pub fn accounts(&self) -> BTreeSet<AccountId> {
        self.read().accounts().cloned().collect()
    }

    /// The spaces that the enabled webhooks of `account` want to hear of.
    pub fn interest(&self, account: &AccountId) -> Interest {
        self.read().interest(account)
    }

    /// Who gets `event`, unless a filter says no.
    pub fn candidates(&self, event: &EventView<'_>) -> Candidates {
        Candidates(self.read().of_account(event.account).filter(|webhook| may_match(webhook, event)).cloned().collect())
    }

    /// Whether an enabled webhook of `account` asks for events of this type.
    pub fn ask_for(&self, account: &AccountId, event_type: &EventType) -> bool {
        let index = self.read();
        let mut enabled = index.of_account(account).filter(|webhook| webhook.status == WebhookStatus::Enabled);
        enabled.any(|webhook| webhook.events.iter().any(|pattern| pattern.matches(event_type)))
    }

    /// Changes a webhook. Deliveries that wait follow in the same transaction: they pause while it is off and go on when it is on.
    pub async fn update(&self, id: &WebhookId, patch: WebhookPatch) -> Result<Arc<Webhook>, WebhookError> {
        let sealed = self.seal_patch(&patch);
        self.change(id, |webhook| Ok(apply(webhook, &patch, &sealed))).await
    }

    /// Switches a webhook off if it is on, for a reason of the bridge. Its deliveries wait until its owner switches it on again.
    /// Tells whether it was on.
    pub async fn switch_off(&self, id: &WebhookId, why: WebhookStatus) -> Result<bool, WebhookError> {
        let mut was_on = false;
        self.change(id, |webhook| {
            was_on = webhook.status == WebhookStatus::Enabled;
            if was_on {
                webhook.status = why;
            }
            Ok(was_on.then_some(Flow::Paused))
        })
        .await?;
        Ok(was_on)
    }

    /// Deletes a webhook and ends its deliveries.
    pub async fn delete(&self, id: &WebhookId) -> Result<(), WebhookError> {
        let webhook = self.get(id).ok_or(WebhookError::NotFound)?;
        let delete = DocWrite { body: None, ..document(&webhook, Bytes::new(), Expected::Any, Some(Flow::Ended)) };
        self.engine.doc_put(vec![delete]).await?;
        self.write().remove(id);
        Ok(())
    }

    /// Applies `edit`, again on the newest state if someone else was quicker.
    pub(super) async fn change(
        &self,
        id: &WebhookId,
        mut edit: impl FnMut(&mut Webhook) -> Result<Option<Flow>, WebhookError> + Send,
    ) -> Result<Arc<Webhook>, WebhookError> {
        let mut entry = self.read().get(id).cloned().ok_or(WebhookError::NotFound)?;
        for _ in 0..UPDATE_TRIES {
            let mut webhook = Webhook::clone(&entry.webhook);
            let flow = edit(&mut webhook)?;
            webhook.updated_at = self.clock.now();
            if let Some(Flow::Open(_)) = flow {
                webhook.opened_at = webhook.updated_at;
            }
            if webhook.status != entry.webhook.status {
                webhook.status_since = webhook.updated_at;
            }
            if let Some(version) = self.put(&webhook, Expected::Version(entry.version), flow).await? {
                let webhook = Arc::new(webhook);
                self.write().refresh(Entry { webhook: Arc::clone(&webhook), version });
                return Ok(webhook);
            }
            entry = self.reload(id).await?;
        }
        Err(WebhookError::Contended)
    }

    /// The webhook as the store has it now.
    async fn reload(&self, id: &WebhookId) -> Result<Entry, WebhookError> {
        let Some(document) = self.engine.doc_get(DocKind::Webhook, id.as_str()).await? else {
            self.write().remove(id);
            return Err(WebhookError::NotFound);
        };
        let entry = read(&document)?;
        self.write().refresh(entry.clone());
        Ok(entry)
    }

    /// Writes `webhook`; `None` if the expectation did not hold.
    async fn put(&self, webhook: &Webhook, expected: Expected, flow: Option<Flow>) -> Result<Option<Version>, StoreError> {
        let body = serde_json::to_vec(webhook).expect("a webhook is plain JSON");
        let outcome = self.engine.doc_put(vec![document(webhook, body.into(), expected, flow)]).await?;
        Ok(match outcome {
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

fn document(webhook: &Webhook, body: Bytes, expected: Expected, flow: Option<Flow>) -> DocWrite {
    DocWrite {
        kind: DocKind::Webhook,
        id: webhook.id.as_str().to_owned(),
        account: Some(webhook.account.clone()),
        body: Some(body),
        expected,
        expires_at: None,
        flow: flow.map(|flow| (webhook.id.clone(), flow)),
    }
}

fn read(document: &Document) -> Result<Entry, StoreError> {
    let webhook = serde_json::from_slice(&document.body)
        .map_err(|source| StoreError::Failed { operation: "read a webhook", source: source.into() })?;
    Ok(Entry { webhook: Arc::new(webhook), version: document.version })
}
