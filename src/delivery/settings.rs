//! Settings of delivery.

use std::time::Duration;

use super::client::ClientSettings;
use crate::domain::MAX_TIMEOUT;

/// How deliveries are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliverySettings {
    /// How long one attempt may take in all if its webhook does not say; Standard Webhooks asks for 15 to 30 seconds.
    pub timeout: Duration,
    /// How much longer than an attempt its claim holds, for writing down how it ended.
    pub lease_margin: Duration,
    /// Attempts at a time in all.
    pub concurrency: usize,
    /// Slow attempts at a time beyond that: an attempt that takes longer than [`Self::slow_after`] makes room for others, so that
    /// receivers that hang do not use up what the prompt ones need. Each is an open connection and little else.
    pub slow_concurrency: usize,
    /// When an attempt counts as slow.
    pub slow_after: Duration,
    /// Attempts at a time to one webhook.
    pub per_webhook: usize,
    /// The longest time between two looks for due deliveries. The store's hints come sooner, but may be lost.
    pub poll_interval: Duration,
    /// A webhook that has seen nothing but failures for so long is switched off; never if not set.
    pub disable_after: Option<Duration>,
    /// Webhooks with a label of their own in metrics; all others share one.
    pub metric_labels: usize,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            lease_margin: Duration::from_secs(15),
            concurrency: 256,
            slow_concurrency: 1024,
            slow_after: Duration::from_secs(1),
            per_webhook: 16,
            poll_interval: Duration::from_secs(1),
            disable_after: Some(Duration::from_hours(120)),
            metric_labels: 100,
        }
    }
}

impl DeliverySettings {
    /// What the client needs to know of this.
    pub fn client(&self) -> ClientSettings {
        ClientSettings { timeout: self.timeout, idle_connections: self.concurrency }
    }

    /// How long a claim holds: as long as the slowest attempt of any webhook may take, and some more.
    pub(super) fn lease(&self) -> Duration {
        self.timeout.max(MAX_TIMEOUT) + self.lease_margin
    }
}
