//! Taking over from the account's session of before, and giving way to the one that comes after.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{End, Job, SessionActor};
use crate::domain::{AccountId, ClosedReason, SessionState, SpaceId};
use crate::session::SessionHandle;
use crate::session::handover::{Before, Handover, Next, Own, Phase, next};
use crate::session::renewal::RenewalError;
use crate::session::types::{ChannelState, Identity};

/// How long a session that has handed over may take to finish its sends: as long as a caller may wait for one.
const RETIREMENT: Duration = Duration::from_mins(1);

/// When that a session serves is stored again after a failure.
const STORE_AGAIN: Duration = Duration::from_secs(1);

impl SessionActor {
    /// Serves the account from now on: at once if no session does, else as soon as this one hears what that one hears.
    pub(super) fn serve(&mut self, identity: Identity) {
        let standing_in = |known: &Identity| known.account == AccountId::standing_in(&self.id);
        if self.status.borrow().identity.as_ref().is_none_or(standing_in) {
            self.identified(identity.clone());
        }
        let account = identity.account.clone();
        self.retire_until = None;
        if self.shared.is_kept(&account, &self.id) || self.handover.is_some() {
            return self.follow_interest();
        }
        match self.shared.served_by(&account) {
            Some(before) => self.begin_handover(&account, before),
            None => self.take_over(identity),
        }
    }

    pub(super) fn begin_handover(&mut self, account: &AccountId, before: SessionHandle) {
        info!("session `{}` is about to take the place of session `{}`", self.id, before.id());
        if let Some(rival) = self.shared.serving.set_successor(account, &self.id).and_then(|id| self.shared.get(&id)) {
            rival.nudge();
        }
        self.handover = Some(Handover::new(before, Phase::Preparing));
        self.follow_interest();
    }

    /// Serves the account's webhooks and subscriptions from now on.
    pub(super) fn take_over(&mut self, identity: Identity) {
        let (shared, id, credential) = (Arc::clone(&self.shared), self.id.clone(), self.credential.clone());
        self.jobs.push(Box::pin(async move {
            while let Err(error) = shared.keep(&id, &credential, &identity).await {
                warn!(error = &error as &dyn std::error::Error, "the token could not be stored");
                tokio::time::sleep(STORE_AGAIN).await;
            }
            Job::Kept
        }));
    }

    pub(super) fn on_kept(&mut self) {
        info!("session `{}` serves the webhooks and subscriptions of its account from now on", self.id);
        if let Some(handover) = &mut self.handover {
            self.shared.metrics.handovers.with_label_values(&["done"]).inc();
            handover.phase = Phase::Following;
        }
        self.follow_interest();
    }

    /// Serves the account if none does, or if the token of the one that does is refused or clearly less fresh.
    pub(super) fn serve_if_better(&mut self, identity: Identity) {
        let account = identity.account.clone();
        if self.shared.is_orphaned(&account) {
            return self.take_over(identity);
        }
        let better = self.shared.serving.is_refused(&account)
            || self.shared.get(&self.id).is_some_and(|session| self.shared.is_fresher(&session, &account));
        if let Some(before) = self.shared.served_by(&account).filter(|_| better) {
            self.begin_handover(&account, before);
        }
    }

    /// Does what the hand-over allows now.
    pub(super) fn advance_handover(&mut self) {
        match self.handover.as_ref().map(|handover| handover.phase) {
            Some(Phase::Preparing) => self.prepare_handover(),
            Some(Phase::Following) => self.end_handover(),
            Some(Phase::GivingWay) => self.give_way(),
            Some(Phase::Storing) | None => {}
        }
    }

    fn prepare_handover(&mut self) {
        let Some(identity) = self.status.borrow().identity.clone() else { return };
        let account = &identity.account;
        if !self.shared.serving.is_successor(account, &self.id) {
            // A fresher one has come, or nothing needs a session any more.
            self.handover = None;
            return self.retire();
        }
        let served_by = self.shared.served_by(account);
        let Some(handover) = &mut self.handover else { return };
        if let Some(other) = served_by.filter(|served| !served.is_same(handover.other())) {
            *handover = Handover::new(other, Phase::Preparing);
        }
        let limited = self.status.borrow().limited_until.is_some();
        let own = match self.link.is_online() {
            true => Own::Online { missing: self.channels.unsettled_count() },
            false if limited => Own::Limited,
            false => Own::Offline,
        };
        if next(handover.stand(), own) == Next::TakeOver {
            handover.phase = Phase::Storing;
            self.take_over(identity);
        }
    }

    /// The session before is gone, and its connection with it: if there was no room beside it, there is now.
    fn end_handover(&mut self) {
        if !self.handover.as_ref().is_some_and(Handover::is_gone) {
            return;
        }
        self.handover = None;
        if !self.link.is_online() && self.status.borrow().limited_until.is_some() {
            self.link = self.connect(Duration::ZERO);
        }
    }

    /// The session of the renewed token tells this one when to end, unless it fails before.
    fn give_way(&mut self) {
        let Some(after) = self.handover.take_if(|handover| handover.stand() == Before::Ended) else { return };
        self.on_renewed(match after.other().refusal() {
            Some(detail) => Err(RenewalError::Refused(detail)),
            None => Err(RenewalError::Unavailable { detail: "the new session has closed".to_owned(), retry_after: None }),
        });
    }

    /// The other session has changed; the one before may hear more than it did.
    pub(super) fn on_handover(&mut self) {
        if self.is_preparing() {
            self.want_spaces();
        }
    }

    /// Whether this session is about to serve its account.
    pub(super) fn is_preparing(&self) -> bool {
        let phase = self.handover.as_ref().map(|handover| handover.phase);
        matches!(phase, Some(Phase::Preparing | Phase::Storing))
    }

    /// Whether another session serves the account, and this one has not begun to take its place.
    pub(super) fn is_spare(&self) -> bool {
        self.handover.as_ref().is_some_and(|handover| handover.phase == Phase::Preparing)
    }

    /// What the session before hears, while this one is about to take its place.
    pub(super) fn heard_before(&self) -> Vec<SpaceId> {
        let Some(handover) = self.handover.as_ref().filter(|_| self.is_preparing()) else { return Vec::new() };
        let channels = handover.other().status().channels;
        channels.into_iter().filter(|channel| channel.state == ChannelState::Subscribed).map(|channel| channel.space).collect()
    }

    /// Another session serves the account: this one finishes its sends and ends.
    pub(super) fn retire(&mut self) {
        self.retire_until.get_or_insert_with(|| Instant::now() + RETIREMENT);
        self.follow_interest();
    }

    /// Ends the session once it has given way and nothing of its own is under way.
    pub(super) fn end_retirement(&mut self, now: Instant) {
        let Some(until) = self.retire_until else { return };
        let finished = self.queue.is_empty() && self.pending.waiting() == 0;
        if finished || now >= until || !self.link.is_online() {
            self.end.get_or_insert(End::Closed(ClosedReason::HandedOver));
        }
    }

    /// Ends what this session was about to do for its account.
    pub(super) fn drop_handover(&mut self, state: SessionState) {
        let Some(account) = self.account() else { return };
        self.shared.serving.clear_successor(&account, &self.id);
        if self.is_spare() && state == SessionState::AuthFailed {
            self.shared.metrics.handovers.with_label_values(&["failed"]).inc();
        }
    }
}
