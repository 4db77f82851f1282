//! Closing gaps: the watermarks of the account, the history, and what waits for it. What to do when is decided by
//! [`crate::session::recovery`]; here it is done.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{Job, SessionActor};
use crate::domain::{SpaceId, SpaceSelector, Timestamp, TokenKind};
use crate::event_log::{LoggedEvent, SystemEvent};
use crate::session::channels::Readiness;
use crate::session::gaps::Gap;
use crate::session::inbox::Entry;
use crate::session::pending::Trace;
use crate::session::recovery::{After, Failure, Outcome, Read, Source};
use crate::session::watermarks::{self, Stored, Wish};
use crate::store::{DocWrite, StoreError};
use crate::upstream::{Circumstances, HistoryPage, ReceivedMessage, RestError, SpaceInfo, TopicType, normalise};

/// How long watermarks wait until they are stored together.
const STORE_AFTER: Duration = Duration::from_secs(15);

/// When watermarks are read and stored again after a failure of the store.
const STORE_AGAIN: Duration = Duration::from_secs(5);

/// How often it is noted that the session is connected, though nothing happens.
const NOTE_ONLINE: Duration = Duration::from_hours(1);

/// How long an ending session waits for its watermarks to be stored.
const LAST_STORE: Duration = Duration::from_secs(2);

/// How old a message of the history may be that another session of the account is about to hear of.
const OF_LATE: Duration = Duration::from_mins(1);

/// Ids of messages of the session's user that are remembered.
const OWN_IDS: usize = 512;

/// A page of history, or why there is none.
pub(super) type PageRead = (Read, Result<HistoryPage, RestError>);

/// Something about watermarks that took time.
pub(super) enum MarksJob {
    Loaded(Result<Stored, StoreError>),
    Stored(Vec<DocWrite>, Result<(), StoreError>),
}

/// Whether the account's watermarks have been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marks {
    /// The session does not serve its account: what it has heard concerns nobody after its end.
    Own,
    /// They are to be read at this time.
    Wanted(Instant),
    /// They are being read.
    Loading,
    /// They are known.
    Known,
}

/// What the session needs to close gaps, beside what decides.
pub(super) struct History {
    pub(super) reads: FuturesUnordered<BoxFuture<'static, PageRead>>,
    marks: Marks,
    store_at: Option<Instant>,
    storing: bool,
    note_online_at: Instant,
    has_listed: bool,
    own_ids: RecentIds,
    changed: bool,
    shown_open: i64,
}

impl History {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            reads: FuturesUnordered::new(),
            marks: Marks::Own,
            store_at: None,
            storing: false,
            note_online_at: now + NOTE_ONLINE,
            has_listed: false,
            own_ids: RecentIds::default(),
            changed: false,
            shown_open: 0,
        }
    }

    /// Whether it is not known yet how far the account's spaces have been heard.
    pub(super) fn is_loading(&self) -> bool {
        matches!(self.marks, Marks::Wanted(_) | Marks::Loading)
    }
}

impl SessionActor {
    /// Puts an event into the log, or holds it until the history before it was read.
    pub(super) fn admit(&mut self, mut entry: Entry) {
        if !self.recovery.holds(&entry.event.space) {
            self.inbox.push(entry);
            return;
        }
        // It may take long, and Spaces has the message.
        if let Some(confirm) = entry.confirm.take() {
            confirm.tell();
        }
        let (space, bytes) = (entry.event.space.clone(), entry.event.body.len());
        let released = self.recovery.hold(&space, entry, bytes, Instant::now());
        self.push_all(released);
    }

