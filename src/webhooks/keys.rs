//! The secrets of webhooks: making them, sealing them, opening them, and letting new ones follow old ones.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tracing::info;
use zeroize::Zeroizing;

use super::change::{SealedPatch, WebhookPatch};
use super::{WebhookError, WebhookRegistry};
use crate::domain::{
    AddedHeader, AddedHeaderName, Authorization, ED25519_PREFIX, HMAC_PREFIX, PUBLIC_PREFIX, SealedAuthorization, SealedHeader,
    Secret, Seed, Signing, StoredKey, Timestamp, Webhook, WebhookId,
};
use crate::seal::{Purpose, UnsealError};

/// Random bytes of a symmetric secret, of which Standard Webhooks asks for 24 to 64, and bytes of an ed25519 private key.
const KEY_BYTES: usize = 32;

/// A new key, in the open.
#[derive(Debug, Clone)]
pub(super) struct NewKey {
    pub(super) secret: Secret,
    public_key: Option<String>,
}

impl NewKey {
    /// A random one.
    pub(super) fn random(kind: Signing) -> Self {
        Self::grown(kind, &random_bytes())
    }

    /// The one that grows from `bytes`, which nobody else knows.
    fn grown(kind: Signing, bytes: &[u8; KEY_BYTES]) -> Self {
        match kind {
            Signing::Hmac => Self::symmetric(Secret::new(format!("{HMAC_PREFIX}{}", STANDARD.encode(bytes)))),
            Signing::Ed25519 => Self::ed25519(bytes),
        }
    }

    /// A symmetric secret, which the caller has checked.
    pub(super) fn symmetric(secret: Secret) -> Self {
        Self { secret, public_key: None }
    }

    /// The key that grows from `seed`, written as Standard Webhooks does: private part, then public part.
    fn ed25519(seed: &[u8; KEY_BYTES]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are a seed");
        let public = pair.public_key().as_ref();
        let mut both = Zeroizing::new(Vec::with_capacity(2 * KEY_BYTES));
        both.extend_from_slice(seed);
        both.extend_from_slice(public);
        let secret = Secret::new(format!("{ED25519_PREFIX}{}", STANDARD.encode(both.as_slice())));
        Self { secret, public_key: Some(format!("{PUBLIC_PREFIX}{}", STANDARD.encode(public))) }
    }
}

fn random_bytes() -> Zeroizing<[u8; KEY_BYTES]> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(bytes.as_mut_slice()).expect("the operating system provides random numbers");
    bytes
}

/// A key that signs, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenKey {
    /// The secret or private key as Standard Webhooks writes it.
    pub secret: Secret,
    /// When it signs no more; `None` for the newest.
    pub expires_at: Option<Timestamp>,
}

/// A rotation to be made.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// The secret that follows; if `None`, one that grows from the seed. For symmetric signatures only.
    pub secret: Option<Secret>,
    /// Names the rotation, so that the same one made again changes nothing.
    pub seed: Seed,
    /// How long the secrets before it go on signing.
    pub overlap: Duration,
}

impl WebhookRegistry {
    /// The newest symmetric secret of `webhook`; `None` if its signatures are of another kind.
    pub fn secret(&self, webhook: &Webhook) -> Result<Option<Secret>, UnsealError> {
        match (webhook.signing.kind, webhook.signing.newest()) {
            (Signing::Hmac, Some(key)) => self.keyring.unseal(Purpose::WebhookSecret, &key.sealed).map(Some),
            (Signing::Hmac, None) | (Signing::Ed25519, _) => Ok(None),
        }
    }

    /// The keys of `webhook`, newest first, those that have expired included.
    pub fn open_keys(&self, webhook: &Webhook) -> Result<Vec<OpenKey>, UnsealError> {
        let open = |key: &StoredKey| {
            let secret = self.keyring.unseal(Purpose::WebhookSecret, &key.sealed)?;
            Ok(OpenKey { secret, expires_at: key.expires_at })
        };
        webhook.signing.all().iter().map(open).collect()
    }

    /// The headers that the owner of `webhook` added.
    pub fn open_headers(&self, webhook: &Webhook) -> Result<Vec<(AddedHeaderName, Secret)>, UnsealError> {
        let open = |header: &SealedHeader| {
            let value = self.keyring.unseal(Purpose::WebhookHeader, &header.value)?;
            Ok((header.name.clone(), value))
        };
        webhook.request.headers.iter().map(open).collect()
    }

