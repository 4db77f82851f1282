//! Named consumers: how far someone who pulls events has come, kept in the store, so that the next run goes on where the last one
//! was done.
//!
//! A consumer moves forward only, and on a condition: of two runs that read from the same place, one acknowledges and the other is
//! told that it was overtaken.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::{AccountId, Clock, Timestamp};
use crate::event_log::START;
use crate::store::{Cursor, DocKind, DocList, DocWrite, Document, Engine, Expected, PutOutcome, StoreError};

/// Most consumers of one account.
pub const MAX_CONSUMERS: usize = 100;

/// Longest name, in characters.
const MAX_NAME: usize = 64;

/// Tries of a change that others overtake; each failed one means that another succeeded.
const TRIES: usize = 16;

/// The name that a consumer's owner gave it: up to 64 letters, digits, hyphens and underscores.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConsumerName(String);

/// A text that is no consumer's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a consumer's name has 1 to 64 letters, digits, hyphens and underscores")]
pub struct InvalidName;

impl ConsumerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConsumerName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if is_plain && (1..=MAX_NAME).contains(&text.len()) { Ok(Self(text.to_owned())) } else { Err(InvalidName) }
    }
}

impl TryFrom<String> for ConsumerName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ConsumerName> for String {
    fn from(name: ConsumerName) -> Self {
        name.0
    }
}

impl fmt::Debug for ConsumerName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: ConsumerName,
    /// How far it has come: everything up to here is done.
    pub cursor: Cursor,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last moved.
    pub updated_at: Timestamp,
}

/// How far someone has come, and from where.
#[derive(Debug, Clone, Copy, Default)]
pub struct Acknowledgement {
    /// Everything up to here is done; where it stands if this is `None`.
    pub to: Option<Cursor>,
    /// Where it must stand for this to count.
    pub from: Option<Cursor>,
}

/// What an acknowledgement did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acknowledged {
    /// The consumer is new.
    Created(Consumer),
    /// It moved, or stands there already.
    Known(Consumer),
}

/// Why a consumer could not be found or moved.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// There is no such consumer.
    #[error("there is no such consumer")]
    NotFound,
    /// It stands elsewhere by now.
    #[error("the consumer stands elsewhere by now")]
    Stale {
        /// Where.
        stands: Cursor,
    },
    /// The account has as many consumers as it may have.
    #[error("the account has {MAX_CONSUMERS} consumers, which is the most it may have")]
    TooMany,
    /// Others moved the consumer again and again in the meantime.
    #[error("the consumer is being moved by others")]
    Contended,
    /// The store failed; nothing was changed.
    #[error("failed to store the consumer")]
    Store(#[from] StoreError),
}

/// A consumer as the store keeps it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredConsumer {
    cursor: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// All consumers.
pub struct ConsumerRegistry {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    /// Held from counting an account's consumers until the new one is among them.
    creating: tokio::sync::Mutex<()>,
}

impl fmt::Debug for ConsumerRegistry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ConsumerRegistry").finish_non_exhaustive()
    }
}

impl ConsumerRegistry {
    /// The consumers in `engine`.
    pub fn new(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>) -> Self {
        Self { engine, clock, creating: tokio::sync::Mutex::new(()) }
    }

    /// The consumer of this name.
    pub async fn get(&self, account: &AccountId, name: &ConsumerName) -> Result<Consumer, ConsumerError> {
        self.find(account, name).await?.map(|(consumer, _)| consumer).ok_or(ConsumerError::NotFound)
    }

    /// Up to `limit` consumers of the account after the one named `after`, in the order of their names.
    pub async fn list(&self, account: &AccountId, after: Option<&str>, limit: usize) -> Result<Vec<Consumer>, ConsumerError> {
        let after = Some(format!("{account}/{}", after.unwrap_or_default()));
        let list = DocList { kind: DocKind::Consumer, account: Some(account.clone()), after, limit };
        let documents = self.engine.doc_list(list).await?;
        documents.iter().map(|document| Ok(read(document)?)).collect()
    }

