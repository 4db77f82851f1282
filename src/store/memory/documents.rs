//! Small documents, and the flow of deliveries that a webhook's document steers.

use super::{NOT_HELD, Standing, State};
use crate::domain::{DeadReason, DeliveryState, Timestamp, WebhookId};
use crate::store::{DocKind, DocList, DocWrite, Document, Expected, Flow, PutOutcome, Version};

impl State {
    pub(super) fn doc_put(&mut self, writes: &[DocWrite], now: Timestamp) -> PutOutcome {
        let before = self.documents.clone();
        let mut versions = Vec::with_capacity(writes.len());
        for (index, write) in writes.iter().enumerate() {
            let current = self.doc_get(write.kind, &write.id, now).map(|document| document.version);
            let holds = match write.expected {
                Expected::Any => true,
                Expected::Absent => current.is_none(),
                Expected::Version(version) => current == Some(version),
            };
            if !holds {
                self.documents = before;
                return PutOutcome::Conflict(index);
            }
            versions.push(self.write_document(write, current.unwrap_or(Version(0))));
        }
        for (webhook, flow) in writes.iter().filter_map(|write| write.flow.as_ref()) {
            self.set_flow(webhook, *flow, now);
        }
        PutOutcome::Stored(versions)
    }

    fn write_document(&mut self, write: &DocWrite, current: Version) -> Version {
        let key = (write.kind, write.id.clone());
        let Some(body) = write.body.clone() else {
            self.documents.remove(&key);
            return current;
        };
        let version = Version(current.0 + 1);
        let document = Document {
            kind: write.kind,
            id: write.id.clone(),
            account: write.account.clone(),
            body,
            version,
            expires_at: write.expires_at,
        };
        self.documents.insert(key, document);
        version
    }

    fn set_flow(&mut self, webhook: &WebhookId, flow: Flow, now: Timestamp) {
        let row = self.webhooks.entry(webhook.clone()).or_default();
        match flow {
            Flow::Open(limits) => {
                row.flow = Standing::Open;
                row.bucket = row.bucket.with_rate(limits.rate);
                row.held_until = NOT_HELD;
                row.probing = false;
                row.failing_since = None;
            }
            Flow::Paused => row.flow = Standing::Paused,
            Flow::Ended => {
                row.flow = Standing::Ended;
                for delivery in self.deliveries.values_mut().filter(|delivery| delivery.webhook == *webhook) {
                    if matches!(delivery.state, DeliveryState::Waiting(_)) {
                        delivery.state = DeliveryState::Dead(DeadReason::WebhookDeleted);
                        delivery.updated_at = now;
                    }
                }
            }
        }
    }

    pub(super) fn doc_get(&self, kind: DocKind, id: &str, now: Timestamp) -> Option<Document> {
        self.documents.get(&(kind, id.to_owned())).filter(|document| document.expires_at.is_none_or(|at| at > now)).cloned()
    }

    pub(super) fn doc_list(&self, list: &DocList, now: Timestamp) -> Vec<Document> {
        self.documents
            .values()
            .filter(|document| document.kind == list.kind)
            .filter(|document| list.account.is_none() || document.account == list.account)
            .filter(|document| list.after.as_ref().is_none_or(|after| document.id > *after))
            .filter(|document| document.expires_at.is_none_or(|at| at > now))
            .take(list.limit)
            .cloned()
            .collect()
    }
}
