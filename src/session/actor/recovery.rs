//! Closing gaps: the watermarks of the account, the history, and what waits for it. What to do when is decided by
//! [`crate::session::recovery`]; here it is done.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::SessionActor;
use super::marks::{Marks, NOTE_ONLINE};
use super::recovered::RecentIds;
use crate::domain::{SpaceId, Timestamp, TokenKind};
use crate::event_log::SystemEvent;
use crate::session::gaps::Gap;
use crate::session::inbox::Entry;
use crate::session::recovery::{After, Changes, Failure, Outcome, Read, Source, Together};
use crate::upstream::{ChangesPage, HistoryPage, ReceivedMessage, RestError};

/// Pages that are read of what has changed in several spaces at once: 200 messages. Where there is more, they are read one by one.
const TOGETHER_PAGES: usize = 4;

/// A piece of history, or why there is none.
pub(super) enum HistoryRead {
    /// A page of one space.
    Page(Read, Result<HistoryPage, RestError>),
    /// What has changed in several.
    Together(Together, Result<ChangesPage, RestError>),
}

/// Which watermarks are being stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storing {
    Nothing,
    /// Later ones of spaces whose first ones are stored.
    Later,
    /// Among others the first ones of spaces.
    First,
}

/// What the session needs to close gaps, beside what decides.
pub(super) struct History {
    pub(super) reads: FuturesUnordered<BoxFuture<'static, HistoryRead>>,
    pub(super) marks: Marks,
    pub(super) store_at: Option<Instant>,
    pub(super) storing: Storing,
    pub(super) note_online_at: Instant,
    pub(super) has_listed: bool,
    pub(super) own_ids: RecentIds,
    pub(super) changed: bool,
    pub(super) shown_open: i64,
}

