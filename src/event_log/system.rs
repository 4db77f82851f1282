//! What the bridge itself tells an account: events that do not come from Spaces.
//!
//! They take the way of all events: into the log, and to the webhooks that want their type, whatever spaces those want. A session
//! appends its own under its own fence; everyone else uses [`EventLog::append_system`], which writes under a session name that
//! belongs to the process.

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use super::{EventLog, LoggedEvent, with_targets};
use crate::domain::{
    AccountId, Envelope, EventId, EventType, HookId, MessageRef, SessionId, SpaceId, Timestamp, WebhookId, WebhookStatus,
};
use crate::store::{Engine, Fence, Incarnation, Lane, NewEvent, StoreError, Target, Wanted};

/// Session names that processes take to write under, one each; more than there are ever processes on one store.
const NAMES: u32 = 256;

/// Something that the bridge has to tell an account. Each variant is one event type and says what its data are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum SystemEvent {
    /// `session.connected`.
    SessionConnected {
        /// The session.
        session_id: SessionId,
        /// Connections lost since the last event of this session.
        lost_connections: u32,
    },
    /// `session.disconnected`.
    SessionDisconnected {
        /// The session.
        session_id: SessionId,
        /// Why, in one word: `connection_lost`, `idle`, `requested` or `shutdown`.
        cause: &'static str,
        /// What broke the connection, if it broke.
        reason: Option<String>,
        /// Connections lost since the last event of this session.
        lost_connections: u32,
    },
    /// `session.auth_failed`.
    SessionAuthFailed {
        /// The session.
        session_id: SessionId,
        /// What Spaces said, without the token.
        reason: String,
    },
    /// `session.degraded`.
    SessionDegraded {
        /// The session.
        session_id: SessionId,
        /// What showed it: `probe_unanswered` or `events_missing`.
        reason: &'static str,
        /// The space whose messages did not come, if that showed it.
        space_id: Option<SpaceId>,
        /// When the session last heard something of its spaces.
        since: Timestamp,
    },
    /// `session.gap`.
    SessionGap {
        /// The session.
        session_id: SessionId,
        /// The space.
        space_id: SpaceId,
        /// From when on something may be missing.
        from: Timestamp,
        /// Until when, if it has ended.
        to: Option<Timestamp>,
        /// Why the history does not close it, in one word.
        reason: &'static str,
    },
    /// `send.failed`.
    SendFailed {
        /// The send.
        #[serde(rename = "ref")]
        reference: MessageRef,
        /// Where it was to go.
        space_id: SpaceId,
        /// What it was: `chat`, `post` or `task`.
        category: String,
        /// The code that Spaces gave.
        code: Option<String>,
        /// The words that Spaces gave.
        message: Option<String>,
    },
    /// `hook.failed`.
    HookFailed {
        /// The incoming hook.
        hook_id: HookId,
        /// What went wrong, in one word.
        reason: &'static str,
        /// What went wrong, in words.
        detail: String,
        /// The message that was sent all the same.
        #[serde(rename = "ref")]
        reference: Option<MessageRef>,
        /// In which hour; each kind of failure is told once in it.
        #[serde(skip)]
        hour: i64,
    },
    /// `webhook.disabled`.
    WebhookDisabled {
        /// The webhook.
        webhook_id: WebhookId,
        /// Why, in one word.
        reason: &'static str,
        /// Since when all attempts failed, if that is why.
        failing_since: Option<Timestamp>,
        /// Since when its deliveries flowed; each such time ends once.
        #[serde(skip)]
        opened_at: Timestamp,
    },
    /// `webhook.test`.
    WebhookTest {
        /// The webhook to be tried.
        webhook_id: WebhookId,
    },
}

/// Why an event of the bridge itself was not appended.
#[derive(Debug, thiserror::Error)]
pub enum SystemEventError {
    /// The process may not write: it is no member of the store any more.
    #[error("this process may not write to the store any more")]
    Fenced,
    /// The store failed; nothing was written.
    #[error("failed to append an event")]
    Store(#[from] StoreError),
}

/// Why no test delivery was made.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// There is no such webhook.
    #[error("there is no such webhook")]
    NotFound,
    /// The webhook is switched off.
    #[error("the webhook is not enabled")]
    Disabled(WebhookStatus),
    /// The event was not appended.
    #[error(transparent)]
    NotAppended(#[from] SystemEventError),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    event_id: &'a EventId,
    account: &'a AccountId,
    #[serde(flatten)]
    facts: &'a SystemEvent,
}

impl SystemEvent {
    /// The event's type.
    pub fn event_type(&self) -> EventType {
        match self {
            Self::SessionConnected { .. } => EventType::SESSION_CONNECTED,
            Self::SessionDisconnected { .. } => EventType::SESSION_DISCONNECTED,
            Self::SessionAuthFailed { .. } => EventType::SESSION_AUTH_FAILED,
            Self::SessionDegraded { .. } => EventType::SESSION_DEGRADED,
            Self::SessionGap { .. } => EventType::SESSION_GAP,
            Self::SendFailed { .. } => EventType::SEND_FAILED,
            Self::HookFailed { .. } => EventType::HOOK_FAILED,
            Self::WebhookDisabled { .. } => EventType::WEBHOOK_DISABLED,
            Self::WebhookTest { .. } => EventType::WEBHOOK_TEST,
        }
    }

    /// The event as it goes into the log of `account`.
    pub fn happened(&self, account: AccountId, at: Timestamp) -> LoggedEvent {
        self.happened_as(self.id(&account), account, at)
    }

