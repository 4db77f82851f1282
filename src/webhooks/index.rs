//! The webhooks in memory: by id, and by account for matching.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::domain::{AccountId, Interest, Ordering, SpaceId, Webhook, WebhookId, WebhookStatus};
use crate::store::{Lane, Target, Version};

/// A webhook and the version of its document.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) webhook: Arc<Webhook>,
    pub(super) version: Version,
}

/// Every webhook.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_id: HashMap<WebhookId, Entry>,
    by_account: HashMap<AccountId, BTreeMap<WebhookId, Arc<Webhook>>>,
}

impl Index {
    pub(super) fn get(&self, id: &WebhookId) -> Option<&Entry> {
        self.by_id.get(id)
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        let webhook = &entry.webhook;
        self.by_account.entry(webhook.account.clone()).or_default().insert(webhook.id.clone(), Arc::clone(webhook));
        self.by_id.insert(webhook.id.clone(), entry);
    }

    /// Takes `entry` over if it is newer than what is here. A webhook that is no longer here stays away: it was deleted meanwhile.
    pub(super) fn refresh(&mut self, entry: Entry) {
        if self.by_id.get(&entry.webhook.id).is_some_and(|known| known.version < entry.version) {
            self.insert(entry);
        }
    }

    pub(super) fn remove(&mut self, id: &WebhookId) {
        let Some(entry) = self.by_id.remove(id) else { return };
        let account = &entry.webhook.account;
        if let Some(webhooks) = self.by_account.get_mut(account) {
            webhooks.remove(id);
            if webhooks.is_empty() {
                self.by_account.remove(account);
            }
        }
    }

    /// The webhooks of `account` in the order of their ids.
    pub(super) fn of_account(&self, account: &AccountId) -> impl Iterator<Item = &Arc<Webhook>> {
        self.by_account.get(account).into_iter().flat_map(BTreeMap::values)
    }

    pub(super) fn accounts(&self) -> impl Iterator<Item = &AccountId> {
        self.by_account.keys()
    }

    pub(super) fn interest(&self, account: &AccountId) -> Interest {
        let mut wanted = Interest::default();
        for webhook in self.of_account(account).filter(|webhook| webhook.status == WebhookStatus::Enabled) {
            webhook.spaces.iter().for_each(|selector| wanted.add(selector));
        }
        wanted
    }
}

/// Where `webhook` gets an event of `space`.
pub(super) fn target(webhook: &Webhook, space: &SpaceId) -> Target {
    Target { webhook: webhook.id.clone(), lane: lane(webhook, space) }
}

/// The lane in which deliveries to `webhook` of events of `space` wait.
pub fn lane(webhook: &Webhook, space: &SpaceId) -> Lane {
    match webhook.ordering {
        Ordering::Parallel => Lane::Parallel,
        Ordering::Space => Lane::Ordered(space.clone()),
    }
}
