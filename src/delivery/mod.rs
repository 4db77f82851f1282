//! Delivery: events on their way to webhooks, at least once.
//!
//! The [`DeliveryDispatcher`] takes due deliveries from the store; a worker brings each into its webhook's format (`format`), signs it
//! (`signature`), posts it through the [`WebhookClient`], whose connector asks the address guard, and judges the answer (`retry`);
//! the settler writes down how it ended. What attempts say of an endpoint moves its [`Breaker`], which keeps a dead one from costing
//! more than a probe now and then; the disabler switches off what has failed for too long. An attempt is on disk before its request
//! leaves, and whatever fails comes again by the schedule or stands in the log as dead with a reason. Nothing here knows where
//! events come from.

mod address;
mod breaker;
mod breakers;
mod client;
mod connector;
mod disabler;
mod dispatcher;
mod endpoint;
mod format;
mod handshake;
mod labels;
mod reply;
mod retry;
mod settings;
mod settler;
mod signature;
#[cfg(test)]
mod state_machine;
mod stream;
mod worker;

pub use address::{AddressGuard, AllowList, Blocked, is_allowed, is_allowed_port};
pub use breaker::{Breaker, FIRST_HOLD, Finding, LONGEST_HOLD, OPENS_AFTER};
pub use client::{ClientSettings, MAX_ANSWER, PostError, Posting, Received, WebhookClient};
pub use connector::{ConnectError, Resolve, SystemResolver};
pub use dispatcher::{DeliveryDispatcher, DeliveryParts};
pub use handshake::{HandshakeError, ask_permission};
pub use reply::{Answered, ReplySink};
pub use retry::{Answer, NextStep, Wish, next_step, parse_retry_after};
pub use settings::DeliverySettings;
