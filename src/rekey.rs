//! `spaces-bridge rekey`: another master key, and if wanted another key below it for everything that is sealed.
//!
//! The master key wraps the keyring, so changing it re-wraps 64 bytes in one transaction: before it the old key opens the store, after it
//! the new one, and never both. Sealing everything anew is part of the same transaction. What is sealed is found by trying, not by a list
//! of places: sealed data proves itself, so a document of a kind that did not exist when this was written is not forgotten.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::config::Config;
use crate::domain::{Sealed, SystemClock};
use crate::master_key::{self, FILE, KEYRING, KeyError};
use crate::seal::{Key, Keyring};
use crate::store::{
    DocKind, DocList, DocWrite, Document, EmbeddedSettings, EmbeddedStore, Engine, Expected, PutOutcome, StoreError, Version,
};

/// Documents read at a time.
const PAGE: usize = 500;

/// How much is to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The master key.
    MasterKey,
    /// The master key, and the key that everything is sealed with.
    All,
}

/// Why keys could not be changed. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RekeyError {
    /// There is no store.
    #[error("setting `store.path`: there is no store in `{}`", .0.display())]
    NoStore(PathBuf),
    /// There is no old key.
    #[error("setting `security.master_key`: the present master key is needed, and there is none in `{}` either", .0.display())]
    NoKey(PathBuf),
    /// The new key is the old one.
    #[error("the file `{}` holds the present master key", .0.display())]
    SameKey(PathBuf),
    /// A service runs on the store.
    #[error("the service runs on this store; stop it first")]
    Running,
    /// Someone else changed the keyring at the same time.
    #[error("the keyring was changed by someone else at the same time")]
    Changed,
    /// A key could not be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store failed.
    #[error("the store failed")]
    Store(#[source] StoreError),
}

impl From<StoreError> for RekeyError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::InUse { .. } => Self::Running,
            other => Self::Store(other),
        }
    }
}

/// What was changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rekeyed {
    /// The documents with secrets that were sealed anew, if they were.
    resealed: Option<usize>,
    /// The file beside the data that holds the old key, if that is where it was.
    old_file: Option<PathBuf>,
}

impl Rekeyed {
    /// What was done and what is left to do, in words.
    pub(crate) fn told(&self, file: &Path) -> String {
        let done = match self.resealed {
            Some(count) => format!("the master key and the data key are new; {count} documents were sealed anew"),
            None => "the master key is new".to_owned(),
        };
        let old = match &self.old_file {
            Some(old) => format!("remove `{}`, which opens nothing any more", old.display()),
            None => "remove the old key, which opens nothing any more".to_owned(),
        };
        format!("{done}\nstart the service with `security.master_key_file = \"{}\"`, and {old}", file.display())
    }
}

/// Changes the keys of the store that `config` names to the master key in `file`, which is made if there is none.
pub(crate) async fn run(config: &Config, file: &Path, scope: Scope) -> Result<Rekeyed, RekeyError> {
    let directory = &config.store.path;
    if !directory.join("store.db").is_file() {
        return Err(RekeyError::NoStore(directory.clone()));
    }
    let beside = directory.join(FILE);
    let (old, old_file) = match &config.security.master_key {
        Some(text) => (master_key::decode(text).expect("the configuration was checked"), None),
        None => (master_key::find(&beside)?.ok_or_else(|| RekeyError::NoKey(beside.clone()))?, Some(beside)),
    };
    let store = Arc::new(EmbeddedStore::open(EmbeddedSettings::new(directory), Arc::new(SystemClock))?);
    let engine: Arc<dyn Engine> = Arc::clone(&store) as _;
    // Before the new key is made: with a wrong old one there is nothing to be done.
    let result = match Stored::open(&*engine, &old).await {
        Ok(stored) => change(&*engine, stored, &old, file, scope).await,
        Err(error) => Err(error),
    };
    store.close().await;
    result.map(|resealed| Rekeyed { resealed, old_file })
}

/// The keyring as the store has it.
struct Stored {
    keyring: Keyring,
    version: Version,
}

impl Stored {
    async fn open(engine: &dyn Engine, master: &Key) -> Result<Self, RekeyError> {
        let document = engine.doc_get(DocKind::Keyring, KEYRING).await?.ok_or(RekeyError::Changed)?;
        let wrapped = Sealed::from_bytes(document.body.to_vec());
        let keyring = Keyring::unwrap_with(master, &wrapped).map_err(|_| KeyError::Wrong)?;
        Ok(Self { keyring, version: document.version })
    }
}

