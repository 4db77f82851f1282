//! Proving that the session is alive, and what follows if it is not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{Job, SessionActor};
use crate::domain::{SessionState, SpaceId, Timestamp};
use crate::event_log::SystemEvent;
use crate::governor::EmitClass;
use crate::session::link::Link;
use crate::session::liveness::{Compared, Deafness, Due};
use crate::upstream::{HistoryPage, ReceivedMessage, RestError};

/// A piece of the history, read to be compared with what came.
pub(super) type HistoryRead = (SpaceId, Timestamp, Result<HistoryPage, RestError>);

impl SessionActor {
    /// Does what is due to know whether the session is alive.
    pub(super) fn watch_liveness(&mut self, now: Instant) {
        if self.liveness.next_at().is_none_or(|at| at > now) {
            return;
        }
        let may_compare = self.link.is_online()
            && self.inbox.is_empty()
            && self.unidentified.is_empty()
            && self.status.borrow().identity.is_some()
            && self.recovery.is_idle();
        let wall = self.shared.clock.now();
        match self.liveness.due(may_compare, wall, now) {
            Some(Due::Probe) => self.probe(now),
            Some(Due::Unanswered) => self.on_unanswered(now),
            Some(Due::Compare(space, from)) => self.read_to_compare(space, from),
            None => {}
        }
    }

    fn probe(&mut self, now: Instant) {
        // A refusal that names no space would be anyone's.
        if self.channels.next_overdue().is_some() {
            return self.liveness.probe_later(Duration::ZERO, now);
        }
        if !self.budget.take_for_subscription(now) {
            let wait = self.budget.wait(EmitClass::Subscription, now);
            return self.liveness.probe_later(wait, now);
        }
        if self.link.probe().is_err() {
            self.budget.give_back(EmitClass::Subscription);
            return self.liveness.probe_later(Duration::ZERO, now);
        }
        self.count_emit();
        self.liveness.probed(now);
        let at = self.shared.clock.now();
        self.status.send_modify(|status| status.last_probe_at = Some(at));
    }

    /// Something came from Spaces itself, and not from a proxy that keeps the connection up.
    pub(super) fn on_heard(&mut self) {
        if self.liveness.heard(Instant::now()) {
            self.shared.metrics.probes.with_label_values(&["answered"]).inc();
            self.status.send_modify(|status| status.last_probe_ok = Some(true));
        }
    }

    /// A probe was refused, as it should be: Spaces answers probes.
    pub(super) fn on_probe_refused(&self) {
        self.shared.probes_are_answered.store(true, Ordering::Relaxed);
    }

    fn on_unanswered(&mut self, now: Instant) {
        self.shared.metrics.probes.with_label_values(&["unanswered"]).inc();
        self.status.send_modify(|status| status.last_probe_ok = Some(false));
        if self.shared.probes_are_answered.load(Ordering::Relaxed) {
            self.on_deaf(&Deafness::ProbeUnanswered, now);
        } else {
            // Perhaps Spaces answers no probes at all. The history tells more.
            debug!("session `{}` was probed without an answer, and none was ever answered", self.id);
            self.liveness.compare_soon(now);
        }
    }

    fn read_to_compare(&mut self, space: SpaceId, from: Timestamp) {
        let (shared, credential) = (Arc::clone(&self.shared), self.credential.clone());
        self.jobs.push(Box::pin(async move {
            let page = match shared.rest.messages_page(&credential, &space, from, None).await {
                Err(error) if error.is_final() => shared.rest.activity_page(&credential, &space, from, None).await,
                page => page,
            };
            Job::Compared(Box::new((space, from, page)))
        }));
    }

    pub(super) fn on_compared(&mut self, (space, from, page): HistoryRead) {
        if let Err(error) = &page {
            debug!(error = error as &dyn std::error::Error, "the history of space `{space}` could not be read to compare");
        }
        let page = page.ok();
        let messages: Option<Vec<(String, Timestamp)>> = page.as_ref().map(|page| {
            let created = page.messages.iter().filter_map(|raw| {
                let message: ReceivedMessage<'_> = serde_json::from_str(raw.get()).ok()?;
                let created = Timestamp::parse(message.created.as_deref()?)?;
                Some((message.id?.into_owned(), created))
            });
            created.collect()
        });
        let messages = messages.as_ref().map(|messages| messages.iter().map(|(id, at)| (id.as_str(), *at)));
        let compared = self.liveness.compared(&space, from, messages, self.shared.clock.now());
        self.shared.metrics.comparisons.with_label_values(&[compared.as_str()]).inc();
        if let Compared::Missing { since } = compared {
            // What came later is no proof that everything came before, in no space of the connection.
            self.recovery.marks_mut().doubt(since);
            self.on_deaf(&Deafness::EventsMissing(space), Instant::now());
        }
    }

    /// The session is connected and hears nothing: it is told, connected anew, and what it missed is read from the history then.
    fn on_deaf(&mut self, deafness: &Deafness, now: Instant) {
        if !self.link.is_online() || self.renewal.is_under_way() {
            return;
        }
        let reason = match deafness {
            Deafness::ProbeUnanswered => "Spaces keeps the connection and answers nothing on it".to_owned(),
            Deafness::EventsMissing(space) => format!("messages in space `{space}` did not come over the connection"),
        };
        warn!(reason, "session `{}` is deaf and is connected anew", self.id);
        self.shared.metrics.degraded.with_label_values(&[deafness.as_str()]).inc();
        let is_news = self.liveness.reconnecting(deafness, now);
        if is_news && let Some(account) = self.account() {
            let space_id = match deafness {
                Deafness::ProbeUnanswered => None,
                Deafness::EventsMissing(space) => Some(space.clone()),
            };
            let since = self.status.borrow().last_event_at.unwrap_or(self.status.borrow().since);
            let event = SystemEvent::SessionDegraded { session_id: self.id.clone(), reason: deafness.as_str(), space_id, since };
            self.tell(account, &event);
        }
        let mut before = self.disconnect(&reason);
        let (shared, credential) = (Arc::clone(&self.shared), self.credential.clone());
        self.link = Link::connecting(async move {
            before.close().await;
            shared.limiter.slot().await;
            shared.connector.connect(&credential).await
        });
        self.limit_until(None);
        self.set_state(SessionState::Degraded, Some(reason));
        info!("session `{}` makes another connection", self.id);
    }
}
