//! [`Breakers`]: the breaker of every endpoint that is not well. An endpoint that is well takes no room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use super::breaker::{Breaker, Finding};
use crate::domain::{Timestamp, Webhook, WebhookId, WebhookStatus};
use crate::metrics::Metrics;
use crate::webhooks::WebhookRegistry;

/// Breakers that are kept before those of webhooks that are gone are looked for; doubles with what remains.
const FIRST_SWEEP: usize = 64;

/// The breakers by webhook.
pub(super) struct Breakers {
    webhooks: Arc<WebhookRegistry>,
    metrics: Arc<Metrics>,
    known: Mutex<Known>,
}

struct Known {
    entries: HashMap<WebhookId, Entry>,
    sweep_at: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    /// The webhook's [`Webhook::opened_at`] when the breaker was made: an owner who opens it again wants it tried at once.
    opened_at: Timestamp,
    breaker: Breaker,
}

impl Breakers {
    pub(super) fn new(webhooks: Arc<WebhookRegistry>, metrics: Arc<Metrics>) -> Self {
        Self { webhooks, metrics, known: Mutex::new(Known { entries: HashMap::new(), sweep_at: FIRST_SWEEP }) }
    }

    /// Takes over from an earlier process that `id` is held until `until` and then probed.
    pub(super) fn resume(&self, id: &WebhookId, until: Timestamp) {
        let Some(webhook) = self.webhooks.get(id) else { return };
        self.put(&mut self.lock(), &webhook, Breaker::resumed(until));
    }

    /// An attempt for `webhook` begins that was claimed at `claimed_at`.
    pub(super) fn begun(&self, webhook: &Webhook, claimed_at: Timestamp) {
        let mut known = self.lock();
        if known.entries.is_empty() || claimed_at < webhook.opened_at {
            return;
        }
        let breaker = known.breaker(webhook);
        self.put(&mut known, webhook, breaker.begun(claimed_at));
    }

    /// An attempt for `webhook` that was claimed at `claimed_at` ended at `now`. Says how long all its deliveries are to be held
    /// back, if they are.
    pub(super) fn found(&self, webhook: &Webhook, finding: Finding, claimed_at: Timestamp, now: Timestamp) -> Option<Duration> {
        let mut known = self.lock();
        if claimed_at < webhook.opened_at || known.entries.is_empty() && finding != Finding::Down {
            return None;
        }
        let before = known.breaker(webhook);
        let (after, hold) = before.found(finding, claimed_at, now);
        self.put(&mut known, webhook, after);
        drop(known);
        let id = &webhook.id;
        match (before, after) {
            (_, Breaker::Open { hold, .. }) if before != after => {
                warn!(webhook.id = %id, ?hold, "the endpoint of webhook `{id}` is down; its deliveries are held for {hold:?}");
            }
            (Breaker::Open { .. } | Breaker::HalfOpen { .. }, Breaker::Closed { .. }) => {
                info!(webhook.id = %id, "the endpoint of webhook `{id}` answers again");
            }
            _ => {}
        }
        hold
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, known: &mut Known, webhook: &Webhook, breaker: Breaker) {
        let before = if breaker.is_at_rest() {
            known.entries.remove(&webhook.id)
        } else {
            self.make_room(known);
            known.entries.insert(webhook.id.clone(), Entry { opened_at: webhook.opened_at, breaker })
        };
        self.count(before.map(|entry| entry.breaker), -1);
        self.count(Some(breaker), 1);
    }

    /// Drops the breakers of webhooks that get no deliveries any more, if there have come to be many.
    fn make_room(&self, known: &mut Known) {
        if known.entries.len() < known.sweep_at {
            return;
        }
        let is_current = |id: &WebhookId, entry: &Entry| {
            self.webhooks
                .get(id)
                .is_some_and(|webhook| webhook.status == WebhookStatus::Enabled && webhook.opened_at == entry.opened_at)
        };
        known.entries.retain(|id, entry| {
            let keep = is_current(id, entry);
            if !keep {
                self.count(Some(entry.breaker), -1);
            }
            keep
        });
        known.sweep_at = (known.entries.len() * 2).max(FIRST_SWEEP);
    }

    fn count(&self, breaker: Option<Breaker>, change: i64) {
        let state = match breaker {
            Some(Breaker::Open { .. }) => "open",
            Some(Breaker::HalfOpen { .. }) => "half_open",
            Some(Breaker::Closed { .. }) | None => return,
        };
        self.metrics.breakers.with_label_values(&[state]).add(change);
    }
}

