//! [`SessionActor`]: the one task of a session. It owns the connection, the subscriptions, the sends that wait for their echo and the
//! events on their way into the log, and it never waits for any of them: everything that takes time is an arm of one `select!`, so
//! heartbeats go on whatever the store, the REST API or the callers do.

mod connection;
mod direct;
mod ending;
mod events;
mod handover;
mod identity;
mod limits;
mod liveness;
mod marks;
mod news;
mod recovered;
mod recovery;
mod renewal;
mod sends;
mod spaces;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep};
use tracing::{Instrument as _, error, info_span};

use super::budget::EmitBudget;
use super::channels::Channels;
use super::handle::{Command, SessionHandle};
use super::handover::Handover;
use super::inbox::{AppendStep, Entry, Inbox};
use super::link::{Link, LinkHealth, LinkStep, draw};
use super::liveness::{Liveness, LivenessSettings};
use super::news::News;
use super::own_sends::Member;
use super::pending::PendingSends;
use super::queue::{QueuedSend, SendQueue};
use super::recovery::{Recovery, RecoverySettings};
use super::renewal::RenewalError;
use super::renewing::Renewal;
use super::shared::Shared;
use super::types::{Identity, SessionStatus};
use super::watermarks::Reach;
use crate::domain::{AccountId, ClosedReason, Credential, Interest, SessionId, SessionState, SpaceId, Timestamp};
use crate::governor::ReportedLimits;
use crate::store::{Fence, Wanted};
use crate::upstream::{Profile, RestError, SpaceInfo, TopicType};

/// Commands a session may have waiting; a caller beyond that is told `Busy`.
const COMMAND_QUEUE: usize = 64;

/// Events that may wait until it is known whose they are.
const MAX_UNIDENTIFIED: usize = 256;

/// What is known of a session when it is opened.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: SessionId,
    pub(super) credential: Credential,
    pub(super) identity: Option<Identity>,
    /// The session of the same token that is still ending; one connection of a token comes after the other.
    pub(super) predecessor: Option<SessionHandle>,
}

/// A session's handle and the task that has to be run for it.
pub(super) fn new(shared: Arc<Shared>, known: Known) -> (SessionHandle, impl Future<Output = ()> + Send + 'static) {
    let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
    let now = shared.clock.now();
    let governor = shared.rest.governors().of(&known.credential, Instant::now());
    let status =
        SessionStatus { identity: known.identity, ..SessionStatus::new(known.id.clone(), &known.credential, now, governor) };
    let (status, watch) = watch::channel(status);
    let handle = SessionHandle::new(known.id.clone(), known.credential.clone(), commands, watch);
    // Not within the request that opened it, which the session outlives.
    let span = info_span!(parent: None, "session", session.id = %known.id);
    let actor = SessionActor::new(shared, known.id, known.credential, receiver, status);
    (handle, actor.run(known.predecessor).instrument(span))
}

/// Something that took time, and what came of it.
enum Job {
    Identified(Result<Profile, RestError>),
    Joined(SpaceId, Result<(), RestError>),
    Listed(Result<Vec<SpaceInfo>, RestError>),
    Kept,
    LimitsRead(Result<ReportedLimits, RestError>),
    Recorded,
    Disconnected,
    Renewed(Result<SessionHandle, RenewalError>),
    Verified(Result<Profile, RestError>),
    Reconsidered(Result<Profile, RestError>),
    Replaced(Result<SessionHandle, RenewalError>),
    Marks(marks::MarksJob),
    LookedUp(SpaceId, Result<Option<TopicType>, RestError>),
    Compared(Box<liveness::HistoryRead>),
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
    Handover,
    History(Box<recovery::HistoryRead>),
    Timer,
}

/// Doubt about the token of a connection that stands, because calls over REST are refused with it.
struct Doubt {
    /// It is being looked at, or replaced.
    is_open: bool,
    /// Before that time such calls are no reason to look again.
    again_at: Instant,
}

