//! What came for a refresh token that has led to no account yet.
//!
//! Using a refresh token ends it. If whose account it is cannot be found out then, or the process ends, the next try with the same
//! credential finds here what came for it. It goes by itself after a day.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::AccountCredential;
use super::source::Minted;
use crate::domain::{Credential, Sealed, Timestamp, hex};
use crate::seal::{Keyring, Purpose};
use crate::store::{DocKind, DocWrite, Document, Engine, Expected, Result as StoreResult};

/// How long it is kept.
const KEPT: Duration = Duration::from_hours(24);

/// What its documents' names begin with; those of accounts begin otherwise.
const PREFIX: &str = "unfinished-";

#[derive(Serialize, Deserialize)]
struct Stored {
    credential: Sealed,
    token_kind: String,
    token: Sealed,
    obtained_at: Timestamp,
    expires_at: Option<Timestamp>,
}

/// Whether a document is one of these and no account.
pub(super) fn is_one(document: &Document) -> bool {
    document.id.starts_with(PREFIX)
}

/// Makes what came for `credential` durable, if it cost the credential.
pub(super) async fn keep(
    engine: &dyn Engine,
    keyring: &Keyring,
    credential: &AccountCredential,
    minted: &Minted,
    now: Timestamp,
) -> StoreResult<()> {
    let Some(rotated) = &minted.rotated else { return Ok(()) };
    let stored = Stored {
        credential: keyring.seal(Purpose::AccountCredential, &rotated.to_secret()),
        token_kind: minted.credential.kind.as_str().to_owned(),
        token: keyring.seal(Purpose::AccountToken, &minted.credential.token),
        obtained_at: minted.obtained_at,
        expires_at: minted.expires_at,
    };
    let body = serde_json::to_vec(&stored).expect("a record of texts serialises");
    let write = DocWrite { body: Some(body.into()), expires_at: Some(now.saturating_add(KEPT)), ..removal(credential) };
    engine.doc_put(vec![write]).await.map(|_| ())
}

/// Finds what came for `credential` before.
pub(super) async fn find(engine: &dyn Engine, keyring: &Keyring, credential: &AccountCredential) -> StoreResult<Option<Minted>> {
    let document = engine.doc_get(DocKind::Account, &document_id(credential)).await?;
    Ok(document.and_then(|document| open(&document, keyring)))
}

fn open(document: &Document, keyring: &Keyring) -> Option<Minted> {
    let stored: Stored = serde_json::from_slice(&document.body).ok()?;
    let rotated = keyring.unseal(Purpose::AccountCredential, &stored.credential).ok()?;
    let token = keyring.unseal(Purpose::AccountToken, &stored.token).ok()?;
    Some(Minted {
        credential: Credential { kind: stored.token_kind.parse().ok()?, token },
        obtained_at: stored.obtained_at,
        expires_at: stored.expires_at,
        rotated: Some(AccountCredential::from_secret(&rotated).ok()?),
    })
}

/// The write that forgets it.
pub(super) fn removal(credential: &AccountCredential) -> DocWrite {
    DocWrite {
        kind: DocKind::Account,
        id: document_id(credential),
        account: None,
        body: None,
        expected: Expected::Any,
        expires_at: None,
        flow: None,
    }
}

fn document_id(credential: &AccountCredential) -> String {
    format!("{PREFIX}{}", hex(&Sha256::digest(credential.to_secret().expose())))
}
