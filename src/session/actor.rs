//! [`SessionActor`]: the one task of a session. It owns the connection, the subscriptions, the sends that wait for their echo and the
//! events on their way into the log, and it never waits for any of them: everything that takes time is an arm of one `select!`, so
//! heartbeats go on whatever the store, the REST API or the callers do.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde_json::value::RawValue;
use socketio_client::EmitError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Sleep};
use tracing::{Instrument as _, debug, error, info, info_span, warn};

use super::budget::EmitBudget;
use super::channels::{AfterRefusal, Channels, Readiness};
use super::handle::{Command, SessionHandle, Waiting};
use super::inbox::{AppendStep, Confirm, Entry, Inbox};
use super::interest::Interest;
use super::link::{AfterFailure, Link, LinkHealth, LinkStep, class_name};
use super::pending::{PendingSends, Reply, Trace};
use super::registry::Shared;
use super::types::{Confirmed, Identity, OutgoingMessage, SessionError, SessionStatus};
use crate::domain::{AccountId, ClosedReason, Credential, MessageRef, SessionId, SessionState, SpaceId, Timestamp, TokenKind};
use crate::event_log::LoggedEvent;
use crate::send_log::{SendRecord, SendStatus};
use crate::store::{Fence, Wanted};
use crate::upstream::{
    Circumstances, LOOPBACK_BRIDGE, Profile, ReceivedMessage, Refusal, RefusedMessage, RestError, SocketEvent, SpaceInfo, TopicType,
    normalise,
};

/// Commands a session may have waiting; a caller beyond that is told `Busy`.
const COMMAND_QUEUE: usize = 64;

/// Sends that may wait for the connection, a subscription or the budget; a caller beyond that is told `Busy`.
const SEND_QUEUE: usize = 256;

/// Emitted sends that may wait for their echo at a time.
const MAX_PENDING: usize = 1024;

/// Events that may wait until it is known whose they are.
const MAX_UNIDENTIFIED: usize = 256;

/// When the user behind the token is asked for again after a passing failure.
const IDENTIFY_AGAIN: Duration = Duration::from_secs(5);

/// When the user's spaces are listed again, after a success and after a failure.
const LIST_AGAIN: Duration = Duration::from_secs(300);
const LIST_AGAIN_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// How long an ending session goes on trying to make its last events durable.
const LAST_APPENDS: Duration = Duration::from_secs(5);

/// Tries to record the outcome of a send that nobody waits for, and the wait between them.
const RECORD_TRIES: u32 = 5;
const RECORD_AGAIN: Duration = Duration::from_secs(2);

/// What is known of a session when it is opened.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: SessionId,
    pub(super) credential: Credential,
    pub(super) identity: Option<Identity>,
}

/// A session's handle and the task that has to be run for it.
pub(super) fn new(shared: Arc<Shared>, known: Known) -> (SessionHandle, impl Future<Output = ()> + Send + 'static) {
    let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
    let now = shared.clock.now();
    let status = SessionStatus {
        id: known.id.clone(),
        token_kind: known.credential.kind,
        identity: known.identity,
        state: SessionState::Connecting,
        reason: None,
        since: now,
        opened_at: now,
        reconnects: 0,
        last_event_at: None,
        store_failing_since: None,
        durable: false,
        emit_budget: shared.settings.emits_per_minute,
        channels: Vec::new(),
    };
    let (status, watch) = watch::channel(status);
    let fence = Arc::new(OnceLock::new());
    let handle = SessionHandle::new(known.id.clone(), known.credential.clone(), commands, watch, Arc::clone(&fence));
    let span = info_span!("session", session.id = %known.id);
    let actor = SessionActor::new(shared, known.id, known.credential, receiver, status, fence);
    (handle, actor.run().instrument(span))
}

/// A send that has not been emitted.
struct QueuedSend {
    message: Box<OutgoingMessage>,
    reply: Reply,
    accepted_at: Instant,
    resent: bool,
}

/// Something that took time, and what came of it.
enum Job {
    Identified(Result<Profile, RestError>),
    Joined(SpaceId, Result<(), RestError>),
    Listed(Result<Vec<SpaceInfo>, RestError>),
    Recorded,
}

/// How a session ends.
#[derive(Debug, Clone)]
enum End {
    Refused(String),
    Closed(ClosedReason),
}

enum Step {
    Link(LinkStep),
    Command(Option<Command>),
    Append(AppendStep),
    Job(Job),
    Timer,
}

