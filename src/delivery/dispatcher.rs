//! [`DeliveryDispatcher`]: takes due deliveries from the store and has an attempt made of each.
//!
//! One task looks for due deliveries, when the store hints at some, when the next is due, and when slots become free. Each claimed
//! delivery is one task, so that no receiver waits for another; the settler ends the claims. By the time a request leaves, its
//! attempt is on disk as a claim: a crash repeats an attempt and loses none.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use super::breakers::Breakers;
use super::client::WebhookClient;
use super::disabler::{Disabler, Patience};
use super::endpoint::Endpoints;
use super::labels::Labels;
use super::reply::ReplySink;
use super::settings::DeliverySettings;
use super::settler::{Ended, Settler};
use super::worker::DeliveryWorker;
use crate::domain::Clock;
use crate::event_log::EventLog;
use crate::metrics::Metrics;
use crate::store::{Claim, ClaimRequest, Engine, Incarnation, Query, Rows, StoreError};
use crate::webhooks::WebhookRegistry;

/// The wait if something is due that cannot be claimed yet, because its webhook has as many attempts under way as it may have.
/// The end of one of those wakes the dispatcher sooner.
const BLOCKED_WAIT: Duration = Duration::from_millis(50);

/// Probed endpoints read from the store at a time.
const FLOWS_PAGE: usize = 500;

/// The wait after the store failed.
const FAILED_WAIT: Duration = Duration::from_millis(500);

/// What the dispatcher works with.
#[derive(Clone)]
pub struct DeliveryParts {
    /// The store.
    pub engine: Arc<dyn Engine>,
    /// This process's membership of the store.
    pub incarnation: Incarnation,
    /// The webhooks.
    pub webhooks: Arc<WebhookRegistry>,
    /// Where it is told that a webhook was switched off.
    pub event_log: Arc<EventLog>,
    /// Who posts.
    pub client: Arc<WebhookClient>,
    /// Where answers in words go, if anyone takes them.
    pub replies: Option<Arc<dyn ReplySink>>,
    /// The clock, the engine's too.
    pub clock: Arc<dyn Clock>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

impl std::fmt::Debug for DeliveryParts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("DeliveryParts").field("incarnation", &self.incarnation).finish_non_exhaustive()
    }
}

/// The running delivery. Dropping it stops taking deliveries; [`Self::shutdown`] also waits for what is under way.
#[derive(Debug)]
pub struct DeliveryDispatcher {
    stop: DropGuard,
    abort: CancellationToken,
    attempts: TaskTracker,
    polling: JoinHandle<()>,
    settling: JoinHandle<()>,
}

impl DeliveryDispatcher {
    /// Starts delivering.
    pub fn spawn(parts: DeliveryParts, settings: DeliverySettings) -> Self {
        let (stop, abort, attempts) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let (ended, receiver) = mpsc::channel(settings.concurrency.max(1));
        let freed = Arc::new(Notify::new());
        let disabler = Arc::new(Disabler {
            webhooks: Arc::clone(&parts.webhooks),
            event_log: parts.event_log,
            clock: Arc::clone(&parts.clock),
            metrics: Arc::clone(&parts.metrics),
        });
        let (patience, disabling) = Patience::new(settings.disable_after, Arc::clone(&parts.engine), Arc::clone(&disabler));
        let settler = Settler {
            engine: Arc::clone(&parts.engine),
            labels: Labels::new(settings.metric_labels, Arc::clone(&parts.webhooks), Arc::clone(&parts.metrics)),
            patience,
            metrics: Arc::clone(&parts.metrics),
            freed: Arc::clone(&freed),
            lease: settings.lease(),
            abort: abort.clone(),
        };
        let poller = Poller {
            hints: parts.engine.hints(),
            engine: parts.engine,
            incarnation: parts.incarnation,
            clock: Arc::clone(&parts.clock),
            worker: Arc::new(DeliveryWorker {
                endpoints: Endpoints::new(Arc::clone(&parts.webhooks), parts.client.origin().clone()),
                client: parts.client,
                breakers: Breakers::new(parts.webhooks, Arc::clone(&parts.metrics)),
                disabler,
                replies: parts.replies,
                clock: parts.clock,
                metrics: parts.metrics,
            }),
            settings,
            slots: Arc::new(Semaphore::new(settings.concurrency)),
            slow_slots: Arc::new(Semaphore::new(settings.slow_concurrency)),
            freed,
            ended,
            attempts: attempts.clone(),
            abort: abort.clone(),
        };
        let settling = tokio::spawn(async move {
            // The settler holds the only way to the disabling, which so ends after it.
            tokio::join!(settler.run(receiver), disabling);
        });
        let polling = tokio::spawn(poller.run(stop.clone()));
        Self { stop: stop.drop_guard(), abort, attempts, polling, settling }
    }

    /// Takes nothing more, gives attempts under way `grace` to end, and writes down how they ended. Attempts that take longer are
    /// cut off; their claims end by themselves, and they count as attempts whose end was not seen.
    pub async fn shutdown(self, grace: Duration) {
        let Self { stop, abort, attempts, polling, settling } = self;
        let deadline = Instant::now() + grace;
        drop(stop);
        // The poller ends first, so that no attempt begins after the tracker was found empty.
        end(polling, deadline).await;
        attempts.close();
        if tokio::time::timeout_at(deadline, attempts.wait()).await.is_err() {
            abort.cancel();
            attempts.wait().await;
        }
        end(settling, deadline.max(Instant::now() + SETTLE_GRACE)).await;
        abort.cancel();
    }
}