async fn change(engine: &dyn Engine, stored: Stored, old: &Key, file: &Path, scope: Scope) -> Result<Option<usize>, RekeyError> {
    let new = match master_key::find(file)? {
        Some(key) => key,
        None => master_key::generate(file)?,
    };
    if new.expose() == old.expose() {
        return Err(RekeyError::SameKey(file.to_owned()));
    }
    let (keyring, mut writes) = match scope {
        Scope::MasterKey => (stored.keyring, Vec::new()),
        Scope::All => {
            let keyring = stored.keyring.with_new_sealing_key();
            let writes = sealed_anew(engine, &stored.keyring, &keyring).await?;
            (keyring, writes)
        }
    };
    let resealed = (scope == Scope::All).then_some(writes.len());
    writes.push(DocWrite {
        kind: DocKind::Keyring,
        id: KEYRING.to_owned(),
        account: None,
        body: Some(keyring.wrap(&new).as_bytes().to_vec().into()),
        expected: Expected::Version(stored.version),
        expires_at: None,
        flow: None,
    });
    match engine.doc_put(writes).await? {
        PutOutcome::Stored(_) => Ok(resealed),
        PutOutcome::Conflict(_) => Err(RekeyError::Changed),
    }
}

/// The writes that seal everything with `new` that `old` sealed.
async fn sealed_anew(engine: &dyn Engine, old: &Keyring, new: &Keyring) -> Result<Vec<DocWrite>, RekeyError> {
    let mut writes = Vec::new();
    for kind in DocKind::ALL {
        let mut after = None;
        loop {
            let list = DocList { kind, account: None, after: after.take(), limit: PAGE };
            let documents = engine.doc_list(list).await?;
            after = documents.last().filter(|_| documents.len() == PAGE).map(|last| last.id.clone());
            writes.extend(documents.into_iter().filter_map(|document| sealed_again(document, old, new)));
            if after.is_none() {
                break;
            }
        }
    }
    Ok(writes)
}

fn sealed_again(document: Document, old: &Keyring, new: &Keyring) -> Option<DocWrite> {
    let body = match serde_json::from_slice::<Value>(&document.body) {
        Ok(mut value) => {
            if reseal_within(&mut value, old, new) == 0 {
                return None;
            }
            value.to_string().into_bytes()
        }
        Err(_) => old.reseal(&Sealed::from_bytes(document.body.to_vec()), new)?.as_bytes().to_vec(),
    };
    Some(DocWrite {
        kind: document.kind,
        id: document.id,
        account: document.account,
        body: Some(body.into()),
        expected: Expected::Version(document.version),
        expires_at: document.expires_at,
        flow: None,
    })
}

/// Seals every text within `value` anew that is something sealed. Answers how many were.
fn reseal_within(value: &mut Value, old: &Keyring, new: &Keyring) -> usize {
    match value {
        Value::String(text) => {
            let sealed = STANDARD.decode(&*text).ok().map(Sealed::from_bytes);
            let Some(again) = sealed.and_then(|sealed| old.reseal(&sealed, new)) else { return 0 };
            *text = STANDARD.encode(again.as_bytes());
            1
        }
        Value::Array(values) => values.iter_mut().map(|value| reseal_within(value, old, new)).sum(),
        Value::Object(fields) => fields.values_mut().map(|value| reseal_within(value, old, new)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Secret;
    use crate::seal::Purpose;

    fn document(body: impl Into<Vec<u8>>) -> Document {
        let body = body.into().into();
        Document { kind: DocKind::Webhook, id: "1".to_owned(), account: None, body, version: Version(3), expires_at: None }
    }

    #[test]
    fn what_is_sealed_is_found_wherever_it_is_and_nothing_else_is_touched() {
        let old = Keyring::random();
        let new = old.with_new_sealing_key();
        let seal = |text: &str| old.seal(Purpose::WebhookSecret, &Secret::new(text));
        let value =
            serde_json::json!({"url": "https://a.example", "keys": [{"sealed": seal("one")}, {"sealed": seal("two")}], "n": 1.5});
        let write = sealed_again(document(value.to_string()), &old, &new).expect("a write");
        assert_eq!(write.expected, Expected::Version(Version(3)));
        let after: Value = serde_json::from_slice(&write.body.expect("a body")).expect("JSON");
        assert_eq!((&after["url"], &after["n"]), (&value["url"], &value["n"]));
        for (index, text) in [(0, "one"), (1, "two")] {
            let sealed: Sealed = serde_json::from_value(after["keys"][index]["sealed"].clone()).expect("sealed data");
            assert_eq!(new.unseal(Purpose::WebhookSecret, &sealed), Ok(Secret::new(text)));
        }
        let plain = serde_json::json!({"text": STANDARD.encode([1; 64]), "other": "a", "list": [null, true, 7]});
        assert!(sealed_again(document(plain.to_string()), &old, &new).is_none());
        let raw = sealed_again(document(seal("raw").as_bytes()), &old, &new).expect("a write").body.expect("a body");
        assert_eq!(new.unseal(Purpose::WebhookSecret, &Sealed::from_bytes(raw.to_vec())), Ok(Secret::new("raw")));
        assert!(sealed_again(document("no JSON"), &old, &new).is_none());
    }
}
