//! The spaces that a session listens to, and how far each subscription is.
//!
//! Subscriptions belong to a connection: after each reconnect all are asked for again. One space is asked for once per connection.
//! A refusal, or no answer in time, is followed by joining the space over REST and one more try; after that the space is refused
//! until someone asks for it again later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::types::{ChannelState, SessionError, SpaceChannel};
use crate::domain::SpaceId;
use crate::upstream::Refusal;

/// How long the upstream may take to answer a subscription.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// How long a refusal stands before it is worth asking again.
const REFUSAL_STANDS: Duration = Duration::from_secs(30);

/// Subscriptions asked for and not answered at a time.
const MAX_ASKED: usize = 16;

/// Spaces that one session listens to.
pub(super) const MAX_CHANNELS: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    /// To be asked for as soon as connection and budget allow.
    Wanted,
    /// Asked for at this time.
    Asked(Instant),
    /// Being joined over REST before the second try.
    Joining,
    /// Confirmed.
    Subscribed,
    /// Refused at this time.
    Refused(Instant, Refusal),
}

#[derive(Debug)]
struct Channel {
    progress: Progress,
    /// Whether the second try has been made on this connection.
    joined: bool,
    /// Callers who wait for the subscription.
    waiting: Vec<oneshot::Sender<Result<(), SessionError>>>,
    /// It is not let go before then.
    kept_until: Option<Instant>,
}

/// What has to be done for a channel that was refused or not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AfterRefusal {
    /// Join the space over REST, then tell [`Channels::joined`].
    Join(SpaceId),
    /// It stays refused; sends that wait for it fail.
    Refused(SpaceId),
}

/// The channels of a session.
#[derive(Debug, Default)]
pub(super) struct Channels {
    channels: BTreeMap<SpaceId, Channel>,
    /// Those neither subscribed nor refused: few, most of the time, and all that timers and the budget care about.
    unsettled: BTreeSet<SpaceId>,
}

/// Whether a message can be sent to a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Yes.
    Ready,
    /// The subscription is on its way.
    Waiting,
    /// Spaces refused the subscription.
    Refused(Refusal),
}

impl Channels {
    /// Makes sure that `space` is or will be subscribed, and tells whether it can be sent to. `false` as `None` if there are too many.
    pub(super) fn want(&mut self, space: &SpaceId, now: Instant) -> Option<Readiness> {
        if let Some(channel) = self.channels.get_mut(space) {
            return Some(match &channel.progress {
                Progress::Subscribed => Readiness::Ready,
                Progress::Refused(at, refusal) if now.saturating_duration_since(*at) < REFUSAL_STANDS => {
                    Readiness::Refused(refusal.clone())
                }
                Progress::Refused(..) => {
                    channel.progress = Progress::Wanted;
                    channel.joined = false;
                    self.unsettled.insert(space.clone());
                    Readiness::Waiting
                }
                Progress::Wanted | Progress::Asked(_) | Progress::Joining => Readiness::Waiting,
            });
        }
        if self.channels.len() >= MAX_CHANNELS {
            return None;
        }
        self.channels
            .insert(space.clone(), Channel { progress: Progress::Wanted, joined: false, waiting: Vec::new(), kept_until: None });
        self.unsettled.insert(space.clone());
        Some(Readiness::Waiting)
    }

    /// How `space` stands, without wanting it.
    pub(super) fn readiness(&self, space: &SpaceId) -> Readiness {
        match self.channels.get(space).map(|channel| &channel.progress) {
            Some(Progress::Subscribed) => Readiness::Ready,
            Some(Progress::Refused(_, refusal)) => Readiness::Refused(refusal.clone()),
            Some(Progress::Wanted | Progress::Asked(_) | Progress::Joining) | None => Readiness::Waiting,
        }
    }

    /// Whether `space` is wanted or had.
    pub(super) fn has(&self, space: &SpaceId) -> bool {
        self.channels.contains_key(space)
    }

    /// Whether the upstream has the word: `space` was asked for, or is being joined.
    pub(super) fn is_asked(&self, space: &SpaceId) -> bool {
        let progress = self.channels.get(space).map(|channel| &channel.progress);
        matches!(progress, Some(Progress::Asked(_) | Progress::Joining))
    }

    /// Tells `reply` when the subscription to `space`, which is wanted already, is confirmed or refused.
    pub(super) fn tell(&mut self, space: &SpaceId, reply: oneshot::Sender<Result<(), SessionError>>) {
        if let Some(channel) = self.channels.get_mut(space) {
            channel.waiting.retain(|waiting| !waiting.is_closed());
            channel.waiting.push(reply);
        }
    }

    /// Keeps `space` until then although nobody wants it: a caller has asked for it who makes that known once it is there.
    pub(super) fn keep(&mut self, space: &SpaceId, until: Instant) {
        if let Some(channel) = self.channels.get_mut(space) {
            channel.kept_until = Some(until);
        }
    }

