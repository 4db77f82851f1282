//! What arrives: echoes settle sends, everything goes into the log, refusals find their send.

use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{End, QueuedSend, SessionActor};
use crate::domain::{AccountId, ClosedReason, EventType, Timestamp};
use crate::event_log::LoggedEvent;
use crate::send_log::{SendFailure, SendStatus};
use crate::session::inbox::{AppendStep, Confirm, Entry};
use crate::session::own_sends::Whose;
use crate::session::pending::{PendingSend, Trace};
use crate::session::types::{Confirmed, SessionError};
use crate::upstream::{
    Circumstances, LOOPBACK_BRIDGE, ReceivedMessage, Refusal, RefusedMessage, SocketEvent, is_change, normalise, plain_text,
};

/// What a message is the echo of.
pub(super) enum Echo {
    /// No send of this session.
    Foreign,
    /// A send that nobody waits for any more; its record has been told.
    Late,
    /// A send whose caller waits.
    Awaited(Confirm),
    /// A send of another session of the same account, which tells its caller itself.
    Sibling,
}

impl SessionActor {
    pub(super) fn on_event(&mut self, event: SocketEvent) {
        self.on_heard();
        match event {
            SocketEvent::Message(raw) => self.on_message(raw),
            SocketEvent::SendFailed(raw) => self.on_send_failed(&raw),
            SocketEvent::Subscribed(space) => {
                self.channels.confirmed(&space);
                self.channels_changed = true;
                self.on_subscribed(&space);
                self.liveness.subscribed(&space, self.shared.clock.now());
            }
            SocketEvent::SubscribeFailed { space: None, .. } if self.liveness.take_refusal() => self.on_probe_refused(),
            SocketEvent::SubscribeFailed { space, refusal } => self.on_subscription_refused(space, refusal),
            SocketEvent::Activity(kind, raw) => self.on_activity(kind, &raw),
            SocketEvent::Other => {}
        }
    }

    pub(super) fn on_message(&mut self, raw: Box<RawValue>) {
        let received_at = self.shared.clock.now();
        self.status.send_if_modified(|status| {
            status.last_event_at = Some(received_at);
            false
        });
        if self.status.borrow().identity.is_some() {
            self.take_message(&raw, received_at);
        } else {
            self.settle_early(&raw);
            self.unidentified.push_back((raw, received_at));
        }
    }

    /// A message whose account is known: settles the send that it echoes, and goes into the log.
    pub(super) fn take_message(&mut self, raw: &RawValue, received_at: Timestamp) {
        let Ok(message) = serde_json::from_str::<ReceivedMessage<'_>>(raw.get()) else { return self.unreadable() };
        let Some(account) = self.account() else { return };
        if self.look_up_first(&message, raw, received_at) {
            return;
        }
        let echo = self.settle(&message, raw);
        self.note_own_id(&message);
        if let Some(id) = message.id.as_deref() {
            self.liveness.saw(id, received_at);
        }
        let own = !matches!(echo, Echo::Foreign) || is_own(&message) || self.is_known_own(&account, &message);
        let direct = message.topic_id.as_deref().is_some_and(|space| self.is_direct(space));
        let circumstances = Circumstances { account: &account, own, recovered: false, direct, received_at };
        let confirm = match echo {
            Echo::Awaited(confirm) => Some(confirm),
            Echo::Late | Echo::Foreign | Echo::Sibling => None,
        };
        let Ok(event) = normalise(&message, raw, circumstances) else {
            if let Some(confirm) = confirm {
                confirm.tell();
            }
            return self.unreadable();
        };
        if self.leaves_out(&event.event_type) {
            if let Some(confirm) = confirm {
                confirm.tell();
            }
            return;
        }
        let event = LoggedEvent {
            id: event.id,
            account,
            space: event.space,
            direct: event.direct,
            own,
            event_type: event.event_type,
            occurred_at: event.occurred_at,
            body: event.body,
        };
        self.notice_direct(&event);
        let confirm = confirm.and_then(|confirm| self.confirm_unless_delivered(&event, confirm));
        self.admit(Entry { event, confirm, recovered: false });
    }

    /// Whether messages of this type are left out, because nobody knows what they are and the settings say so.
    pub(super) fn leaves_out(&self, event_type: &EventType) -> bool {
        let leaves_out = self.shared.settings.drops_unknown && *event_type == EventType::MESSAGE_OTHER;
        if leaves_out {
            self.shared.metrics.events.with_label_values(&["left_out"]).inc();
        }
        leaves_out
    }

    /// Whether the bridge sent or changed it over REST, or found it in the history as its own.
    pub(super) fn is_known_own(&self, account: &AccountId, message: &ReceivedMessage<'_>) -> bool {
        let Some(id) = message.id.as_deref() else { return false };
        let sends = &self.shared.sends;
        let is_changed_here = is_change(message) && sends.take_own_change(account, id);
        is_changed_here || sends.is_own(account, id)
    }

    /// Who sent a message that nobody is to be told of learns at once that Spaces has it; else once its deliveries are durable.
    pub(super) fn confirm_unless_delivered(&self, event: &LoggedEvent, confirm: Confirm) -> Option<Confirm> {
        let log = &self.shared.event_log;
        if log.may_have_targets(event) {
            return Some(confirm);
        }
        confirm.tell();
        None
    }

    /// Takes the pending send that `message` echoes, and tells whom it confirms.
    pub(super) fn settle(&mut self, message: &ReceivedMessage<'_>, raw: &RawValue) -> Echo {
        if self.is_of_sibling(message) {
            return Echo::Sibling;
        }
        self.find_echoed(message, raw).map_or(Echo::Foreign, |(id, send)| self.confirm(id, send, message, raw))
    }