struct SessionActor {
    shared: Arc<Shared>,
    id: SessionId,
    credential: Credential,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<SessionStatus>,
    fence: Option<Fence>,
    link: Link,
    health: LinkHealth,
    channels: Channels,
    channels_changed: bool,
    queue: SendQueue,
    pending: PendingSends,
    budget: EmitBudget,
    /// Whether something waits for the budget, so that it is counted once.
    budget_awaited: bool,
    limits_at: Option<Instant>,
    /// When spaces that nobody needs any more are let go, if the budget did not allow it yet.
    let_go_at: Option<Instant>,
    inbox: Inbox,
    news: News,
    unidentified: VecDeque<(Box<RawValue>, Timestamp)>,
    interest: Interest,
    listed: Vec<SpaceInfo>,
    /// The user's id, also where it is only known from an own echo.
    user_id: Option<String>,
    identify_at: Option<Instant>,
    list_at: Option<Instant>,
    jobs: FuturesUnordered<BoxFuture<'static, Job>>,
    liveness: Liveness,
    recovery: Recovery<Entry>,
    history: recovery::History,
    look_ups: direct::LookUps,
    needed_at: Instant,
    /// Whether it lives without anyone who uses it, because the account's token is managed.
    pinned: bool,
    own_sends: Option<Member>,
    renewal: Renewal,
    doubt: Doubt,
    handover: Option<Handover>,
    /// Set once another session serves the account: until when this one may finish what is under way.
    retire_until: Option<Instant>,
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
    ) -> Self {
        let now = Instant::now();
        let (known, governor) = (status.borrow().identity.clone(), Arc::clone(&status.borrow().governor));
        let settings = &shared.settings;
        let recovery = Recovery::new(RecoverySettings {
            reach: Reach { overlap: settings.recovery_overlap, limit: settings.recovery_limit },
            hold: settings.recovery_hold,
            tell_after: settings.gap_after,
            longest_wait: settings.longest_wait,
            second_look: settings.second_look,
        });
        let (probe, compare) = (settings.probe, settings.compare);
        let liveness = Liveness::new(LivenessSettings { probe, compare, spread: draw() }, now);
        Self {
            link: Link::idle(),
            health: LinkHealth::new(shared.settings.longest_wait, shared.settings.limit_wait),
            budget: EmitBudget::new(governor),
            budget_awaited: false,
            limits_at: None,
            let_go_at: None,
            identify_at: known.is_none().then_some(now),
            user_id: known.and_then(|identity| identity.user_id),
            shared,
            id,
            credential,
            commands,
            status,
            fence: None,
            channels: Channels::default(),
            channels_changed: false,
            queue: SendQueue::default(),
            pending: PendingSends::default(),
            inbox: Inbox::default(),
            news: News::new(now),
            unidentified: VecDeque::new(),
            interest: Interest::default(),
            listed: Vec::new(),
            list_at: None,
            jobs: FuturesUnordered::new(),
            liveness,
            recovery,
            history: recovery::History::new(now),
            look_ups: direct::LookUps::default(),
            needed_at: now,
            pinned: false,
            own_sends: None,
            renewal: Renewal::default(),
            doubt: Doubt { is_open: false, again_at: now },
            handover: None,
            retire_until: None,
            timer: Box::pin(tokio::time::sleep_until(now)),
            timer_at: None,
            end: None,
        }
    }

    async fn run(mut self, predecessor: Option<SessionHandle>) {
        if let Some(predecessor) = predecessor {
            predecessor.ended().await;
        }
        self.count_state(SessionState::Connecting, 1);
        if let Some(account) = self.account() {
            self.join_governor(&account);
        }
        if self.take_ownership().await {
            self.own_sends = self.account().map(|account| self.shared.own_sends.join(&account));
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
                () = Handover::changed(&mut self.handover) => Step::Handover,
                Some(read) = self.history.reads.next(), if !self.history.reads.is_empty() => Step::History(Box::new(read)),
                () = &mut self.timer, if self.timer_at.is_some() => Step::Timer,
            };
            match step {
                Step::Link(step) => self.on_link(step),
                Step::Command(Some(command)) => self.on_command(command),
                Step::Command(None) => self.end = Some(End::Closed(ClosedReason::Shutdown)),
                Step::Append(step) => self.on_append(step),
                Step::Job(job) => self.on_job(job),
                Step::Handover => self.on_handover(),
                Step::History(read) => self.on_history(*read),
                Step::Timer => self.on_timer(),
            }
            self.pump();
        }
    }

    /// Does whatever can be done now, and sets the timer for what can be done later.
    fn pump(&mut self) {
        let now = Instant::now();
        self.renew_again(now);
        self.start_jobs(now);
        self.subscribe_wanted(now);
        self.emit_queued(now);
        self.watch_liveness(now);
        self.advance_handover();
        self.end_retirement(now);
        self.tell_news(now);
        self.recover(now);
        if !self.waits_for_marks() {
            self.append_received(now);
        }
        self.link.pause_reading(self.inbox.is_full() || self.unidentified.len() >= MAX_UNIDENTIFIED);
        if std::mem::take(&mut self.channels_changed) {
            let overview = self.channels.overview();
            self.status.send_modify(|status| status.channels = overview);
        }
        self.set_timer(now);
    }

    fn append_received(&mut self, now: Instant) {
        if let Some(fence) = &self.fence {
            self.inbox.start(&self.shared.event_log, fence, now);
        }
    }

    fn start_jobs(&mut self, now: Instant) {
        self.read_limits(now);
        let (shared, credential) = (&self.shared, &self.credential);
        if self.identify_at.is_some_and(|at| at <= now) {
            self.identify_at = None;
            let (shared, credential) = (Arc::clone(shared), credential.clone());
            self.jobs.push(Box::pin(async move { Job::Identified(shared.rest.me(&credential).await) }));
        }
        if self.list_at.is_some_and(|at| at <= now) && !self.history.is_loading() {
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
            Job::Kept => self.on_kept(),
            Job::LimitsRead(limits) => self.on_limits_read(limits),
            Job::Recorded | Job::Disconnected => {}
            Job::Renewed(renewed) => self.on_renewed(renewed),
            Job::Verified(profile) => self.on_verified(profile),
            Job::Reconsidered(profile) => self.on_reconsidered(profile),
            Job::Replaced(replaced) => self.on_replaced(replaced),
            Job::Marks(job) => self.on_marks(job),
            Job::LookedUp(space, kind) => self.on_looked_up(space, kind),
            Job::Compared(read) => self.on_compared(*read),
        }
    }

    fn on_timer(&mut self) {
        let now = Instant::now();
        self.timer_at = None;
        self.pending.expire(now);
        self.let_go_if_due(now);
        if self.idle_at().is_some_and(|at| at <= now) {
            self.end = Some(End::Closed(ClosedReason::Idle));
        }
    }

    /// When the session ends if nothing needs it until then.
    fn idle_at(&self) -> Option<Instant> {
        let idle =
            !self.pinned && self.interest.is_empty() && self.queue.is_empty() && self.pending.is_empty() && self.inbox.is_empty();
        idle.then(|| self.needed_at + self.shared.settings.idle_timeout)
    }

    /// Arms the timer for the earliest thing to do. A timer that is set early enough is left alone: it fires, finds nothing due and is
    /// set again, which costs less than moving it with each message.
    fn set_timer(&mut self, now: Instant) {
        let online = self.link.is_online();
        let due = [
            self.channels.next_overdue().filter(|_| online),
            self.pending.next_expiry(),
            self.inbox.retry_at(),
            self.news_at(),
            self.identify_at,
            self.list_at.filter(|_| !self.history.is_loading()),
            self.recover_at(now),
            self.idle_at(),
            self.renewal.next_at(),
            self.liveness.next_at(),
            self.retire_until,
            self.limits_at,
            self.budget_at(now),
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

    async fn take_ownership(&mut self) -> bool {
        let incarnation = self.shared.incarnation;
        match self.shared.engine.acquire(incarnation, Wanted::Session(self.id.clone())).await {
            Ok(taken) => match taken.into_iter().next() {
                Some(ownership) => {
                    self.fence = Some(Fence { incarnation, ownership });
                    true
                }
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
    }

    fn count_send(&self, outcome: &str) {
        self.shared.metrics.sends.with_label_values(&[outcome]).inc();
    }
}
