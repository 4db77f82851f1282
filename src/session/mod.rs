//! Sessions: one Socket.IO connection per Spaces token, shared by everyone who holds that token.
//!
//! [`SessionRegistry`] finds or opens, [`SessionHandle`] is what callers hold, and one `SessionActor` task per session owns the
//! connection, the subscriptions and the sends that wait for their echo. Received events go to the [`crate::event_log::EventLog`],
//! durable before anything else happens to them; who else cares about events is none of this module's business.

mod actor;
mod budget;
mod channels;
mod freshness;
mod gaps;
mod handle;
mod handover;
mod inbox;
mod interest;
mod limiter;
mod link;
mod liveness;
mod news;
mod opening;
mod own_sends;
mod pending;
mod queue;
mod recovery;
mod registry;
mod renewal;
mod renewing;
mod serving;
mod shared;
mod types;
mod watermarks;

use std::time::Duration;

pub use gaps::{Gap, GapReason, RecoveryState, RecoveryStatus};
pub use handle::SessionHandle;
pub use interest::InterestSource;
pub use registry::SessionRegistry;
pub use renewal::{NoTokenSource, RenewalError, TokenSource};
pub use shared::SessionDependencies;
pub use types::{
    ChannelState, Confirmed, Identity, NO_ANSWER, OutgoingMessage, SendClass, SendOutcome, SessionError, SessionStatus,
    SpaceChannel, Unconfirmed,
};

/// The settings of sessions.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// How long a session without webhooks and subscriptions lives after its last use.
    pub idle_timeout: Duration,
    /// How long a refused token is answered for without asking Spaces again.
    pub refusal_stands: Duration,
    /// Connection attempts per second, over all sessions.
    pub connects_per_second: u32,
    /// Most live sessions.
    pub max_sessions: usize,
    /// After how long without a word a session is probed; zero for never.
    pub probe: Duration,
    /// How often what a session heard is compared with the history; zero for never.
    pub compare: Duration,
    /// How long a session waits to try again when Spaces lets its user have no further connection.
    pub limit_wait: Duration,
    /// So much before the last known event the history is read again after a gap.
    pub recovery_overlap: Duration,
    /// How far back the history is read at most.
    pub recovery_limit: Duration,
    /// How long live events wait at most for the history before them.
    pub recovery_hold: Duration,
    /// How long the history may fail until that is told as a gap.
    pub gap_after: Duration,
    /// The longest wait between two attempts to connect, or to read a history.
    pub longest_wait: Duration,
    /// How long after a gap was closed the end of its history is read again; zero for not at all.
    pub second_look: Duration,
    /// Whether messages of unknown categories are left out instead of passed on.
    pub drops_unknown: bool,
}