struct SessionActor {
    shared: Arc<Shared>,
    id: SessionId,
    credential: Credential,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<SessionStatus>,
    fence: Arc<OnceLock<Fence>>,
    link: Link,
    health: LinkHealth,
    channels: Channels,
    channels_changed: bool,
    queue: VecDeque<QueuedSend>,
    pending: PendingSends,
    budget: EmitBudget,
    inbox: Inbox,
    unidentified: VecDeque<(Box<RawValue>, Timestamp)>,
    interest: Interest,
    listed: Vec<SpaceInfo>,
    /// The user's id, also where it is only known from an own echo.
    user_id: Option<String>,
    identify_at: Option<Instant>,
    list_at: Option<Instant>,
    jobs: FuturesUnordered<BoxFuture<'static, Job>>,
    needed_at: Instant,
    timer: Pin<Box<Sleep>>,
    timer_at: Option<Instant>,
    end: Option<End>,
}

impl SessionActor {
    fn new(
        shared: Arc<Shared>,
        id: SessionId,
        credential: Credential,
        commands: mpsc::Receiver<Command>,
        status: watch::Sender<SessionStatus>,
        fence: Arc<OnceLock<Fence>>,
    ) -> Self {
        let now = Instant::now();
        let known = status.borrow().identity.clone();
        Self {
            link: Link::idle(),
            health: LinkHealth::default(),
            budget: EmitBudget::new(shared.settings.emits_per_minute, now),
            identify_at: known.is_none().then_some(now),
            user_id: known.and_then(|identity| identity.user_id),
            shared,
            id,
            credential,
            commands,
            status,
            fence,
            channels: Channels::default(),
            channels_changed: false,
            queue: VecDeque::new(),
            pending: PendingSends::default(),
            inbox: Inbox::default(),
            unidentified: VecDeque::new(),
            interest: Interest::default(),
            listed: Vec::new(),
            list_at: None,
            jobs: FuturesUnordered::new(),
            needed_at: now,
            timer: Box::pin(tokio::time::sleep_until(now)),
            timer_at: None,
            end: None,
        }
    }

    async fn run(mut self) {
        self.count_state(SessionState::Connecting, 1);
        if self.take_ownership().await {
            self.follow_interest();
            self.link = self.connect(Duration::ZERO);
            self.work().await;
        }
        self.finish().await;
    }

    async fn work(&mut self) {
        self.pump();
        while self.end.is_none() {
            let step = tokio::select! {
                step = self.link.next() => Step::Link(step),
                command = self.commands.recv() => Step::Command(command),
                step = self.inbox.next(), if self.inbox.is_appending() => Step::Append(step),
                Some(job) = self.jobs.next(), if !self.jobs.is_empty() => Step::Job(job),
                () = &mut self.timer, if self.timer_at.is_some() => Step::Timer,
            };
            match step {
                Step::Link(step) => self.on_link(step),
                Step::Command(Some(command)) => self.on_command(command),
                Step::Command(None) => self.end = Some(End::Closed(ClosedReason::Shutdown)),
                Step::Append(step) => self.on_append(step),
                Step::Job(job) => self.on_job(job),
                Step::Timer => self.on_timer(),
            }
            self.pump();
        }
    }

    /// Does whatever can be done now, and sets the timer for what can be done later.
    fn pump(&mut self) {
        let now = Instant::now();
        self.start_jobs(now);
        self.subscribe_wanted(now);
        self.emit_queued(now);
        if let Some(fence) = self.fence.get() {
            self.inbox.start(&self.shared.event_log, fence, now);
        }
        self.link.pause_reading(self.inbox.is_full() || self.unidentified.len() >= MAX_UNIDENTIFIED);
        if std::mem::take(&mut self.channels_changed) {
            let overview = self.channels.overview();
            self.status.send_modify(|status| status.channels = overview);
        }
        self.set_timer(now);
    }

    // --- The connection ---

    fn connect(&self, delay: Duration) -> Link {
        let (shared, credential) = (Arc::clone(&self.shared), self.credential.clone());
        Link::connecting(async move {
            tokio::time::sleep(delay).await;
            shared.limiter.slot().await;
            shared.connector.connect(&credential).await
        })
    }