    /// Moves the consumer forward, or creates it where it is to stand.
    pub async fn acknowledge(
        &self,
        account: &AccountId,
        name: &ConsumerName,
        done: Acknowledgement,
    ) -> Result<Acknowledged, ConsumerError> {
        for _ in 0..TRIES {
            let Some((known, version)) = self.find(account, name).await? else {
                if done.from.is_some() {
                    return Err(ConsumerError::NotFound);
                }
                match self.create(account, name, done.to.unwrap_or(START)).await? {
                    Some(consumer) => return Ok(Acknowledged::Created(consumer)),
                    None => continue,
                }
            };
            let to = done.to.unwrap_or(known.cursor);
            if to < known.cursor || done.from.is_some_and(|from| from != known.cursor) {
                return Err(ConsumerError::Stale { stands: known.cursor });
            }
            if to == known.cursor {
                return Ok(Acknowledged::Known(known));
            }
            let moved = Consumer { cursor: to, updated_at: self.clock.now(), ..known };
            if self.put(account, &moved, Expected::Version(version)).await? {
                return Ok(Acknowledged::Known(moved));
            }
        }
        Err(ConsumerError::Contended)
    }

    /// Removes a consumer.
    pub async fn delete(&self, account: &AccountId, name: &ConsumerName) -> Result<(), ConsumerError> {
        let (known, version) = self.find(account, name).await?.ok_or(ConsumerError::NotFound)?;
        let write = DocWrite { body: None, ..write(account, &known, Expected::Version(version)) };
        match self.engine.doc_put(vec![write]).await? {
            PutOutcome::Stored(_) => Ok(()),
            PutOutcome::Conflict(_) => Err(ConsumerError::Contended),
        }
    }

    /// `None` if someone else was quicker.
    async fn create(&self, account: &AccountId, name: &ConsumerName, cursor: Cursor) -> Result<Option<Consumer>, ConsumerError> {
        let _creating = self.creating.lock().await;
        if self.list(account, None, MAX_CONSUMERS).await?.len() >= MAX_CONSUMERS {
            return Err(ConsumerError::TooMany);
        }
        let now = self.clock.now();
        let consumer = Consumer { name: name.clone(), cursor, created_at: now, updated_at: now };
        Ok(self.put(account, &consumer, Expected::Absent).await?.then_some(consumer))
    }

    async fn find(
        &self,
        account: &AccountId,
        name: &ConsumerName,
    ) -> Result<Option<(Consumer, crate::store::Version)>, StoreError> {
        let found = self.engine.doc_get(DocKind::Consumer, &document_id(account, name)).await?;
        found.map(|document| Ok((read(&document)?, document.version))).transpose()
    }

    async fn put(&self, account: &AccountId, consumer: &Consumer, expected: Expected) -> Result<bool, StoreError> {
        let outcome = self.engine.doc_put(vec![write(account, consumer, expected)]).await?;
        Ok(matches!(outcome, PutOutcome::Stored(_)))
    }
}

/// No id contains a slash.
fn document_id(account: &AccountId, name: &ConsumerName) -> String {
    format!("{account}/{}", name.as_str())
}

fn read(document: &Document) -> Result<Consumer, StoreError> {
    let failed = |source: crate::store::BoxError| StoreError::Failed { operation: "read a consumer", source };
    let name = document.id.split_once('/').map_or("", |(_, name)| name);
    let name = name.parse().map_err(|error: InvalidName| failed(error.into()))?;
    let stored: StoredConsumer = serde_json::from_slice(&document.body).map_err(|error| failed(error.into()))?;
    Ok(Consumer { name, cursor: Cursor(stored.cursor), created_at: stored.created_at, updated_at: stored.updated_at })
}

