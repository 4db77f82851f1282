//! Whether a webhook wants an event, and if not, why. The event log, replay, `filter-test` and the explanation of an event all ask
//! here, so that they cannot disagree.

use super::EventView;
use crate::domain::{Filter, Rules, Webhook, WebhookStatus};

/// The answer for a webhook and an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// The webhook gets the event.
    Matched,
    /// It does not.
    NotMatched(Reason),
}

/// Why a webhook does not get an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is not switched on.
    Disabled,
    /// It wants no events of this type.
    Type,
    /// It wants no events of this space.
    Space,
    /// It wants no messages that its own account sent through the bridge.
    OwnMessage,
    /// Its filter says no.
    Filter {
        /// The part of the filter that decided it, as a JSON pointer.
        path: String,
    },
}

impl Reason {
    /// The reason's name in the API.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Type => "type",
            Self::Space => "space",
            Self::OwnMessage => "own_message",
            Self::Filter { .. } => "filter",
        }
    }

    /// The same for people.
    pub fn detail(&self) -> String {
        match self {
            Self::Disabled => "the webhook is not enabled".to_owned(),
            Self::Type => "the webhook's `events` do not mean this type".to_owned(),
            Self::Space => "the webhook's `spaces` do not mean this space".to_owned(),
            Self::OwnMessage => "this account sent the message through the bridge, and the webhook has `ignoreOwn`".to_owned(),
            Self::Filter { path } => format!("the webhook's `filter` says no at `{path}`"),
        }
    }
}

/// Whether `webhook`, as it is now, gets `event`.
pub fn decide(webhook: &Webhook, event: &EventView<'_>) -> Match {
    match webhook.status {
        WebhookStatus::Enabled => decide_by_rules(webhook.rules(), event),
        WebhookStatus::Disabled | WebhookStatus::Gone | WebhookStatus::Failing | WebhookStatus::Steered => {
            Match::NotMatched(Reason::Disabled)
        }
    }
}

/// Whether `rules` mean `event`.
pub fn decide_by_rules(rules: Rules<'_>, event: &EventView<'_>) -> Match {
    if let Some(reason) = objection(rules, event) {
        return Match::NotMatched(reason);
    }
    match filter_for(rules, event).and_then(|filter| filter.failing(event.facts())) {
        Some(path) => Match::NotMatched(Reason::Filter { path }),
        None => Match::Matched,
    }
}

/// What stands against the event before its body is looked at.
fn objection(rules: Rules<'_>, event: &EventView<'_>) -> Option<Reason> {
    if !rules.events.iter().any(|pattern| pattern.matches(event.event_type)) {
        Some(Reason::Type)
    } else if !rules.spaces.iter().any(|selector| selector.matches(event.space, event.direct)) {
        Some(Reason::Space)
    } else if event.own && rules.ignore_own {
        Some(Reason::OwnMessage)
    } else {
        None
    }
}

/// [`decide`] without the body: whether `webhook` gets `event` if its filter agrees.
pub(super) fn may_match(webhook: &Webhook, event: &EventView<'_>) -> bool {
    webhook.status == WebhookStatus::Enabled && objection(webhook.rules(), event).is_none()
}

/// The rest of [`decide`] after [`may_match`].
pub(super) fn filter_agrees(webhook: &Webhook, event: &EventView<'_>) -> bool {
    filter_for(webhook.rules(), event).is_none_or(|filter| filter.matches(event.facts()))
}

