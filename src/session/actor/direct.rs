//! Direct spaces that someone else opens: their first message comes without a subscription, and is how the bridge learns of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tracing::{debug, info};

use super::{Job, SessionActor};
use crate::domain::{SpaceId, Timestamp};
use crate::event_log::LoggedEvent;
use crate::upstream::{ReceivedMessage, RestError, SpaceInfo, TopicType};

/// Spaces that are looked up at a time, and messages of one of them that wait for it. Beyond that, messages do not wait.
const MAX_LOOK_UPS: usize = 32;
const MAX_WAITING: usize = 64;

/// Spaces remembered that could not be looked up.
const MAX_UNKNOWN: usize = 256;

/// How often a space is asked for, and the wait between.
const TRIES: u32 = 3;
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Messages of spaces of which it is not known yet whether they are direct.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    waiting: BTreeMap<SpaceId, Vec<(Box<RawValue>, Timestamp)>>,
    unknown: BTreeSet<SpaceId>,
}

impl LookUps {
    /// Whether a message has to wait until it is known what kind of space it is from, which is so only if someone wants direct ones.
    fn takes(&self, space: &SpaceId) -> bool {
        match self.waiting.get(space) {
            Some(waiting) => waiting.len() < MAX_WAITING,
            None => self.waiting.len() < MAX_LOOK_UPS && !self.unknown.contains(space),
        }
    }
}

impl SessionActor {
    /// Lets a message wait if it is of a space that nobody knows and does not say of what kind that is. `false` if it need not.
    pub(super) fn look_up_first(&mut self, message: &ReceivedMessage<'_>, raw: &RawValue, received_at: Timestamp) -> bool {
        if !self.interest.direct || message.topic_type.is_some() {
            return false;
        }
        let Some(space) = message.topic_id.as_deref().and_then(|id| id.parse::<SpaceId>().ok()) else { return false };
        let is_known = self.channels.has(&space) || self.listed.iter().any(|listed| listed.id == space);
        if is_known || !self.look_ups.takes(&space) {
            return false;
        }
        let message = (raw.to_owned(), received_at);
        if let Some(waiting) = self.look_ups.waiting.get_mut(&space) {
            waiting.push(message);
            return true;
        }
        self.look_ups.waiting.insert(space.clone(), vec![message]);
        let (shared, credential) = (Arc::clone(&self.shared), self.credential.clone());
        self.jobs.push(Box::pin(async move {
            let mut kind = shared.rest.space_kind(&credential, &space).await;
            for _ in 1..TRIES {
                match &kind {
                    Err(error) if !error.is_final() => {
                        tokio::time::sleep(error.retry_after().unwrap_or_default().max(TRY_AGAIN)).await;
                        kind = shared.rest.space_kind(&credential, &space).await;
                    }
                    _ => break,
                }
            }
            Job::LookedUp(space, kind)
        }));
        true
    }

    pub(super) fn on_looked_up(&mut self, space: SpaceId, kind: Result<Option<TopicType>, RestError>) {
        let waiting = self.look_ups.waiting.remove(&space).unwrap_or_default();
        match kind {
            Ok(kind) => {
                if !self.listed.iter().any(|listed| listed.id == space) {
                    self.listed.push(SpaceInfo { id: space, title: None, kind });
                }
            }
            Err(error) => {
                debug!(error = &error as &dyn std::error::Error, "it is not known what kind of space `{space}` is");
                if self.look_ups.unknown.len() >= MAX_UNKNOWN {
                    self.look_ups.unknown.clear();
                }
                self.look_ups.unknown.insert(space);
            }
        }
        for (raw, received_at) in waiting {
            self.take_message(&raw, received_at);
        }
    }

    /// Lets everything go that waits, as it is.
    pub(super) fn end_look_ups(&mut self) {
        let waiting = std::mem::take(&mut self.look_ups.waiting);
        self.look_ups.unknown.extend(waiting.keys().cloned());
        for (raw, received_at) in waiting.into_values().flatten() {
            self.take_message(&raw, received_at);
        }
    }

    /// A message of a direct space that was not listened to: from now on it is.
    pub(super) fn notice_direct(&mut self, event: &LoggedEvent) {
        if !event.direct || !self.interest.direct || self.channels.has(&event.space) {
            return;
        }
        info!(space.id = %event.space, "someone opened the direct space `{}`", event.space);
        match self.listed.iter_mut().find(|listed| listed.id == event.space) {
            Some(listed) => listed.kind = Some(TopicType::Direct),
            None => self.listed.push(SpaceInfo { id: event.space.clone(), title: None, kind: Some(TopicType::Direct) }),
        }
        // What comes after this message belongs to it, also if the connection is lost before the subscription stands.
        let since = event.occurred_at.min(self.shared.clock.now());
        let is_connected = self.link.is_online();
        self.recovery.marks_mut().start(&event.space, since, is_connected);
        self.want_spaces();
    }
}
