//! The limits that Spaces sets the session's user: read when the user is known, and again from time to time.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{debug, info};

use super::{Job, SessionActor};
use crate::domain::AccountId;
use crate::governor::ReportedLimits;
use crate::session::budget::EmitBudget;
use crate::session::link::draw;
use crate::upstream::RestError;

impl SessionActor {
    /// Counts, from now on, what the user's other sessions emit too.
    pub(super) fn join_governor(&mut self, account: &AccountId) {
        let governor = self.shared.rest.governors().of_account(&self.credential, account, Instant::now());
        self.budget = EmitBudget::new(Arc::clone(&governor));
        self.limits_at = Some(governor.read_at());
        self.status.send_modify(|status| status.governor = governor);
    }

    /// Reads the limits if it is time and no other session of the user does.
    pub(super) fn read_limits(&mut self, now: Instant) {
        if self.limits_at.is_none_or(|at| at > now) {
            return;
        }
        if self.budget.governor().should_read(now) {
            self.limits_at = None;
            let (shared, credential) = (Arc::clone(&self.shared), self.credential.clone());
            self.jobs.push(Box::pin(async move { Job::LimitsRead(shared.rest.limits(&credential).await) }));
        } else {
            self.limits_at = Some(self.budget.governor().read_at());
        }
    }

    pub(super) fn on_limits_read(&mut self, limits: Result<ReportedLimits, RestError>) {
        let (governor, now) = (self.budget.governor(), Instant::now());
        match limits {
            Ok(reported) => {
                self.shared.rest.governors().set(governor, reported, draw(), now);
                let limits = governor.limits();
                debug!(
                    emits = limits.emits.count,
                    per_seconds = limits.emits.per.as_secs(),
                    source = limits.source.as_str(),
                    "the limits of the user are known"
                );
            }
            Err(error) => {
                info!(
                    error = &error as &dyn std::error::Error,
                    "Spaces does not tell the limits of the user; what is known already or documented holds"
                );
                governor.reading_failed(error.retry_after(), now);
            }
        }
        self.limits_at = Some(governor.read_at());
    }
}