    fn push_all(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.inbox.push(entry);
        }
    }

    /// Does what can be done now to close gaps.
    pub(super) fn recover(&mut self, now: Instant) {
        let released = self.recovery.release_overdue(now);
        if !released.is_empty() {
            warn!(events = released.len(), "session `{}` lets events go before the history that they waited for", self.id);
            self.push_all(released);
        }
        for gap in self.recovery.untold_gaps(now) {
            self.tell_gap(&gap);
        }
        while self.may_read()
            && let Some(read) = self.recovery.next_read(now)
        {
            self.read_page(read);
        }
        self.load_marks(now);
        self.store_marks(now);
        if std::mem::take(&mut self.history.changed) {
            self.show_recovery();
        }
    }

    /// When [`Self::recover`] has something to do.
    pub(super) fn recover_at(&self, now: Instant) -> Option<Instant> {
        let load = match self.history.marks {
            Marks::Wanted(at) => Some(at),
            Marks::Own | Marks::Loading | Marks::Known => None,
        };
        let note = (self.history.marks == Marks::Known && self.link.is_online()).then_some(self.history.note_online_at);
        let times = [self.recovery.next_at(self.may_read()), load, self.history.store_at, note];
        times.into_iter().flatten().min().map(|at| at.max(now))
    }

    fn may_read(&self) -> bool {
        self.link.is_online() && !self.inbox.is_full() && self.status.borrow().identity.is_some()
    }

    fn read_page(&mut self, read: Read) {
        let (shared, credential) = (Arc::clone(&self.shared), self.credential.clone());
        self.history.reads.push(Box::pin(async move {
            // Spaces gives what is later than the time that it is asked for.
            let (after, next) = (read.from.saturating_sub(Duration::from_millis(1)), read.next.as_deref());
            let page = match read.source {
                Source::Activity => shared.rest.activity_page(&credential, &read.space, after, next).await,
                Source::Messages => shared.rest.messages_page(&credential, &read.space, after, next).await,
            };
            (read, page)
        }));
    }

    pub(super) fn on_page(&mut self, (read, page): PageRead) {
        if !self.recovery.read_ended(&read) {
            return;
        }
        let now = Instant::now();
        let after = match page {
            Ok(page) => {
                for raw in &page.messages {
                    self.take_recovered(&read, raw);
                }
                self.recovery.page(&read.space, page.next, now)
            }
            Err(error) => {
                debug!(
                    error = &error as &dyn std::error::Error,
                    "the history of space `{}` could not be read from {:?}", read.space, read.source
                );
                let failure = failure(&error, self.credential.kind);
                self.recovery.failed(&read.space, failure, now)
            }
        };
        self.history.changed = true;
        let (held, outcome) = match after {
            After::More => return,
            After::Complete(held) => (held, Outcome::Closed),
            After::Gap(gap, held) => {
                self.tell_gap(&gap);
                (held, Outcome::GivenUp)
            }
        };
        self.push_all(held);
        self.recovery.settle(&read.space, self.inbox.pushed(), outcome);
        self.end_recoveries();
    }

    /// A message of the history: goes into the log, and settles a send whose echo never came.
    fn take_recovered(&mut self, read: &Read, raw: &RawValue) {
        let Ok(mut message) = serde_json::from_str::<ReceivedMessage<'_>>(raw.get()) else { return self.unreadable() };
        let topic_id = message.topic_id.get_or_insert(Cow::Borrowed(read.space.as_str()));
        if *topic_id != read.space.as_str() {
            return self.unreadable();
        }
        if let Some(id) = message.id.as_deref() {
            self.liveness.saw(id, self.shared.clock.now());
        }
        let time = message.modified.as_deref().or(message.created.as_deref()).and_then(Timestamp::parse);
        if time.is_some_and(|time| time < read.from) {
            return;
        }
        let Some(account) = self.account() else { return };
        let own = self.settle_recovered(&message, raw) || self.is_known_own(&account, &message);
        let (direct, received_at) = (self.is_direct(read.space.as_str()), self.shared.clock.now());
        let circumstances = Circumstances { account: &account, own, recovered: true, direct, received_at };
        let Ok(event) = normalise(&message, raw, circumstances) else { return self.unreadable() };
        if self.leaves_out(&event.event_type) {
            return;
        }
        // What a connection saw as well is no recovered event; only its place is that in the history.
        if let Some(held) = self.recovery.take_held(&read.space, |held| held.event.id == event.id) {
            self.inbox.push(held);
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
        self.inbox.push(Entry { event, confirm: None, recovered: true });
    }

    /// Whether the account sent it through the bridge. Settles the send, if it is one that nothing was heard of since its connection
    /// was lost.
    fn settle_recovered(&mut self, message: &ReceivedMessage<'_>, raw: &RawValue) -> bool {
        let marked = super::events::is_own(message);
        let Some(id) = message.id.as_deref() else { return marked };
        let sender = message.sender.as_ref().and_then(|sender| sender.id.as_deref());
        let by_us = marked || (self.user_id.is_some() && sender == self.user_id.as_deref());
        if !by_us || !self.history.own_ids.insert(id) {
            return marked;
        }
        let (Some(space), Some(created)) = (message.topic_id.as_deref(), message.created.as_deref().and_then(Timestamp::parse))
        else {
            return marked;
        };
        let trace = Trace {
            loopback: message.loopback.as_ref(),
            space,
            category: message.category.as_deref(),
            html: message.content.as_ref().and_then(|content| content.body_text.as_deref()),
        };
        let (age, now) = (self.shared.clock.now().since(created), Instant::now());
        if let Some(send) = self.pending.take_late(&trace, age, now) {
            self.confirm(id, send, message, raw);
            return true;
        }
        marked || self.pending.contains(&trace, age, now) || (age < OF_LATE && self.is_of_sibling(message))
    }

    /// Notes a message that came in live, so that the history does not settle a later send with it.
    pub(super) fn note_own_id(&mut self, message: &ReceivedMessage<'_>) {
        let sender = message.sender.as_ref().and_then(|sender| sender.id.as_deref());
        if let Some(id) = message.id.as_deref()
            && sender.is_some()
            && sender == self.user_id.as_deref()
        {
            self.history.own_ids.insert(id);
        }
    }

    /// The subscription to a space is confirmed.
    pub(super) fn on_subscribed(&mut self, space: &SpaceId) {
        let now = Instant::now();
        self.history.changed = true;
        if self.history.is_loading() {
            self.recovery.expect(space, now);
            return;
        }
        let (released, gap) = self.recovery.subscribed(space, self.shared.clock.now(), now);
        if let Some(gap) = gap {
            self.tell_gap(&gap);
        }
        self.push_all(released);
    }

    /// Spaces refuses the subscription to a space for good.
    pub(super) fn on_space_refused(&mut self, space: &SpaceId) {
        if let Some(gap) = self.recovery.refused(space) {
            self.tell_gap(&gap);
        }
    }

    /// The session does not listen to a space any more.
    pub(super) fn on_space_left(&mut self, space: &SpaceId) {
        self.liveness.left(space);
        let released = if self.interest.needs_list() {
            self.recovery.missing(space, self.shared.clock.now())
        } else {
            self.recovery.removed(space)
        };
        self.push_all(released);
        self.history.changed = true;
    }

    pub(super) fn on_connection_lost(&mut self) {
        self.recovery.connection_lost(self.shared.clock.now(), Instant::now());
        self.history.changed = true;
    }

    /// There is a new connection, on which nothing has been heard yet.
    pub(super) fn on_new_connection(&mut self) {
        self.recovery.new_connection(Instant::now());
        self.history.changed = true;
    }

    /// Spaces may have come into being while the session was not connected.
    pub(super) fn list_after_gap(&mut self) {
        if self.interest.needs_list() {
            self.list_at = Some(Instant::now());
        }
    }

    /// Events have become durable: watermarks move, recoveries end.
    pub(super) fn note_durable(&mut self) {
        let now = self.shared.clock.now();
        for durable in self.inbox.take_durable() {
            if durable.was_missed {
                self.shared.metrics.events_recovered.inc();
                self.recovery.recovered();
                self.history.changed = true;
            }
            // A time that has not come yet is not to be believed.
            self.recovery.marks_mut().durable(&durable.space, durable.occurred_at.min(now));
        }
        self.end_recoveries();
    }

    fn end_recoveries(&mut self) {
        let metrics = &self.shared.metrics;
        for ended in self.recovery.drained(self.inbox.drained(), self.shared.clock.now(), Instant::now()) {
            let result = if ended.outcome == Outcome::Closed { "closed" } else { "given_up" };
            metrics.recoveries.with_label_values(&[result]).inc();
            metrics.recovery_latency.observe(ended.took.as_secs_f64());
            self.history.changed = true;
        }
    }

    fn tell_gap(&mut self, gap: &Gap) {
        let Some(account) = self.account() else { return };
        let reason = gap.reason.as_str();
        self.shared.metrics.gaps.with_label_values(&[reason]).inc();
        warn!(space.id = %gap.space, from = %gap.since, reason, "events of space `{}` may be missing", gap.space);
        let event = SystemEvent::SessionGap {
            session_id: self.id.clone(),
            space_id: gap.space.clone(),
            from: gap.since,
            to: gap.until,
            reason,
        };
        self.tell(account, &event);
        self.history.changed = true;
    }

    fn show_recovery(&mut self) {
        let status = self.recovery.status();
        let open = i64::try_from(status.spaces_left).unwrap_or(i64::MAX);
        self.shared.metrics.recoveries_open.add(open - self.history.shown_open);
        self.history.shown_open = open;
        self.status.send_modify(|shown| shown.recovery = status);
    }

    /// Notes whether the session serves its account: if so, the account's watermarks are its own from now on.
    pub(super) fn follow_marks(&mut self, kept: bool) {
        match (kept, self.history.marks) {
            (true, Marks::Own) => self.history.marks = Marks::Wanted(Instant::now()),
            (false, _) => {
                self.history.marks = Marks::Own;
                self.history.store_at = None;
                self.recovery.marks_mut().forget_wishes();
            }
            (true, Marks::Wanted(_) | Marks::Loading | Marks::Known) => {}
        }
        if !self.interest.needs_list() {
            self.recovery.marks_mut().listed(None);
        }
    }

    fn load_marks(&mut self, now: Instant) {
        let Marks::Wanted(at) = self.history.marks else { return };
        let Some(account) = self.account().filter(|_| at <= now) else { return };
        self.history.marks = Marks::Loading;
        let shared = Arc::clone(&self.shared);
        self.jobs.push(Box::pin(async move { Job::Marks(MarksJob::Loaded(watermarks::load(&*shared.engine, &account).await)) }));
    }

    fn store_marks(&mut self, now: Instant) {
        if self.history.marks != Marks::Known || self.history.storing {
            return;
        }
        if self.history.note_online_at <= now {
            self.history.note_online_at = now + NOTE_ONLINE;
            let (at, marks) = (self.shared.clock.now(), self.recovery.marks_mut());
            marks.refresh(at);
            if self.link.is_online() {
                marks.online(at);
            }
        }
        if self.history.store_at.is_none() && self.recovery.marks().is_dirty() {
            // One that is new is nowhere yet.
            let wait = if self.recovery.marks().has_new() { Duration::ZERO } else { STORE_AFTER };
            self.history.store_at = Some(now + wait);
        } else if self.recovery.marks().has_new() {
            self.history.store_at = self.history.store_at.map(|at| at.min(now));
        }
        if self.history.store_at.is_none_or(|at| at > now) {
            return;
        }
        let Some(account) = self.account() else { return };
        self.history.store_at = None;
        self.history.storing = true;
        let (writes, shared) =
            (self.recovery.marks_mut().take_writes(&account, self.shared.clock.now()), Arc::clone(&self.shared));
        self.jobs.push(Box::pin(async move {
            let stored = watermarks::store(&*shared.engine, &writes).await;
            Job::Marks(MarksJob::Stored(writes, stored))
        }));
    }

    pub(super) fn on_marks(&mut self, job: MarksJob) {
        let now = Instant::now();
        match job {
            // The session may have been put out of its place meanwhile.
            MarksJob::Loaded(Ok(_)) if self.history.marks != Marks::Loading => {}
            MarksJob::Loaded(Ok(stored)) => {
                self.history.marks = Marks::Known;
                self.recovery.marks_mut().merge(stored, self.shared.clock.now());
                self.recovery.expect_gaps(now);
                self.grant_wishes(false);
                self.list_if_wished();
                self.begin_recoveries();
            }
            MarksJob::Loaded(Err(error)) => {
                warn!(error = &error as &dyn std::error::Error, "the watermarks of session `{}` could not be read", self.id);
                self.history.marks = Marks::Wanted(now + STORE_AGAIN);
            }
            MarksJob::Stored(_, Ok(())) => self.history.storing = false,
            MarksJob::Stored(writes, Err(error)) => {
                warn!(error = &error as &dyn std::error::Error, "the watermarks of session `{}` could not be stored", self.id);
                self.history.storing = false;
                self.recovery.marks_mut().not_written(&writes);
                self.history.store_at = Some(now + STORE_AGAIN);
            }
        }
    }

    /// Begins with each space that is subscribed and has a gap.
    fn begin_recoveries(&mut self) {
        let is_ready = |space: &&SpaceId| self.channels.readiness(space) == Readiness::Ready;
        let ready: Vec<SpaceId> = self.channels.spaces().filter(is_ready).cloned().collect();
        for space in ready {
            self.on_subscribed(&space);
        }
    }

    /// Somebody wants to have the history of spaces; the wish is stored.
    pub(super) fn on_wish(&mut self, id: String, wish: Wish) {
        self.recovery.marks_mut().wish(id, wish);
        if self.history.is_loading() {
            return;
        }
        self.grant_wishes(false);
        self.list_if_wished();
        self.begin_recoveries();
    }

    fn list_if_wished(&mut self) {
        if self.recovery.marks().wants_list() && self.interest.needs_list() {
            self.list_at = Some(Instant::now());
        }
    }

    fn grant_wishes(&mut self, is_listed: bool) {
        let now = Instant::now();
        for wish in self.recovery.marks_mut().take_wishes(is_listed) {
            for selector in &wish.spaces {
                let is_meant = |space: &&SpaceInfo| match selector {
                    SpaceSelector::All => space.kind != Some(TopicType::Direct),
                    SpaceSelector::Direct => space.kind == Some(TopicType::Direct),
                    SpaceSelector::One(_) => false,
                };
                let listed = self.listed.iter().filter(is_meant).map(|space| space.id.clone());
                let named = match selector {
                    SpaceSelector::One(space) => Some(space.clone()),
                    SpaceSelector::All | SpaceSelector::Direct => None,
                };
                for space in listed.chain(named).collect::<Vec<_>>() {
                    self.recovery.reach_back(&space, wish.since, now);
                }
            }
        }
    }

    /// The user's spaces as they are now: one that is new among them is heard from the last time on that they were listed.
    pub(super) fn note_listed(&mut self, spaces: &[SpaceInfo]) {
        let now = Instant::now();
        if let Some(before) = self.recovery.marks().listed_at() {
            let since = before.saturating_sub(self.shared.settings.recovery_overlap);
            let known: HashSet<&SpaceId> = self.listed.iter().map(|space| &space.id).collect();
            let is_new = |space: &&SpaceInfo| !self.history.has_listed || !known.contains(&space.id);
            let new: Vec<SpaceId> = spaces
                .iter()
                .filter(|space| self.interest_covers(space) && !self.recovery.marks().is_known(&space.id))
                .filter(is_new)
                .map(|space| space.id.clone())
                .collect();
            for space in new {
                self.recovery.marks_mut().start(&space, since, false);
                self.recovery.expect(&space, now);
            }
        }
        self.history.has_listed = true;
        if self.interest.needs_list() {
            let listed_at = self.shared.clock.now();
            self.recovery.marks_mut().listed(Some(listed_at));
        }
    }

    /// Grants what waited for the list, once its spaces are wanted.
    pub(super) fn after_listing(&mut self) {
        self.grant_wishes(true);
        self.begin_recoveries();
    }

    /// Stores the watermarks at the end of the session, and shows nothing open any more.
    pub(super) async fn end_recovery(&mut self) {
        self.note_durable();
        self.shared.metrics.recoveries_open.sub(std::mem::take(&mut self.history.shown_open));
        let Some(account) = self.account().filter(|_| self.history.marks == Marks::Known) else { return };
        let now = self.shared.clock.now();
        if self.link.is_online() {
            self.recovery.marks_mut().online(now);
        }
        let writes = self.recovery.marks_mut().take_writes(&account, now);
        let stored = tokio::time::timeout(LAST_STORE, watermarks::store(&*self.shared.engine, &writes)).await;
        if !matches!(stored, Ok(Ok(()))) {
            info!("the last watermarks of session `{}` were not stored; more than necessary is read again", self.id);
        }
    }

    /// Lets everything go that waits, since the session ends.
    pub(super) fn release_held(&mut self) {
        let released = self.recovery.release_all();
        self.push_all(released);
    }
}

/// What a failed read means.
fn failure(error: &RestError, kind: TokenKind) -> Failure {
    match error {
        // Service applications may be barred from the history, which says nothing against their token.
        error if error.is_auth() && kind != TokenKind::ServiceApp => Failure::TokenRefused,
        RestError::Refused { status: 429, retry_after, .. } => Failure::Limited(*retry_after),
        error if error.is_final() => Failure::Refused,
        error => Failure::Failing(error.retry_after()),
    }
}

/// The last ids of messages that the user wrote, here or elsewhere.
#[derive(Debug, Default)]
struct RecentIds {
    order: VecDeque<Arc<str>>,
    known: HashSet<Arc<str>>,
}

impl RecentIds {
    /// Adds an id. `false` if it is known.
    fn insert(&mut self, id: &str) -> bool {
        if self.known.contains(id) {
            return false;
        }
        let id: Arc<str> = id.into();
        self.known.insert(Arc::clone(&id));
        self.order.push_back(id);
        if self.order.len() > OWN_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}