/// What the last settlements may take although the grace time is over.
const SETTLE_GRACE: Duration = Duration::from_secs(1);

/// Waits for the end of `task` until `deadline`, then ends it.
async fn end(mut task: JoinHandle<()>, deadline: Instant) {
    if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
        task.abort();
    }
}

/// Looks for due deliveries.
struct Poller {
    engine: Arc<dyn Engine>,
    incarnation: Incarnation,
    clock: Arc<dyn Clock>,
    hints: watch::Receiver<u64>,
    worker: Arc<DeliveryWorker>,
    settings: DeliverySettings,
    slots: Arc<Semaphore>,
    slow_slots: Arc<Semaphore>,
    freed: Arc<Notify>,
    ended: mpsc::Sender<Ended>,
    attempts: TaskTracker,
    abort: CancellationToken,
}

impl Poller {
    async fn run(mut self, stop: CancellationToken) {
        self.resume_holds(&stop).await;
        while !stop.is_cancelled() {
            // Seen before looking, so that a hint in between is not missed.
            self.hints.mark_unchanged();
            let wait = match self.take_due().await {
                Ok(wait) => wait,
                Err(StoreError::Closed) => return,
                Err(error) => {
                    warn!(%error, cause = ?error, "due deliveries could not be taken");
                    FAILED_WAIT
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = self.hints.changed() => {}
                () = self.freed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Takes over which endpoints are being probed, so that a dead one costs no more after a restart than before.
    async fn resume_holds(&self, stop: &CancellationToken) {
        let mut after = None;
        while !stop.is_cancelled() {
            match self.engine.query(Query::ProbedFlows { after: after.take(), limit: FLOWS_PAGE }).await.map(|page| page.rows) {
                Ok(Rows::Flows(flows)) => {
                    for flow in &flows {
                        self.worker.breakers.resume(&flow.webhook, flow.held_until.unwrap_or_else(|| self.clock.now()));
                    }
                    match flows.into_iter().next_back() {
                        Some(last) => after = Some(last.webhook),
                        None => return,
                    }
                }
                Ok(_) => return error!("the store answered another question than for its flows"),
                Err(StoreError::Closed) => return,
                Err(error) => {
                    warn!(%error, cause = ?error, "the state of endpoints could not be read");
                    return;
                }
            }
        }
    }

    /// Takes what is due and fits, and tells how long to wait for more.
    async fn take_due(&self) -> Result<Duration, StoreError> {
        let free = self.slots.available_permits();
        if free == 0 {
            return Ok(self.settings.poll_interval);
        }
        let lease = self.settings.lease();
        // An attempt may begin as long as it can end within the lease, counted from before the store was asked for it.
        let start_before = Instant::now() + self.settings.lease_margin;
        let request = ClaimRequest { incarnation: self.incarnation, max: free, per_webhook: self.settings.per_webhook, lease };
        let claims = self.engine.claim(request).await?;
        let taken = claims.len();
        for claim in claims {
            self.start(claim, start_before);
        }
        if taken == free {
            return Ok(self.settings.poll_interval);
        }
        let Some(due) = self.engine.next_due().await? else { return Ok(self.settings.poll_interval) };
        let floor = if taken == 0 { BLOCKED_WAIT } else { Duration::ZERO };
        let wait = due.since(self.clock.now());
        Ok(if wait.is_zero() { floor } else { wait }.min(self.settings.poll_interval))
    }

    fn start(&self, claim: Claim, start_before: Instant) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            // Only this task takes slots, and it claimed no more than were free. The claim ends by itself.
            warn!(delivery.id = %claim.delivery, "there was no slot for `{}`", claim.delivery);
            return;
        };
        let slot = Slot { held: slot, slow: Arc::clone(&self.slow_slots), freed: Arc::clone(&self.freed) };
        let (worker, ended, abort) = (Arc::clone(&self.worker), self.ended.clone(), self.abort.clone());
        let slow_after = self.settings.slow_after;
        self.attempts.spawn(async move {
            let attempt = slot.hold_during(worker.work(&claim, start_before), slow_after);
            let (settlement, slot) = tokio::select! {
                biased;
                () = abort.cancelled() => return,
                done = attempt => done,
            };
            if let Some(settlement) = settlement {
                // The settler outlives every attempt; if it is gone nevertheless, the claim ends by itself.
                let _ = ended.send(Ended { webhook: claim.webhook, settlement, slot }).await;
            }
        });
    }
}

/// The room that an attempt takes among all.
struct Slot {
    held: OwnedSemaphorePermit,
    slow: Arc<Semaphore>,
    freed: Arc<Notify>,
}

impl Slot {
    /// Does `work` in this slot, and in a slow one as soon as it takes longer than `slow_after`, if one is free then. Gives the
    /// slot back with the result; it is to be kept until that is durable.
    async fn hold_during<T>(mut self, work: impl Future<Output = T>, slow_after: Duration) -> (T, OwnedSemaphorePermit) {
        let mut work = std::pin::pin!(work);
        if let Ok(result) = tokio::time::timeout(slow_after, &mut work).await {
            return (result, self.held);
        }
        if let Ok(slow) = self.slow.try_acquire_owned() {
            self.held = slow;
            self.freed.notify_one();
        }
        (work.await, self.held)
    }
}
