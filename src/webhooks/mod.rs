//! Webhooks: who wants which events where.
//!
//! The [`WebhookRegistry`] keeps every webhook in memory, indexed by account, and each as a document in the store; a change is
//! durable before it shows in memory. The event log asks it who gets an event, the delivery worker where an event goes and with
//! which secret it is signed, sessions which spaces to listen to, and the HTTP API edits it.

mod index;
mod matching;
mod registry;
#[cfg(test)]
mod tests;
mod url;
mod view;

pub use index::lane;
pub use matching::{Match, Reason, decide, decide_by_rules};
pub use registry::{Candidates, DEFAULT_LIMIT, NewWebhook, WebhookError, WebhookPatch, WebhookRegistry};
pub use url::{MAX_URL, UrlError, WebhookUrl};
pub use view::{Envelope, EventView};
