//! The states of a session.

use serde::Serialize;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// The first connection is being made.
    Connecting,
    /// Joined; commands go straight through.
    Online,
    /// The connection was lost and is being made again.
    Reconnecting,
    /// It was connected and heard nothing; another connection is being made.
    Degraded,
    /// Spaces refused the token; nothing more is tried with it.
    AuthFailed,
    /// Being closed on purpose.
    Closing,
    /// Gone; a later call opens a new session.
    Closed,
}

impl SessionState {
    /// Every state, for metrics and documentation.
    pub const ALL: [Self; 7] =
        [Self::Connecting, Self::Online, Self::Reconnecting, Self::Degraded, Self::AuthFailed, Self::Closing, Self::Closed];

    /// The state's name in API, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Online => "online",
            Self::Reconnecting => "reconnecting",
            Self::Degraded => "degraded",
            Self::AuthFailed => "auth_failed",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }

    /// Whether a command can still be served, now or after a reconnect.
    pub fn is_usable(self) -> bool {
        match self {
            Self::Connecting | Self::Online | Self::Reconnecting | Self::Degraded => true,
            Self::AuthFailed | Self::Closing | Self::Closed => false,
        }
    }
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosedReason {
    /// Nothing needed it for the idle time.
    Idle,
    /// Someone asked for it over the API.
    Requested,
    /// The service is stopping.
    Shutdown,
    /// Another member took the session over.
    Fenced,
    /// A session with a fresher token serves the account.
    HandedOver,
}
