//! [`EmitBudget`]: what a session may still emit. It is not the session's own but its user's, who may have other sessions.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::types::SendClass;
use crate::governor::{Allowance, EmitClass, Governor};

/// A session's view of its user's [`Governor`].
#[derive(Debug)]
pub(super) struct EmitBudget(Arc<Governor>);

impl EmitBudget {
    pub(super) fn new(governor: Arc<Governor>) -> Self {
        Self(governor)
    }

    pub(super) fn governor(&self) -> &Arc<Governor> {
        &self.0
    }

    /// Takes one emit, if the class may have one now.
    pub(super) fn take(&self, class: EmitClass, now: Instant) -> bool {
        self.0.take_emit(class, now)
    }

    /// Gives back an emit that was taken and not made.
    pub(super) fn give_back(&self, class: EmitClass) {
        self.0.give_back_emit(class);
    }

    /// How long until the class may emit.
    pub(super) fn wait(&self, class: EmitClass, now: Instant) -> Duration {
        self.0.emit_wait(class, now)
    }

    /// Takes one emit for a subscription or whatever else is not a message, which leaves a reserve to messages.
    pub(super) fn take_for_subscription(&self, now: Instant) -> bool {
        self.take(EmitClass::Subscription, now)
    }

    /// How the limit stands.
    pub(super) fn allowance(&self, now: Instant) -> Allowance {
        self.0.emit_allowance(now)
    }
}

impl From<SendClass> for EmitClass {
    fn from(class: SendClass) -> Self {
        match class {
            SendClass::Interactive => Self::Interactive,
            SendClass::Bulk => Self::Bulk,
        }
    }
}