/// The filter that `event` has to pass. What happened in no space, and so is no message, is chosen by its type alone.
fn filter_for<'a>(rules: Rules<'a>, event: &EventView<'_>) -> Option<&'a Filter> {
    rules.filter.filter(|_| !event.space.is_nowhere())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::{AccountId, EventPattern, EventType, Filter, SpaceId, SpaceSelector};

    struct Wanted {
        events: Vec<EventPattern>,
        spaces: Vec<SpaceSelector>,
        filter: Option<Filter>,
        ignore_own: bool,
    }

    impl Wanted {
        fn new(spaces: &str, filter: Option<serde_json::Value>) -> Self {
            Self {
                events: vec!["message.*".parse().expect("a pattern")],
                spaces: vec![spaces.to_owned().try_into().expect("a selector")],
                filter: filter.map(|filter| serde_json::from_value(filter).expect("a filter")),
                ignore_own: true,
            }
        }

        fn rules(&self) -> Rules<'_> {
            Rules { events: &self.events, spaces: &self.spaces, filter: self.filter.as_ref(), ignore_own: self.ignore_own }
        }

        /// What is said of an event in the space `s1`.
        fn of(&self, event_type: &str, direct: bool, own: bool, body: &str) -> Match {
            let account: AccountId = "acc_u1".parse().expect("an id");
            let (event_type, space): (EventType, SpaceId) = (event_type.parse().expect("a type"), "s1".parse().expect("an id"));
            let event = EventView::new(&account, &event_type, &space, (direct, own), body.as_bytes());
            decide_by_rules(self.rules(), &event)
        }
    }

    #[test]
    fn the_first_thing_that_stands_against_it_is_the_reason() {
        let chat = json!({"data": {"category": "chat", "message": {"text": "hi"}}}).to_string();
        let filter = Some(json!({"all": [{"category": "chat"}, {"text": {"prefix": "!"}}]}));
        let no = Match::NotMatched;
        for (spaces, filter, event_type, direct, own, expected) in [
            ("*", None, "message.created", false, false, Match::Matched),
            ("*", None, "space.updated", false, false, no(Reason::Type)),
            ("*", None, "message.created", true, false, no(Reason::Space)),
            ("direct", None, "message.created", true, false, Match::Matched),
            ("direct", None, "message.created", false, false, no(Reason::Space)),
            ("s1", None, "message.created", true, false, Match::Matched),
            ("s2", None, "message.created", false, true, no(Reason::Space)),
            ("*", filter.clone(), "message.created", false, true, no(Reason::OwnMessage)),
            ("*", filter, "message.created", false, false, no(Reason::Filter { path: "/all/1/text/prefix".to_owned() })),
            ("*", Some(json!({"category": "chat"})), "message.updated", false, false, Match::Matched),
        ] {
            let wanted = Wanted::new(spaces, filter.clone());
            assert_eq!(wanted.of(event_type, direct, own, &chat), expected, "{spaces} {filter:?} {event_type} {direct} {own}");
        }
    }

    #[test]
    fn what_happened_in_no_space_is_chosen_by_its_type_alone() {
        let account: AccountId = "acc_u1".parse().expect("an id");
        let nowhere = SpaceId::nowhere();
        let event = EventView::new(&account, &EventType::SEND_FAILED, &nowhere, (false, false), b"{}");
        let mut wanted = Wanted::new("s2", Some(json!({"category": "chat"})));
        assert_eq!(decide_by_rules(wanted.rules(), &event), Match::NotMatched(Reason::Type));
        wanted.events.push("send.failed".parse().expect("a pattern"));
        assert_eq!(decide_by_rules(wanted.rules(), &event), Match::Matched);
    }

    #[test]
    fn the_body_is_not_read_unless_a_filter_asks() {
        let account: AccountId = "acc_u1".parse().expect("an id");
        let space: SpaceId = "s1".parse().expect("an id");
        let event = EventView::new(&account, &EventType::MESSAGE_CREATED, &space, (false, false), b"{}");
        let without = Wanted::new("*", None);
        assert_eq!(decide_by_rules(without.rules(), &event), Match::Matched);
        assert!(!event.is_read());
        let other_space = Wanted::new("s2", Some(json!({"category": "chat"})));
        assert_eq!(decide_by_rules(other_space.rules(), &event), Match::NotMatched(Reason::Space));
        assert!(!event.is_read());
        let with = Wanted::new("*", Some(json!({"category": "chat"})));
        assert_ne!(decide_by_rules(with.rules(), &event), Match::Matched);
        assert!(event.is_read());
    }

    proptest! {
        #[test]
        fn no_body_is_too_odd_to_match(body in "\\PC{0,120}") {
            let wanted = Wanted::new("*", Some(json!({"not": {"text": {"regex": "a+b"}}})));
            let _ = wanted.of("message.created", false, false, &body);
        }
    }
}
