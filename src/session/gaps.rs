//! What is told of gaps: how a recovery goes, and which gaps could not be closed.

use crate::domain::{SpaceId, Timestamp};

/// How a session closes the gaps that lost connections have left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryStatus {
    /// Whether something is being recovered.
    pub state: RecoveryState,
    /// Spaces whose history is still to be read.
    pub spaces_left: usize,
    /// Events found in the history that were not known, since the session was opened.
    pub events_recovered: u64,
    /// When the gap of a space was closed last.
    pub last_at: Option<Timestamp>,
    /// Gaps that are open or will stay so, the newest last.
    pub gaps: Vec<Gap>,
}

/// Whether something is being recovered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RecoveryState {
    /// No.
    #[default]
    Idle,
    /// The history is being read, or will be again soon.
    Running,
    /// No, and there are gaps.
    Failed,
}

impl RecoveryState {
    /// The state's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Failed => "failed",
        }
    }
}

/// A stretch of time in which events of a space may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The space.
    pub space: SpaceId,
    /// From when on.
    pub since: Timestamp,
    /// Until when; `None` if it goes on.
    pub until: Option<Timestamp>,
    /// Why it could not be closed.
    pub reason: GapReason,
}

/// Why a gap could not be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// Spaces does not let this user read the history.
    HistoryRefused,
    /// The history could not be read for long; the session goes on trying.
    HistoryUnavailable,
    /// Spaces does not take the token for reading the history; the session goes on trying.
    TokenRefused,
    /// It is longer ago than the service reads back.
    TooOld,
    /// More happened than the service reads at a time.
    TooLong,
    /// Spaces refuses the subscription to a space that was subscribed before.
    SpaceRefused,
}

impl GapReason {
    /// The reason's name in API, events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HistoryRefused => "history_refused",
            Self::HistoryUnavailable => "history_unavailable",
            Self::TokenRefused => "token_refused",
            Self::TooOld => "too_old",
            Self::TooLong => "too_long",
            Self::SpaceRefused => "space_refused",
        }
    }

    /// Whether the gap may yet be closed.
    pub(super) fn may_pass(self) -> bool {
        match self {
            Self::HistoryUnavailable | Self::TokenRefused | Self::SpaceRefused => true,
            Self::HistoryRefused | Self::TooOld | Self::TooLong => false,
        }
    }
}
