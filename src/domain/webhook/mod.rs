//! A registered endpoint and what it wants.

mod filter;
mod pace;
mod request;
mod signing;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use filter::{Expression, Filter, FilterError, MAX_FILTER_PARTS, MAX_FILTER_VALUE, MessageFacts, TextCondition};
pub use pace::{Exponential, Factor, MAX_ATTEMPTS, MAX_TIMEOUT, MAX_WAIT, OutOfBounds, Pace, RateLimit, RetryPolicy};
pub use request::{
    AddedHeader, AddedHeaderName, Authorization, AuthorizationKind, Format, InvalidAuthorization, InvalidHeader,
    MAX_HEADER_BYTES, MAX_HEADERS, RequestOptions, SealedAuthorization, SealedHeader,
};
pub use signing::{
    DEFAULT_OVERLAP, ED25519_PREFIX, HMAC_PREFIX, InvalidSecret, MAX_OVERLAP, PUBLIC_PREFIX, Signing, SigningKeys, StoredKey,
    TooManyKeys, hmac_key,
};

use super::event::{MAX_TYPE, is_type_part};
use super::{AccountId, EventType, SpaceId, Timestamp, WebhookId};

/// A webhook as the store keeps it. Its secrets are in it, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// The webhook's id.
    pub id: WebhookId,
    /// Whose events it gets.
    pub account: AccountId,
    /// Where deliveries go.
    pub url: String,
    /// Which types it wants.
    pub events: Vec<EventPattern>,
    /// Which spaces it wants.
    pub spaces: Vec<SpaceSelector>,
    /// What it wants of the data, if not everything.
    pub filter: Option<Filter>,
    /// Whether order within a space is kept.
    pub ordering: Ordering,
    /// How fast and how often it is posted to.
    pub pace: Pace,
    /// Whether messages that this account sent through the bridge are left out.
    pub ignore_own: bool,
    /// Whether its receiver may answer a message with words for the same space.
    pub reply: bool,
    /// The owner's note.
    pub description: Option<String>,
    /// Whether deliveries are made, and if not, why.
    pub status: WebhookStatus,
    /// Since when that is so.
    pub status_since: Timestamp,
    /// How its requests look.
    pub request: RequestOptions,
    /// What its deliveries are signed with.
    pub signing: SigningKeys,
    /// When its deliveries began to flow, or began to again: registered, switched on, moved to another address.
    pub opened_at: Timestamp,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Webhook {
    /// What it wants, without where it goes and whether it is switched on.
    pub fn rules(&self) -> Rules<'_> {
        Rules { events: &self.events, spaces: &self.spaces, filter: self.filter.as_ref(), ignore_own: self.ignore_own }
    }
}

/// What a webhook wants.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Which types.
    pub events: &'a [EventPattern],
    /// Which spaces.
    pub spaces: &'a [SpaceSelector],
    /// What of the data, if not everything.
    pub filter: Option<&'a Filter>,
    /// Whether messages that this account sent through the bridge are left out.
    pub ignore_own: bool,
}

/// Whether a webhook gets deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookStatus {
    /// It does.
    Enabled,
    /// Its owner switched it off.
    Disabled,
    /// Its receiver answered 410 Gone.
    Gone,
    /// All attempts failed for so long that the bridge switched it off.
    Failing,
    /// Its receiver asked for it with `webhook-delivery: disable`.
    Steered,
}

impl WebhookStatus {
    /// The status's name in API, events, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Gone => "gone",
            Self::Failing => "failing",
            Self::Steered => "steered",
        }
    }
}

/// How deliveries of one webhook follow each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// Several at a time, in no order.
    #[default]
    Parallel,
    /// One at a time and in order within each space; a failing one holds up its space only.
    Space,
}

/// Which spaces a webhook wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SpaceSelector {
    /// All group and personal spaces of the user: `*`.
    All,
    /// All direct spaces of the user: `direct`.
    Direct,
    /// One space.
    One(SpaceId),
}