fn write(account: &AccountId, consumer: &Consumer, expected: Expected) -> DocWrite {
    let stored = StoredConsumer { cursor: consumer.cursor.0, created_at: consumer.created_at, updated_at: consumer.updated_at };
    DocWrite {
        kind: DocKind::Consumer,
        id: document_id(account, &consumer.name),
        account: Some(account.clone()),
        body: Some(serde_json::to_vec(&stored).expect("a record of numbers serialises").into()),
        expected,
        expires_at: None,
        flow: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SystemClock;
    use crate::store::MemoryStore;

    fn registry() -> (ConsumerRegistry, AccountId, ConsumerName) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let registry = ConsumerRegistry::new(Arc::new(MemoryStore::new(Arc::clone(&clock))), clock);
        (registry, "acc_1".parse().expect("an id"), "nightly".parse().expect("a name"))
    }

    fn to(cursor: i64) -> Acknowledgement {
        Acknowledgement { to: Some(Cursor(cursor)), from: None }
    }

    fn from_to(from: i64, to: i64) -> Acknowledgement {
        Acknowledgement { to: Some(Cursor(to)), from: Some(Cursor(from)) }
    }

    #[tokio::test]
    async fn a_consumer_moves_forward_only() {
        let (consumers, account, name) = registry();
        assert!(matches!(consumers.get(&account, &name).await, Err(ConsumerError::NotFound)));
        let created = consumers.acknowledge(&account, &name, Acknowledgement::default()).await.expect("created");
        assert!(matches!(created, Acknowledged::Created(consumer) if consumer.cursor == START));
        for (done, expected) in [(to(7), 7), (to(7), 7), (Acknowledgement::default(), 7), (from_to(7, 9), 9)] {
            let done = consumers.acknowledge(&account, &name, done).await.expect("acknowledged");
            assert!(matches!(done, Acknowledged::Known(consumer) if consumer.cursor == Cursor(expected)));
        }
        for stale in [to(8), from_to(7, 10), from_to(7, 9)] {
            let refused = consumers.acknowledge(&account, &name, stale).await;
            assert!(matches!(refused, Err(ConsumerError::Stale { stands: Cursor(9) })), "{refused:?}");
        }
        consumers.delete(&account, &name).await.expect("deleted");
        let gone = consumers.acknowledge(&account, &name, from_to(9, 10)).await;
        assert!(matches!(gone, Err(ConsumerError::NotFound)), "{gone:?}");
    }

    #[tokio::test]
    async fn of_runs_that_read_the_same_one_wins() {
        let (consumers, account, name) = registry();
        consumers.acknowledge(&account, &name, to(1)).await.expect("created");
        let run = || consumers.acknowledge(&account, &name, from_to(1, 5));
        let (one, two, three) = tokio::join!(run(), run(), run());
        let won = [one, two, three].iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1);
    }

    #[tokio::test]
    async fn accounts_do_not_see_each_others_consumers() {
        let (consumers, account, name) = registry();
        let other = "acc_10".parse().expect("an id");
        consumers.acknowledge(&account, &name, to(1)).await.expect("created");
        assert!(consumers.list(&other, None, 10).await.expect("listed").is_empty());
        assert!(matches!(consumers.delete(&other, &name).await, Err(ConsumerError::NotFound)));
        assert_eq!(consumers.list(&account, None, 10).await.expect("listed").len(), 1);
        assert!(consumers.list(&account, Some("nightly"), 10).await.expect("listed").is_empty());
    }

    #[tokio::test]
    async fn an_account_has_so_many_and_no_more() {
        let (consumers, account, name) = registry();
        for number in 0..MAX_CONSUMERS {
            let name = format!("c{number}").parse().expect("a name");
            consumers.acknowledge(&account, &name, to(1)).await.expect("created");
        }
        assert!(matches!(consumers.acknowledge(&account, &name, to(1)).await, Err(ConsumerError::TooMany)));
    }

    #[test]
    fn odd_names_are_refused() {
        for name in ["", "a/b", "a b", "..", "ä", &"a".repeat(65)] {
            assert!(name.parse::<ConsumerName>().is_err(), "{name:?} was accepted");
        }
    }
}
