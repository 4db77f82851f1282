//! [`Idempotency`]: calls with an idempotency key, done once however often they are made.
//!
//! The first call with a key writes a record before it does anything: what was asked, as a fingerprint, and a random [`Seed`]. Whatever
//! the call makes is named after the seed, so that a call that was cut short (by a crash, or by a failure that goes away) runs again
//! without making anything twice. Once the call has succeeded the record holds its answer, sealed, which later calls get. Of calls at the
//! same time one runs and the others wait for it.

mod key;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tracing::warn;

pub use self::key::{IdempotencyKey, InvalidKey};
use crate::domain::{AccountId, Clock, Sealed, Secret, Seed, Timestamp, hex};
use crate::seal::{Keyring, Purpose};
use crate::store::{DocKind, DocWrite, Document, Engine, Expected, PutOutcome, StoreError, Version};
use crate::turns::{Turn, Turns};

/// Largest answer that is kept, in bytes. A larger one is made again: the call runs again, with its seed.
pub const MAX_ANSWER: usize = 256 << 10;

/// Whose keys. The same key of two scopes is two keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// An account's.
    Account {
        /// The account.
        account: AccountId,
        /// The account that stood in for it before its user was known; its keys are this account's too.
        before: Option<AccountId>,
    },
    /// The operator's.
    Operator,
}

impl Scope {
    /// The names under which a record may lie, the one for new records last.
    fn names(&self) -> impl Iterator<Item = &str> {
        let (before, name) = match self {
            Self::Account { account, before } => {
                (before.as_ref().filter(|before| *before != account).map(AccountId::as_str), account.as_str())
            }
            Self::Operator => (None, "operator"),
        };
        before.into_iter().chain([name])
    }

    fn account(&self) -> Option<&AccountId> {
        match self {
            Self::Account { account, .. } => Some(account),
            Self::Operator => None,
        }
    }
}

/// What a call asks for: of two calls with the same fingerprint the second asks for the same as the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The fingerprint of a call that consists of these parts.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hex(&hash.finalize()))
    }
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers that are part of it.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// How a call with a key goes on.
#[derive(Debug)]
pub enum Begun {
    /// It is to be done now.
    Run(Claim),
    /// It has been done; this was the answer.
    Answered(Answer),
}

/// Why a call with a key is not done.
#[derive(Debug, thiserror::Error)]
pub enum IdempotencyError {
    /// The key came first with another request.
    #[error("this `Idempotency-Key` came with another request before; a new request needs a new key")]
    Reused,
    /// The first call with the key is still being done.
    #[error("the first call with this `Idempotency-Key` is still being done")]
    InProgress,
    /// The store failed; nothing was begun.
    #[error("failed to keep the record of an idempotency key")]
    Store(#[from] StoreError),
}

/// A record as the store keeps it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    fingerprint: Fingerprint,
    seed: Seed,
    begun_at: Timestamp,
    answer: Option<Sealed>,
}

/// The records of calls with keys.
pub struct Idempotency {
    engine: Arc<dyn Engine>,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    /// How long a record is kept.
    kept: Duration,
    turns: Arc<Turns>,
}

impl std::fmt::Debug for Idempotency {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Idempotency").field("kept", &self.kept).finish_non_exhaustive()
    }
}

impl Idempotency {
    /// The records in `engine`, each kept for `kept`.
    pub fn new(engine: Arc<dyn Engine>, keyring: Arc<Keyring>, clock: Arc<dyn Clock>, kept: Duration) -> Self {
        Self { engine, keyring, clock, kept, turns: Arc::default() }
    }

    /// Begins a call, or finds out what became of it. Waits while another call with the key is being done, for `wait` at most.
    ///
    /// The claim is the caller's turn: it ends when the claim is dropped. A claim that is dropped without an answer leaves the record
    /// as it is, and the next call with the key runs with the same seed.
    pub async fn begin(
        &self,
        scope: &Scope,
        key: &IdempotencyKey,
        fingerprint: &Fingerprint,
        wait: Duration,
    ) -> Result<Begun, IdempotencyError> {
        let deadline = Instant::now() + wait;
        let mut turns = Vec::with_capacity(1);
        let mut found = None;
        for name in scope.names() {
            let id = record_id(name, key);
            // Always the older name first, so that two calls never wait for each other.
            turns.push(self.turns.take(id.clone(), deadline).await.ok_or(IdempotencyError::InProgress)?);
            if let Some(document) = self.engine.doc_get(DocKind::Idempotency, &id).await? {
                found = Some(document);
                break;
            }
        }
        let Some(document) = found else {
            let id = record_id(scope.names().last().unwrap_or_default(), key);
            return self.write_first(id, scope, fingerprint, turns).await;
        };
        let record = read(&document)?;
        // Records of versions before the disguise have it as it is.
        if record.fingerprint != self.disguised(fingerprint) && record.fingerprint != *fingerprint {
            return Err(IdempotencyError::Reused);
        }
        if let Some(answer) = record.answer.as_ref().and_then(|sealed| self.open(&document.id, sealed)) {
            return Ok(Begun::Answered(answer));
        }
        Ok(Begun::Run(Claim { document, record, is_repeat: true, _turns: turns }))
    }

