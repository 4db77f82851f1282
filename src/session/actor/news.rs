//! What a session tells its account of itself, and of what people do in its spaces beside writing.

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{End, SessionActor};
use crate::domain::{AccountId, ClosedReason};
use crate::event_log::{LoggedEvent, SystemEvent};
use crate::session::inbox::Entry;
use crate::session::types::OutgoingMessage;
use crate::upstream::{ActivityKind, Circumstances, ReceivedActivity, Refusal, api_category};

impl SessionActor {
    /// Tells of the connection, if there is news, the account is known and it is not told of all the time.
    pub(super) fn tell_news(&mut self, now: Instant) {
        if !self.news.is_pending() {
            return;
        }
        let Some(account) = self.account() else { return };
        let Some(told) = self.news.take(now) else { return };
        let (session_id, lost_connections) = (self.id.clone(), told.lost);
        let event = match told.connection {
            Ok(()) => SystemEvent::SessionConnected { session_id, lost_connections },
            Err(reason) => {
                SystemEvent::SessionDisconnected { session_id, cause: "connection_lost", reason: Some(reason), lost_connections }
            }
        };
        self.tell(account, &event);
    }

    /// When there is news to tell.
    pub(super) fn news_at(&self) -> Option<Instant> {
        self.news.next_at().filter(|_| self.status.borrow().identity.is_some())
    }

    /// Tells of the end.
    pub(super) fn tell_end(&mut self, end: &End) {
        let Some(account) = self.account() else { return };
        let session_id = self.id.clone();
        let event = match end {
            // The session that serves the account lives on, and the account hears of that one.
            End::Refused(_) if self.is_spare() => return,
            // Two sessions may end over one failed renewal.
            End::Refused(_) if self.shared.tokens.manages(&account) && !self.shared.serving.tell_failure(&account) => return,
            End::Refused(reason) => SystemEvent::SessionAuthFailed { session_id, reason: reason.clone() },
            // Whoever owns the session now, or serves the account, tells of it.
            End::Closed(ClosedReason::Fenced | ClosedReason::HandedOver) => return,
            End::Closed(reason) => {
                let Some(lost_connections) = self.news.take_end() else { return };
                let cause = match reason {
                    ClosedReason::Idle => "idle",
                    ClosedReason::Requested => "requested",
                    ClosedReason::Shutdown | ClosedReason::Fenced | ClosedReason::HandedOver => "shutdown",
                };
                SystemEvent::SessionDisconnected { session_id, cause, reason: None, lost_connections }
            }
        };
        self.tell(account, &event);
    }

    /// Tells that a message was refused whose sender waits no more.
    pub(super) fn tell_failed(&mut self, message: &OutgoingMessage, refusal: &Refusal) {
        let account = self.account().unwrap_or_else(|| AccountId::standing_in(&self.id));
        let event = SystemEvent::SendFailed {
            reference: message.reference.clone(),
            space_id: message.space.clone(),
            category: api_category(&message.category).to_owned(),
            code: refusal.code.clone(),
            message: refusal.message.clone(),
        };
        self.tell(account, &event);
    }

    pub(super) fn tell(&mut self, account: AccountId, event: &SystemEvent) {
        let event = event.happened(account, self.shared.clock.now());
        self.inbox.push(Entry { event, confirm: None, recovered: false });
    }

    /// Presence and media go into the log only if a webhook asks for them: they are frequent, and few want them.
    pub(super) fn on_activity(&mut self, kind: ActivityKind, raw: &RawValue) {
        let Some(account) = self.account() else { return };
        let Ok(activity) = serde_json::from_str::<ReceivedActivity<'_>>(raw.get()) else { return self.unreadable() };
        let Ok(space) = activity.space() else { return self.unreadable() };
        if !self.shared.event_log.is_asked_for(&account, &activity.event_type(kind)) {
            return;
        }
        let (direct, received_at) = (self.is_direct(space.as_str()), self.shared.clock.now());
        let circumstances = Circumstances { account: &account, own: false, recovered: false, direct, received_at };
        let Ok(event) = activity.normalise(kind, raw, circumstances) else { return self.unreadable() };
        let event = LoggedEvent {
            id: event.id,
            account,
            space: event.space,
            direct: event.direct,
            own: false,
            event_type: event.event_type,
            occurred_at: event.occurred_at,
            body: event.body,
        };
        if self.shared.event_log.may_have_targets(&event) {
            self.inbox.push(Entry { event, confirm: None, recovered: false });
        }
    }
}
