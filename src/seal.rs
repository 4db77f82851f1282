//! Sealing: how secrets are kept at rest.
//!
//! The operator's master key wraps a [`Keyring`] of two random keys, and only the keyring touches data: one seals (`XChaCha20-Poly1305`
//! with a random nonce and the purpose as associated data), the other names sessions (HMAC-SHA-256 of the token). A new master key
//! therefore re-wraps 64 bytes and leaves everything else as it is.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::domain::{Credential, Sealed, Secret, Seed, SessionId};

/// Bytes of every key.
pub const KEY_BYTES: usize = 32;

const NONCE_BYTES: usize = 24;

/// The form of sealed data; the first byte of each.
const FORMAT: u8 = 1;

/// A sealed text that does not open: another key, another purpose, or damage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sealed data does not open with this key")]
pub struct UnsealError;

/// A key of 32 bytes that wipes itself.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; KEY_BYTES]>);

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl Key {
    /// The key with these bytes.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new random key.
    pub fn random() -> Self {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).expect("the operating system provides random numbers");
        Self::from_bytes(bytes)
    }

    /// The key's bytes, for the one place that writes the key file.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    fn seal(&self, purpose: &str, plain: &[u8]) -> Sealed {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("the operating system provides random numbers");
        let cipher = XChaCha20Poly1305::new(self.0.as_slice().try_into().expect("a key has 32 bytes"));
        let sealed = cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: purpose.as_bytes() })
            .expect("sealing fails only for texts of many gigabytes");
        let mut bytes = Vec::with_capacity(1 + NONCE_BYTES + sealed.len());
        bytes.push(FORMAT);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sealed);
        Sealed::from_bytes(bytes)
    }

    fn unseal(&self, purpose: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let (&format, rest) = sealed.as_bytes().split_first().ok_or(UnsealError)?;
        let (nonce, cipher_text) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(UnsealError)?;
        if format != FORMAT {
            return Err(UnsealError);
        }
        let cipher = XChaCha20Poly1305::new(self.0.as_slice().try_into().expect("a key has 32 bytes"));
        cipher
            .decrypt(&XNonce::from(*nonce), Payload { msg: cipher_text, aad: purpose.as_bytes() })
            .map(Zeroizing::new)
            .map_err(|_| UnsealError)
    }
}

/// What a sealed text is for; opening it for anything else fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A Spaces token.
    Token,
    /// A webhook's signing secret.
    WebhookSecret,
    /// What a webhook's receiver is sent in a header.
    WebhookHeader,
    /// What the senders of an incoming hook prove themselves with.
    HookCheck,
    /// An answer that is given again to who makes the same call again.
    Answer,
    /// What the bridge gets an account's tokens with.
    AccountCredential,
    /// The token that an account holds.
    AccountToken,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 7] = [
        Self::Token,
        Self::WebhookSecret,
        Self::WebhookHeader,
        Self::HookCheck,
        Self::Answer,
        Self::AccountCredential,
        Self::AccountToken,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::WebhookSecret => "webhook-secret",
            Self::WebhookHeader => "webhook-header",
            Self::HookCheck => "hook-check",
            Self::Answer => "answer",
            Self::AccountCredential => "account-credential",
            Self::AccountToken => "account-token",
        }
    }
}

/// The keys that data is sealed and sessions are named with.
#[derive(Debug, Clone)]
pub struct Keyring {
    sealing: Key,
    naming: Key,
}

impl Keyring {
    /// A keyring of new random keys.
    pub fn random() -> Self {
        Self { sealing: Key::random(), naming: Key::random() }
    }

    /// The keyring in the form that the store keeps.
    pub fn wrap(&self, master: &Key) -> Sealed {
        let mut plain = Zeroizing::new(Vec::with_capacity(2 * KEY_BYTES));
        plain.extend_from_slice(self.sealing.expose());
        plain.extend_from_slice(self.naming.expose());
        master.seal("keyring", &plain)
    }

    /// Opens a wrapped keyring.
    pub fn unwrap_with(master: &Key, wrapped: &Sealed) -> Result<Self, UnsealError> {
        let plain = master.unseal("keyring", wrapped)?;
        let (sealing, naming) = plain.split_first_chunk::<KEY_BYTES>().ok_or(UnsealError)?;
        let naming = <[u8; KEY_BYTES]>::try_from(naming).map_err(|_| UnsealError)?;
        Ok(Self { sealing: Key::from_bytes(*sealing), naming: Key::from_bytes(naming) })
    }

    /// Seals `secret` for `purpose`.
    pub fn seal(&self, purpose: Purpose, secret: &Secret) -> Sealed {
        self.sealing.seal(purpose.as_str(), secret.expose().as_bytes())
    }

    /// Opens what was sealed for `purpose`.
    pub fn unseal(&self, purpose: Purpose, sealed: &Sealed) -> Result<Secret, UnsealError> {
        let plain = self.sealing.unseal(purpose.as_str(), sealed)?;
        std::str::from_utf8(&plain).map(Secret::new).map_err(|_| UnsealError)
    }

