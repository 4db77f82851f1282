//! The settler: writes down how attempts ended, in batches, because one commit costs the same for one as for a hundred.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::metrics::Metrics;
use crate::store::{Engine, Settled, Settlement, StoreError, Verdict};

/// Most settlements in one transaction.
const BATCH: usize = 512;

/// The wait before a settling that failed is tried again.
const RETRY_WAIT: Duration = Duration::from_millis(200);

/// A settlement and the slot that its attempt took; the slot is free when the settlement is durable.
pub(super) struct Ended {
    pub(super) settlement: Settlement,
    pub(super) slot: OwnedSemaphorePermit,
}

/// Writes settlements down.
pub(super) struct Settler {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) metrics: Arc<Metrics>,
    /// Told whenever slots have become free.
    pub(super) freed: Arc<Notify>,
    /// How long a claim holds, and so how long settling it makes sense.
    pub(super) lease: Duration,
    /// Ends the tries.
    pub(super) abort: CancellationToken,
}

impl Settler {
    /// Settles what comes until nothing more can come. Whatever arrived while the last batch was written is the next batch.
    pub(super) async fn run(self, mut ended: mpsc::Receiver<Ended>) {
        let mut batch = Vec::with_capacity(BATCH);
        while ended.recv_many(&mut batch, BATCH).await > 0 {
            let (settlements, slots): (Vec<_>, Vec<_>) = batch.drain(..).map(|ended| (ended.settlement, ended.slot)).unzip();
            self.settle(settlements).await;
            drop(slots);
            self.freed.notify_one();
        }
    }

    /// Settles `settlements`, again and again while the store fails and their claims hold. A repeat does no harm: each settlement
    /// counts only while its claim stands.
    async fn settle(&self, settlements: Vec<Settlement>) {
        let give_up = Instant::now() + self.lease;
        loop {
            let timer = self.metrics.settle_latency.start_timer();
            let result = self.engine.settle(settlements.clone()).await;
            timer.observe_duration();
            match result {
                Ok(settled) => return self.count(&settlements, &settled),
                Err(StoreError::Closed) => return,
                Err(error) => {
                    warn!(%error, cause = ?error, "{} attempts could not be settled", settlements.len());
                }
            }
            tokio::select! {
                () = self.abort.cancelled() => return,
                () = tokio::time::sleep(RETRY_WAIT) => if Instant::now() > give_up { return },
            }
        }
    }

    fn count(&self, settlements: &[Settlement], settled: &[Settled]) {
        for (settlement, settled) in settlements.iter().zip(settled) {
            match settled {
                Settled::Ok { .. } => self.metrics.deliveries.with_label_values(&[outcome(settlement.verdict)]).inc(),
                Settled::Stale => {
                    let id = settlement.delivery;
                    debug!(delivery.id = %id, "the claim of `{id}` had ended before its attempt");
                }
            }
        }
    }
}

fn outcome(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Delivered => "delivered",
        Verdict::Retry(_) => "retry",
        Verdict::Dead(_) => "dead",
    }
}