    fn happened_as(&self, id: EventId, account: AccountId, at: Timestamp) -> LoggedEvent {
        let event_type = self.event_type();
        let envelope =
            Envelope { event_type: &event_type, timestamp: at, data: Data { event_id: &id, account: &account, facts: self } };
        let body = envelope.to_body();
        LoggedEvent { id, account, space: SpaceId::nowhere(), direct: false, own: false, event_type, occurred_at: at, body }
    }

    /// Derived from what happened where it happens once, so that telling it twice is telling it once.
    fn id(&self, account: &AccountId) -> EventId {
        match self {
            Self::SendFailed { reference, .. } => derived_id(account, &self.event_type(), &[reference.as_str()]),
            Self::HookFailed { hook_id, reason, hour, .. } => {
                derived_id(account, &self.event_type(), &[hook_id.as_str(), reason, &hour.to_string()])
            }
            Self::WebhookDisabled { webhook_id, reason, opened_at, .. } => {
                derived_id(account, &self.event_type(), &[webhook_id.as_str(), reason, &opened_at.as_millis().to_string()])
            }
            Self::SessionGap { space_id, from, reason, .. } => {
                derived_id(account, &self.event_type(), &[space_id.as_str(), reason, &from.as_millis().to_string()])
            }
            Self::SessionConnected { .. }
            | Self::SessionDisconnected { .. }
            | Self::SessionAuthFailed { .. }
            | Self::SessionDegraded { .. }
            | Self::WebhookTest { .. } => EventId::random(),
        }
    }
}

fn derived_id(account: &AccountId, event_type: &EventType, identity: &[&str]) -> EventId {
    let mut hash = Sha256::new();
    for part in [account.as_str(), event_type.as_str()].iter().chain(identity) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    EventId::from_digest(*digest.first_chunk().expect("SHA-256 gives 32 bytes"))
}

/// The right of this process to write what no session tells: the ownership of a session name that no token has. It is fenced as
/// every other, and ends with the process's membership.
pub(super) struct Right {
    incarnation: Incarnation,
    fence: Mutex<Option<Fence>>,
}

impl Right {
    pub(super) fn of(incarnation: Incarnation) -> Self {
        Self { incarnation, fence: Mutex::new(None) }
    }

    /// The fence, taken from the store at the first call.
    async fn fence(&self, engine: &dyn Engine) -> Result<Option<Fence>, StoreError> {
        let mut fence = self.fence.lock().await;
        if fence.is_none() {
            *fence = self.take(engine).await?;
        }
        Ok(fence.clone())
    }

    /// Takes the first name that no other live process has.
    async fn take(&self, engine: &dyn Engine) -> Result<Option<Fence>, StoreError> {
        let incarnation = self.incarnation;
        for number in 1..=NAMES {
            let name: SessionId = format!("{}bridge_{number}", SessionId::PREFIX).parse().expect("a valid id");
            let taken = engine.acquire(incarnation, Wanted::Session(name.clone())).await?;
            if let Some(ownership) = taken.into_iter().next() {
                return Ok(Some(Fence { incarnation, ownership }));
            }
            if engine.owner(&name).await?.is_none_or(|owner| !owner.live) {
                // Nobody has it and still we do not get it: we are no member any more.
                return Ok(None);
            }
        }
        Ok(None)
    }

    async fn forget(&self, lost: &Fence) {
        let mut fence = self.fence.lock().await;
        if fence.as_ref() == Some(lost) {
            *fence = None;
        }
    }
}

impl EventLog {
    /// Appends an event of the bridge itself, for whoever has no session's fence at hand. Answers its id.
    pub async fn append_system(&self, account: &AccountId, event: &SystemEvent) -> Result<EventId, SystemEventError> {
        let event = event.happened(account.clone(), self.clock.now());
        let id = event.id.clone();
        let targets = self.targets(&event).await?;
        self.write_as_bridge(with_targets(event, targets)).await?;
        Ok(id)
    }

    /// Appends a `webhook.test` event that goes to the webhook `id` alone, on the way that every event takes. Answers its id. An event of
    /// this id that is in the log already stays the only one.
    pub async fn append_test(&self, id: &WebhookId, event_id: EventId) -> Result<EventId, TestError> {
        let webhook = self.webhooks.get(id).ok_or(TestError::NotFound)?;
        if webhook.status != WebhookStatus::Enabled {
            return Err(TestError::Disabled(webhook.status));
        }
        let test = SystemEvent::WebhookTest { webhook_id: id.clone() };
        let event = test.happened_as(event_id.clone(), webhook.account.clone(), self.clock.now());
        // Not in an ordered lane: a test is to show what the receiver answers now, whatever else waits.
        let target = Target { webhook: id.clone(), lane: Lane::Parallel };
        self.write_as_bridge(with_targets(event, vec![target])).await?;
        Ok(event_id)
    }

    /// Writes under the right of this process.
    async fn write_as_bridge(&self, event: NewEvent) -> Result<(), SystemEventError> {
        // A second try: the membership may have lapsed and been revived, with the name in other hands meanwhile.
        for _ in 0..2 {
            let Some(fence) = self.system.fence(&*self.engine).await? else { return Err(SystemEventError::Fenced) };
            match self.write(fence.clone(), vec![event.clone()]).await? {
                Some(_) => return Ok(()),
                None => self.system.forget(&fence).await,
            }
        }
        Err(SystemEventError::Fenced)
    }
}