    /// Keeps the answer to the call, for those who make it again. One that is too large to be kept is not, and a failure to keep it is
    /// none of the call: it is done, and made again it makes nothing twice.
    pub async fn finish(&self, claim: Claim, answer: &Answer) {
        let text = serde_json::to_string(answer).expect("an answer is texts and numbers");
        if text.len() > MAX_ANSWER {
            return;
        }
        // The turn lasts until the answer is there.
        let Claim { document, mut record, is_repeat: _, _turns } = claim;
        record.answer = Some(self.keyring.seal(Purpose::Answer, &Secret::new(text)));
        let write = DocWrite { expected: Expected::Version(document.version), ..write(&document, &record) };
        match self.engine.doc_put(vec![write]).await {
            Ok(PutOutcome::Stored(_)) => {}
            Ok(PutOutcome::Conflict(_)) => warn!("the record of an idempotency key was gone before its answer could be kept"),
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "the answer to a call with an idempotency key could not be kept; the same call again would run again"
            ),
        }
    }

    /// Forgets a call that turned out not to be possible before it did anything, so that its key is free for the call as it was meant.
    /// What an earlier call with the key began stays.
    pub async fn withdraw(&self, claim: Claim) {
        let Claim { document, record, is_repeat, _turns } = claim;
        if is_repeat {
            return;
        }
        let write = DocWrite { body: None, expected: Expected::Version(document.version), ..write(&document, &record) };
        if let Err(error) = self.engine.doc_put(vec![write]).await {
            warn!(
                error = &error as &dyn std::error::Error,
                "an idempotency key could not be freed; another call with it will be refused"
            );
        }
    }

    async fn write_first(
        &self,
        id: String,
        scope: &Scope,
        fingerprint: &Fingerprint,
        turns: Vec<Turn>,
    ) -> Result<Begun, IdempotencyError> {
        let now = self.clock.now();
        let record = Record { fingerprint: self.disguised(fingerprint), seed: Seed::random(), begun_at: now, answer: None };
        let mut document = Document {
            kind: DocKind::Idempotency,
            id,
            account: scope.account().cloned(),
            body: body(&record),
            version: Version(0),
            expires_at: Some(now.saturating_add(self.kept)),
        };
        match self.engine.doc_put(vec![write(&document, &record)]).await? {
            PutOutcome::Stored(versions) => {
                document.version = versions.first().copied().unwrap_or(Version(1));
                Ok(Begun::Run(Claim { document, record, is_repeat: false, _turns: turns }))
            }
            // Another process was quicker.
            PutOutcome::Conflict(_) => Err(IdempotencyError::InProgress),
        }
    }

    /// What is kept of a fingerprint: requests carry passwords, which could be guessed by a plain hash.
    fn disguised(&self, fingerprint: &Fingerprint) -> Fingerprint {
        Fingerprint(self.keyring.disguise(&fingerprint.0))
    }

    /// An answer that does not open was sealed by keys that are gone; the call runs again, with its seed.
    fn open(&self, id: &str, sealed: &Sealed) -> Option<Answer> {
        let opened = self.keyring.unseal(Purpose::Answer, sealed).ok();
        let answer = opened.and_then(|text| serde_json::from_str(text.expose()).ok());
        if answer.is_none() {
            warn!(record = id, "the answer kept for an idempotency key cannot be read; the call runs again");
        }
        answer
    }
}

/// The right to do a call, and nobody else's while it lasts.
#[derive(Debug)]
pub struct Claim {
    document: Document,
    record: Record,
    is_repeat: bool,
    _turns: Vec<Turn>,
}

impl Claim {
    /// What everything that the call makes is named after.
    pub fn seed(&self) -> &Seed {
        &self.record.seed
    }

    /// Whether the call was begun before and has no answer: it may have been done, or partly.
    pub fn is_repeat(&self) -> bool {
        self.is_repeat
    }
}

/// Keys are their callers' own and may have any letters; their records are named by a hash.
fn record_id(scope: &str, key: &IdempotencyKey) -> String {
    Fingerprint::of(&[scope.as_bytes(), key.as_str().as_bytes()]).0
}

fn read(document: &Document) -> Result<Record, StoreError> {
    serde_json::from_slice(&document.body)
        .map_err(|source| StoreError::Failed { operation: "read the record of an idempotency key", source: source.into() })
}

fn body(record: &Record) -> bytes::Bytes {
    serde_json::to_vec(record).expect("a record of texts serialises").into()
}

fn write(document: &Document, record: &Record) -> DocWrite {
    DocWrite {
        kind: document.kind,
        id: document.id.clone(),
        account: document.account.clone(),
        body: Some(body(record)),
        expected: Expected::Absent,
        expires_at: document.expires_at,
        flow: None,
    }
}

#[cfg(test)]
mod tests;
