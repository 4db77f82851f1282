//! Identifiers. Each has one way in, `FromStr`, and serde uses it; a value of these types is safe in a URL, a header and a log line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is no identifier of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind}")]
pub struct InvalidId {
    kind: &'static str,
}

/// Upstream ids are 24 hex digits today; the service relies only on this bound and alphabet.
const MAX_UPSTREAM_ID: usize = 128;

fn is_id_text(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_UPSTREAM_ID
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// `bytes` in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// A fresh 128-bit random number in hexadecimal.
fn random_hex() -> String {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).expect("the operating system provides random numbers");
    hex(&bytes)
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// What every identifier of this kind begins with (empty for ids that the upstream assigns).
            pub const PREFIX: &'static str = $prefix;

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let rest = text.strip_prefix($prefix).ok_or(InvalidId { kind: $kind })?;
                if is_id_text(rest) { Ok(Self(text.into())) } else { Err(InvalidId { kind: $kind }) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// A space (upstream: topic), as the upstream numbers it.
    SpaceId, "space id", ""
);
text_id!(
    /// The upstream user whom the bridge acts for; `acc_` and the upstream's user id, or `acc_` and the session's digits while
    /// the user is not known.
    AccountId, "account id", "acc_"
);
text_id!(
    /// One token's session: a keyed hash of the token's type and text, never the token.
    SessionId, "session id", "ses_"
);
text_id!(
    /// A registered webhook.
    WebhookId, "webhook id", "wh_"
);
text_id!(
    /// An incoming hook.
    HookId, "incoming hook id", "hook_"
);
text_id!(
    /// An entry of the event log, derived from what makes the event the same event; also the `webhook-id` of its deliveries.
    EventId, "event id", "evt_"
);
text_id!(
    /// A send that the bridge accepted; travels to the upstream and back in `loopbackMetadata`.
    MessageRef, "message reference", "ref_"
);

text_id!(
    /// A bridge key, without its secret part.
    KeyId, "key id", "key_"
);

impl SpaceId {
    /// Stands in the log where an event happened in no space: what the bridge itself tells of an account. No id of Spaces looks
    /// like this, and the API shows `null` in its place.
    pub fn nowhere() -> Self {
        Self(NOWHERE.into())
    }

    /// Whether this stands for no space.
    pub fn is_nowhere(&self) -> bool {
        *self.0 == *NOWHERE
    }

    /// The space, if it is one.
    pub fn somewhere(self) -> Option<Self> {
        (!self.is_nowhere()).then_some(self)
    }
}

const NOWHERE: &str = "-";

/// A random number that a call is given once, and keeps when it is made again: what the call makes is named after it, so that making it
/// again makes nothing new.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Seed(std::sync::Arc<str>);

impl Seed {
    /// A new one.
    pub fn random() -> Self {
        Self(random_hex().into())
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Seed {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        if is_id_text(&text) { Ok(Self(text.into())) } else { Err(InvalidId { kind: "seed" }) }
    }
}

impl From<Seed> for String {
    fn from(seed: Seed) -> Self {
        seed.0.as_ref().to_owned()
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl WebhookId {
    /// A new random id.
    pub fn random() -> Self {
        Self::of_seed(&Seed::random())
    }

    /// The id of the webhook that a call with this seed makes.
    pub fn of_seed(seed: &Seed) -> Self {
        Self(format!("{}{}", Self::PREFIX, seed.as_str()).into())
    }
}

impl KeyId {
    /// What lies before every id.
    pub(crate) fn least() -> Self {
        Self(Self::PREFIX.into())
    }

    /// The id of the bridge key that a call with this seed makes.
    pub fn of_seed(seed: &Seed) -> Self {
        Self(format!("{}{}", Self::PREFIX, seed.as_str()).into())
    }
}

impl HookId {
    /// The id of the incoming hook that a call with this seed makes.
    pub fn of_seed(seed: &Seed) -> Self {
        Self(format!("{}{}", Self::PREFIX, seed.as_str()).into())
    }
}

impl MessageRef {
    /// The reference whose digits are `digest`, a hash of what makes two calls the same send.
    pub fn from_digest(digest: [u8; 16]) -> Self {
        Self(format!("{}{}", Self::PREFIX, hex(&digest)).into())
    }

    /// A new random reference.
    pub fn random() -> Self {
        Self::of_seed(&Seed::random())
    }

    /// The reference of the message that a call with this seed sends.
    pub fn of_seed(seed: &Seed) -> Self {
        Self(format!("{}{}", Self::PREFIX, seed.as_str()).into())
    }

    /// The reference of the `number`th message, counted from one, of the call whose first message has this reference.
    #[must_use]
    pub fn numbered(&self, number: usize) -> Self {
        if number <= 1 { self.clone() } else { Self(format!("{self}-{number}").into()) }
    }
}

impl SessionId {
    /// The id whose digits are `digest`, a keyed hash of the token.
    pub fn from_digest(digest: [u8; 16]) -> Self {
        Self(format!("{}{}", Self::PREFIX, hex(&digest)).into())
    }
}

impl EventId {
    /// A new random id, for an event that nothing tells from another.
    pub fn random() -> Self {
        Self::of_seed(&Seed::random())
    }

    /// The id of the event that a call with this seed appends.
    pub fn of_seed(seed: &Seed) -> Self {
        Self(format!("{}{}", Self::PREFIX, seed.as_str()).into())
    }

    /// The id whose digits are `digest`, a hash of the event's identity.
    pub fn from_digest(digest: [u8; 16]) -> Self {
        Self(format!("{}{}", Self::PREFIX, hex(&digest)).into())
    }
}

impl AccountId {
    /// The account of the upstream user `user_id`.
    pub fn of_user(user_id: &str) -> Result<Self, InvalidId> {
        format!("{}{user_id}", Self::PREFIX).parse()
    }

    /// A new random id, for an account whose user cannot be asked for.
    pub fn random() -> Self {
        Self(format!("{}{}", Self::PREFIX, random_hex()).into())
    }

    /// The account that `session` stands for while its user is not known.
    pub fn standing_in(session: &SessionId) -> Self {
        Self(format!("{}{}", Self::PREFIX, session.as_str()).into())
    }
}

/// One event for one webhook. Numbered by the store in the order of creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeliveryId(i64);

impl DeliveryId {
    /// The delivery with the store's `number`.
    pub fn from_number(number: i64) -> Self {
        Self(number)
    }

    /// The store's number of this delivery.
    pub fn number(self) -> i64 {
        self.0
    }
}

impl FromStr for DeliveryId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId { kind: "delivery id" };
        let digits = text.strip_prefix("dlv_").ok_or(invalid.clone())?;
        // Only the spelling that `Display` writes, so that one delivery has one id.
        let number = digits.parse().map_err(|_| invalid.clone())?;
        let id = Self(number);
        if number > 0 && id.to_string() == text { Ok(id) } else { Err(invalid) }
    }
}

impl TryFrom<String> for DeliveryId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<DeliveryId> for String {
    fn from(id: DeliveryId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "dlv_{}", self.0)
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_with_odd_characters_is_refused() {
        for text in ["", "a/b", "a b", "ä", "..", "a?b", "%2e", &"a".repeat(129)] {
            assert!(text.parse::<SpaceId>().is_err(), "{text:?} was accepted");
        }
        assert_eq!("64f0a1b2c3d4e5f601020304".parse::<SpaceId>().map(String::from).as_deref(), Ok("64f0a1b2c3d4e5f601020304"));
    }

    #[test]
    fn no_space_is_told_from_a_space() {
        let space: SpaceId = "64f0a1b2c3d4e5f601020304".parse().expect("an id");
        assert_eq!((space.is_nowhere(), space.clone().somewhere()), (false, Some(space)));
        // Comes back from the store as text.
        assert_eq!(SpaceId::nowhere().as_str().parse(), Ok(SpaceId::nowhere()));
        assert_eq!(SpaceId::nowhere().somewhere(), None);
    }

    #[test]
    fn an_id_needs_its_own_prefix() {
        assert!("wh_1".parse::<WebhookId>().is_ok());
        assert!("evt_1".parse::<WebhookId>().is_err());
        assert!("wh_".parse::<WebhookId>().is_err());
    }

    #[test]
    fn a_delivery_has_one_spelling() {
        assert_eq!("dlv_17".parse(), Ok(DeliveryId(17)));
        for text in ["dlv_017", "dlv_+17", "dlv_0", "dlv_-1", "17", "dlv_"] {
            assert!(text.parse::<DeliveryId>().is_err(), "{text:?} was accepted");
        }
    }
}
