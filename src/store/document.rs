//! Small documents: webhooks, sealed tokens, records of sends. The store does not look inside them.

use std::time::Duration;

use bytes::Bytes;

use crate::domain::{AccountId, Timestamp, WebhookId};

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DocKind {
    /// The service's own keys, wrapped by the master key.
    Keyring,
    /// A session's sealed token; its id is the session's. While it exists the session is one that [`super::Wanted::Stored`] finds.
    Token,
    /// A webhook.
    Webhook,
    /// A space that an account listens to beyond its webhooks.
    Subscription,
    /// The record of a send.
    Send,
    /// The record of a call with an idempotency key.
    Idempotency,
    /// How far a named consumer of events has come.
    Consumer,
    /// The record of an answer that a webhook's receiver gave in words.
    Reply,
    /// An account whose tokens the bridge gets by itself, with its sealed credential.
    Account,
    /// A key that acts for an account, as a hash.
    BridgeKey,
    /// Up to when an account has seen its spaces.
    Watermark,
    /// A message that is to be sent.
    Outbox,
    /// A secret address that posts into a space.
    IncomingHook,
}

impl DocKind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Keyring,
        Self::Token,
        Self::Webhook,
        Self::Subscription,
        Self::Send,
        Self::Idempotency,
        Self::Consumer,
        Self::Reply,
        Self::Account,
        Self::BridgeKey,
        Self::Watermark,
        Self::Outbox,
        Self::IncomingHook,
    ];

    /// The kind's name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keyring => "keyring",
            Self::Token => "token",
            Self::Webhook => "webhook",
            Self::Subscription => "subscription",
            Self::Send => "send",
            Self::Idempotency => "idempotency",
            Self::Consumer => "consumer",
            Self::Reply => "reply",
            Self::Account => "account",
            Self::BridgeKey => "bridge_key",
            Self::Watermark => "watermark",
            Self::Outbox => "outbox",
            Self::IncomingHook => "incoming_hook",
        }
    }
}

/// Counts the writes of a document; 1 for the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub i64);

/// A document as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What it is.
    pub kind: DocKind,
    /// Its id within the kind.
    pub id: String,
    /// Whose it is, if it is someone's.
    pub account: Option<AccountId>,
    /// Its content.
    pub body: Bytes,
    /// Its version.
    pub version: Version,
    /// When it goes by itself.
    pub expires_at: Option<Timestamp>,
}

/// A write of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocWrite {
    /// What it is.
    pub kind: DocKind,
    /// Its id within the kind.
    pub id: String,
    /// Whose it is, if it is someone's.
    pub account: Option<AccountId>,
    /// The new content; `None` deletes.
    pub body: Option<Bytes>,
    /// What must hold beforehand.
    pub expected: Expected,
    /// When it goes by itself.
    pub expires_at: Option<Timestamp>,
    /// For a webhook: what becomes of the flow of its deliveries, in the same transaction.
    pub flow: Option<(WebhookId, Flow)>,
}

/// What must hold before a write, the writes before it in the same call included. An expired document counts as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Nothing in particular.
    Any,
    /// There is no such document.
    Absent,
    /// It stands at this version.
    Version(Version),
}

/// The flow of a webhook's deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Deliveries are claimed when due, within limits. A hold and a probing end, and the failures so far are forgotten.
    Open(FlowLimits),
    /// None is claimed; they wait.
    Paused,
    /// The webhook is deleted: waiting ones become dead (`webhook_deleted`), its lanes go.
    Ended,
}

/// How fast a webhook's deliveries are claimed at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowLimits {
    /// As a token bucket; `None` is no limit.
    pub rate: Option<Rate>,
}

/// A token bucket: it holds `count` tokens, a claim takes one, and an empty one is full again after `per`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Most claims at once; 0 counts as 1.
    pub count: u32,
    /// The time in which so many come back.
    pub per: Duration,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// Durable; the new version of each in order (that of a deleted one is its last, 0 if there was none).
    Stored(Vec<Version>),
    /// The expectation of the write with this index did not hold; nothing was written.
    Conflict(usize),
}

/// Which documents to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocList {
    /// Of this kind.
    pub kind: DocKind,
    /// Of this account only.
    pub account: Option<AccountId>,
    /// Ids after this one.
    pub after: Option<String>,
    /// Most documents.
    pub limit: usize,
}
