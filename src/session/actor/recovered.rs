//! Messages of the history: they go into the log, and settle sends whose echo never came.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::warn;

use super::SessionActor;
use crate::domain::{AccountId, SpaceId, Timestamp};
use crate::event_log::LoggedEvent;
use crate::session::inbox::Entry;
use crate::session::pending::Trace;
use crate::session::shared::Shared;
use crate::upstream::{Circumstances, ReceivedMessage, is_change, normalise};

/// How old a message of the history may be that another session of the account is about to hear of.
const OF_LATE: Duration = Duration::from_mins(1);

/// Ids of messages of the session's user that are remembered.
const OWN_IDS: usize = 512;

impl SessionActor {
    /// A message of the history: goes into the log, and settles a send whose echo never came.
    pub(super) fn take_recovered(&mut self, space: &SpaceId, from: Timestamp, raw: &RawValue) {
        let Ok(mut message) = serde_json::from_str::<ReceivedMessage<'_>>(raw.get()) else { return self.unreadable() };
        let topic_id = message.topic_id.get_or_insert(Cow::Borrowed(space.as_str()));
        if *topic_id != space.as_str() {
            return self.unreadable();
        }
        if let Some(id) = message.id.as_deref() {
            self.liveness.saw(id, self.shared.clock.now());
        }
        let time = message.modified.as_deref().or(message.created.as_deref()).and_then(Timestamp::parse);
        if time.is_some_and(|time| time < from) {
            return;
        }
        let Some(account) = self.account() else { return };
        let was_sent = |id: &str| !is_change(&message) && self.shared.sends.was_sent(&account, id);
        let is_on_record = message.id.as_deref().is_some_and(was_sent);
        let own = self.settle_recovered(&message, raw) || is_on_record || self.is_known_own(&account, &message);
        let (direct, received_at) = (self.is_direct(space.as_str()), self.shared.clock.now());
        let circumstances = Circumstances { account: &account, own, recovered: true, direct, received_at };
        let Ok(event) = normalise(&message, raw, circumstances) else { return self.unreadable() };
        if self.leaves_out(&event.event_type) {
            return;
        }
        // What was heard of the message before it changed goes first, so that who follows the log ends with how it stands.
        if is_change(&message)
            && let Some(id) = message.id.as_deref()
        {
            let is_older = |held: &Entry| {
                held.event.occurred_at <= event.occurred_at && held.event.id != event.id && tells_of(&held.event.body, id)
            };
            while let Some(older) = self.recovery.take_held(space, is_older) {
                self.inbox.push(older);
            }
        }
        // What a connection saw as well is no recovered event; only its place is that in the history.
        if let Some(held) = self.recovery.take_held(space, |held| held.event.id == event.id) {
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
            whole: raw,
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

    /// What is needed to find out which messages of the history the account sent, if that has to be looked up.
    pub(super) fn own_on_record(&self) -> OwnOnRecord {
        let account = self.account().filter(|account| !self.shared.sends.has_recalled(account));
        let user = account.zip(self.user_id.clone());
        OwnOnRecord { shared: Arc::clone(&self.shared), user }
    }
}

/// Whether the body of an event tells of the message with this id.
fn tells_of(body: &[u8], id: &str) -> bool {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        data: Data<'a>,
    }
    #[derive(Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        message: Message<'a>,
    }
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        id: Option<Cow<'a, str>>,
    }
    // Most say nothing of it, which is seen sooner.
    memchr::memmem::find(body, id.as_bytes()).is_some()
        && serde_json::from_slice::<Body<'_>>(body).is_ok_and(|body| body.data.message.id.as_deref() == Some(id))
}

/// Finds out by the record of sends which messages the account sent before this process began.
pub(super) struct OwnOnRecord {
    shared: Arc<Shared>,
    /// The account and its user; `None` if there is nothing to find out.
    user: Option<(AccountId, String)>,
}

impl OwnOnRecord {
    /// Reads the record, once and only if one of the messages is the user's.
    pub(super) async fn recall_for(&self, messages: &[Box<RawValue>]) {
        let Some((account, user)) = &self.user else { return };
        let is_theirs = |raw: &RawValue| {
            let message = serde_json::from_str::<ReceivedMessage<'_>>(raw.get()).ok();
            message.and_then(|message| Some(message.sender?.id? == user.as_str())).unwrap_or_default()
        };
        if messages.iter().any(|raw| is_theirs(raw))
            && let Err(error) = self.shared.sends.recall(account).await
        {
            warn!(error = &error as &dyn std::error::Error, "messages of `{account}` may not be known as its own");
        }
    }
}

/// The last ids of messages that the user wrote, here or elsewhere.
#[derive(Debug, Default)]
pub(super) struct RecentIds {
    order: VecDeque<Arc<str>>,
    known: HashSet<Arc<str>>,
}

impl RecentIds {
    /// Adds an id. `false` if it is known.
    pub(super) fn insert(&mut self, id: &str) -> bool {
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
