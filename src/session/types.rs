//! What callers hand to a session and get back.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::gaps::RecoveryStatus;
use super::handle::NOT_CONNECTED_RETRY;
use crate::domain::{AccountId, Credential, MessageRef, SessionId, SessionState, SpaceId, Timestamp, TokenKind, TokenLife};
use crate::governor::{Allowance, Governor};
use crate::upstream::{CHAT_CATEGORY, LOOPBACK_BRIDGE, Loopback, OutgoingContent, OutgoingPayload, Parent};

/// Who a session acts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The account.
    pub account: AccountId,
    /// The upstream's id of the user; `None` while the session stands for a user who is not known.
    pub user_id: Option<String>,
    /// The user's display name, if known.
    pub display_name: Option<String>,
}

/// A message ready for the upstream.
#[derive(Debug, Clone)]
pub struct OutgoingMessage {
    /// Its reference, which comes back with the echo.
    pub reference: MessageRef,
    /// Where it goes.
    pub space: SpaceId,
    /// The upstream's category: `chat`, `idea` or `task`.
    pub category: String,
    /// The whole argument of `SEND_MESSAGE` as JSON, `loopbackMetadata` included.
    pub payload: Box<str>,
    /// The text as a reader sees it, to recognise an echo that lost its `loopbackMetadata`.
    pub plain_text: String,
    /// Whether someone waits for it.
    pub class: SendClass,
}

/// How urgent a send is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SendClass {
    /// Someone waits for it.
    #[default]
    Interactive,
    /// It may take its time, and leaves a part of the emit budget to those that may not.
    Bulk,
}

impl OutgoingMessage {
    /// A chat message, or a comment on `reply_to`, that says `html`, which reads as the text beside it.
    pub fn chat(
        reference: MessageRef,
        space: SpaceId,
        (html, plain_text): (&str, String),
        reply_to: Option<&str>,
        data: &[Box<RawValue>],
    ) -> Self {
        let payload = OutgoingPayload {
            category: CHAT_CATEGORY,
            topic_id: &space,
            content: OutgoingContent {
                body_text: Cow::Borrowed(html),
                description: None,
                data,
                assignees: None,
                due_date: None,
                status: None,
            },
            parent_msg: reply_to.map(|id| Parent { id }),
            chat_messages: None,
            mentions: &[],
            version: None,
            loopback_metadata: Loopback { bridge: LOOPBACK_BRIDGE, reference: &reference },
        };
        let payload = serde_json::to_string(&payload).expect("a message of texts serialises").into_boxed_str();
        Self { reference, space, category: CHAT_CATEGORY.to_owned(), payload, plain_text, class: SendClass::default() }
    }
}

impl OutgoingMessage {
    /// The same message under another reference.
    #[must_use]
    pub fn renamed(mut self, reference: MessageRef) -> Self {
        // The old one was made for this message and stands in it once.
        self.payload = self.payload.replace(self.reference.as_str(), reference.as_str()).into_boxed_str();
        self.reference = reference;
        self
    }
}

/// How a send ended that did not fail.
#[derive(Debug)]
pub enum SendOutcome {
    /// Spaces stored the message and said so.
    Confirmed(Confirmed),
    /// It was emitted and nothing is known of it (yet).
    Unconfirmed(Unconfirmed),
}

/// The proof that Spaces has a message.
#[derive(Debug, Clone)]
pub struct Confirmed {
    /// The id that Spaces gave it.
    pub id: String,
    /// When Spaces says it was created.
    pub created_at: Option<Timestamp>,
    /// The message as Spaces sent it back.
    pub message: Box<RawValue>,
}

/// Why nothing is known of a message that was emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unconfirmed {
    /// The time to wait ended before the echo came; the session goes on looking for it.
    WaitEnded,
    /// The connection ended before the echo came.
    ConnectionLost,
}

impl Unconfirmed {
    /// The same in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WaitEnded => "the time to wait ended before Spaces confirmed the message",
            Self::ConnectionLost => "the connection to Spaces ended before Spaces confirmed the message",
        }
    }
}

/// What is said of a space whose subscription Spaces did not answer at all.
pub const NO_ANSWER: &str = "no answer in time";

