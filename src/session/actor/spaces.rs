//! Which spaces the session listens to, and how it comes to.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::{Job, SessionActor};
use crate::domain::SpaceId;
use crate::governor::EmitClass;
use crate::session::channels::{AfterRefusal, Readiness};
use crate::session::types::{NO_ANSWER, SessionError};
use crate::upstream::{Refusal, RestError, SpaceInfo, TopicType};

/// When the user's spaces are listed again, after a success and after a failure.
const LIST_AGAIN: Duration = Duration::from_mins(5);
const LIST_AGAIN_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// How long a space is kept that a caller has asked for and nobody is known to want. Whoever keeps a subscription stores that once it is
/// confirmed; until then other changes of interest are not to end it.
const KEPT_WITHOUT_INTEREST: Duration = Duration::from_secs(30);

impl SessionActor {
    pub(super) fn on_subscribe(&mut self, space: &SpaceId, reply: oneshot::Sender<Result<(), SessionError>>) {
        let now = Instant::now();
        self.needed_at = now;
        self.channels_changed = true;
        let readiness = self.channels.want(space, now);
        self.channels.keep(space, now + KEPT_WITHOUT_INTEREST);
        let answer = match readiness {
            Some(Readiness::Ready) => Ok(()),
            Some(Readiness::Waiting) => return self.channels.tell(space, reply),
            Some(Readiness::Refused(refusal)) => Err(SessionError::SpaceRefused { code: refusal.code, message: refusal.message }),
            None => Err(SessionError::Busy { retry_after: Duration::from_mins(1) }),
        };
        // The caller may have gone.
        let _ = reply.send(answer);
    }

    pub(super) fn on_subscription_refused(&mut self, space: Option<SpaceId>, refusal: Refusal) {
        self.channels_changed = true;
        match self.channels.refused(space, refusal, Instant::now()) {
            Some(AfterRefusal::Join(space)) => {
                let (shared, credential) = (Arc::clone(&self.shared), self.credential.clone());
                self.jobs.push(Box::pin(async move {
                    let joined = shared.rest.join(&credential, &space).await;
                    Job::Joined(space, joined)
                }));
            }
            Some(AfterRefusal::Refused(space)) => {
                warn!(space.id = %space, "Spaces refuses the subscription to space `{space}`");
                self.on_space_refused(&space);
            }
            None => debug!("a subscription was refused that nobody asked for"),
        }
    }

    pub(super) fn on_joined(&mut self, space: &SpaceId, joined: Result<(), RestError>) {
        let refusal = match joined {
            Ok(()) => None,
            // A clear no ends it; anything else leaves the second try, since a join is not always needed.
            Err(RestError::Refused { status: status @ (403 | 404), code, message, .. }) => {
                // The upstream's own words may not say which no it is; the status does.
                let no = if status == 404 { "not found" } else { "forbidden" };
                let message = message.map_or_else(|| no.to_owned(), |message| format!("{no}: {message}"));
                Some(Refusal { code, message: Some(message) })
            }
            Err(error) => {
                debug!(error = &error as &dyn std::error::Error, "joining space `{space}` failed");
                None
            }
        };
        let is_refused = refusal.is_some();
        let changed = self.channels.joined(space, refusal, Instant::now());
        self.channels_changed |= changed;
        if is_refused && changed {
            self.on_space_refused(space);
        }
    }

    pub(super) fn subscribe_wanted(&mut self, now: Instant) {
        if !self.link.is_online() {
            return;
        }
        while let Some(space) = self.channels.overdue(now) {
            self.on_subscription_refused(Some(space), Refusal { code: None, message: Some(NO_ANSWER.to_owned()) });
        }
        while let Some((space, class)) = self.next_subscription() {
            let may = self.budget.take(class, now);
            self.note_budget(may);
            if !may {
                break;
            }
            if self.link.subscribe(&space).is_err() {
                self.budget.give_back(class);
                break;
            }
            self.channels.asked(&space, now);
            self.count_emit();
        }
    }

