//! Received events on their way into the log: in order, one batch at a time, tried again until the store takes them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::pending::Reply;
use super::types::{Confirmed, SendOutcome};
use crate::domain::{MessageRef, SpaceId, Timestamp};
use crate::event_log::{EventLog, LoggedEvent};
use crate::store::{Fence, StoreError};

/// Most events in one append.
const BATCH: usize = 64;

/// Waiting events beyond which the connection is not read, so that a store that fails does not fill the memory.
const FULL_EVENTS: usize = 1024;

/// Waiting bytes beyond which the connection is not read.
const FULL_BYTES: usize = 8 << 20;

/// Waits between tries while the store fails: doubling from the first to the last.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// An event that waits, and the caller who is answered once it is durable.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) event: LoggedEvent,
    pub(super) confirm: Option<Confirm>,
    /// Whether it was read from the history.
    pub(super) recovered: bool,
}

/// An event that has become durable.
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) space: SpaceId,
    pub(super) occurred_at: Timestamp,
    /// Whether it was read from the history and not known before.
    pub(super) was_missed: bool,
}

/// A confirmed send whose event has deliveries: its caller is told once they are durable.
#[derive(Debug)]
pub(super) struct Confirm {
    pub(super) reference: MessageRef,
    pub(super) reply: Reply,
    pub(super) confirmed: Confirmed,
}

impl Confirm {
    pub(super) fn tell(self) {
        // The caller may have gone.
        let _ = self.reply.send(Ok(SendOutcome::Confirmed(self.confirmed)));
    }
}

type Append = BoxFuture<'static, Result<Option<Vec<bool>>, StoreError>>;

/// The events of one session that are not durable yet.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: VecDeque<Entry>,
    bytes: usize,
    /// The running append of the first `in_flight` entries.
    append: Option<Append>,
    in_flight: usize,
    retry_at: Option<Instant>,
    failures: u32,
    /// How many events were ever put in, and how many of them are durable.
    pushed: u64,
    drained: u64,
    /// Those that have become durable since they were asked for last.
    durable: Vec<Durable>,
}

/// What came of an append.
#[derive(Debug)]
pub(super) enum AppendStep {
    /// So many events are durable (or were already).
    Durable,
    /// The store refused; it is tried again by itself.
    Failed(StoreError),
    /// The session belongs to someone else now.
    Fenced,
}

impl Inbox {
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.event.body.len();
        self.pushed += 1;
        self.waiting.push_back(entry);
    }

    /// How many events were ever put in.
    pub(super) fn pushed(&self) -> u64 {
        self.pushed
    }

    /// How many of the events that were put in are durable, counted from the first.
    pub(super) fn drained(&self) -> u64 {
        self.drained
    }

    /// Takes the events that have become durable, in order.
    pub(super) fn take_durable(&mut self) -> Vec<Durable> {
        std::mem::take(&mut self.durable)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= FULL_EVENTS || self.bytes >= FULL_BYTES
    }

    pub(super) fn is_appending(&self) -> bool {
        self.append.is_some()
    }

    /// When the next try is due, if the store failed.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Starts an append, unless one runs or the store is given time.
    pub(super) fn start(&mut self, log: &Arc<EventLog>, fence: &Fence, now: Instant) {
        if self.append.is_some() || self.waiting.is_empty() || self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        self.in_flight = self.waiting.len().min(BATCH);
        let events: Vec<LoggedEvent> = self.waiting.iter().take(self.in_flight).map(|entry| entry.event.clone()).collect();
        let (log, fence) = (Arc::clone(log), fence.clone());
        self.append = Some(Box::pin(async move { log.append_each(fence, events).await }));
    }

    /// Waits for the running append. Safe to cancel.
    pub(super) async fn next(&mut self) -> AppendStep {
        let Some(append) = &mut self.append else { return std::future::pending().await };
        let result = append.await;
        self.append = None;
        match result {
            Ok(Some(new)) => {
                self.failures = 0;
                self.drained += self.in_flight as u64;
                for (entry, is_new) in self.waiting.drain(..self.in_flight).zip(new) {
                    self.bytes -= entry.event.body.len();
                    if let Some(confirm) = entry.confirm {
                        confirm.tell();
                    }
                    let (space, occurred_at) = (entry.event.space, entry.event.occurred_at);
                    self.durable.push(Durable { space, occurred_at, was_missed: entry.recovered && is_new });
                }
                AppendStep::Durable
            }
            Ok(None) => AppendStep::Fenced,
            Err(error) => {
                let delay = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(self.failures)).min(LAST_RETRY);
                self.failures += 1;
                self.retry_at = Some(Instant::now() + delay);
                self.confirm_all();
                AppendStep::Failed(error)
            }
        }
    }

    /// Tells the caller of `reference` at once: Spaces has the message, whatever the store does.
    pub(super) fn confirm_now(&mut self, reference: &MessageRef) -> bool {
        let entry = self.waiting.iter_mut().find(|entry| entry.confirm.as_ref().is_some_and(|c| c.reference == *reference));
        let confirm = entry.and_then(|entry| entry.confirm.take());
        let found = confirm.is_some();
        if let Some(confirm) = confirm {
            confirm.tell();
        }
        found
    }

    /// Tells every caller at once: Spaces has what they sent, whatever the store does.
    pub(super) fn confirm_all(&mut self) {
        for confirm in self.waiting.iter_mut().filter_map(|entry| entry.confirm.take()) {
            confirm.tell();
        }
    }
}