    fn on_link(&mut self, step: LinkStep) {
        match step {
            LinkStep::Connected(socket) => {
                self.link = Link::online(*socket);
                if self.health.connected(Instant::now()) {
                    self.shared.metrics.reconnects.inc();
                    self.status.send_modify(|status| status.reconnects += 1);
                }
                self.channels.retry_refused();
                self.channels_changed = true;
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
                let now = Instant::now();
                self.lose_pending(now);
                self.channels.connection_lost();
                self.channels_changed = true;
                let after = self.health.lost(now);
                self.after_failure(after, disconnect.to_string());
            }
        }
    }

    fn lose_pending(&mut self, now: Instant) {
        for _ in 0..self.pending.waiting() {
            self.count_send("unconfirmed");
        }
        self.pending.connection_lost(now);
    }

    fn after_failure(&mut self, after: AfterFailure, reason: String) {
        match after {
            AfterFailure::Refused => self.end = Some(End::Refused(reason)),
            AfterFailure::Retry(delay) => {
                info!(delay_ms = delay.as_millis(), reason, "session `{}` has no connection and tries again", self.id);
                self.link = self.connect(delay);
                let state =
                    if self.health.was_online() { SessionState::Reconnecting } else { SessionState::Connecting };
                self.set_state(state, Some(reason));
            }
        }
    }

    // --- What arrives ---

    fn on_event(&mut self, event: SocketEvent) {
        match event {
            SocketEvent::Message(raw) => self.on_message(raw),
            SocketEvent::SendFailed(raw) => self.on_send_failed(&raw),
            SocketEvent::Subscribed(space) => {
                self.channels.confirmed(&space);
                self.channels_changed = true;
            }
            SocketEvent::SubscribeFailed { space, refusal } => self.on_subscription_refused(space, refusal),
            SocketEvent::Other => {}
        }
    }

    fn on_message(&mut self, raw: Box<RawValue>) {
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
    fn take_message(&mut self, raw: &RawValue, received_at: Timestamp) {
        let Ok(message) = serde_json::from_str::<ReceivedMessage<'_>>(raw.get()) else { return self.unreadable() };
        let Some(account) = self.account() else { return };
        let settled = self.settle(&message, raw);
        let own = settled.is_some() || is_own(&message);
        let circumstances = Circumstances { account: &account, own, recovered: false, received_at };
        let confirm = settled.flatten();
        let Ok(event) = normalise(&message, raw, circumstances) else {
            if let Some(confirm) = confirm {
                confirm.tell();
            }
            return self.unreadable();
        };
        let direct = event.direct || self.is_direct(&event.space);
        let event = LoggedEvent {
            id: event.id,
            account,
            space: event.space,
            direct,
            own,
            event_type: event.event_type,
            occurred_at: event.occurred_at,
            body: event.body,
        };
        let confirm = confirm.and_then(|confirm| self.confirm_unless_delivered(&event, confirm));
        self.inbox.push(Entry { event, confirm });
    }

    /// Who sent a message that nobody is to be told of learns at once that Spaces has it; else once its deliveries are durable.
    fn confirm_unless_delivered(&self, event: &LoggedEvent, confirm: Confirm) -> Option<Confirm> {
        let log = &self.shared.event_log;
        if log.has_targets(&event.account, &event.event_type, &event.space, event.direct, event.own) {
            return Some(confirm);
        }
        confirm.tell();
        None
    }

    /// Takes the pending send that `message` echoes. `Some(None)` if nobody waits for it any more.
    fn settle(&mut self, message: &ReceivedMessage<'_>, raw: &RawValue) -> Option<Option<Confirm>> {
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
        };
        let send = if by_us { self.pending.take(&trace)? } else { return None };
        if self.user_id.is_none() {
            self.user_id = sender.map(str::to_owned);
        }
        self.shared.metrics.send_latency.observe(send.accepted_at.elapsed().as_secs_f64());
        self.count_send("confirmed");
        let created_at = message.created.as_deref().and_then(Timestamp::parse);
        let confirmed = Confirmed { id: id.to_owned(), created_at, message: raw.to_owned() };
        if let Some(reply) = send.reply {
            Some(Some(Confirm { reference: send.message.reference, reply, confirmed }))
        } else {
            let Confirmed { id, created_at, message } = confirmed;
            self.record(&send.message, SendStatus::Confirmed { id, created_at, message });
            Some(None)
        }
    }

    /// While it is not known whose events these are, callers are answered all the same.
    fn settle_early(&mut self, raw: &RawValue) {
        if let Ok(message) = serde_json::from_str::<ReceivedMessage<'_>>(raw.get())
            && let Some(Some(confirm)) = self.settle(&message, raw)
        {
            confirm.tell();
        }
    }

