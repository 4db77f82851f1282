//! The end of a session: everyone is answered, what can be saved is saved, the connection is closed.

use std::time::Duration;

use futures_util::stream::StreamExt as _;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::{End, SessionActor};
use crate::domain::{ClosedReason, SessionState};
use crate::session::handle::Command;
use crate::session::inbox::AppendStep;
use crate::session::types::SessionError;

/// How long an ending session waits for what it still has under way.
const LAST_JOBS: Duration = Duration::from_secs(1);

/// How long an ending session goes on reading the history that its last events wait for.
const LAST_READS: Duration = Duration::from_secs(3);

/// How long an ending session goes on trying to make its last events durable.
const LAST_APPENDS: Duration = Duration::from_secs(5);

impl SessionActor {
    /// Answers everyone, saves what can be saved, and closes the connection.
    pub(super) async fn finish(mut self) {
        let end = self.end.take().unwrap_or(End::Closed(ClosedReason::Shutdown));
        // Before anyone is turned away, so that whoever is finds out why.
        let state = match &end {
            End::Refused(reason) => {
                warn!(reason, "Spaces refused the token of session `{}`", self.id);
                self.shared.metrics.auth_failures.inc();
                self.set_state(SessionState::AuthFailed, Some(reason.clone()));
                SessionState::AuthFailed
            }
            End::Closed(reason) => {
                info!(reason = ?reason, "session `{}` closes", self.id);
                self.set_state(SessionState::Closing, None);
                SessionState::Closed
            }
        };
        self.drop_handover(state);
        self.commands.close();
        self.answer_all(&end);
        self.lose_pending(Instant::now());
        self.end_look_ups();
        self.read_to_the_end(&end).await;
        self.release_held();
        self.tell_end(&end);
        self.append_last().await;
        self.end_recovery().await;
        self.end_jobs().await;
        self.link.close().await;
        if state == SessionState::Closed {
            self.set_state(state, None);
        }
        self.count_state(state, -1);
        if let Some(fence) = &self.fence {
            let released = self.shared.engine.release(fence.incarnation, std::slice::from_ref(&fence.ownership)).await;
            if let Err(error) = released {
                debug!(error = &error as &dyn std::error::Error, "the session's ownership could not be given back");
            }
        }
        // Whoever still managed to ask is answered after the state says why.
        self.answer_all(&end);
        let identity = self.status.borrow().identity.clone();
        if let Some(identity) = identity.filter(|_| state == SessionState::AuthFailed) {
            self.shared.bequeath(identity, &self.id).await;
        }
    }

    pub(super) fn answer_all(&mut self, end: &End) {
        let error = || match end {
            End::Refused(reason) => SessionError::AuthFailed { detail: reason.clone() },
            End::Closed(_) => SessionError::Closed,
        };
        for send in self.queue.take_all() {
            // The caller may have gone.
            let _ = send.reply.send(Err(error()));
        }
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Send { reply, .. } => drop(reply.send(Err(error()))),
                Command::Subscribe { reply, .. } | Command::Explain { reply, .. } | Command::Typing { reply, .. } => {
                    drop(reply.send(Err(error())));
                }
                Command::StopWaiting { reference, reply } => drop(reply.send(self.stop_waiting(&reference))),
                Command::InterestChanged
                | Command::Serve(_)
                | Command::Retire
                | Command::Restart
                | Command::Doubt
                | Command::Wish(..)
                | Command::Close(_) => {}
            }
        }
    }

    /// Goes on reading the histories that live events wait for, for a while, so that the order is kept. What waits even then goes into the
    /// log before its history: the next session would find most of it there, and nobody knows whether all of it.
    async fn read_to_the_end(&mut self, end: &End) {
        if !matches!(end, End::Closed(_)) || self.fence.is_none() {
            return;
        }
        let deadline = Instant::now() + LAST_READS;
        while self.recovery.is_holding() && self.end.is_none() {
            let now = Instant::now();
            self.recover(now);
            if let Some(fence) = &self.fence {
                self.inbox.start(&self.shared.event_log, fence, now);
            }
            let again = self.recover_at(now).filter(|_| self.link.is_online()).unwrap_or(deadline);
            if now >= deadline || (self.history.reads.is_empty() && again >= deadline) {
                break;
            }
            tokio::select! {
                Some(read) = self.history.reads.next(), if !self.history.reads.is_empty() => self.on_history(read),
                step = self.inbox.next(), if self.inbox.is_appending() => self.on_append(step),
                () = tokio::time::sleep_until(again.max(now + Duration::from_millis(1)).min(deadline)) => {}
            }
        }
    }

    pub(super) async fn append_last(&mut self) {
        let Some(fence) = self.fence.clone() else { return };
        let deadline = Instant::now() + LAST_APPENDS;
        while !self.inbox.is_empty() && Instant::now() < deadline {
            self.inbox.start(&self.shared.event_log, &fence, Instant::now());
            let step = if self.inbox.is_appending() {
                tokio::time::timeout_at(deadline, self.inbox.next()).await
            } else {
                tokio::time::sleep_until(self.inbox.retry_at().unwrap_or(deadline).min(deadline)).await;
                continue;
            };
            match step {
                Ok(AppendStep::Durable | AppendStep::Failed(_)) => {}
                Ok(AppendStep::Fenced) | Err(_) => break,
            }
        }
        if !self.inbox.is_empty() {
            self.inbox.confirm_all();
            error!("session `{}` ends with events that the store did not take", self.id);
        }
    }

    pub(super) async fn end_jobs(&mut self) {
        let jobs = std::mem::take(&mut self.jobs);
        let ended = jobs.for_each(|_| std::future::ready(()));
        if tokio::time::timeout(LAST_JOBS, ended).await.is_err() {
            debug!("some jobs of session `{}` were not waited for", self.id);
        }
    }
}
