//! [`Disabler`]: switches webhooks off whose receivers are gone, asked for it, or have failed for too long, and tells their owner.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::warn;

use crate::domain::{Clock, Timestamp, WebhookId, WebhookStatus};
use crate::event_log::{EventLog, SystemEvent};
use crate::metrics::Metrics;
use crate::store::{Engine, Query, Rows};
use crate::webhooks::WebhookRegistry;

/// Webhooks that may wait to be switched off for failing. One that finds no room comes again with its next failure.
const WAITING: usize = 64;

/// Switches webhooks off.
pub(super) struct Disabler {
    pub(super) webhooks: Arc<WebhookRegistry>,
    pub(super) event_log: Arc<EventLog>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
}

impl Disabler {
    /// Switches `id` off if it is on. The event is durable before the webhook is off, and the same however often this is called
    /// while it is on, so that no crash in between loses it or doubles it.
    pub(super) async fn disable(&self, id: &WebhookId, why: WebhookStatus, failing_since: Option<Timestamp>) {
        let Some(webhook) = self.webhooks.get(id).filter(|webhook| webhook.status == WebhookStatus::Enabled) else { return };
        let reason = why.as_str();
        let event = SystemEvent::WebhookDisabled { webhook_id: id.clone(), reason, failing_since, opened_at: webhook.opened_at };
        if let Err(error) = self.event_log.append_system(&webhook.account, &event).await {
            warn!(webhook.id = %id, %error, cause = ?error, "the event that webhook `{id}` is switched off could not be stored");
        }
        match self.webhooks.switch_off(id, why).await {
            Ok(true) => {
                self.metrics.webhooks_disabled.with_label_values(&[reason]).inc();
                warn!(webhook.id = %id, reason, failing_since = failing_since.map(tracing::field::display), "webhook `{id}` is switched off: {reason}");
            }
            Ok(false) => {}
            Err(error) => warn!(webhook.id = %id, %error, cause = ?error, "webhook `{id}` could not be switched off: {reason}"),
        }
    }
}

/// Looks at how long webhooks have failed, and hands over those that failed for too long.
pub(super) struct Patience {
    after: Option<Duration>,
    clock: Arc<dyn Clock>,
    given_up: mpsc::Sender<(WebhookId, Timestamp)>,
}

impl Patience {
    /// Patience that ends after `after`, or never, and what switches the webhooks off on which it ended; to be run.
    pub(super) fn new(
        after: Option<Duration>,
        engine: Arc<dyn Engine>,
        disabler: Arc<Disabler>,
    ) -> (Self, impl Future<Output = ()>) {
        let (given_up, mut waiting) = mpsc::channel(WAITING);
        let patience = Self { after, clock: Arc::clone(&disabler.clock), given_up };
        let work = async move {
            while let Some((id, since)) = waiting.recv().await {
                if is_failing_since(&*engine, &id, since).await {
                    disabler.disable(&id, WebhookStatus::Failing, Some(since)).await;
                }
            }
        };
        (patience, work)
    }

    /// `webhook` has seen nothing but failures since `failing_since`.
    pub(super) fn look_at(&self, webhook: &WebhookId, failing_since: Timestamp) {
        if self.after.is_some_and(|after| self.clock.now().since(failing_since) >= after) {
            // Full means that many are being switched off; this one comes again with its next failure.
            let _ = self.given_up.try_send((webhook.clone(), failing_since));
        }
    }
}

/// Whether `webhook` is failing since `since` also now: it may have been switched on again meanwhile, which forgives what was before.
/// If that cannot be read it comes again with its next failure.
async fn is_failing_since(engine: &dyn Engine, webhook: &WebhookId, since: Timestamp) -> bool {
    match engine.query(Query::Flow(webhook.clone())).await.map(|page| page.rows) {
        Ok(Rows::Flows(flows)) => flows.first().is_some_and(|flow| flow.failing_since == Some(since)),
        Ok(_) => false,
        Err(error) => {
            warn!(webhook.id = %webhook, %error, cause = ?error, "how long webhook `{webhook}` has failed could not be read");
            false
        }
    }
}