impl Known {
    fn breaker(&self, webhook: &Webhook) -> Breaker {
        let entry = self.entries.get(&webhook.id).filter(|entry| entry.opened_at == webhook.opened_at);
        entry.map_or_else(Breaker::default, |entry| entry.breaker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::AddressGuard;
    use crate::delivery::breaker::{FIRST_HOLD, OPENS_AFTER};
    use crate::domain::{Clock as _, SystemClock};
    use crate::seal::Keyring;
    use crate::store::MemoryStore;
    use crate::webhooks::{NewWebhook, WebhookUrl};

    async fn breakers() -> Breakers {
        let clock = Arc::new(SystemClock);
        let engine = Arc::new(MemoryStore::new(clock.clone()));
        let webhooks = WebhookRegistry::load(engine, Arc::new(Keyring::random()), clock).await.expect("loaded");
        Breakers::new(Arc::new(webhooks.with_limit(usize::MAX)), Arc::default())
    }

    async fn webhook(breakers: &Breakers) -> Arc<Webhook> {
        let url = WebhookUrl::parse("https://receiver.example/", &AddressGuard::default()).expect("a URL");
        let created = breakers.webhooks.create("acc_1".parse().expect("an id"), NewWebhook::to(url)).await;
        created.expect("created").0
    }

    fn fail(breakers: &Breakers, webhook: &Webhook, times: u32) -> Option<Duration> {
        let now = SystemClock.now();
        (0..times).map(|_| breakers.found(webhook, Finding::Down, now, now)).last().flatten()
    }

    fn gauge(breakers: &Breakers, state: &str) -> i64 {
        breakers.metrics.breakers.with_label_values(&[state]).get()
    }

    #[tokio::test]
    async fn endpoints_have_breakers_of_their_own() {
        let breakers = breakers().await;
        let (dead, fine) = (webhook(&breakers).await, webhook(&breakers).await);
        assert_eq!(fail(&breakers, &dead, OPENS_AFTER), Some(FIRST_HOLD));
        assert_eq!(fail(&breakers, &fine, OPENS_AFTER - 1), None);
        assert_eq!((gauge(&breakers, "open"), gauge(&breakers, "half_open")), (1, 0));
        let later = SystemClock.now().saturating_add(FIRST_HOLD * 2);
        breakers.begun(&dead, later);
        assert_eq!((gauge(&breakers, "open"), gauge(&breakers, "half_open")), (0, 1));
        breakers.found(&dead, Finding::Up, later, later);
        breakers.found(&fine, Finding::Up, later, later);
        assert_eq!((gauge(&breakers, "open"), gauge(&breakers, "half_open")), (0, 0));
        assert!(breakers.lock().entries.is_empty());
    }

    #[tokio::test]
    async fn an_owner_who_opens_a_webhook_again_begins_anew() {
        let breakers = breakers().await;
        let dead = webhook(&breakers).await;
        fail(&breakers, &dead, OPENS_AFTER);
        let opened_at = SystemClock.now().saturating_add(Duration::from_secs(1));
        let again = Webhook { opened_at, ..Webhook::clone(&dead) };
        // What was under way before says nothing any more.
        assert_eq!(fail(&breakers, &again, OPENS_AFTER), None);
        let late = opened_at.saturating_add(Duration::from_secs(1));
        let holds: Vec<_> = (0..OPENS_AFTER).map(|_| breakers.found(&again, Finding::Down, late, late)).collect();
        assert_eq!((holds[0], holds.last()), (None, Some(&Some(FIRST_HOLD))));
        assert_eq!(gauge(&breakers, "open"), 1);
    }

    #[tokio::test]
    async fn webhooks_that_are_gone_are_forgotten() {
        let breakers = breakers().await;
        for _ in 0..10 * FIRST_SWEEP {
            let dead = webhook(&breakers).await;
            fail(&breakers, &dead, OPENS_AFTER);
            breakers.webhooks.delete(&dead.id).await.expect("deleted");
        }
        assert!(breakers.lock().entries.len() <= FIRST_SWEEP);
        assert_eq!(gauge(&breakers, "open"), i64::try_from(breakers.lock().entries.len()).expect("few"));
    }
}
