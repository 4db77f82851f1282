//! The connection of a session: making it, losing it, and what follows.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::SessionActor;
use crate::domain::SessionState;
use crate::session::link::{AfterFailure, Link, LinkStep, class_name};

impl SessionActor {
    pub(super) fn connect(&self, delay: Duration) -> Link {
        let (shared, credential) = (Arc::clone(&self.shared), self.credential.clone());
        Link::connecting(async move {
            tokio::time::sleep(delay).await;
            shared.limiter.slot().await;
            shared.connector.connect(&credential).await
        })
    }

    pub(super) fn on_link(&mut self, step: LinkStep) {
        match step {
            LinkStep::Connected(socket) => {
                self.link = Link::online(*socket);
                self.limit_until(None);
                if let Some(account) = self.account() {
                    self.shared.serving.note_success(&account);
                }
                if self.health.connected(Instant::now()) {
                    self.shared.metrics.reconnects.inc();
                    self.status.send_modify(|status| status.reconnects += 1);
                    self.list_after_gap();
                }
                self.on_new_connection();
                let answers_known = self.shared.probes_are_answered.load(std::sync::atomic::Ordering::Relaxed);
                self.liveness.connected(answers_known, Instant::now());
                self.channels.retry_refused();
                self.channels_changed = true;
                self.news.connected();
                info!("session `{}` is online", self.id);
                self.set_state(SessionState::Online, None);
            }
            LinkStep::Event(event) => self.on_event(event),
            LinkStep::Failed(error) => {
                self.shared.metrics.connect_failures.with_label_values(&[class_name(&error)]).inc();
                let after = self.health.failed(&error, self.user_id.is_some());
                self.after_failure(after, error.to_string());
            }
            LinkStep::Lost(disconnect) => {
                let (after, reason) = (self.health.lost(&disconnect, Instant::now()), disconnect.to_string());
                self.forget_connection(&reason);
                self.after_failure(after, reason);
            }
        }
    }

    pub(super) fn lose_pending(&mut self, now: Instant) {
        for _ in 0..self.pending.waiting() {
            self.count_send("unconfirmed");
        }
        self.pending.connection_lost(now);
    }

    pub(super) fn after_failure(&mut self, after: AfterFailure, reason: String) {
        match after {
            AfterFailure::Refused => self.on_refused(reason),
            AfterFailure::Retry(delay) => self.try_again(delay, reason),
            AfterFailure::Doubt(delay) => {
                self.try_again(delay, reason);
                self.verify();
            }
            AfterFailure::Limited(delay) => {
                self.try_again(delay, format!("Spaces lets this user have no further connection: {reason}"));
                self.limit_until(Some(Instant::now() + delay));
            }
        }
    }

    fn try_again(&mut self, delay: Duration, reason: String) {
        info!(delay_ms = delay.as_millis(), reason, "session `{}` has no connection and tries again", self.id);
        self.link = self.connect(delay);
        self.limit_until(None);
        let state = if self.health.was_online() { SessionState::Reconnecting } else { SessionState::Connecting };
        self.set_state(state, Some(reason));
    }

    pub(super) fn limit_until(&self, until: Option<Instant>) {
        self.status.send_if_modified(|status| std::mem::replace(&mut status.limited_until, until) != until);
    }

    /// Gives up the connection, if there is one. Answers it, to be closed.
    pub(super) fn disconnect(&mut self, reason: &str) -> Link {
        if self.link.is_online() {
            self.forget_connection(reason);
        }
        std::mem::replace(&mut self.link, Link::idle())
    }

    /// Forgets what was true of the connection that is gone.
    fn forget_connection(&mut self, reason: &str) {
        self.lose_pending(Instant::now());
        self.channels.connection_lost();
        self.on_connection_lost();
        self.liveness.disconnected();
        self.channels_changed = true;
        self.news.lost(reason);
    }

    /// Gives up the connection, if there is one, and makes another at once.
    pub(super) fn restart(&mut self) {
        let (now, reason) = (Instant::now(), "a restart was asked for");
        info!("session `{}` is restarted", self.id);
        if self.renewal.is_under_way() {
            return self.renewal.hurry(now);
        }
        let mut before = self.disconnect(reason);
        let (shared, credential) = (Arc::clone(&self.shared), self.credential.clone());
        self.link = Link::connecting(async move {
            before.close().await;
            shared.limiter.slot().await;
            shared.connector.connect(&credential).await
        });
        self.limit_until(None);
        let state = if self.health.was_online() { SessionState::Reconnecting } else { SessionState::Connecting };
        self.set_state(state, Some(reason.to_owned()));
    }
}