    fn on_send_failed(&mut self, raw: &RawValue) {
        let Ok(refused) = serde_json::from_str::<RefusedMessage<'_>>(raw.get()) else { return self.unreadable() };
        let trace = Trace {
            loopback: refused.loopback.as_ref(),
            space: refused.topic_id.as_deref().unwrap_or_default(),
            category: None,
            html: refused.content.as_ref().and_then(|content| content.body_text.as_deref()),
        };
        let Some(send) = self.pending.take(&trace) else { return };
        let refusal = Refusal::read(raw);
        match send.reply {
            Some(reply) if refusal.wants_subscription() && !send.resent => {
                self.channels.lost(&send.message.space);
                let again = QueuedSend { message: send.message, reply, accepted_at: send.accepted_at, resent: true };
                self.queue.push_front(again);
            }
            Some(reply) => {
                self.count_send("refused");
                // The caller may have gone.
                let _ = reply.send(Err(SessionError::MessageRefused { code: refusal.code, message: refusal.message }));
            }
            None => {
                self.count_send("refused");
                self.record(&send.message, SendStatus::Failed { code: refusal.code, message: refusal.message });
            }
        }
    }

    fn on_subscription_refused(&mut self, space: Option<SpaceId>, refusal: Refusal) {
        self.channels_changed = true;
        match self.channels.refused(space, refusal, Instant::now()) {
            Some(AfterRefusal::Join(space)) => {
                let (shared, credential) = (Arc::clone(&self.shared), self.credential.clone());
                self.jobs.push(Box::pin(async move {
                    let joined = shared.rest.join(&credential, &space).await;
                    Job::Joined(space, joined)
                }));
            }
            Some(AfterRefusal::Refused(space)) => warn!(space.id = %space, "Spaces refuses the subscription to space `{space}`"),
            None => debug!("a subscription was refused that nobody asked for"),
        }
    }

    fn unreadable(&self) {
        self.shared.metrics.events.with_label_values(&["unreadable"]).inc();
        warn!("an event from Spaces could not be read and was skipped");
    }

