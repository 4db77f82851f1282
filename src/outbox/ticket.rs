//! [`Ticket`]: what a caller holds of a message in the outbox.

use tokio::sync::watch;
use tokio::time::Instant;

use super::Outbox;
use crate::domain::{MessageRef, SpaceId};
use crate::send_log::SendRecord;

/// A caller's hold on a message in the outbox. While it lives the caller counts as one who waits for the outcome.
#[derive(Debug)]
pub struct Ticket {
    outbox: Outbox,
    reference: MessageRef,
    /// What was known when the ticket was given.
    known: SendRecord,
    /// Tells of changes, while the message is in the outbox.
    shown: Option<watch::Receiver<SendRecord>>,
    is_new: bool,
}

impl Ticket {
    pub(super) fn new(outbox: &Outbox, shown: SendRecord) -> Self {
        let mut ticket = Self::attach(outbox, shown);
        ticket.is_new = true;
        ticket
    }

    /// A ticket for a message that was taken before.
    pub(super) fn attach(outbox: &Outbox, known: SendRecord) -> Self {
        let shown = outbox.0.queue().get_mut(&known.reference).map(|entry| {
            entry.waiters += 1;
            entry.shown.subscribe()
        });
        Self { outbox: outbox.clone(), reference: known.reference.clone(), known, shown, is_new: false }
    }

    /// Whether the message was taken for this ticket, and not before.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Where the message goes.
    pub fn space(&self) -> &SpaceId {
        &self.known.space
    }

    /// Waits until it is known what became of the message, or that nobody can know, until `deadline` at most. Answers what is known
    /// then.
    pub async fn outcome(mut self, deadline: Instant) -> SendRecord {
        let Some(mut shown) = self.shown.clone() else { return self.known.clone() };
        // The sender goes when the message leaves the outbox.
        let ended = async { while shown.changed().await.is_ok() {} };
        // What is known at the deadline is the answer then.
        let _ = tokio::time::timeout_at(deadline, ended).await;
        self.stop_waiting()
    }

    /// Under the lock under which outcomes are told, so that an outcome is either answered here or told as one that nobody waited for.
    fn stop_waiting(&mut self) -> SendRecord {
        let mut queue = self.outbox.0.queue();
        let Some(shown) = self.shown.take() else { return self.known.clone() };
        if let Some(entry) = queue.get_mut(&self.reference) {
            entry.waiters -= 1;
        }
        shown.borrow().clone()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.stop_waiting();
    }
}