    /// The secret bytes that grow from `seed` for `purpose`: the same each time, and of no use to guess others by.
    pub fn grow(&self, purpose: Purpose, seed: &Seed) -> Zeroizing<[u8; KEY_BYTES]> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.naming.expose()).expect("HMAC takes a key of any length");
        // No kind of token is called like this.
        mac.update(b"grow/");
        mac.update(purpose.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(seed.as_str().as_bytes());
        Zeroizing::new(mac.finalize().into_bytes().into())
    }

    /// `text` under another name, which tells nothing of it to whoever has not this keyring, not even to who guesses it.
    pub fn disguise(&self, text: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.naming.expose()).expect("HMAC takes a key of any length");
        // No kind of token is called like this.
        mac.update(b"disguise/");
        mac.update(text.as_bytes());
        crate::domain::hex(&mac.finalize().into_bytes())
    }

    /// The same keyring with a new random key to seal with. Sessions keep their names.
    #[must_use]
    pub fn with_new_sealing_key(&self) -> Self {
        Self { sealing: Key::random(), naming: self.naming.clone() }
    }

    /// What this keyring sealed, sealed by `other` for the same purpose. `None` if this keyring did not seal it.
    pub fn reseal(&self, sealed: &Sealed, other: &Self) -> Option<Sealed> {
        Purpose::ALL.into_iter().find_map(|purpose| {
            let plain = self.sealing.unseal(purpose.as_str(), sealed).ok()?;
            Some(other.sealing.seal(purpose.as_str(), &plain))
        })
    }

    /// The session that `credential` belongs to.
    pub fn session_id(&self, credential: &Credential) -> SessionId {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.naming.expose()).expect("HMAC takes a key of any length");
        mac.update(credential.kind.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(credential.token.expose().as_bytes());
        let digest = mac.finalize().into_bytes();
        SessionId::from_digest(*digest.first_chunk().expect("SHA-256 gives 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TokenKind;

    #[test]
    fn what_is_sealed_opens_for_its_purpose_only() {
        let keyring = Keyring::random();
        let sealed = keyring.seal(Purpose::Token, &Secret::new("tok"));
        assert_eq!(keyring.unseal(Purpose::Token, &sealed), Ok(Secret::new("tok")));
        let others = Purpose::ALL.into_iter().filter(|purpose| *purpose != Purpose::Token);
        for other in others {
            assert_eq!(keyring.unseal(other, &sealed), Err(UnsealError));
        }
        assert_eq!(Keyring::random().unseal(Purpose::Token, &sealed), Err(UnsealError));
        assert!(!sealed.as_bytes().windows(3).any(|window| window == b"tok"));
    }

    #[test]
    fn what_grows_from_a_seed_depends_on_keyring_purpose_and_seed() {
        let (keyring, seed) = (Keyring::random(), Seed::random());
        let grown = keyring.grow(Purpose::WebhookSecret, &seed);
        assert_eq!(keyring.grow(Purpose::WebhookSecret, &seed), grown);
        assert_ne!(keyring.grow(Purpose::Answer, &seed), grown);
        assert_ne!(keyring.grow(Purpose::WebhookSecret, &Seed::random()), grown);
        assert_ne!(Keyring::random().grow(Purpose::WebhookSecret, &seed), grown);
    }

    #[test]
    fn damage_is_noticed() {
        let keyring = Keyring::random();
        let sealed = keyring.seal(Purpose::Token, &Secret::new("tok"));
        for index in 0..sealed.as_bytes().len() {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[index] ^= 1;
            assert_eq!(keyring.unseal(Purpose::Token, &Sealed::from_bytes(bytes)), Err(UnsealError));
        }
        assert_eq!(keyring.unseal(Purpose::Token, &Sealed::from_bytes(Vec::new())), Err(UnsealError));
    }

    #[test]
    fn what_another_key_seals_keeps_its_purpose_and_its_text() {
        let old = Keyring::random();
        let new = old.with_new_sealing_key();
        for purpose in Purpose::ALL {
            let sealed = old.seal(purpose, &Secret::new("tok"));
            let again = old.reseal(&sealed, &new).expect("the old keyring sealed it");
            assert_eq!((new.unseal(purpose, &again), old.unseal(purpose, &again)), (Ok(Secret::new("tok")), Err(UnsealError)));
            assert_eq!(old.reseal(&again, &new), None, "what is sealed anew is not the old keyring's");
        }
        let credential = Credential { kind: TokenKind::Jwt, token: Secret::new("tok") };
        assert_eq!(new.session_id(&credential), old.session_id(&credential));
    }

    #[test]
    fn a_wrapped_keyring_names_the_same_sessions() {
        let (master, keyring) = (Key::random(), Keyring::random());
        let opened = Keyring::unwrap_with(&master, &keyring.wrap(&master)).expect("the same master key");
        let credential = |kind, token: &str| Credential { kind, token: Secret::new(token) };
        let id = keyring.session_id(&credential(TokenKind::Jwt, "tok"));
        assert_eq!(opened.session_id(&credential(TokenKind::Jwt, "tok")), id);
        assert_ne!(opened.session_id(&credential(TokenKind::Oauth, "tok")), id);
        assert!(Keyring::unwrap_with(&Key::random(), &keyring.wrap(&master)).is_err());
    }
}