    // --- What callers want ---

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Send { message, reply } => self.on_send(message, reply),
            Command::StopWaiting { reference, reply } => {
                // The caller waits for this answer; if it has gone after all, nothing is lost.
                let _ = reply.send(self.stop_waiting(&reference));
            }
            Command::Subscribe { space, reply } => self.on_subscribe(&space, reply),
            Command::InterestChanged => self.follow_interest(),
            Command::Close(reason) => self.end = Some(End::Closed(reason)),
        }
    }

    fn on_send(&mut self, message: Box<OutgoingMessage>, reply: Reply) {
        let now = Instant::now();
        self.needed_at = now;
        if self.queue.len() >= SEND_QUEUE || self.pending.waiting() >= MAX_PENDING {
            // The caller may have gone.
            let _ = reply.send(Err(SessionError::Busy { retry_after: Duration::from_secs(1) }));
            return;
        }
        if self.channels.want(&message.space, now).is_none() {
            let _ = reply.send(Err(SessionError::Busy { retry_after: Duration::from_secs(60) }));
            return;
        }
        self.queue.push_back(QueuedSend { message, reply, accepted_at: now, resent: false });
    }

    fn stop_waiting(&mut self, reference: &MessageRef) -> Waiting {
        if let Some(index) = self.queue.iter().position(|send| send.message.reference == *reference) {
            let send = self.queue.remove(index);
            if send.is_some_and(|send| send.resent) {
                // Refused once and not sent again: it is nowhere.
                debug!("a send that Spaces wanted a subscription for was given up");
            }
            self.count_send("not_sent");
            return Waiting::NotSent;
        }
        if self.pending.stop_waiting(reference, Instant::now()) {
            self.count_send("unconfirmed");
            return Waiting::Emitted;
        }
        self.inbox.confirm_now(reference);
        Waiting::Ended
    }

    fn on_subscribe(&mut self, space: &SpaceId, reply: oneshot::Sender<Result<(), SessionError>>) {
        let now = Instant::now();
        self.needed_at = now;
        self.channels_changed = true;
        let answer = match self.channels.want(space, now) {
            Some(Readiness::Ready) => Ok(()),
            Some(Readiness::Waiting) => return self.channels.tell(space, reply),
            Some(Readiness::Refused(refusal)) => {
                Err(SessionError::SpaceRefused { code: refusal.code, message: refusal.message })
            }
            None => Err(SessionError::Busy { retry_after: Duration::from_secs(60) }),
        };
        // The caller may have gone.
        let _ = reply.send(answer);
    }

    /// Emits what is queued, in order within each space, as far as connection, subscriptions and budget allow.
    fn emit_queued(&mut self, now: Instant) {
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
    fn emit(&mut self, send: QueuedSend) -> Option<QueuedSend> {
        match self.link.send_message(&send.message.payload) {
            Ok(()) => {
                self.count_emit();
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

    // --- Subscriptions ---

    fn subscribe_wanted(&mut self, now: Instant) {
        if !self.link.is_online() {
            return;
        }
        while let Some(space) = self.channels.overdue(now) {
            self.on_subscription_refused(Some(space), Refusal { code: None, message: Some("no answer in time".to_owned()) });
        }
        while let Some(space) = self.channels.next_wanted() {
            if !self.budget.take_for_subscription(now) || self.link.subscribe(&space).is_err() {
                break;
            }
            self.channels.asked(&space, now);
            self.count_emit();
        }
    }

    /// Looks up what webhooks and subscriptions want of this session now.
    fn follow_interest(&mut self) {
        let account = self.account();
        let kept = account.as_ref().filter(|account| self.shared.is_kept(account, &self.id));
        self.status.send_if_modified(|status| std::mem::replace(&mut status.durable, kept.is_some()) != kept.is_some());
        let interest = kept.map(|account| self.shared.interests.interest(account)).unwrap_or_default();
        if interest.needs_list() && !self.interest.needs_list() {
            self.list_at = Some(Instant::now());
        }
        if interest.is_empty() && !self.interest.is_empty() {
            self.needed_at = Instant::now();
        }
        self.interest = interest;
        self.want_spaces();
    }

    /// Wants every space of interest, and lets those go that nobody needs any more.
    fn want_spaces(&mut self) {
        let now = Instant::now();
        let mut wanted = self.interest.spaces.clone();
        wanted.extend(self.listed.iter().filter(|space| self.interest_covers(space)).map(|space| space.id.clone()));
        let needless = self.channels.spaces().filter(|space| !wanted.contains(*space) && !self.is_sending_to(space));
        for space in needless.cloned().collect::<Vec<_>>() {
            if self.channels.forget(&space) && self.link.is_online() && self.link.unsubscribe(&space).is_ok() {
                self.count_emit();
            }
        }
        for space in &wanted {
            if self.channels.want(space, now).is_none() {
                error!("session `{}` listens to as many spaces as it may; space `{space}` is left out", self.id);
                break;
            }
        }
        self.channels_changed = true;
    }

    fn interest_covers(&self, space: &SpaceInfo) -> bool {
        if space.kind == Some(TopicType::Direct) { self.interest.direct } else { self.interest.all }
    }

    fn is_sending_to(&self, space: &SpaceId) -> bool {
        self.pending.contains_space(space) || self.queue.iter().any(|send| send.message.space == *space)
    }

    fn is_direct(&self, space: &SpaceId) -> bool {
        self.listed.iter().any(|listed| listed.id == *space && listed.kind == Some(TopicType::Direct))
    }

    // --- What takes time ---

    fn start_jobs(&mut self, now: Instant) {
        let (shared, credential) = (&self.shared, &self.credential);
        if self.identify_at.is_some_and(|at| at <= now) {
            self.identify_at = None;
            let (shared, credential) = (Arc::clone(shared), credential.clone());
            self.jobs.push(Box::pin(async move { Job::Identified(shared.rest.me(&credential).await) }));
        }
        if self.list_at.is_some_and(|at| at <= now) {
            self.list_at = None;
            let (shared, credential) = (Arc::clone(shared), credential.clone());
            self.jobs.push(Box::pin(async move { Job::Listed(shared.rest.spaces(&credential).await) }));
        }
    }

    fn on_job(&mut self, job: Job) {
        match job {
            Job::Identified(profile) => self.on_identified(profile),
            Job::Joined(space, joined) => self.on_joined(&space, joined),
            Job::Listed(spaces) => self.on_listed(spaces),
            Job::Recorded => {}
        }
    }

    fn on_identified(&mut self, profile: Result<Profile, RestError>) {
        let identity = match profile {
            Ok(profile) => AccountId::of_user(&profile.id).ok().map(|account| Identity {
                account,
                user_id: Some(profile.id),
                display_name: profile.displayname,
            }),
            Err(error) if error.is_auth() && self.credential.kind != TokenKind::ServiceApp => {
                self.end = Some(End::Refused(error.to_string()));
                return;
            }
            // Service applications may not ask who they are; the session then stands for its user.
            Err(RestError::Refused { status: 400..=499, .. }) => None,
            Err(error) => {
                debug!(error = &error as &dyn std::error::Error, "the user behind the token is not known yet");
                self.identify_at = Some(Instant::now() + IDENTIFY_AGAIN);
                return;
            }
        };
        let identity = identity.unwrap_or_else(|| Identity {
            account: AccountId::standing_in(&self.id),
            user_id: None,
            display_name: None,
        });
        self.user_id = self.user_id.take().or_else(|| identity.user_id.clone());
        self.status.send_modify(|status| status.identity = Some(identity));
        for (raw, received_at) in std::mem::take(&mut self.unidentified) {
            self.take_message(&raw, received_at);
        }
        self.follow_interest();
    }

    fn on_joined(&mut self, space: &SpaceId, joined: Result<(), RestError>) {
        let refusal = match joined {
            Ok(()) => None,
            // A clear no ends it; anything else leaves the second try, since a join is not always needed.
            Err(RestError::Refused { status: status @ (403 | 404), code, message, .. }) => {
                let code = code.unwrap_or_else(|| if status == 404 { "not_found" } else { "forbidden" }.to_owned());
                Some(Refusal { code: Some(code), message })
            }
            Err(error) => {
                debug!(error = &error as &dyn std::error::Error, "joining space `{space}` failed");
                None
            }
        };
        self.channels_changed |= self.channels.joined(space, refusal, Instant::now());
    }

    fn on_listed(&mut self, spaces: Result<Vec<SpaceInfo>, RestError>) {
        let again = match spaces {
            Ok(spaces) => {
                self.listed = spaces;
                self.want_spaces();
                LIST_AGAIN
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "the spaces of the user could not be listed");
                LIST_AGAIN_AFTER_FAILURE
            }
        };
        self.list_at = self.interest.needs_list().then(|| Instant::now() + again);
    }

    /// Records the outcome of a send that nobody waits for any more.
    fn record(&self, message: &OutgoingMessage, status: SendStatus) {
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

    fn on_append(&mut self, step: AppendStep) {
        match step {
            AppendStep::Durable => {
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

    // --- Time ---

    fn on_timer(&mut self) {
        let now = Instant::now();
        self.timer_at = None;
        self.pending.expire(now);
        if self.idle_at().is_some_and(|at| at <= now) {
            self.end = Some(End::Closed(ClosedReason::Idle));
        }
    }

    /// When the session ends if nothing needs it until then.
    fn idle_at(&self) -> Option<Instant> {
        let idle = self.interest.is_empty() && self.queue.is_empty() && self.pending.is_empty() && self.inbox.is_empty();
        idle.then(|| self.needed_at + self.shared.settings.idle_timeout)
    }

    /// Arms the timer for the earliest thing to do. A timer that is set early enough is left alone: it fires, finds nothing due and is
    /// set again, which costs less than moving it with each message.
    fn set_timer(&mut self, now: Instant) {
        let online = self.link.is_online();
        let ready = |send: &QueuedSend| self.channels.readiness(&send.message.space) == Readiness::Ready;
        let blocked_by_budget = online && self.queue.iter().any(ready);
        let wants_budget = online && self.channels.next_wanted().is_some();
        let due = [
            self.channels.next_overdue().filter(|_| online),
            self.pending.next_expiry(),
            self.inbox.retry_at(),
            self.identify_at,
            self.list_at,
            self.idle_at(),
            blocked_by_budget.then(|| now + self.budget.wait_for_message(now)),
            wants_budget.then(|| now + self.budget.wait_for_subscription(now)),
        ];
        // Never in the past, or the loop would spin on something that is not done yet.
        let due = due.into_iter().flatten().min().map(|due| due.max(now + Duration::from_millis(1)));
        if let Some(due) = due
            && self.timer_at.is_none_or(|set| due < set)
        {
            self.timer.as_mut().reset(due);
            self.timer_at = Some(due);
        }
    }

    // --- Beginning and end ---

    async fn take_ownership(&mut self) -> bool {
        let incarnation = self.shared.incarnation;
        match self.shared.engine.acquire(incarnation, Wanted::Session(self.id.clone())).await {
            Ok(taken) => match taken.into_iter().next() {
                Some(ownership) => self.fence.set(Fence { incarnation, ownership }).is_ok(),
                None => {
                    self.end = Some(End::Closed(ClosedReason::Fenced));
                    false
                }
            },
            Err(error) => {
                error!(error = &error as &dyn std::error::Error, "session `{}` could not be registered in the store", self.id);
                self.end = Some(End::Closed(ClosedReason::Shutdown));
                false
            }
        }
    }

    /// Answers everyone, saves what can be saved, and closes the connection.
    async fn finish(mut self) {
        let end = self.end.take().unwrap_or(End::Closed(ClosedReason::Shutdown));
        let (state, reason) = match &end {
            End::Refused(reason) => {
                warn!(reason, "Spaces refused the token of session `{}`", self.id);
                (SessionState::AuthFailed, Some(reason.clone()))
            }
            End::Closed(reason) => {
                info!(reason = ?reason, "session `{}` closes", self.id);
                self.set_state(SessionState::Closing, None);
                (SessionState::Closed, None)
            }
        };
        self.commands.close();
        self.answer_all(&end);
        self.lose_pending(Instant::now());
        self.append_last().await;
        self.record_last().await;
        self.link.close().await;
        self.set_state(state, reason);
        self.count_state(state, -1);
        if let Some(fence) = self.fence.get() {
            let released = self.shared.engine.release(fence.incarnation, std::slice::from_ref(&fence.ownership)).await;
            if let Err(error) = released {
                debug!(error = &error as &dyn std::error::Error, "the session's ownership could not be given back");
            }
        }
        // Whoever still managed to ask is answered after the state says why.
        self.answer_all(&end);
    }

    fn answer_all(&mut self, end: &End) {
        let error = || match end {
            End::Refused(reason) => SessionError::AuthFailed { detail: reason.clone() },
            End::Closed(_) => SessionError::Closed,
        };
        for send in self.queue.drain(..) {
            // The caller may have gone.
            let _ = send.reply.send(Err(error()));
        }
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Send { reply, .. } => drop(reply.send(Err(error()))),
                Command::Subscribe { reply, .. } => drop(reply.send(Err(error()))),
                Command::StopWaiting { reference, reply } => drop(reply.send(self.stop_waiting(&reference))),
                Command::InterestChanged | Command::Close(_) => {}
            }
        }
    }

    async fn append_last(&mut self) {
        let Some(fence) = self.fence.get().cloned() else { return };
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
            error!("session `{}` ends with events that the store did not take", self.id);
        }
    }

    async fn record_last(&mut self) {
        let recording = async { while self.jobs.next().await.is_some_and(|job| !matches!(job, Job::Recorded)) {} };
        if !self.jobs.is_empty() && tokio::time::timeout(Duration::from_secs(1), recording).await.is_err() {
            debug!("some jobs of session `{}` were not waited for", self.id);
        }
    }

    // --- Small things ---

    fn account(&self) -> Option<AccountId> {
        self.status.borrow().identity.as_ref().map(|identity| identity.account.clone())
    }

    fn set_state(&self, state: SessionState, reason: Option<String>) {
        let (before, now) = (self.status.borrow().state, self.shared.clock.now());
        self.status.send_modify(|status| {
            if status.state != state {
                status.since = now;
            }
            status.state = state;
            status.reason = reason;
        });
        self.count_state(before, -1);
        self.count_state(state, 1);
    }

    fn count_state(&self, state: SessionState, change: i64) {
        self.shared.metrics.sessions.with_label_values(&[state.as_str()]).add(change);
    }

    fn count_emit(&self) {
        self.shared.metrics.emits.inc();
        let left = self.budget.left(Instant::now());
        self.status.send_if_modified(|status| {
            status.emit_budget = left;
            false
        });
    }

    fn count_send(&self, outcome: &str) {
        self.shared.metrics.sends.with_label_values(&[outcome]).inc();
    }
}

/// Whether the bridge sent it over this connection.
fn is_own(message: &ReceivedMessage<'_>) -> bool {
    message.loopback.as_ref().is_some_and(|loopback| loopback.bridge.as_deref() == Some(LOOPBACK_BRIDGE))
}
