//! How watermarks stand in the store: one small document per space, one for the account, one for each wish.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Wish;
use crate::domain::{AccountId, SpaceId, Timestamp};
use crate::store::{DocKind, DocList, DocWrite, Document, Engine, Expected, Result as StoreResult};

/// How long a watermark is kept that nobody writes again.
pub(super) const KEPT: Duration = Duration::from_hours(90 * 24);

/// Documents read and written at a time.
const BATCH: usize = 500;

/// What stands between account and space; no id contains it.
pub(super) const SEPARATOR: char = '/';

/// Marks the id of a wish for history; no id of a space begins with it.
const WISH: char = '+';

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredMark {
    pub(super) floor: i64,
    pub(super) heard: i64,
    #[serde(default)]
    pub(super) by_event: bool,
}

/// What is known of the account as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AccountMark {
    /// Until when a session of the account was connected, as far as that was noted.
    pub(super) online_until: Option<i64>,
    /// When the user's spaces were listed last.
    pub(super) listed_at: Option<i64>,
}

/// What the store knows of an account's watermarks.
#[derive(Debug, Default)]
pub(in crate::session) struct Stored {
    pub(super) spaces: BTreeMap<SpaceId, StoredMark>,
    pub(super) account: AccountMark,
    pub(super) wishes: Vec<(String, Wish)>,
}

#[cfg(test)]
impl Stored {
    /// Adds what was stored of a space, if anything was.
    pub(in crate::session) fn insert(&mut self, space: SpaceId, snapshot: Option<(Timestamp, Timestamp)>) {
        self.spaces.extend(
            snapshot.map(|(floor, heard)| {
                (space, StoredMark { floor: floor.as_millis(), heard: heard.as_millis(), by_event: false })
            }),
        );
    }
}

pub(super) fn write<T: Serialize>(account: &AccountId, name: &str, body: Option<&T>, expires_at: Timestamp) -> DocWrite {
    DocWrite {
        kind: DocKind::Watermark,
        id: format!("{account}{SEPARATOR}{name}"),
        account: Some(account.clone()),
        body: body.map(|body| serde_json::to_vec(body).expect("numbers and texts serialise").into()),
        expected: Expected::Any,
        expires_at: body.map(|_| expires_at),
        flow: None,
    }
}

/// Reads what the store knows of the account's watermarks.
pub(in crate::session) async fn load(engine: &dyn Engine, account: &AccountId) -> StoreResult<Stored> {
    let mut stored = Stored::default();
    for document in documents(engine, account).await? {
        let Some((_, name)) = document.id.split_once(SEPARATOR) else { continue };
        if name.is_empty() {
            stored.account = serde_json::from_slice(&document.body).unwrap_or_default();
        } else if name.starts_with(WISH) {
            stored.wishes.extend(serde_json::from_slice(&document.body).ok().map(|wish| (name.to_owned(), wish)));
        } else if let (Ok(space), Ok(mark)) = (name.parse(), serde_json::from_slice::<StoredMark>(&document.body)) {
            stored.spaces.insert(space, mark);
        }
    }
    Ok(stored)
}

/// Stores a wish, so that a restart does not lose it. Answers its id.
pub(in crate::session) async fn store_wish(
    engine: &dyn Engine,
    account: &AccountId,
    wish: &Wish,
    now: Timestamp,
) -> StoreResult<String> {
    let id = format!("{WISH}{}", crate::domain::EventId::random());
    engine.doc_put(vec![write(account, &id, Some(wish), now.saturating_add(KEPT))]).await?;
    Ok(id)
}

/// Writes, a bounded number at a time. On failure nothing of the rest is written; writing all again is harmless.
pub(in crate::session) async fn store(engine: &dyn Engine, writes: &[DocWrite]) -> StoreResult<()> {
    for batch in writes.chunks(BATCH) {
        engine.doc_put(batch.to_vec()).await?;
    }
    Ok(())
}

/// Forgets everything of the account.
pub(in crate::session) async fn forget(engine: &dyn Engine, account: &AccountId) -> StoreResult<()> {
    let removed = |document: Document| DocWrite {
        kind: DocKind::Watermark,
        id: document.id,
        account: document.account,
        body: None,
        expected: Expected::Any,
        expires_at: None,
        flow: None,
    };
    let writes: Vec<DocWrite> = documents(engine, account).await?.into_iter().map(removed).collect();
    store(engine, &writes).await
}

/// The documents of the account, found by the beginning of their ids: the store knows no quicker way.
async fn documents(engine: &dyn Engine, account: &AccountId) -> StoreResult<Vec<Document>> {
    let prefix = format!("{account}{SEPARATOR}");
    // A full stop sorts right before the separator, and is in no id.
    let mut after = format!("{account}.");
    let mut found = Vec::new();
    loop {
        let list = DocList { kind: DocKind::Watermark, account: None, after: Some(after), limit: BATCH };
        let page = engine.doc_list(list).await?;
        let is_last = page.len() < BATCH || page.last().is_none_or(|document| !document.id.starts_with(&prefix));
        found.extend(page.into_iter().filter(|document| document.id.starts_with(&prefix)));
        match found.last() {
            Some(newest) if !is_last => after = newest.id.clone(),
            _ => return Ok(found),
        }
    }
}
