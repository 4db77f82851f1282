//! Reading the log.

use bytes::Bytes;

use crate::domain::{AccountId, Attempt, Delivery, DeliveryId, EventId, EventType, SpaceId, Timestamp, WebhookId};

/// A place in a list: the store's number of the last row seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    },
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