impl History {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            reads: FuturesUnordered::new(),
            marks: Marks::Own,
            store_at: None,
            storing: Storing::Nothing,
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
        let space = &entry.event.space;
        if self.is_preparing() && self.channels.has(space) && self.recovery.is_new(space) {
            // The session before may still read what was before it.
            self.recovery.expect(space, Instant::now());
        }
        if !self.recovery.holds(space) {
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
        while self.may_read() {
            if let Some(together) = self.recovery.next_together(now) {
                self.read_together(together);
            } else if let Some(read) = self.recovery.next_read(now) {
                self.read_page(read);
            } else {
                break;
            }
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
        let own = self.own_on_record();
        self.history.reads.push(Box::pin(async move {
            // Spaces gives what is later than the time that it is asked for.
            let (after, next) = (read.from.saturating_sub(Duration::from_millis(1)), read.next.as_deref());
            let page = match read.source {
                Source::Activity => shared.rest.activity_page(&credential, &read.space, after, next).await,
                Source::Messages => shared.rest.messages_page(&credential, &read.space, after, next).await,
            };
            if let Ok(page) = &page {
                own.recall_for(&page.messages).await;
            }
            HistoryRead::Page(read, page)
        }));
    }

    fn read_together(&mut self, together: Together) {
        let (shared, credential) = (Arc::clone(&self.shared), self.credential.clone());
        let own = self.own_on_record();
        self.history.reads.push(Box::pin(async move {
            let after = together.from.saturating_sub(Duration::from_millis(1));
            let spaces: Vec<SpaceId> = together.spaces.iter().map(|(space, ..)| space.clone()).collect();
            let changes = shared.rest.changes(&credential, &spaces, after, TOGETHER_PAGES).await;
            if let Ok(changes) = &changes {
                own.recall_for(&changes.messages).await;
            }
            HistoryRead::Together(together, changes)
        }));
    }

    pub(super) fn on_history(&mut self, read: HistoryRead) {
        match read {
            HistoryRead::Page(read, page) => self.on_page(&read, page),
            HistoryRead::Together(together, changes) => self.on_together(&together, &changes),
        }
    }

    /// What has changed in several spaces: where that is clear, their gaps are closed; the others are read by themselves.
    fn on_together(&mut self, together: &Together, read: &Result<ChangesPage, RestError>) {
        let meant = self.recovery.together_ended(together);
        let now = Instant::now();
        let (mut changes, unless_found) = match read {
            Ok(page) if page.is_complete => match by_space(together, &page.messages) {
                Some(changes) => {
                    self.recovery.judge(Some(true));
                    (changes, Changes::All { some: false })
                }
                None => {
                    debug!("what Spaces tells of several spaces makes no sense");
                    self.recovery.judge(Some(false));
                    (HashMap::new(), Changes::Unclear)
                }
            },
            Ok(_) => {
                self.recovery.judge(Some(true));
                (HashMap::new(), Changes::Unclear)
            }
            Err(error) => {
                debug!(error = error as &dyn std::error::Error, "what has changed in several spaces could not be read");
                let failure = failure(error, self.credential.kind);
                match failure {
                    Failure::Refused => self.recovery.judge(Some(false)),
                    Failure::Failing(_) => self.recovery.judge(None),
                    Failure::Limited(_) | Failure::TokenRefused => {}
                }
                (HashMap::new(), Changes::Failed(failure))
            }
        };
        for (space, from) in meant {
            let found = changes.remove(&space).unwrap_or_default();
            for raw in &found {
                self.take_recovered(&space, from, raw);
            }
            let seen = if found.is_empty() { unless_found } else { Changes::All { some: true } };
            let after = self.recovery.seen_together(&space, seen, now);
            self.after_reading(&space, after);
        }
    }

    fn on_page(&mut self, read: &Read, page: Result<HistoryPage, RestError>) {
        if !self.recovery.read_ended(read) {
            return;
        }
        let now = Instant::now();
        let after = match page {
            Ok(page) => {
                for raw in &page.messages {
                    self.take_recovered(&read.space, read.from, raw);
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
        self.after_reading(&read.space, after);
    }

    /// Goes on after a piece of history: what was held follows the last one.
    fn after_reading(&mut self, space: &SpaceId, after: After<Entry>) {
        self.history.changed = true;
        let (held, outcome) = match after {
            After::More => return,
            After::ChangesLeft(held) => {
                self.push_all(held);
                return;
            }
            After::Complete(held) => (held, Outcome::Closed),
            After::Gap(gap, held) => {
                self.tell_gap(&gap);
                (held, Outcome::GivenUp)
            }
        };
        self.push_all(held);
        self.recovery.settle(space, self.inbox.pushed(), outcome);
        self.end_recoveries();
    }

    /// The subscription to a space is confirmed.
    pub(super) fn on_subscribed(&mut self, space: &SpaceId) {
        let now = Instant::now();
        self.history.changed = true;
        if self.history.is_loading() || self.is_preparing() {
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

    /// Lets everything go that waits, since the session ends.
    pub(super) fn release_held(&mut self) {
        let released = self.recovery.release_all();
        self.push_all(released);
    }
}

/// The messages of a look at several spaces by their space, oldest change first; `None` if there are some that do not belong there.
fn by_space<'a>(together: &Together, messages: &'a [Box<RawValue>]) -> Option<HashMap<SpaceId, Vec<&'a RawValue>>> {
    let asked: HashSet<&SpaceId> = together.spaces.iter().map(|(space, ..)| space).collect();
    let mut dated = Vec::with_capacity(messages.len());
    for raw in messages {
        let message: ReceivedMessage<'_> = serde_json::from_str(raw.get()).ok()?;
        let space: SpaceId = message.topic_id.as_deref()?.parse().ok().filter(|space| asked.contains(space))?;
        let time = message.modified.as_deref().or(message.created.as_deref()).and_then(Timestamp::parse);
        dated.push((time, space, &**raw));
    }
    dated.sort_by_key(|(time, ..)| *time);
    let mut found: HashMap<SpaceId, Vec<&RawValue>> = HashMap::new();
    for (_, space, raw) in dated {
        found.entry(space).or_default().push(raw);
    }
    Some(found)
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
