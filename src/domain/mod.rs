//! The words of the service as plain values: ids, times, secrets, sessions, events, webhooks, deliveries.
//!
//! Nothing here does I/O. Whatever enters the service is parsed into these types once, at its edge; inside, the type is the proof.

mod credential;
mod delivery;
mod event;
mod ids;
mod interest;
mod secret;
mod session;
mod time;
mod token_life;
mod webhook;

pub use credential::{Credential, TokenKind, UnknownTokenKind};
pub use delivery::{Attempt, AttemptOutcome, DeadReason, Delivery, DeliveryState, ErrorClass};
pub use event::{Envelope, EventType, InvalidEventType};
pub(crate) use ids::hex;
pub use ids::{AccountId, DeliveryId, EventId, HookId, InvalidId, KeyId, MessageRef, Seed, SessionId, SpaceId, WebhookId};
pub use interest::Interest;
pub use secret::{Sealed, Secret};
pub use session::{ClosedReason, SessionState};
pub use time::{Clock, SystemClock, Timestamp};
pub use token_life::TokenLife;
pub use webhook::{
    AddedHeader, AddedHeaderName, Authorization, AuthorizationKind, DEFAULT_OVERLAP, ED25519_PREFIX, EventPattern, Exponential,
    Expression, Factor, Filter, FilterError, Format, HMAC_PREFIX, InvalidAuthorization, InvalidHeader, InvalidPattern,
    InvalidSecret, MAX_ATTEMPTS, MAX_FILTER_PARTS, MAX_FILTER_VALUE, MAX_HEADER_BYTES, MAX_HEADERS, MAX_OVERLAP, MAX_TIMEOUT,
    MAX_WAIT, MessageFacts, Ordering, OutOfBounds, PUBLIC_PREFIX, Pace, RateLimit, RequestOptions, RetryPolicy, Rules,
    SealedAuthorization, SealedHeader, Signing, SigningKeys, SpaceSelector, StoredKey, TextCondition, TooManyKeys, Webhook,
    WebhookStatus, hmac_key,
};