    /// Lets each of these spaces go again once nobody wants it any more.
    pub(super) fn release<'a>(&mut self, spaces: impl Iterator<Item = &'a SpaceId>) {
        for space in spaces {
            if let Some(channel) = self.channels.get_mut(space) {
                channel.kept_until = None;
            }
        }
    }

    /// Until when `space` is kept, if it still is.
    pub(super) fn kept_until(&self, space: &SpaceId, now: Instant) -> Option<Instant> {
        self.channels.get(space)?.kept_until.filter(|until| *until > now)
    }

    /// Whether the upstream has to be told if `space` is let go.
    pub(super) fn is_known_upstream(&self, space: &SpaceId) -> bool {
        let channel = self.channels.get(space);
        channel.is_some_and(|channel| matches!(channel.progress, Progress::Subscribed | Progress::Asked(_)))
    }

    /// Lets a space go.
    pub(super) fn forget(&mut self, space: &SpaceId) {
        self.unsettled.remove(space);
        self.channels.remove(space);
    }

    /// The next space to ask for.
    pub(super) fn next_wanted(&self) -> Option<SpaceId> {
        if !self.may_ask() {
            return None;
        }
        // Those whom a caller waits for go first.
        let mut wanted = self.unsettled().filter(|(_, channel)| channel.progress == Progress::Wanted);
        let first = wanted.clone().find(|(_, channel)| !channel.waiting.is_empty());
        first.or_else(|| wanted.next()).map(|(space, _)| space.clone())
    }

    /// Whether `space` is still to be asked for.
    pub(super) fn is_wanted(&self, space: &SpaceId) -> bool {
        self.channels.get(space).is_some_and(|channel| channel.progress == Progress::Wanted)
    }

    /// Whether another space may be asked for now.
    pub(super) fn may_ask(&self) -> bool {
        self.asked_at().count() < MAX_ASKED
    }

    /// Notes that `space` was asked for.
    pub(super) fn asked(&mut self, space: &SpaceId, now: Instant) {
        if let Some(channel) = self.channels.get_mut(space) {
            channel.progress = Progress::Asked(now);
        }
    }

    /// Notes the upstream's confirmation. A space that nobody wants stays unknown.
    pub(super) fn confirmed(&mut self, space: &SpaceId) {
        if let Some(channel) = self.channels.get_mut(space) {
            channel.progress = Progress::Subscribed;
            self.unsettled.remove(space);
            for waiting in channel.waiting.drain(..) {
                // Whoever waited may have gone.
                let _ = waiting.send(Ok(()));
            }
        }
    }

    /// Notes the upstream's refusal of `space`, or of the longest asked one if it does not say.
    pub(super) fn refused(&mut self, space: Option<SpaceId>, refusal: Refusal, now: Instant) -> Option<AfterRefusal> {
        let space = space.filter(|space| self.channels.contains_key(space)).or_else(|| self.oldest_asked())?;
        let channel = self.channels.get_mut(&space)?;
        if channel.joined {
            channel.refuse(refusal, now);
            self.unsettled.remove(&space);
            Some(AfterRefusal::Refused(space))
        } else {
            channel.joined = true;
            channel.progress = Progress::Joining;
            Some(AfterRefusal::Join(space))
        }
    }

    /// Notes how joining over REST went: the second try follows, unless the join itself was refused for good.
    pub(super) fn joined(&mut self, space: &SpaceId, refusal: Option<Refusal>, now: Instant) -> bool {
        let Some(channel) = self.channels.get_mut(space).filter(|channel| channel.progress == Progress::Joining) else {
            return false;
        };
        match refusal {
            Some(refusal) => {
                channel.refuse(refusal, now);
                self.unsettled.remove(space);
            }
            None => channel.progress = Progress::Wanted,
        }
        true
    }

    /// Notes that Spaces wants a subscription that we thought we had.
    pub(super) fn lost(&mut self, space: &SpaceId) {
        if let Some(channel) = self.channels.get_mut(space).filter(|channel| channel.progress == Progress::Subscribed) {
            channel.progress = Progress::Wanted;
            self.unsettled.insert(space.clone());
        }
    }

    /// Finds a space whose answer is overdue.
    pub(super) fn overdue(&self, now: Instant) -> Option<SpaceId> {
        self.asked_at().find(|(at, _)| now >= *at + ANSWER_TIME).map(|(_, space)| space.clone())
    }

    /// When an answer becomes overdue.
    pub(super) fn next_overdue(&self) -> Option<Instant> {
        self.asked_at().map(|(at, _)| at + ANSWER_TIME).min()
    }

    /// Forgets what was only known of the ended connection.
    pub(super) fn connection_lost(&mut self) {
        for (space, channel) in &mut self.channels {
            channel.joined = false;
            if !matches!(channel.progress, Progress::Refused(..)) {
                channel.progress = Progress::Wanted;
                self.unsettled.insert(space.clone());
            }
        }
    }

    /// Asks again, on a new connection, for what was refused on an earlier one.
    pub(super) fn retry_refused(&mut self) {
        for (space, channel) in &mut self.channels {
            if matches!(channel.progress, Progress::Refused(..)) {
                channel.progress = Progress::Wanted;
                channel.joined = false;
                self.unsettled.insert(space.clone());
            }
        }
    }

    /// How many spaces are neither subscribed nor refused yet.
    pub(super) fn unsettled_count(&self) -> usize {
        self.unsettled.len()
    }

    /// The spaces, wanted and had.
    pub(super) fn spaces(&self) -> impl Iterator<Item = &SpaceId> {
        self.channels.keys()
    }

    /// What the API shows.
    pub(super) fn overview(&self) -> Vec<SpaceChannel> {
        let channels = self.channels.iter().map(|(space, channel)| SpaceChannel {
            space: space.clone(),
            state: match &channel.progress {
                Progress::Wanted | Progress::Asked(_) | Progress::Joining => ChannelState::Pending,
                Progress::Subscribed => ChannelState::Subscribed,
                Progress::Refused(_, refusal) => ChannelState::Refused { detail: describe(refusal) },
            },
        });
        channels.collect()
    }

    fn oldest_asked(&self) -> Option<SpaceId> {
        self.asked_at().min().map(|(_, space)| space.clone())
    }

    fn unsettled(&self) -> impl Iterator<Item = (&SpaceId, &Channel)> + Clone {
        self.unsettled.iter().filter_map(|space| self.channels.get_key_value(space))
    }

    fn asked_at(&self) -> impl Iterator<Item = (Instant, &SpaceId)> {
        self.unsettled().filter_map(|(space, channel)| match channel.progress {
            Progress::Asked(at) => Some((at, space)),
            Progress::Wanted | Progress::Joining | Progress::Subscribed | Progress::Refused(..) => None,
        })
    }
}

