//! An account as the store keeps it: one document, secrets sealed.

use serde::{Deserialize, Serialize};

use super::AccountCredential;
use super::source::Minted;
use crate::domain::{AccountId, Credential, Sealed, Secret, Seed, SessionId, Timestamp};
use crate::seal::{Keyring, Purpose};
use crate::session::Identity;
use crate::store::{DocKind, DocWrite, Document, Expected};

/// How an account stands with its credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The last token came and was taken into use.
    Active,
    /// A new token is being got.
    Renewing,
    /// The credential is not valid (any more).
    CredentialRefused,
    /// The last try failed and is repeated.
    Unavailable,
}

impl Standing {
    /// Every one, for metrics and documentation.
    pub const ALL: [Self; 4] = [Self::Active, Self::Renewing, Self::CredentialRefused, Self::Unavailable];

    /// The name in API, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Renewing => "renewing",
            Self::CredentialRefused => "credential_refused",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Why the last try failed, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// Why, without secrets.
    pub reason: String,
}

/// An account.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) account: AccountId,
    pub(super) name: Option<String>,
    pub(super) credential: AccountCredential,
    pub(super) token: HeldToken,
    pub(super) user_id: Option<String>,
    pub(super) display_name: Option<String>,
    pub(super) standing: Standing,
    pub(super) created_at: Timestamp,
    pub(super) last_renewed_at: Timestamp,
    pub(super) last_failure: Option<Failure>,
    /// What the call that made it is known by.
    pub(super) seed: Option<Seed>,
}

/// The token that an account holds.
#[derive(Debug, Clone)]
pub(super) struct HeldToken {
    pub(super) credential: Credential,
    pub(super) obtained_at: Timestamp,
    pub(super) expires_at: Option<Timestamp>,
    /// Whether the sessions have it. A token that they do not have yet is used before another one is got.
    pub(super) in_use: bool,
}

impl From<Minted> for HeldToken {
    fn from(minted: Minted) -> Self {
        let Minted { credential, obtained_at, expires_at, rotated: _ } = minted;
        Self { credential, obtained_at, expires_at, in_use: false }
    }
}

impl HeldToken {
    /// Whether its time is over.
    pub(super) fn has_ended(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// The session that it opens.
    pub(super) fn session(&self, keyring: &Keyring) -> SessionId {
        keyring.session_id(&self.credential)
    }
}

/// A stored account that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the stored account `{0}` cannot be read")]
pub(super) struct Unreadable(String);

#[derive(Serialize, Deserialize)]
struct Stored {
    name: Option<String>,
    credential: Sealed,
    token_kind: String,
    token: Sealed,
    obtained_at: Timestamp,
    expires_at: Option<Timestamp>,
    in_use: bool,
    user_id: Option<String>,
    display_name: Option<String>,
    standing: Standing,
    created_at: Timestamp,
    last_renewed_at: Timestamp,
    last_failure: Option<Failure>,
    #[serde(default)]
    seed: Option<Seed>,
}

impl Record {
    /// Who the account's sessions act for.
    pub(super) fn identity(&self) -> Identity {
        Identity { account: self.account.clone(), user_id: self.user_id.clone(), display_name: self.display_name.clone() }
    }

    /// The document that the store keeps.
    pub(super) fn write(&self, keyring: &Keyring, expected: Expected) -> DocWrite {
        let stored = Stored {
            name: self.name.clone(),
            credential: keyring.seal(Purpose::AccountCredential, &self.credential.to_secret()),
            token_kind: self.token.credential.kind.as_str().to_owned(),
            token: keyring.seal(Purpose::AccountToken, &self.token.credential.token),
            obtained_at: self.token.obtained_at,
            expires_at: self.token.expires_at,
            in_use: self.token.in_use,
            user_id: self.user_id.clone(),
            display_name: self.display_name.clone(),
            standing: self.standing,
            created_at: self.created_at,
            last_renewed_at: self.last_renewed_at,
            last_failure: self.last_failure.clone(),
            seed: self.seed.clone(),
        };
        let body = serde_json::to_vec(&stored).expect("a record of texts serialises");
        DocWrite { body: Some(body.into()), expected, ..removal(&self.account) }
    }

    /// The account in a document.
    pub(super) fn read(document: &Document, keyring: &Keyring) -> Result<Self, Unreadable> {
        Self::open(document, keyring).ok_or_else(|| Unreadable(document.id.clone()))
    }

    fn open(document: &Document, keyring: &Keyring) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(&document.body).ok()?;
        let open = |purpose, sealed| -> Option<Secret> { keyring.unseal(purpose, sealed).ok() };
        let credential = Credential { kind: stored.token_kind.parse().ok()?, token: open(Purpose::AccountToken, &stored.token)? };
        Some(Self {
            account: document.id.parse().ok()?,
            name: stored.name,
            credential: AccountCredential::from_secret(&open(Purpose::AccountCredential, &stored.credential)?).ok()?,
            token: HeldToken {
                credential,
                obtained_at: stored.obtained_at,
                expires_at: stored.expires_at,
                in_use: stored.in_use,
            },
            user_id: stored.user_id,
            display_name: stored.display_name,
            standing: stored.standing,
            created_at: stored.created_at,
            last_renewed_at: stored.last_renewed_at,
            last_failure: stored.last_failure,
            seed: stored.seed,
        })
    }
}

/// The write that takes an account out of the store.
pub(super) fn removal(account: &AccountId) -> DocWrite {
    DocWrite {
        kind: DocKind::Account,
        id: account.as_str().to_owned(),
        account: Some(account.clone()),
        body: None,
        expected: Expected::Any,
        expires_at: None,
        flow: None,
    }
}
