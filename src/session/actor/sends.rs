//! What callers want sent: queued, emitted in order, and told of.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use socketio_client::EmitError;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{End, Job, QueuedSend, SessionActor};
use crate::domain::{AccountId, MessageRef, SpaceId};
use crate::governor::EmitClass;
use crate::send_log::{SendRecord, SendStatus};
use crate::session::channels::Readiness;
use crate::session::handle::{Command, NOT_CONNECTED_RETRY, Waiting};
use crate::session::pending::Reply;
use crate::session::types::{OutgoingMessage, SendClass, SessionError};
use crate::upstream::{Refusal, typing};

/// Tries to record the outcome of a send that nobody waits for, and the wait between them.
const RECORD_TRIES: u32 = 5;
const RECORD_AGAIN: Duration = Duration::from_secs(2);

/// Emitted sends that may wait for their echo at a time.
const MAX_PENDING: usize = 1024;

/// How often a session that waits for the budget looks whether there is more of it than was to be expected.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Sends that may wait for the connection, a subscription or the budget; a caller beyond that is told `Busy`.
const SEND_QUEUE: usize = 256;

impl SessionActor {
    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Send { message, reply } => self.on_send(message, reply),
            Command::StopWaiting { reference, reply } => {
                // The caller waits for this answer; if it has gone after all, nothing is lost.
                let _ = reply.send(self.stop_waiting(&reference));
            }
            Command::Subscribe { space, reply } => self.on_subscribe(&space, reply),
            Command::Explain { space, reply } => {
                let ready = self.channels.readiness(&space) == Readiness::Ready;
                // The caller may have gone.
                let _ = reply.send(if ready { Ok(()) } else { Err(self.what_holds(&space)) });
            }
            Command::Typing { space, reply } => {
                // The caller may have gone.
                let _ = reply.send(self.tell_typing(&space));
            }
            Command::InterestChanged => self.follow_interest(),
            Command::Serve(identity) => self.serve(*identity),
            Command::Retire => self.retire(),
            Command::Restart => self.restart(),
            Command::Doubt => self.on_doubt(),
            Command::Wish(id, wish) => self.on_wish(id, wish),
            Command::Close(reason) => self.end = Some(End::Closed(reason)),
        }
    }

    pub(super) fn on_send(&mut self, message: Box<OutgoingMessage>, reply: Reply) {
        let now = Instant::now();
        self.needed_at = now;
        let (size, limit) = (message.payload.len(), self.budget.governor().payload_bytes());
        let refusal = if size > limit {
            self.shared.metrics.limit_refusals.with_label_values(&["payload"]).inc();
            Some(SessionError::TooLarge { size, limit })
        } else if self.queue.len() >= SEND_QUEUE || self.pending.waiting() >= MAX_PENDING {
            Some(SessionError::Busy { retry_after: Duration::from_secs(1) })
        } else {
            None
        };
        if let Some(refusal) = refusal {
            // The caller may have gone.
            let _ = reply.send(Err(refusal));
            return;
        }
        let Some(readiness) = self.channels.want(&message.space, now) else {
            let _ = reply.send(Err(SessionError::Busy { retry_after: Duration::from_mins(1) }));
            return;
        };
        let send = QueuedSend { message, reply, accepted_at: now, resent: false };
        // With nobody before it, it need not stand in the queue.
        let goes_at_once = readiness == Readiness::Ready && self.queue.is_empty() && self.link.is_online();
        let class = send.message.class;
        let held = if goes_at_once && self.may_emit(class, now) { self.emit(send, class) } else { Some(send) };
        if let Some(send) = held {
            self.queue.push(send);
        }
    }

    pub(super) fn stop_waiting(&mut self, reference: &MessageRef) -> Waiting {
        if let Some(space) = self.queue.get(reference).map(|send| send.message.space.clone()) {
            let why = self.what_holds(&space);
            let send = self.queue.remove(reference);
            if send.is_some_and(|send| send.resent) {
                // Refused once and not sent again: it is nowhere.
                debug!("a send that Spaces wanted a subscription for was given up");
            }
            if matches!(why, SessionError::RateLimited { .. }) {
                self.shared.metrics.limit_refusals.with_label_values(&["emits"]).inc();
            }
            self.count_send("not_sent");
            return Waiting::NotSent(why);
        }
        if self.pending.stop_waiting(reference, Instant::now()) {
            self.count_send("unconfirmed");
            return Waiting::Emitted;
        }
        self.inbox.confirm_now(reference);
        Waiting::Ended
    }

    /// Tells `space` that the user is typing, if the connection is there and the budget has something to spare.
    fn tell_typing(&mut self, space: &SpaceId) -> Result<(), SessionError> {
        let now = Instant::now();
        self.needed_at = now;
        if !self.link.is_online() || self.channels.readiness(space) != Readiness::Ready {
            return Err(self.what_holds(space));
        }
        // Asked before it is taken: what is turned away has a claim on the next, and a sign of typing must not have one.
        let retry_after = self.budget.wait(EmitClass::Subscription, now);
        if retry_after > Duration::ZERO || !self.budget.take_for_subscription(now) {
            self.shared.metrics.limit_refusals.with_label_values(&["emits"]).inc();
            return Err(SessionError::RateLimited { retry_after, allowance: self.budget.allowance(now) });
        }
        let payload = typing(space, self.user_id.as_deref(), self.shared.clock.now());
        if self.link.send_presence(&payload).is_err() {
            self.budget.give_back(EmitClass::Subscription);
            return Err(SessionError::Busy { retry_after: Duration::from_secs(1) });
        }
        self.count_emit();
        Ok(())
    }

    /// Why nothing is emitted to `space` now.
    fn what_holds(&self, space: &SpaceId) -> SessionError {
        let now = Instant::now();
        if !self.link.is_online() {
            let status = self.status.borrow();
            let detail = status.reason.clone().unwrap_or_else(|| format!("the session is {}", status.state.as_str()));
            return SessionError::NotConnected { retry_after: status.reconnect_after(), detail };
        }
        let class = self.queue.class_of(space).map_or(EmitClass::Subscription, EmitClass::from);
        let is_asked = self.channels.is_asked(space);
        let held_for = if is_asked { Duration::ZERO } else { self.budget.wait(class, now) };
        if held_for > Duration::ZERO {
            return SessionError::RateLimited { retry_after: held_for, allowance: self.budget.allowance(now) };
        }
        let detail = "Spaces has not confirmed the subscription to the space".to_owned();
        SessionError::NotConnected { retry_after: NOT_CONNECTED_RETRY, detail }
    }

    /// Emits what is queued, space by space in turn and in order within each, as far as connection, subscriptions and budget allow.
    pub(super) fn emit_queued(&mut self, now: Instant) {
        if self.queue.is_empty() || !self.link.is_online() {
            return;
        }
        let (mut interactive, mut bulk, mut refused) = (VecDeque::new(), VecDeque::new(), Vec::new());
        for (class, space) in self.queue.turns() {
            match (self.channels.readiness(space), class) {
                (Readiness::Ready, SendClass::Interactive) => interactive.push_back(space.clone()),
                (Readiness::Ready, SendClass::Bulk) => bulk.push_back(space.clone()),
                (Readiness::Refused(refusal), _) => refused.push((space.clone(), refusal)),
                (Readiness::Waiting, _) => {}
            }
        }
        for (space, Refusal { code, message }) in refused {
            for send in self.queue.take_space(&space) {
                // The caller may have gone.
                let _ = send.reply.send(Err(SessionError::SpaceRefused { code: code.clone(), message: message.clone() }));
            }
        }
        while let Some(space) = interactive.pop_front()
            && self.may_emit(SendClass::Interactive, now)
        {
            if !self.emit_next(&space, SendClass::Interactive) {
                return;
            }
            match self.queue.class_of(&space) {
                Some(SendClass::Interactive) => interactive.push_back(space),
                Some(SendClass::Bulk) => bulk.push_back(space),
                None => {}
            }
        }
        while let Some(space) = bulk.pop_front()
            && self.may_emit(SendClass::Bulk, now)
        {
            if !self.emit_next(&space, SendClass::Bulk) {
                return;
            }
            if self.queue.contains_space(&space) {
                bulk.push_back(space);
            }
        }
    }

    /// Takes one emit of the budget for a message.
    fn may_emit(&mut self, class: SendClass, now: Instant) -> bool {
        let may = self.budget.take(class.into(), now);
        self.note_budget(may);
        may
    }

    /// Counts that something waits for the budget, when it begins to.
    pub(super) fn note_budget(&mut self, may: bool) {
        if !may && !self.budget_awaited {
            self.shared.metrics.limit_waits.with_label_values(&["emits"]).inc();
        }
        self.budget_awaited = !may;
    }

    /// Emits the next send of `space`, for which an emit has been taken. `false` if the connection's own queue is full.
    fn emit_next(&mut self, space: &SpaceId, class: SendClass) -> bool {
        let Some(send) = self.queue.pop(space) else { return true };
        match self.emit(send, class) {
            Some(send) => {
                self.queue.push(send);
                false
            }
            None => true,
        }
    }

    /// Emits one send, for which an emit has been taken. Answers it back if the connection's own queue is full.
    fn emit(&mut self, send: QueuedSend, class: SendClass) -> Option<QueuedSend> {
        match self.link.send_message(&send.message.payload) {
            Ok(()) => {
                self.count_emit();
                if let Some(own_sends) = &self.own_sends {
                    own_sends.emitted(send.message.space.as_str(), &send.message.plain_text, Instant::now());
                }
                self.pending.insert(send.message, send.reply, send.accepted_at, send.resent);
                None
            }
            Err(error) => {
                self.budget.give_back(class.into());
                let EmitError::TooLarge { size, limit } = error else { return Some(send) };
                // The caller may have gone.
                let _ = send.reply.send(Err(SessionError::TooLarge { size, limit }));
                None
            }
        }
    }

    /// When the budget allows something that waits for it.
    pub(super) fn budget_at(&self, now: Instant) -> Option<Instant> {
        if !self.link.is_online() {
            return self.let_go_at;
        }
        let mut waits = Vec::new();
        for class in [SendClass::Interactive, SendClass::Bulk] {
            let is_ready = |(of, space): (SendClass, &SpaceId)| of == class && self.channels.readiness(space) == Readiness::Ready;
            if self.queue.turns().any(is_ready) {
                waits.push(self.budget.wait(class.into(), now));
            }
        }
        if let Some((_, class)) = self.next_subscription() {
            waits.push(self.budget.wait(class, now));
        }
        // Another session of the user may give something back, and Spaces may raise the limit.
        let budget = waits.into_iter().min().map(|wait| now + wait.min(LOOK_AGAIN));
        budget.into_iter().chain(self.let_go_at).min()
    }

    /// Records the outcome of a send that nobody waits for any more.
    pub(super) fn record(&self, message: &OutgoingMessage, status: SendStatus) {
        let now = self.shared.clock.now();
        let account = self.account().unwrap_or_else(|| AccountId::standing_in(&self.id));
        let (reference, space, category) = (message.reference.clone(), message.space.clone(), message.category.clone());
        let mut record = SendRecord::new(reference, account, space, category, now);
        record.settle(status, now);
        let shared = Arc::clone(&self.shared);
        self.jobs.push(Box::pin(async move {
            for _ in 0..RECORD_TRIES {
                match shared.sends.resolve(&record).await {
                    Ok(()) => return Job::Recorded,
                    Err(error) => warn!(
                        error = &error as &dyn std::error::Error,
                        "the outcome of send `{}` could not be recorded", record.reference
                    ),
                }
                tokio::time::sleep(RECORD_AGAIN).await;
            }
            Job::Recorded
        }));
    }
}
