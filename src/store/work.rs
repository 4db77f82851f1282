//! What goes into the event log and what comes out of it as work.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::domain::{
    AccountId, AttemptOutcome, DeadReason, DeliveryId, ErrorClass, EventId, EventType, SpaceId, Timestamp, WebhookId,
};
use crate::store::{Cursor, Incarnation};

/// An event to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Derived from the event's identity, so that a repeat is the same event.
    pub id: EventId,
    /// Whose event it is.
    pub account: AccountId,
    /// Where it happened.
    pub space: SpaceId,
    /// What happened.
    pub event_type: EventType,
    /// When it happened, as the upstream says.
    pub occurred_at: Timestamp,
    /// The body of its deliveries, byte for byte.
    pub body: Bytes,
    /// Who gets it.
    pub targets: Vec<Target>,
}

/// A webhook that gets an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The webhook.
    pub webhook: WebhookId,
    /// In which lane.
    pub lane: Lane,
}

/// The line in which deliveries of a webhook wait.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Several at a time, in no order.
    Parallel,
    /// One at a time, in the order of appending; the head holds up the rest until it is delivered or dead.
    Ordered(SpaceId),
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// Durable; for each event in order whether it is new (`true`) or was known (`false`).
    Durable(Vec<bool>),
    /// The fence no longer holds; nothing was written.
    Fenced,
}

/// How much work to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimRequest {
    /// The taker.
    pub incarnation: Incarnation,
    /// Most claims in all.
    pub max: usize,
    /// Most live claims per webhook, those taken earlier included.
    pub per_webhook: usize,
    /// How long the claims hold.
    pub lease: Duration,
}

/// A delivery taken for one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Where it goes.
    pub webhook: WebhookId,
    /// Which attempt this is, 1 for the first.
    pub attempt: u32,
    /// Proof of the claim; settling needs it.
    pub claim_no: i64,
    /// What is delivered. Claims of one event share it.
    pub event: Arc<ClaimedEvent>,
    /// When the attempt was recorded.
    pub claimed_at: Timestamp,
    /// When the claim ends by itself.
    pub deadline: Timestamp,
}

/// The part of an event that an attempt needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedEvent {
    /// The event's id, the `webhook-id` of its deliveries.
    pub id: EventId,
    /// Its type.
    pub event_type: EventType,
    /// When it was appended.
    pub appended_at: Timestamp,
    /// The body.
    pub body: Bytes,
}

/// The end of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The claim's proof.
    pub claim_no: i64,
    /// What becomes of the delivery.
    pub verdict: Verdict,
    /// How the attempt went, for the log.
    pub outcome: AttemptOutcome,
    /// Holds the whole webhook back.
    pub hold: Option<Hold>,
}

/// Nothing of a webhook is claimed for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// For so long; a longer hold stays.
    pub time: Duration,
    /// Whether the webhook is probed afterwards: one delivery at a time until one of them is delivered.
    pub probe: bool,
}

/// What becomes of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Confirmed by the receiver.
    Delivered,
    /// Tried again after this time.
    Retry(Duration),
    /// Not tried again by itself.
    Dead(DeadReason),
}

/// Whether a settlement counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It did.
    Ok {
        /// Since when the webhook has seen nothing but failures; `None` after a success.
        failing_since: Option<Timestamp>,
    },
    /// The claim had ended; nothing was changed.
    Stale,
}

impl Settled {
    /// Whether it did.
    pub fn counted(self) -> bool {
        matches!(self, Self::Ok { .. })
    }
}

/// Deliveries to be made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requeue {
    /// Of this webhook.
    pub webhook: WebhookId,
    /// Which, and how.
    pub mode: RequeueMode,
    /// Most deliveries in this call.
    pub limit: usize,
    /// Where the last call stopped.
    pub cursor: Option<Cursor>,
}

/// Which deliveries are made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequeueMode {
    /// This one, whatever its state unless it is in flight: due now, with a fresh schedule, so that its attempts count from 1
    /// again.
    One(DeliveryId),
    /// Dead ones created in a stretch of time, oldest first: due now, with a fresh schedule.
    Redrive {
        /// The earliest creation.
        since: Timestamp,
        /// Created before then.
        until: Timestamp,
    },
    /// New deliveries of these events, also of such as are older than the webhook. An event that is gone, or of which a delivery to
    /// the webhook is still open, is passed over, so that a repeated call makes no second one. Limit and cursor mean nothing here.
    Replay {
        /// The events.
        items: Vec<ReplayItem>,
        /// Only tells how many there would be.
        dry_run: bool,
    },
}

/// An event that is delivered once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayItem {
    /// Its place in the log.
    pub position: Cursor,
    /// In which lane its delivery waits.
    pub lane: Lane,
    /// When it is due, counted from now.
    pub due_in: Duration,
}

/// What a requeue did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requeued {
    /// Deliveries made due.
    pub count: usize,
    /// Where to go on; `None` at the end.
    pub cursor: Option<Cursor>,
}

/// What the log says of an attempt whose claim ended without a settlement.
pub(super) fn lost_attempt() -> AttemptOutcome {
    AttemptOutcome {
        duration_ms: None,
        status: None,
        error: Some(ErrorClass::Unknown),
        detail: Some("the end of the attempt was not seen".to_owned()),
        response: None,
    }
}
