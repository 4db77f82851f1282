//! What callers want sent: queued, emitted in order, and told of.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use socketio_client::EmitError;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{End, Job, QueuedSend, SessionActor};
use crate::domain::{AccountId, MessageRef, SpaceId};
use crate::send_log::{SendRecord, SendStatus};
use crate::session::channels::Readiness;
use crate::session::handle::{Command, NOT_CONNECTED_RETRY, Waiting};
use crate::session::pending::Reply;
use crate::session::types::{OutgoingMessage, SessionError};

/// Tries to record the outcome of a send that nobody waits for, and the wait between them.
const RECORD_TRIES: u32 = 5;
const RECORD_AGAIN: Duration = Duration::from_secs(2);

/// Emitted sends that may wait for their echo at a time.
const MAX_PENDING: usize = 1024;

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
            Command::InterestChanged => self.follow_interest(),
            Command::Serve(identity) => self.serve(*identity),
            Command::Retire => self.retire(),
            Command::Restart => self.restart(),
            Command::Wish(id, wish) => self.on_wish(id, wish),
            Command::Close(reason) => self.end = Some(End::Closed(reason)),
        }
    }

    pub(super) fn on_send(&mut self, message: Box<OutgoingMessage>, reply: Reply) {
        let now = Instant::now();
        self.needed_at = now;
        if self.queue.len() >= SEND_QUEUE || self.pending.waiting() >= MAX_PENDING {
            // The caller may have gone.
            let _ = reply.send(Err(SessionError::Busy { retry_after: Duration::from_secs(1) }));
            return;
        }
        if self.channels.want(&message.space, now).is_none() {
            let _ = reply.send(Err(SessionError::Busy { retry_after: Duration::from_mins(1) }));
            return;
        }
        self.queue.push_back(QueuedSend { message, reply, accepted_at: now, resent: false });
    }

    pub(super) fn stop_waiting(&mut self, reference: &MessageRef) -> Waiting {
        if let Some(index) = self.queue.iter().position(|send| send.message.reference == *reference) {
            let why = self.what_holds(&self.queue[index].message.space);
            let send = self.queue.remove(index);
            if send.is_some_and(|send| send.resent) {
                // Refused once and not sent again: it is nowhere.
                debug!("a send that Spaces wanted a subscription for was given up");
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

    /// Why nothing is emitted to `space` now.
    fn what_holds(&self, space: &SpaceId) -> SessionError {
        let now = Instant::now();
        if !self.link.is_online() {
            let status = self.status.borrow();
            let detail = status.reason.clone().unwrap_or_else(|| format!("the session is {}", status.state.as_str()));
            return SessionError::NotConnected { retry_after: status.reconnect_after(), detail };
        }
        let held_for = match self.channels.readiness(space) {
            Readiness::Ready => self.budget.wait_for_message(now),
            Readiness::Waiting | Readiness::Refused(_) if self.channels.is_asked(space) => Duration::ZERO,
            Readiness::Waiting | Readiness::Refused(_) => self.budget.wait_for_subscription(now),
        };
        if held_for > Duration::ZERO {
            return SessionError::RateLimited { retry_after: held_for };
        }
        let detail = "Spaces has not confirmed the subscription to the space".to_owned();
        SessionError::NotConnected { retry_after: NOT_CONNECTED_RETRY, detail }
    }

    /// Emits what is queued, in order within each space, as far as connection, subscriptions and budget allow.
    pub(super) fn emit_queued(&mut self, now: Instant) {
        if self.queue.is_empty() || !self.link.is_online() {
            return;
        }
        let mut held_spaces: Vec<SpaceId> = Vec::new();
        let mut kept = VecDeque::new();
        while let Some(send) = self.queue.pop_front() {
            let space = &send.message.space;
            let held = held_spaces.contains(space);
            match if held { Readiness::Waiting } else { self.channels.readiness(space) } {
                Readiness::Refused(refusal) => {
                    // The caller may have gone.
                    let _ = send.reply.send(Err(SessionError::SpaceRefused { code: refusal.code, message: refusal.message }));
                }
                Readiness::Ready if self.budget.take_for_message(now) => {
                    if let Some(send) = self.emit(send) {
                        kept.push_back(send);
                        break;
                    }
                }
                Readiness::Ready | Readiness::Waiting => {
                    if !held {
                        held_spaces.push(space.clone());
                    }
                    kept.push_back(send);
                }
            }
        }
        kept.append(&mut self.queue);
        self.queue = kept;
    }

    /// Emits one send. Answers it back if the connection's own queue is full.
    pub(super) fn emit(&mut self, send: QueuedSend) -> Option<QueuedSend> {
        match self.link.send_message(&send.message.payload) {
            Ok(()) => {
                self.count_emit();
                if let Some(own_sends) = &self.own_sends {
                    own_sends.emitted(send.message.space.as_str(), &send.message.plain_text, Instant::now());
                }
                self.pending.insert(send.message, send.reply, send.accepted_at, send.resent);
                None
            }
            Err(EmitError::TooLarge { .. }) => {
                let (size, limit) = (send.message.payload.len(), self.shared.settings.payload_limit);
                // The caller may have gone.
                let _ = send.reply.send(Err(SessionError::TooLarge { size, limit }));
                None
            }
            Err(_) => Some(send),
        }
    }

    /// Records the outcome of a send that nobody waits for any more.
    pub(super) fn record(&self, message: &OutgoingMessage, status: SendStatus) {
        let now = self.shared.clock.now();
        let account = self.account().unwrap_or_else(|| AccountId::standing_in(&self.id));
        let record = SendRecord {
            reference: message.reference.clone(),
            account,
            space: message.space.clone(),
            category: message.category.clone(),
            status,
            accepted_at: now,
            updated_at: now,
        };
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