/// Why a session could not do what it was asked. Nothing was sent, except where a variant says otherwise.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SessionError {
    /// Spaces refused the token.
    #[error("Spaces refused the token")]
    AuthFailed {
        /// The upstream's word, without the token.
        detail: String,
    },
    /// There is no connection, and none was made in time.
    #[error("the session is not connected to Spaces")]
    NotConnected {
        /// When to try again.
        retry_after: Duration,
        /// What stands in the way.
        detail: String,
    },
    /// The session's queue or the process's room for sessions is full.
    #[error("the session has too much to do")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The emit budget of the user is used up.
    #[error("the emit budget of this Spaces user is used up")]
    RateLimited {
        /// When the budget allows more.
        retry_after: Duration,
        /// How the budget stands.
        allowance: Allowance,
    },
    /// The message is larger than the upstream takes in one event.
    #[error("the message takes {size} bytes, and Spaces takes {limit} at most")]
    TooLarge {
        /// Bytes of the event.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Spaces refused the subscription to the space.
    #[error("Spaces refused the space")]
    SpaceRefused {
        /// The upstream's error code, if it gave one.
        code: Option<String>,
        /// The upstream's words, if it gave any.
        message: Option<String>,
    },
    /// Spaces refused the message. It was emitted and is not stored.
    #[error("Spaces refused the message")]
    MessageRefused {
        /// The upstream's error code, if it gave one.
        code: Option<String>,
        /// The upstream's words, if it gave any.
        message: Option<String>,
    },
    /// The session is closed or closing.
    #[error("the session is closed")]
    Closed,
    /// The store failed; the cause is in the log.
    #[error("the store failed")]
    Store,
}

/// What a session looks like from outside.
#[derive(Debug, Clone)]
pub struct SessionStatus {
    /// The session's id.
    pub id: SessionId,
    /// The kind of its token.
    pub token_kind: TokenKind,
    /// Who it acts for, once known.
    pub identity: Option<Identity>,
    /// Where it stands.
    pub state: SessionState,
    /// Why it stands there, in words, without secrets.
    pub reason: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// Connections made after the first.
    pub reconnects: u64,
    /// When the last event came from the upstream.
    pub last_event_at: Option<Timestamp>,
    /// Since when events wait because the store refuses them.
    pub store_failing_since: Option<Timestamp>,
    /// Whether the session's token is stored, so that it comes back after a restart.
    pub durable: bool,
    /// The spaces it listens to.
    pub channels: Vec<SpaceChannel>,
    /// When its token ends, if the token says so.
    pub token_expires_at: Option<Timestamp>,
    /// Set while Spaces lets the user have no further connection: when another attempt is made.
    pub limited_until: Option<Instant>,
    /// How it closes the gaps that lost connections have left.
    pub recovery: RecoveryStatus,
    /// When Spaces was last asked for a sign of life.
    pub last_probe_at: Option<Timestamp>,
    /// Whether the last such question that has ended was answered.
    pub last_probe_ok: Option<bool>,
    /// What Spaces allows its user, and what is left of it.
    pub governor: Arc<Governor>,
}

impl SessionStatus {
    /// The status of a session that is opened `now` and has nothing yet.
    pub(super) fn new(id: SessionId, credential: &Credential, now: Timestamp, governor: Arc<Governor>) -> Self {
        Self {
            id,
            token_kind: credential.kind,
            identity: None,
            state: SessionState::Connecting,
            reason: None,
            since: now,
            opened_at: now,
            reconnects: 0,
            last_event_at: None,
            store_failing_since: None,
            durable: false,
            channels: Vec::new(),
            token_expires_at: TokenLife::read(credential).expires_at,
            limited_until: None,
            recovery: RecoveryStatus::default(),
            last_probe_at: None,
            last_probe_ok: None,
            governor,
        }
    }

    /// When it makes sense to ask for the connection again.
    pub(super) fn reconnect_after(&self) -> Duration {
        let limited = self.limited_until.map(|until| until.saturating_duration_since(Instant::now()));
        limited.unwrap_or_default().max(NOT_CONNECTED_RETRY)
    }
}

/// A space that a session listens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceChannel {
    /// The space.
    pub space: SpaceId,
    /// How far the subscription is.
    pub state: ChannelState,
}

/// How far a subscription is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelState {
    /// Asked for, or waiting to be.
    Pending,
    /// Spaces confirmed it.
    Subscribed,
    /// Spaces refused it.
    Refused {
        /// The upstream's words.
        detail: String,
    },
}

impl ChannelState {
    /// The state's name in the API.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Subscribed => "subscribed",
            Self::Refused { .. } => "refused",
        }
    }
}
