//! Subscriptions: spaces that an account listens to beyond what its webhooks imply. In memory, with their documents in the store.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, RwLock};

use crate::domain::{AccountId, SpaceId};
use crate::store::{DocKind, DocList, DocWrite, Engine, Expected, Result};

/// Documents read at a time.
const PAGE: usize = 500;

/// All subscriptions.
pub struct SubscriptionRegistry {
    engine: Arc<dyn Engine>,
    by_account: RwLock<HashMap<AccountId, BTreeSet<SpaceId>>>,
}

impl std::fmt::Debug for SubscriptionRegistry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SubscriptionRegistry").finish_non_exhaustive()
    }
}

const LOCK: &str = "no code panics while it holds this lock";

impl SubscriptionRegistry {
    /// Reads what the store has.
    pub async fn load(engine: Arc<dyn Engine>) -> Result<Self> {
        let mut by_account: HashMap<AccountId, BTreeSet<SpaceId>> = HashMap::new();
        let mut after = None;
        loop {
            let list = DocList { kind: DocKind::Subscription, account: None, after: after.take(), limit: PAGE };
            let documents = engine.doc_list(list).await?;
            for document in &documents {
                if let (Some(account), Some(space)) = (&document.account, space_of(&document.id)) {
                    by_account.entry(account.clone()).or_default().insert(space);
                }
            }
            match documents.last() {
                Some(document) if documents.len() == PAGE => after = Some(document.id.clone()),
                _ => return Ok(Self { engine, by_account: RwLock::new(by_account) }),
            }
        }
    }

    /// Adds a subscription; a repeat changes nothing.
    pub async fn put(&self, account: &AccountId, space: &SpaceId) -> Result<()> {
        self.engine.doc_put(vec![write(account, space, Some(bytes::Bytes::from_static(b"{}")))]).await?;
        self.by_account.write().expect(LOCK).entry(account.clone()).or_default().insert(space.clone());
        Ok(())
    }

    /// Removes a subscription. `false` if there was none.
    pub async fn delete(&self, account: &AccountId, space: &SpaceId) -> Result<bool> {
        self.engine.doc_put(vec![write(account, space, None)]).await?;
        let mut by_account = self.by_account.write().expect(LOCK);
        let Some(spaces) = by_account.get_mut(account) else { return Ok(false) };
        let removed = spaces.remove(space);
        if spaces.is_empty() {
            by_account.remove(account);
        }
        Ok(removed)
    }

    /// The account's subscriptions, in order.
    pub fn of_account(&self, account: &AccountId) -> Vec<SpaceId> {
        self.by_account.read().expect(LOCK).get(account).map(|spaces| spaces.iter().cloned().collect()).unwrap_or_default()
    }
}

/// No id contains a slash.
fn document_id(account: &AccountId, space: &SpaceId) -> String {
    format!("{account}/{space}")
}

fn space_of(document_id: &str) -> Option<SpaceId> {
    document_id.split_once('/')?.1.parse().ok()
}

fn write(account: &AccountId, space: &SpaceId, body: Option<bytes::Bytes>) -> DocWrite {
    DocWrite {
        kind: DocKind::Subscription,
        id: document_id(account, space),
        account: Some(account.clone()),
        body,
        expected: Expected::Any,
        expires_at: None,
        flow: None,
    }
}
