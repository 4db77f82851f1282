//! Reading the log.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::domain::{AccountId, Attempt, Delivery, DeliveryId, EventId, EventType, SpaceId, Timestamp, WebhookId};

/// A place in a list: the store's number of the last row seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor(pub i64);

/// What to read. `limit` rows at most, after `cursor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Events of an account, oldest first.
    Events {
        /// Which.
        filter: EventFilter,
        /// After this one.
        cursor: Option<Cursor>,
        /// Most rows.
        limit: usize,
    },
    /// The newest event of an account.
    EventsTail {
        /// Whose.
        account: AccountId,
    },
    /// One event.
    Event(EventId),
    /// Deliveries, newest first.
    Deliveries {
        /// Which.
        filter: DeliveryFilter,
        /// Older than this one.
        cursor: Option<Cursor>,
        /// Most rows.
        limit: usize,
    },
    /// One delivery.
    Delivery(DeliveryId),
    /// The attempts of a delivery, first to last.
    Attempts(DeliveryId),
    /// How many deliveries wait, are in flight and are dead, for metrics.
    Depths,
    /// How the deliveries of one webhook flow.
    Flow(WebhookId),
    /// The same of the webhooks that are probed, in the order of their ids.
    ProbedFlows {
        /// After this one.
        after: Option<WebhookId>,
        /// Most rows.
        limit: usize,
    },
}

/// Which events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFilter {
    /// Whose.
    pub account: AccountId,
    /// In this space only.
    pub space: Option<SpaceId>,
    /// Appended at or after.
    pub since: Option<Timestamp>,
}

/// Which deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Of this webhook.
    pub webhook: WebhookId,
    /// In this state only.
    pub state: Option<StateFilter>,
    /// Of this event only.
    pub event: Option<EventId>,
    /// Of events of this type only.
    pub event_type: Option<EventType>,
    /// Created at or after.
    pub since: Option<Timestamp>,
    /// Created before.
    pub until: Option<Timestamp>,
}

impl DeliveryFilter {
    /// All deliveries of a webhook.
    pub fn of(webhook: WebhookId) -> Self {
        Self { webhook, state: None, event: None, event_type: None, since: None, until: None }
    }
}

/// A state without its particulars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateFilter {
    /// Waiting for the next attempt.
    Waiting,
    /// Under way.
    InFlight,
    /// Confirmed.
    Delivered,
    /// Given up.
    Dead,
}

/// A page of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The rows.
    pub rows: Rows,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// Rows of the kind that the query asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// Of [`Query::Events`], [`Query::EventsTail`] and [`Query::Event`].
    Events(Vec<StoredEvent>),
    /// Of [`Query::Deliveries`] and [`Query::Delivery`].
    Deliveries(Vec<Delivery>),
    /// Of [`Query::Attempts`].
    Attempts(Vec<Attempt>),
    /// Of [`Query::Depths`].
    Depths {
        /// Waiting deliveries.
        waiting: u64,
        /// Deliveries in flight.
        in_flight: u64,
        /// Dead deliveries.
        dead: u64,
        /// When the first made of those waiting was made.
        oldest_waiting: Option<Timestamp>,
    },
    /// Of [`Query::Flow`] and [`Query::ProbedFlows`].
    Flows(Vec<FlowStatus>),
}

/// How the deliveries of a webhook flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowStatus {
    /// The webhook.
    pub webhook: WebhookId,
    /// Waiting deliveries.
    pub waiting: u64,
    /// Deliveries in flight.
    pub in_flight: u64,
    /// Dead deliveries.
    pub dead: u64,
    /// When the first made of those waiting was made.
    pub oldest_waiting: Option<Timestamp>,
    /// Until when nothing is claimed; a past time means that it is.
    pub held_until: Option<Timestamp>,
    /// Whether one delivery at a time is claimed until one is delivered.
    pub probing: bool,
    /// Since when it has seen nothing but failures.
    pub failing_since: Option<Timestamp>,
}

/// An event of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place in the log.
    pub position: Cursor,
    /// Its id.
    pub id: EventId,
    /// Whose it is.
    pub account: AccountId,
    /// Where it happened.
    pub space: SpaceId,
    /// What happened.
    pub event_type: EventType,
    /// When it happened, as the upstream says.
    pub occurred_at: Timestamp,
    /// When it was appended.
    pub appended_at: Timestamp,
    /// The body of its deliveries.
    pub body: Bytes,
}