    /// The value of `Authorization` towards the receiver of `webhook`.
    pub fn open_authorization(&self, webhook: &Webhook) -> Result<Option<Secret>, UnsealError> {
        let authorization = webhook.request.authorization.as_ref();
        authorization.map(|sealed| self.keyring.unseal(Purpose::WebhookHeader, &sealed.value)).transpose()
    }

    /// Gives a webhook a new secret. The one before goes on signing beside it for the overlap. Rotating to the secret that is the
    /// newest already changes nothing, so that a call may be repeated.
    pub async fn rotate_secret(&self, id: &WebhookId, rotation: Rotation) -> Result<Arc<Webhook>, WebhookError> {
        let current = self.get(id).ok_or(WebhookError::NotFound)?;
        let grown = || NewKey::grown(current.signing.kind, &self.keyring.grow(Purpose::WebhookSecret, &rotation.seed));
        let key = rotation.secret.map_or_else(grown, NewKey::symmetric);
        let newest = current.signing.newest().map(|newest| self.keyring.unseal(Purpose::WebhookSecret, &newest.sealed));
        if newest.transpose()?.as_ref() == Some(&key.secret) {
            return Ok(current);
        }
        let key = self.seal_key(&key);
        let (now, overlap) = (self.clock.now(), rotation.overlap);
        let rotated = self.change(id, |webhook| {
            webhook.signing.rotate(key.clone(), overlap, now)?;
            Ok(None)
        });
        let webhook = rotated.await?;
        info!(webhook.id = %id, overlap_seconds = overlap.as_secs(), "webhook `{id}` has a new secret");
        Ok(webhook)
    }

    pub(super) fn seal_key(&self, key: &NewKey) -> StoredKey {
        let sealed = self.keyring.seal(Purpose::WebhookSecret, &key.secret);
        StoredKey { sealed, public_key: key.public_key.clone(), expires_at: None }
    }

    pub(super) fn seal_headers(&self, headers: &[AddedHeader]) -> Vec<SealedHeader> {
        let seal = |header: &AddedHeader| SealedHeader {
            name: header.name.clone(),
            value: self.keyring.seal(Purpose::WebhookHeader, &header.value),
        };
        headers.iter().map(seal).collect()
    }

    pub(super) fn seal_authorization(&self, authorization: &Authorization) -> SealedAuthorization {
        let value = self.keyring.seal(Purpose::WebhookHeader, &authorization.value);
        SealedAuthorization { kind: authorization.kind, value }
    }

    pub(super) fn seal_patch(&self, patch: &WebhookPatch) -> SealedPatch {
        let authorization = patch.authorization.as_ref();
        SealedPatch {
            headers: patch.headers.as_ref().map(|headers| self.seal_headers(headers)),
            authorization: authorization.map(|change| change.as_ref().map(|value| self.seal_authorization(value))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_key_is_written_as_standard_webhooks_says() {
        let hmac = NewKey::random(Signing::Hmac);
        assert!(crate::domain::hmac_key(&hmac.secret).is_ok());
        assert_eq!(hmac.public_key, None);
        assert_ne!(hmac.secret, NewKey::random(Signing::Hmac).secret);
        let ed25519 = NewKey::random(Signing::Ed25519);
        let private = STANDARD.decode(ed25519.secret.expose().strip_prefix("whsk_").expect("a prefix")).expect("base64");
        let public = ed25519.public_key.expect("a public key");
        assert_eq!(private.len(), 64);
        assert_eq!(public, format!("whpk_{}", STANDARD.encode(&private[32..])));
    }

    #[test]
    fn the_public_key_grows_from_the_private_one() {
        // The sample key of Standard Webhooks, published and no secret.
        let sample = "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
        let bytes = STANDARD.decode(sample).expect("base64");
        let key = NewKey::ed25519(bytes.first_chunk().expect("32 bytes"));
        assert_eq!(key.secret.expose(), format!("whsk_{sample}"));
        assert_eq!(key.public_key, Some(format!("whpk_{}", STANDARD.encode(&bytes[32..]))));
    }
}
