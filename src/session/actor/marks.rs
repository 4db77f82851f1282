//! The watermarks of the account: read when the session serves it, moved with what is durable, and stored.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::recovery::Storing;
use super::{Job, SessionActor};
use crate::domain::{SpaceId, SpaceSelector};
use crate::session::channels::Readiness;
use crate::session::watermarks::{self, Stored, Wish};
use crate::store::{DocWrite, StoreError};
use crate::upstream::{SpaceInfo, TopicType};

/// How long watermarks wait until they are stored together.
const STORE_AFTER: Duration = Duration::from_secs(15);

/// When watermarks are read and stored again after a failure of the store.
const STORE_AGAIN: Duration = Duration::from_secs(5);

/// How often it is noted that the session is connected, though nothing happens.
pub(super) const NOTE_ONLINE: Duration = Duration::from_hours(1);

/// How long an ending session waits for its watermarks to be stored.
const LAST_STORE: Duration = Duration::from_secs(2);

/// Something about watermarks that took time.
pub(super) enum MarksJob {
    Loaded(Result<Stored, StoreError>),
    Stored(Vec<DocWrite>, Result<(), StoreError>),
}

/// Whether the account's watermarks have been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    /// The session does not serve its account: what it has heard concerns nobody after its end.
    Own,
    /// They are to be read at this time.
    Wanted(Instant),
    /// They are being read.
    Loading,
    /// They are known.
    Known,
}

impl SessionActor {
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

    pub(super) fn load_marks(&mut self, now: Instant) {
        let Marks::Wanted(at) = self.history.marks else { return };
        let Some(account) = self.account().filter(|_| at <= now) else { return };
        self.history.marks = Marks::Loading;
        let shared = Arc::clone(&self.shared);
        self.jobs.push(Box::pin(async move { Job::Marks(MarksJob::Loaded(watermarks::load(&*shared.engine, &account).await)) }));
    }

    /// Whether nothing may become durable just now: the log is not to know more of a space than the store knows how far it was heard, since
    /// a space without a watermark starts anew after a crash.
    pub(super) fn waits_for_marks(&self) -> bool {
        match self.history.marks {
            Marks::Own => false,
            Marks::Wanted(_) | Marks::Loading => true,
            Marks::Known => self.history.storing == Storing::First || self.recovery.marks().has_new(),
        }
    }

    pub(super) fn store_marks(&mut self, now: Instant) {
        if self.history.marks != Marks::Known || self.history.storing != Storing::Nothing {
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
        self.history.storing = if self.recovery.marks().has_new() { Storing::First } else { Storing::Later };
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
            MarksJob::Stored(_, Ok(())) => {
                self.history.storing = Storing::Nothing;
                // Also where the next first ones are waiting already, so that listening to many spaces holds nothing up for long.
                self.append_received(now);
            }
            MarksJob::Stored(writes, Err(error)) => {
                warn!(error = &error as &dyn std::error::Error, "the watermarks of session `{}` could not be stored", self.id);
                self.history.storing = Storing::Nothing;
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
}