impl SpaceSelector {
    /// Whether an event of `space` is wanted. What happened in no space is chosen by its type alone.
    pub fn matches(&self, space: &SpaceId, direct: bool) -> bool {
        match self {
            _ if space.is_nowhere() => true,
            Self::All => !direct,
            Self::Direct => direct,
            Self::One(one) => one == space,
        }
    }
}

impl TryFrom<String> for SpaceSelector {
    type Error = super::InvalidId;

    fn try_from(text: String) -> Result<Self, super::InvalidId> {
        match text.as_str() {
            "*" => Ok(Self::All),
            "direct" => Ok(Self::Direct),
            _ => text.parse().map(Self::One),
        }
    }
}

impl From<SpaceSelector> for String {
    fn from(selector: SpaceSelector) -> Self {
        match selector {
            SpaceSelector::All => "*".to_owned(),
            SpaceSelector::Direct => "direct".to_owned(),
            SpaceSelector::One(space) => space.into(),
        }
    }
}

/// A pattern on event types: a type, a family such as `message.*`, `*` for everything but what has to be asked for by its family
/// ([`EventType::is_opt_in`]), or the upstream's own name `MESSAGE_SENT` for all that arrives under it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventPattern(String);

/// A text that is no event pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event pattern is an event type such as `message.created`, a family such as `message.*`, `*`, or `MESSAGE_SENT`")]
pub struct InvalidPattern;

/// The upstream's name for what reaches the bridge as messages and changes of spaces.
const MESSAGE_SENT: &str = "MESSAGE_SENT";

impl EventPattern {
    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `event_type` is meant.
    pub fn matches(&self, event_type: &EventType) -> bool {
        let opt_in = event_type.is_opt_in();
        let event_type = event_type.as_str();
        match self.0.as_str() {
            "*" => !opt_in,
            MESSAGE_SENT => event_type.starts_with("message.") || event_type == EventType::SPACE_UPDATED.as_str(),
            pattern => match pattern.strip_suffix('*') {
                Some(family) => event_type.starts_with(family),
                None => event_type == pattern,
            },
        }
    }
}

impl FromStr for EventPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let family = text.strip_suffix(".*").unwrap_or(text);
        if text == "*" || (text.len() <= MAX_TYPE && family.split('.').all(is_type_part)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidPattern)
        }
    }
}

impl TryFrom<String> for EventPattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

impl From<EventPattern> for String {
    fn from(pattern: EventPattern) -> Self {
        pattern.0
    }
}

impl fmt::Debug for EventPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_a_type_a_family_or_everything() {
        let cases = [
            ("message.created", "message.created", true),
            ("message.created", "message.updated", false),
            ("message.*", "message.updated", true),
            ("message.*", "messages.updated", false),
            ("*", "space.updated", true),
            ("MESSAGE_SENT", "message.other", true),
            ("MESSAGE_SENT", "space.updated", true),
            ("MESSAGE_SENT", "session.connected", false),
            ("*", "session.connected", true),
            ("*", "presence.online", false),
            ("presence.*", "presence.online", true),
            ("media.started", "media.started", true),
        ];
        for (pattern, event_type, expected) in cases {
            let pattern: EventPattern = pattern.parse().expect("a pattern");
            let event_type: EventType = event_type.parse().expect("a type");
            assert_eq!(pattern.matches(&event_type), expected, "{pattern:?} {event_type}");
        }
    }

    #[test]
    fn what_happened_in_no_space_is_wanted_whatever_the_spaces() {
        for selector in ["*", "direct", "64f0a1b2c3d4e5f601020304"] {
            let selector = SpaceSelector::try_from(selector.to_owned()).expect("a selector");
            assert!(selector.matches(&SpaceId::nowhere(), false), "{selector:?}");
        }
    }

    #[test]
    fn a_pattern_with_odd_characters_is_refused() {
        for text in ["", ".", "message.", "mess*", "a..b", "a b", "*.created", "message.*.x"] {
            assert!(text.parse::<EventPattern>().is_err(), "{text:?} was accepted");
        }
    }
}
