//! Delivery: events on their way to webhooks, at least once.
//!
//! The [`DeliveryDispatcher`] takes due deliveries from the store; a worker brings each into its webhook's format (`format`), signs it
//! (`signature`), posts it through the [`WebhookClient`], whose connector asks the address guard, and judges the answer (`retry`);
//! the settler writes down how it ended. An attempt is on disk before its request leaves, and whatever fails comes again by the
//! schedule or stands in the log as dead with a reason. Nothing here knows where events come from.

mod address;
mod client;
mod connector;
mod dispatcher;
mod endpoint;
mod format;
mod handshake;
mod retry;
mod settings;
mod settler;
mod signature;
mod stream;
mod worker;

pub use address::{AddressGuard, AllowList, Blocked, is_allowed, is_allowed_port};
pub use client::{ClientSettings, MAX_ANSWER, PostError, Posting, Received, WebhookClient};
pub use connector::{ConnectError, Resolve, SystemResolver};
pub use dispatcher::{DeliveryDispatcher, DeliveryParts};
pub use handshake::{HandshakeError, ask_permission};
pub use retry::{Answer, MAX_ATTEMPTS, MAX_RETRY_AFTER, NextStep, next_step, parse_retry_after};
pub use settings::DeliverySettings;
