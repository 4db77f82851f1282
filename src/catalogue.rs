//! The event catalogue: every type that can occur, what it means, the JSON Schema of its body, and an example.
//!
//! A type keeps its meaning and its schema. Fields may be added; receivers ignore those that they do not know.

mod data;
mod examples;

use serde_json::{Value, json};

use crate::domain::EventType;

/// One type of event.
#[derive(Debug)]
pub struct EventKind {
    /// Its name.
    pub event_type: EventType,
    /// What it means.
    pub description: &'static str,
    /// The version that it came with.
    pub since: &'static str,
    data: fn() -> Value,
    example: fn() -> Value,
}

/// Every type, in the order of their names.
pub const KINDS: &[EventKind] = &[
    kind(
        EventType::HOOK_FAILED,
        "A call of an incoming hook did not become the message that it should: it was not understood, or refused. Each kind of failure of \
         a hook is told once an hour.",
        data::hook_failed,
        examples::hook_failed,
    ),
    kind(EventType::MEDIA_ENDED, "A meeting in a space ended.", data::activity, examples::media_ended),
    kind(
        EventType::MEDIA_OTHER,
        "Something else happened in a meeting: attendees, recordings, calls; `category` says what, in the words of Spaces.",
        data::activity,
        examples::media_other,
    ),
    kind(EventType::MEDIA_STARTED, "A meeting in a space began.", data::activity, examples::media_started),
    kind(
        EventType::MESSAGE_CREATED,
        "A chat message, post, task or comment came into being.",
        data::message,
        examples::message_created,
    ),
    kind(
        EventType::MESSAGE_DELETED,
        "A message was deleted, as far as Spaces says so.",
        data::message,
        examples::message_deleted,
    ),
    kind(
        EventType::MESSAGE_OTHER,
        "Spaces sent something as a message whose category the bridge does not know. Nothing is left out: `upstream` has it all.",
        data::other_message,
        examples::message_other,
    ),
    kind(
        EventType::MESSAGE_UPDATED,
        "A message was changed: its time of change differs from that of its creation.",
        data::message,
        examples::message_updated,
    ),
    kind(EventType::PRESENCE_LEFT, "Someone left a space: closed it, or went offline.", data::activity, examples::presence_left),
    kind(
        EventType::PRESENCE_ONLINE,
        "Someone is in a space, or how they take part has changed.",
        data::activity,
        examples::presence_online,
    ),
    kind(
        EventType::PRESENCE_OTHER,
        "Something else about presence; `category` says what, in the words of Spaces.",
        data::activity,
        examples::presence_other,
    ),
    kind(EventType::PRESENCE_TYPING, "Someone is typing in a space.", data::activity, examples::presence_typing),
    kind(
        EventType::SEND_FAILED,
        "A message whose outcome was not known when its sender was answered (`202`) turned out to be refused by Spaces.",
        data::send_failed,
        examples::send_failed,
    ),
    kind(
        EventType::SESSION_AUTH_FAILED,
        "Spaces refused the token of a session. Nothing more comes in until a call brings a token that works.",
        data::session_auth_failed,
        examples::session_auth_failed,
    ),
    kind(
        EventType::SESSION_CONNECTED,
        "A session is connected to Spaces. One that comes and goes all the time is told of once a minute; `lostConnections` counts.",
        data::session_connected,
        examples::session_connected,
    ),
    kind(
        EventType::SESSION_DEGRADED,
        "A session was connected and heard nothing; it is connected anew, and what it missed is read from the history. Told once until \
         the session has shown that it is alive.",
        data::session_degraded,
        examples::session_degraded,
    ),
    kind(
        EventType::SESSION_DISCONNECTED,
        "A session has lost or closed its connection. What happens in Spaces meanwhile is read from the history when it is back.",
        data::session_disconnected,
        examples::session_disconnected,
    ),
    kind(
        EventType::SESSION_GAP,
        "Events of a space may be missing: a session was not connected, and the history could not be read. Told once of each gap.",
        data::session_gap,
        examples::session_gap,
    ),
    kind(
        EventType::SPACE_UPDATED,
        "A space was renamed, archived or otherwise changed.",
        data::other_message,
        examples::space_updated,
    ),
    kind(
        EventType::WEBHOOK_DISABLED,
        "The bridge switched a webhook off; other webhooks of the account learn of it.",
        data::webhook_disabled,
        examples::webhook_disabled,
    ),
    kind(
        EventType::WEBHOOK_TEST,
        "Someone tried a webhook with `POST /webhooks/{id}/test`; only this one gets it.",
        data::webhook_test,
        examples::webhook_test,
    ),
];

const fn kind(event_type: EventType, description: &'static str, data: fn() -> Value, example: fn() -> Value) -> EventKind {
    EventKind { event_type, description, since: "0.1.0", data, example }
}

impl EventKind {
    /// Whether only webhooks get it that name it or its family.
    pub fn is_opt_in(&self) -> bool {
        self.event_type.is_opt_in()
    }

    /// The JSON Schema (2020-12) of its body.
    pub fn schema(&self) -> Value {
        let name = self.event_type.as_str();
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": format!("urn:spaces-bridge:event:{name}"),
            "title": name,
            "description": self.description,
            "type": "object",
            "required": ["type", "timestamp", "data"],
            "properties": {
                "type": {"const": name},
                "timestamp": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When it happened, as Spaces says; when the bridge saw it where Spaces says nothing.",
                },
                "data": (self.data)(),
            },
        })
    }

    /// A body as deliveries have it.
    pub fn example(&self) -> Value {
        json!({"type": self.event_type.as_str(), "timestamp": examples::TIME, "data": (self.example)()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_fits_its_schema_and_no_other_type() {
        for kind in KINDS {
            let schema = kind.schema();
            jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{}: {error}", kind.event_type));
            let options = jsonschema::options().should_validate_formats(true);
            let validator = options.build(&schema).expect("a schema");
            validator.validate(&kind.example()).unwrap_or_else(|error| panic!("{}: {error}", kind.event_type));
            for other in KINDS.iter().filter(|other| other.event_type != kind.event_type) {
                assert!(!validator.is_valid(&other.example()), "{} takes {}", kind.event_type, other.event_type);
            }
        }
    }

    #[test]
    fn a_schema_misses_what_a_body_lacks() {
        for kind in KINDS {
            let validator = jsonschema::validator_for(&kind.schema()).expect("a schema");
            let example = kind.example();
            let fields: Vec<String> = example["data"].as_object().expect("an object").keys().cloned().collect();
            for field in fields {
                let mut body = example.clone();
                body["data"].as_object_mut().expect("an object").remove(&field);
                assert!(!validator.is_valid(&body), "{} does without `{field}`", kind.event_type);
            }
        }
    }

    #[test]
    fn types_are_listed_once_and_in_order() {
        assert!(KINDS.windows(2).all(|pair| pair[0].event_type < pair[1].event_type));
    }
}
