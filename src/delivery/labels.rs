//! [`Labels`]: which webhooks have a label of their own in metrics. Their number is bounded, as every label of metrics costs memory
//! here and in whatever collects them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::WebhookId;
use crate::metrics::Metrics;
use crate::webhooks::WebhookRegistry;

/// The label of all others.
const OTHER: &str = "other";

/// How many attempts of others pass between two looks for places of webhooks that were deleted.
const LOOK_EVERY: usize = 1024;

/// The webhooks with a label of their own: the first so many that had an attempt.
pub(super) struct Labels {
    limit: usize,
    webhooks: Arc<WebhookRegistry>,
    metrics: Arc<Metrics>,
    own: RwLock<HashSet<WebhookId>>,
    others: AtomicUsize,
}

impl Labels {
    pub(super) fn new(limit: usize, webhooks: Arc<WebhookRegistry>, metrics: Arc<Metrics>) -> Self {
        Self { limit, webhooks, metrics, own: RwLock::default(), others: AtomicUsize::new(0) }
    }

    /// Counts an attempt for `webhook`.
    pub(super) fn count(&self, webhook: &WebhookId, outcome: &str) {
        let label = if self.has_own(webhook) { webhook.as_str() } else { OTHER };
        self.metrics.webhook_attempts.with_label_values(&[label, outcome]).inc();
    }

    fn has_own(&self, webhook: &WebhookId) -> bool {
        {
            let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
            if own.contains(webhook) {
                return true;
            }
            if own.len() >= self.limit && !self.others.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY) {
                return false;
            }
        }
        let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
        if own.len() >= self.limit {
            own.retain(|id| self.webhooks.get(id).is_some() || self.drop_label(id));
        }
        own.contains(webhook) || own.len() < self.limit && own.insert(webhook.clone())
    }

    /// Takes a label out of the metrics. Always `false`: it is not kept.
    fn drop_label(&self, webhook: &WebhookId) -> bool {
        for outcome in super::settler::OUTCOMES {
            // One that never came about is not there to be removed.
            let _ = self.metrics.webhook_attempts.remove_label_values(&[webhook.as_str(), outcome]);
        }
        false
    }
}
