//! An incoming hook, and how the store keeps it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::check::CheckKind;
use super::format::Recipe;
use super::template::Template;
use crate::domain::{AccountId, HookId, RateLimit, Sealed, Secret, Seed, SpaceId, Timestamp};
use crate::seal::{Keyring, Purpose};

/// How often a hook may be called if its owner does not say.
pub const DEFAULT_RATE: RateLimit = RateLimit { count: 60, per_seconds: 60 };

/// A secret address that posts into a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingHook {
    /// Its id.
    pub id: HookId,
    /// As whom it posts.
    pub account: AccountId,
    /// What its owner calls it.
    pub name: Option<String>,
    /// Where it posts.
    pub space: SpaceId,
    /// Whom that space is with, if its owner named a person.
    pub direct: Option<Peer>,
    /// What it takes, and how messages are made of it.
    pub recipe: Recipe,
    /// How its senders prove themselves, beside knowing the address.
    pub check: Option<HookCheck>,
    /// How often it may be called.
    pub rate: RateLimit,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Whether it takes calls.
    pub enabled: bool,
    /// The hashes of its secrets, newest first.
    pub(super) secrets: Vec<SecretHash>,
    /// When it was created.
    pub created_at: Timestamp,
}

/// How senders prove themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCheck {
    /// The way.
    pub kind: CheckKind,
    /// With what.
    pub(super) secret: Sealed,
}

/// The person at the other end of a direct space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// What the id is the id of, in the API's words.
    #[serde(rename = "type")]
    pub kind: String,
    /// The person's id.
    pub id: String,
}

/// The hash of a secret, and when the secret ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecretHash {
    pub(super) hash: String,
    #[serde(default)]
    pub(super) expires_at: Option<Timestamp>,
}

/// The secret that grows from `seed`: 43 characters that may stand in a URL.
pub(super) fn secret_of(keyring: &Keyring, seed: &Seed) -> Secret {
    let bytes = keyring.grow(Purpose::HookSecret, seed);
    Secret::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()))
}

/// What is kept of a secret. It has more randomness than anyone can guess at, so that a plain hash is enough.
pub(super) fn hash_of(secret: &str) -> String {
    crate::domain::hex(&Sha256::digest(secret))
}

impl IncomingHook {
    /// Whether it takes calls at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.enabled && self.expires_at.is_none_or(|end| now < end)
    }

    /// When the addresses before the newest end, of those that are still good at `now`.
    pub fn previous_ends(&self, now: Timestamp) -> Vec<Timestamp> {
        self.secrets.iter().filter_map(|secret| secret.expires_at).filter(|end| now < *end).collect()
    }

    pub(super) fn to_body(&self) -> Vec<u8> {
        let stored = StoredHook {
            account: self.account.clone(),
            name: self.name.clone(),
            space: self.space.clone(),
            direct: self.direct.clone(),
            format: self.recipe.format.as_str().to_owned(),
            template: self.recipe.template.clone(),
            check: self
                .check
                .as_ref()
                .map(|check| StoredCheck { kind: check.kind.as_str().to_owned(), secret: check.secret.clone() }),
            rate: self.rate,
            expires_at: self.expires_at,
            enabled: self.enabled,
            secrets: self.secrets.clone(),
            created_at: self.created_at,
        };
        serde_json::to_vec(&stored).expect("a record of texts serialises")
    }

    pub(super) fn from_body(id: HookId, body: &[u8]) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stored: StoredHook = serde_json::from_slice(body)?;
        let check = match stored.check {
            Some(check) => {
                let kind = CheckKind::ALL.into_iter().find(|kind| kind.as_str() == check.kind);
                let kind = kind.ok_or("an unknown kind of check")?;
                Some(HookCheck { kind, secret: check.secret })
            }
            None => None,
        };
        Ok(Self {
            id,
            account: stored.account,
            name: stored.name,
            space: stored.space,
            direct: stored.direct,
            recipe: Recipe { format: stored.format.parse()?, template: stored.template },
            check,
            rate: stored.rate,
            expires_at: stored.expires_at,
            enabled: stored.enabled,
            secrets: stored.secrets,
            created_at: stored.created_at,
        })
    }
}

/// A hook as the store keeps it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredHook {
    account: AccountId,
    name: Option<String>,
    space: SpaceId,
    #[serde(default)]
    direct: Option<Peer>,
    format: String,
    #[serde(default)]
    template: Option<Template>,
    check: Option<StoredCheck>,
    rate: RateLimit,
    expires_at: Option<Timestamp>,
    enabled: bool,
    secrets: Vec<SecretHash>,
    created_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredCheck {
    kind: String,
    secret: Sealed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_differ_and_grow_again() {
        let keyring = Keyring::random();
        let (seed, other) = (Seed::random(), Seed::random());
        let secret = secret_of(&keyring, &seed);
        assert_eq!(secret, secret_of(&keyring, &seed));
        assert_ne!(secret, secret_of(&keyring, &other));
        assert_ne!(secret, secret_of(&Keyring::random(), &seed));
        assert_eq!(secret.expose().len(), 43);
        assert_eq!(hash_of(secret.expose()).len(), 64);
    }
}