    /// Whether another session of the account sent the message.
    pub(super) fn is_of_sibling(&self, message: &ReceivedMessage<'_>) -> bool {
        let Some(own_sends) = self.own_sends.as_ref().filter(|own_sends| !own_sends.is_alone()) else { return false };
        let sender = message.sender.as_ref().and_then(|sender| sender.id.as_deref());
        if message.loopback.is_some() || sender.is_none() || sender != self.user_id.as_deref() {
            return false;
        }
        let (Some(id), Some(space)) = (message.id.as_deref(), message.topic_id.as_deref()) else { return false };
        let html = message.content.as_ref().and_then(|content| content.body_text.as_deref()).unwrap_or_default();
        own_sends.whose(space, &plain_text(html), id, Instant::now()) == Whose::Other
    }

    fn find_echoed<'a>(&mut self, message: &'a ReceivedMessage<'_>, raw: &RawValue) -> Option<(&'a str, PendingSend)> {
        if self.pending.is_empty() {
            return None;
        }
        let id = message.id.as_deref()?;
        let sender = message.sender.as_ref().and_then(|sender| sender.id.as_deref());
        let by_us = is_own(message) || (self.user_id.is_some() && sender == self.user_id.as_deref());
        let trace = Trace {
            loopback: message.loopback.as_ref(),
            space: message.topic_id.as_deref()?,
            category: message.category.as_deref(),
            html: message.content.as_ref().and_then(|content| content.body_text.as_deref()),
            whole: raw,
        };
        let send = if by_us { self.pending.take(&trace)? } else { return None };
        if self.user_id.is_none() {
            self.user_id = sender.map(str::to_owned);
        }
        Some((id, send))
    }

    pub(super) fn confirm(&self, id: &str, send: PendingSend, message: &ReceivedMessage<'_>, raw: &RawValue) -> Echo {
        self.shared.metrics.send_latency.observe(send.accepted_at.elapsed().as_secs_f64());
        self.count_send("confirmed");
        if let Some(own_sends) = &self.own_sends {
            own_sends.echoed(send.message.space.as_str(), &send.message.plain_text, id, is_own(message));
        }
        let created_at = message.created.as_deref().and_then(Timestamp::parse);
        let confirmed = Confirmed { id: id.to_owned(), created_at, message: raw.to_owned() };
        if let Some(reply) = send.reply {
            Echo::Awaited(Confirm { reference: send.message.reference, reply, confirmed })
        } else {
            let Confirmed { id, created_at, message } = confirmed;
            self.record(&send.message, SendStatus::Confirmed { id, created_at, message });
            Echo::Late
        }
    }

    /// While it is not known whose events these are, callers are answered all the same.
    pub(super) fn settle_early(&mut self, raw: &RawValue) {
        if let Ok(message) = serde_json::from_str::<ReceivedMessage<'_>>(raw.get())
            && let Echo::Awaited(confirm) = self.settle(&message, raw)
        {
            confirm.tell();
        }
    }

    pub(super) fn on_send_failed(&mut self, raw: &RawValue) {
        let Ok(refused) = serde_json::from_str::<RefusedMessage<'_>>(raw.get()) else { return self.unreadable() };
        let trace = Trace {
            loopback: refused.loopback.as_ref(),
            space: refused.topic_id.as_deref().unwrap_or_default(),
            category: None,
            html: refused.content.as_ref().and_then(|content| content.body_text.as_deref()),
            whole: raw,
        };
        let Some(send) = self.pending.take(&trace) else { return };
        let refusal = Refusal::read(raw);
        match send.reply {
            Some(reply) if refusal.wants_subscription() && !send.resent => {
                self.channels.lost(&send.message.space);
                self.recovery.lost(&send.message.space, Instant::now());
                self.queue.push(QueuedSend { message: send.message, reply, accepted_at: send.accepted_at, resent: true });
            }
            Some(reply) => {
                self.count_send("refused");
                // The caller may have gone.
                let _ = reply.send(Err(SessionError::MessageRefused { code: refusal.code, message: refusal.message }));
            }
            None => {
                self.count_send("refused");
                self.tell_failed(&send.message, &refusal);
                self.record(
                    &send.message,
                    SendStatus::Failed { kind: SendFailure::MessageRefused, code: refusal.code, message: refusal.message },
                );
            }
        }
    }

    pub(super) fn unreadable(&self) {
        self.shared.metrics.events.with_label_values(&["unreadable"]).inc();
        warn!("an event from Spaces could not be read and was skipped");
    }

    pub(super) fn on_append(&mut self, step: AppendStep) {
        match step {
            AppendStep::Durable => {
                self.note_durable();
                if self.status.borrow().store_failing_since.is_some() {
                    info!("the store takes the events of session `{}` again", self.id);
                    self.status.send_modify(|status| status.store_failing_since = None);
                }
            }
            AppendStep::Failed(error) => {
                error!(error = &error as &dyn std::error::Error, "events of session `{}` wait for the store", self.id);
                let now = self.shared.clock.now();
                self.status.send_modify(|status| {
                    status.store_failing_since.get_or_insert(now);
                });
            }
            AppendStep::Fenced => self.end = Some(End::Closed(ClosedReason::Fenced)),
        }
    }
}

/// Whether the bridge sent it over this connection.
pub(super) fn is_own(message: &ReceivedMessage<'_>) -> bool {
    message.loopback.as_ref().is_some_and(|loopback| loopback.bridge.as_deref() == Some(LOOPBACK_BRIDGE))
}
