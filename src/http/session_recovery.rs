//! How a session closes gaps, as the API shows it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{SpaceId, Timestamp};
use crate::session::{Gap, RecoveryStatus};

/// How a session closes the gaps that lost connections have left.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Recovery)]
pub(super) struct RecoveryView {
    /// `running`: the history of some spaces is still to be read. `failed`: it is not, and there are gaps. `idle`: neither.
    #[schema(value_type = RecoveryStateName)]
    state: &'static str,
    /// Spaces whose history is still to be read.
    spaces_left: usize,
    /// Events found in the history that were not known, since the session was opened.
    events_recovered: u64,
    /// When the gap of a space was closed last.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last_at: Option<Timestamp>,
    /// Gaps that are open or will stay so, the newest last; the last 20 of them.
    gaps: Vec<GapView>,
}

/// Whether something is being recovered.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = RecoveryState)]
#[expect(dead_code, reason = "the session's states as the document shows them")]
pub(super) enum RecoveryStateName {
    /// No.
    Idle,
    /// The history is being read, or will be again soon.
    Running,
    /// No, and there are gaps.
    Failed,
}

/// A stretch of time in which events of a space may be missing.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Gap)]
pub(super) struct GapView {
    /// The space.
    #[schema(value_type = String, example = "64f0a1b2c3d4e5f601020304")]
    space_id: SpaceId,
    /// From when on.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Until when; `null` if it goes on.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    until: Option<Timestamp>,
    /// Why it could not be closed, as in the event `session.gap`.
    #[schema(example = "history_refused")]
    reason: &'static str,
}

impl From<RecoveryStatus> for RecoveryView {
    fn from(status: RecoveryStatus) -> Self {
        Self {
            state: status.state.as_str(),
            spaces_left: status.spaces_left,
            events_recovered: status.events_recovered,
            last_at: status.last_at,
            gaps: status.gaps.into_iter().map(GapView::from).collect(),
        }
    }
}

impl From<Gap> for GapView {
    fn from(gap: Gap) -> Self {
        Self { space_id: gap.space, since: gap.since, until: gap.until, reason: gap.reason.as_str() }
    }
}
