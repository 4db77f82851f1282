//! Where answers go that a receiver gives in words. Delivery hands them on and does not know what becomes of them.

use async_trait::async_trait;

use crate::domain::{DeliveryId, Webhook};
use crate::store::{ClaimedEvent, StoreError};

/// The answer of a receiver that may answer in words.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The delivery that was answered.
    pub delivery: DeliveryId,
    /// The webhook.
    pub webhook: &'a Webhook,
    /// What was delivered.
    pub event: &'a ClaimedEvent,
    /// The answer's body, as far as it was read.
    pub body: &'a [u8],
}

/// Takes answers.
#[async_trait]
pub trait ReplySink: Send + Sync {
    /// Takes an answer over: when this returns, what has to be done about it is durable, and the delivery may be settled. The same
    /// answer may come again.
    async fn take(&self, answered: Answered<'_>) -> Result<(), StoreError>;
}
