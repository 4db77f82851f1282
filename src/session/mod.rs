//! Sessions: one Socket.IO connection per Spaces token, shared by everyone who holds that token.
//!
//! [`SessionRegistry`] finds or opens, [`SessionHandle`] is what callers hold, and one `SessionActor` task per session owns the
//! connection, the subscriptions and the sends that wait for their echo. Received events go to the [`crate::event_log::EventLog`],
//! durable before anything else happens to them; who else cares about events is none of this module's business.

mod handle;
mod types;

pub use handle::SessionHandle;
pub use types::{
    ChannelState, Confirmed, Identity, OutgoingMessage, SendOutcome, SessionError, SessionStatus, SpaceChannel, Unconfirmed,
};