    /// The next space to ask for, and how urgent it is: as urgent as the messages that wait for it.
    pub(super) fn next_subscription(&self) -> Option<(SpaceId, EmitClass)> {
        let mut awaited = self.queue.turns().filter(|(_, space)| self.channels.is_wanted(space));
        match awaited.next() {
            Some((class, space)) => self.channels.may_ask().then(|| (space.clone(), class.into())),
            None => Some((self.channels.next_wanted()?, EmitClass::Subscription)),
        }
    }

    /// Looks up what webhooks and subscriptions want of this session now.
    pub(super) fn follow_interest(&mut self) {
        let account = self.account();
        let kept = account.as_ref().filter(|account| self.shared.is_kept(account, &self.id));
        self.status.send_if_modified(|status| std::mem::replace(&mut status.durable, kept.is_some()) != kept.is_some());
        let serves = account.as_ref().filter(|_| kept.is_some() || self.is_preparing());
        let interest = serves.map(|account| self.shared.interests.interest(account)).unwrap_or_default();
        let kept = kept.is_some();
        if interest.needs_list() && !self.interest.needs_list() {
            self.list_at = Some(Instant::now());
        }
        let pinned = serves.is_some_and(|account| self.shared.serving.is_managed(account));
        if interest.is_empty() && !pinned && (self.pinned || !self.interest.is_empty()) {
            self.needed_at = Instant::now();
        }
        self.pinned = pinned;
        self.interest = interest;
        self.follow_marks(kept);
        self.want_spaces();
    }

    /// Wants every space of interest, and lets those go that nobody needs any more.
    pub(super) fn want_spaces(&mut self) {
        let now = Instant::now();
        let mut wanted = self.interest.spaces.clone();
        wanted.extend(self.heard_before());
        wanted.extend(self.listed.iter().filter(|space| self.interest_covers(space)).map(|space| space.id.clone()));
        self.let_go_at = None;
        self.channels.release(wanted.iter());
        let is_used = |space: &SpaceId| self.is_sending_to(space) || self.channels.kept_until(space, now).is_some();
        let needless = self.channels.spaces().filter(|space| !wanted.contains(*space) && !is_used(space));
        for space in needless.cloned().collect::<Vec<_>>() {
            let is_told = self.link.is_online() && self.channels.is_known_upstream(&space);
            if is_told && !self.budget.take_for_subscription(now) {
                self.let_go_at = Some(now + self.budget.wait(EmitClass::Subscription, now));
                break;
            }
            self.on_space_left(&space);
            self.channels.forget(&space);
            if is_told {
                match self.link.unsubscribe(&space) {
                    Ok(()) => self.count_emit(),
                    Err(_) => self.budget.give_back(EmitClass::Subscription),
                }
            }
        }
        let kept = self.channels.spaces().filter(|space| !wanted.contains(*space));
        let kept = kept.filter_map(|space| self.channels.kept_until(space, now)).min();
        self.let_go_at = self.let_go_at.or(kept);
        for space in &wanted {
            if self.channels.want(space, now).is_none() {
                error!("session `{}` listens to as many spaces as it may; space `{space}` is left out", self.id);
                break;
            }
        }
        self.channels_changed = true;
    }

    /// Goes on letting go, once the budget allows it.
    pub(super) fn let_go_if_due(&mut self, now: Instant) {
        if self.let_go_at.is_some_and(|at| at <= now) {
            self.want_spaces();
        }
    }

    pub(super) fn interest_covers(&self, space: &SpaceInfo) -> bool {
        if space.kind == Some(TopicType::Direct) { self.interest.direct } else { self.interest.all }
    }

    pub(super) fn is_sending_to(&self, space: &SpaceId) -> bool {
        self.pending.contains_space(space) || self.queue.contains_space(space)
    }

    pub(super) fn is_direct(&self, space: &str) -> bool {
        self.listed.iter().any(|listed| listed.id.as_str() == space && listed.kind == Some(TopicType::Direct))
    }

    pub(super) fn on_listed(&mut self, spaces: Result<Vec<SpaceInfo>, RestError>) {
        let again = match spaces {
            Ok(spaces) => {
                self.note_listed(&spaces);
                self.listed = spaces;
                self.want_spaces();
                self.after_listing();
                LIST_AGAIN
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "the spaces of the user could not be listed");
                LIST_AGAIN_AFTER_FAILURE
            }
        };
        self.list_at = self.interest.needs_list().then(|| Instant::now() + again);
    }
}