impl Channel {
    fn refuse(&mut self, refusal: Refusal, now: Instant) {
        for waiting in self.waiting.drain(..) {
            let error = SessionError::SpaceRefused { code: refusal.code.clone(), message: refusal.message.clone() };
            // Whoever waited may have gone.
            let _ = waiting.send(Err(error));
        }
        self.progress = Progress::Refused(now, refusal);
    }
}

fn describe(refusal: &Refusal) -> String {
    match (&refusal.code, &refusal.message) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(text), None) | (None, Some(text)) => text.clone(),
        (None, None) => "no reason given".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(id: &str) -> SpaceId {
        id.parse().expect("an id")
    }

    fn refusal(code: &str) -> Refusal {
        Refusal { code: Some(code.to_owned()), message: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_space_is_joined_and_asked_for_once_more() {
        let (mut channels, now, s1) = (Channels::default(), Instant::now(), space("s1"));
        assert_eq!(channels.want(&s1, now), Some(Readiness::Waiting));
        assert_eq!(channels.next_wanted(), Some(s1.clone()));
        channels.asked(&s1, now);
        assert_eq!(channels.next_wanted(), None, "it is asked for once");
        assert_eq!(channels.refused(None, refusal("x"), now), Some(AfterRefusal::Join(s1.clone())));
        assert!(channels.joined(&s1, None, now));
        assert_eq!(channels.next_wanted(), Some(s1.clone()));
        channels.asked(&s1, now);
        assert_eq!(channels.refused(Some(s1.clone()), refusal("y"), now), Some(AfterRefusal::Refused(s1.clone())));
        assert_eq!(channels.want(&s1, now), Some(Readiness::Refused(refusal("y"))));
        assert_eq!(channels.want(&s1, now + REFUSAL_STANDS), Some(Readiness::Waiting), "later it is worth another try");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reconnect_asks_for_everything_again() {
        let (mut channels, now, s1) = (Channels::default(), Instant::now(), space("s1"));
        channels.want(&s1, now);
        channels.asked(&s1, now);
        channels.confirmed(&s1);
        assert_eq!(channels.readiness(&s1), Readiness::Ready);
        channels.connection_lost();
        assert_eq!(channels.readiness(&s1), Readiness::Waiting);
        assert_eq!(channels.next_wanted(), Some(s1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_noticed() {
        let (mut channels, now, s1) = (Channels::default(), Instant::now(), space("s1"));
        channels.want(&s1, now);
        channels.asked(&s1, now);
        assert_eq!(channels.overdue(now), None);
        let overdue = channels.next_overdue().expect("a time");
        assert_eq!(channels.overdue(overdue), Some(s1));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_goes_first_and_is_told() {
        let (mut channels, now) = (Channels::default(), Instant::now());
        channels.want(&space("a"), now);
        channels.want(&space("b"), now);
        let (reply, answer) = oneshot::channel();
        channels.tell(&space("b"), reply);
        assert_eq!(channels.next_wanted(), Some(space("b")));
        channels.confirmed(&space("b"));
        assert!(answer.await.expect("an answer").is_ok());
    }
}
