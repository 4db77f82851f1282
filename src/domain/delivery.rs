//! A delivery, its state and its attempts.

use serde::{Deserialize, Serialize};

use super::{DeliveryId, EventId, EventType, SpaceId, Timestamp, WebhookId};

/// One event on its way to one webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The delivery's id.
    pub id: DeliveryId,
    /// Where it goes.
    pub webhook: WebhookId,
    /// What is delivered.
    pub event: EventId,
    /// The event's type.
    pub event_type: EventType,
    /// The event's space.
    pub space: SpaceId,
    /// How far it has come.
    pub state: DeliveryState,
    /// Attempts made or under way.
    pub attempts: u32,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it reached its present state.
    pub updated_at: Timestamp,
}

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// Waits for its next attempt at this time.
    Waiting(Timestamp),
    /// An attempt is under way; it counts as failed at this time if nothing is heard of it.
    InFlight(Timestamp),
    /// The receiver confirmed it.
    Delivered,
    /// It will not be tried again by itself.
    Dead(DeadReason),
}

impl DeliveryState {
    /// The state's name in API, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting(_) => "waiting",
            Self::InFlight(_) => "in_flight",
            Self::Delivered => "delivered",
            Self::Dead(_) => "dead",
        }
    }
}

/// Why a delivery is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// Every attempt of the schedule failed.
    Exhausted,
    /// The receiver answered 410 Gone.
    Gone,
    /// The webhook was deleted.
    WebhookDeleted,
    /// The receiver asked for no further attempt with `webhook-delivery: abort`.
    Aborted,
    /// The receiver does not understand the format (415 to a `CloudEvents` delivery).
    FormatRefused,
}

impl DeadReason {
    /// Every reason, for the store and documentation.
    pub const ALL: [Self; 5] = [Self::Exhausted, Self::Gone, Self::WebhookDeleted, Self::Aborted, Self::FormatRefused];

    /// The reason's name in API, logs, metrics and store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Gone => "gone",
            Self::WebhookDeleted => "webhook_deleted",
            Self::Aborted => "aborted",
            Self::FormatRefused => "format_refused",
        }
    }
}

/// One HTTP request of a delivery, as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Which delivery it belongs to.
    pub delivery: DeliveryId,
    /// 1 for the first.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How it ended.
    pub outcome: AttemptOutcome,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptOutcome {
    /// Milliseconds from start to end; `None` if the end was not seen.
    pub duration_ms: Option<u32>,
    /// The answer's status, if there was one.
    pub status: Option<u16>,
    /// What went wrong, if something did.
    pub error: Option<ErrorClass>,
    /// A sentence for people, without secrets.
    pub detail: Option<String>,
    /// The first piece of the answer's body, bounded.
    pub response: Option<Vec<u8>>,
}

/// What kind of failure ended an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The host name did not resolve.
    Dns,
    /// No connection could be made.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The receiver did not answer in time.
    Timeout,
    /// The connection broke.
    Reset,
    /// The receiver answered with a status that is no success.
    Http,
    /// The answer's status line and headers were larger than is read.
    TooLarge,
    /// The address guard refused the target.
    AddressBlocked,
    /// The service stopped before the end of the attempt was seen.
    Unknown,
}

impl ErrorClass {
    /// Every class, for the store, metrics and documentation.
    pub const ALL: [Self; 9] = [
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Reset,
        Self::Http,
        Self::TooLarge,
        Self::AddressBlocked,
        Self::Unknown,
    ];

    /// The class's name in API, logs, metrics and store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Http => "http",
            Self::TooLarge => "too_large",
            Self::AddressBlocked => "address_blocked",
            Self::Unknown => "unknown",
        }
    }
}
