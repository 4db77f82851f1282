//! The schemas of `data`, by what happened.

use serde_json::{Value, json};

/// A message, post, task or comment.
pub(super) fn message() -> Value {
    let mut data = other_message();
    data["properties"]["category"] = json!({
        "enum": ["chat", "post", "task"],
        "description": "What kind of message it is.",
    });
    data
}

/// Anything that arrives the way messages do.
pub(super) fn other_message() -> Value {
    let mut data = in_space(json!({
        "category": text_or_null("The category, in the words of Spaces."),
        "own": {"type": "boolean", "description": "Whether this account sent it, or made the change that it tells of, through the bridge."},
        "recovered": {"type": "boolean", "description": "Whether it was read from the history, because no connection saw it."},
        "message": normalised_message(),
    }));
    require(&mut data, &["category", "own", "recovered", "message"]);
    data
}

fn normalised_message() -> Value {
    json!({
        "type": "object",
        "description": "The message in one form, whatever its category.",
        "required": ["id", "text", "html", "sender", "attachments", "replyTo", "createdAt", "modifiedAt"],
        "properties": {
            "id": text_or_null("The message's id in Spaces; the same for every change of it."),
            "text": text_or_null("What it says, as plain text with its lines, lists and links; the title of a post or task."),
            "html": text_or_null("The same as Spaces keeps it."),
            "description": {"type": "string", "description": "The body of a post or task, as Spaces keeps it."},
            "descriptionText": {"type": "string", "description": "The same as plain text, if it says anything."},
            "sender": sender(),
            "attachments": {"description": "The attachments as Spaces describes them, each with `url`, the path at which this service gives the file (`GET /files/{fileId}`); `null` if Spaces says nothing of them."},
            "replyTo": text_or_null("The message that it comments on."),
            "createdAt": time_or_null("When it was created."),
            "modifiedAt": time_or_null("When it was last changed."),
        },
    })
}

fn sender() -> Value {
    json!({
        "type": ["object", "null"],
        "description": "Who did it.",
        "required": ["id", "type", "username", "displayName"],
        "properties": {
            "id": text_or_null("The user's id in Spaces."),
            "type": text_or_null("`user`, `anonymous`, `phone` or `spaceserver`."),
            "username": text_or_null("The login name."),
            "displayName": text_or_null("The name shown."),
        },
    })
}

/// Presence and media.
pub(super) fn activity() -> Value {
    let mut data = in_space(json!({
        "category": text_or_null("The category, in the words of Spaces."),
        "sender": sender(),
    }));
    require(&mut data, &["category", "sender"]);
    data
}

/// A refused send.
pub(super) fn send_failed() -> Value {
    let mut data = of_account(json!({
        "ref": id("ref_", "The send, as its sender was told; `GET /messages/{ref}` shows it."),
        "spaceId": {"type": "string", "description": "Where it was to go."},
        "category": {"type": "string", "description": "What it was: `chat`, `post` or `task`."},
        "code": text_or_null("The code that Spaces gave for the refusal."),
        "message": text_or_null("The words that Spaces gave for the refusal."),
    }));
    require(&mut data, &["ref", "spaceId", "category", "code", "message"]);
    data
}

/// A session that is connected.
pub(super) fn session_connected() -> Value {
    let mut data = of_account(json!({"sessionId": session_id(), "lostConnections": lost_connections()}));
    require(&mut data, &["sessionId", "lostConnections"]);
    data
}

/// A session that is not connected.
pub(super) fn session_disconnected() -> Value {
    let mut data = of_account(json!({
        "sessionId": session_id(),
        "lostConnections": lost_connections(),
        "cause": {
            "enum": ["connection_lost", "idle", "requested", "shutdown"],
            "description": "`connection_lost`: it broke and is being made again. `idle`: nothing needed it. `requested`: someone \
                closed the session. `shutdown`: the service stops.",
        },
        "reason": text_or_null("What broke the connection, for people."),
    }));
    require(&mut data, &["sessionId", "lostConnections", "cause", "reason"]);
    data
}

/// A session that was deaf.
pub(super) fn session_degraded() -> Value {
    let mut data = of_account(json!({
        "sessionId": session_id(),
        "reason": {
            "enum": ["probe_unanswered", "events_missing"],
            "description": "`probe_unanswered`: Spaces kept the connection and answered nothing. `events_missing`: the history shows a \
                message that never came.",
        },
        "spaceId": text_or_null("The space whose message never came, if that showed it."),
        "since": {"type": "string", "format": "date-time", "description": "When the session last heard something of its spaces."},
    }));
    require(&mut data, &["sessionId", "reason", "spaceId", "since"]);
    data
}

/// A gap that was not closed.
pub(super) fn session_gap() -> Value {
    let mut data = of_account(json!({
        "sessionId": session_id(),
        "spaceId": {"type": "string", "description": "The space in which events may be missing."},
        "from": {"type": "string", "format": "date-time", "description": "From when on."},
        "to": time_or_null("Until when; `null` if it goes on."),
        "reason": {
            "type": "string",
            "description": "`history_refused`: this user may not read the history. `history_unavailable`, `token_refused`: it could \
                not be read for long; the session goes on trying, and if it succeeds the events come after all. `too_old`, \
                `too_long`: more than the service reads back. `space_refused`: Spaces refuses a space that was subscribed before.",
        },
    }));
    require(&mut data, &["sessionId", "spaceId", "from", "to", "reason"]);
    data
}

/// A session whose token was refused.
pub(super) fn session_auth_failed() -> Value {
    let mut data = of_account(json!({
        "sessionId": session_id(),
        "reason": {"type": "string", "description": "What Spaces said, for people."},
    }));
    require(&mut data, &["sessionId", "reason"]);
    data
}

/// A call of an incoming hook that went wrong.
pub(super) fn hook_failed() -> Value {
    let mut data = of_account(json!({
        "hookId": id("hook_", "The incoming hook; `GET /incoming-hooks/{id}` shows it."),
        "reason": {
            "type": "string",
            "description": "`not_understood`: the body makes no sense in the hook's format. `not_readable`: it is not what it says that \
                it is. `template_failed`: the hook's template makes nothing of it. Otherwise the `code` of the problem that the caller \
                was answered, such as `incoming_hook_rate_limited`, `body_too_large` or `outbox_full`.",
        },
        "detail": {"type": "string", "description": "What went wrong, for people."},
        "ref": text_or_null("The message that was sent all the same, which quotes what came; `null` if the call was refused."),
    }));
    require(&mut data, &["hookId", "reason", "detail", "ref"]);
    data
}

/// A webhook that was switched off.
pub(super) fn webhook_disabled() -> Value {
    let mut data = of_account(json!({
        "webhookId": webhook_id(),
        "reason": {
            "type": "string",
            "description": "`gone`: its receiver answered `410`. `failing`: nothing but failures for too long. `steered`: its \
                receiver asked for it.",
        },
        "failingSince": time_or_null("Since when every attempt failed, if that is why."),
    }));
    require(&mut data, &["webhookId", "reason", "failingSince"]);
    data
}

/// A test.
pub(super) fn webhook_test() -> Value {
    let mut data = of_account(json!({"webhookId": webhook_id()}));
    require(&mut data, &["webhookId"]);
    data
}

/// What every event has, and `properties`.
fn of_account(mut properties: Value) -> Value {
    properties["eventId"] = id("evt_", "The event; the `webhook-id` header of its deliveries, the same on every repeat.");
    properties["account"] = id("acc_", "Whose event it is.");
    json!({"type": "object", "required": ["eventId", "account"], "properties": properties})
}

/// What every event of Spaces has, and `properties`.
fn in_space(mut properties: Value) -> Value {
    properties["spaceId"] = json!({"type": "string", "description": "The space, as Spaces numbers it."});
    properties["spaceType"] = json!({
        "enum": ["group", "direct", "personal", null],
        "description": "The kind of space; `null` if Spaces does not say.",
    });
    properties["upstream"] = json!({"type": "object", "description": "The object as Spaces sent it."});
    let mut data = of_account(properties);
    require(&mut data, &["spaceId", "spaceType", "upstream"]);
    data
}

fn require(data: &mut Value, fields: &[&str]) {
    let required = data["required"].as_array_mut().expect("every schema of data has a list");
    required.extend(fields.iter().map(|field| json!(field)));
}

fn id(prefix: &str, description: &str) -> Value {
    json!({"type": "string", "pattern": format!("^{prefix}"), "description": description})
}

fn session_id() -> Value {
    id("ses_", "The session; `GET /sessions/{id}` shows it.")
}

fn webhook_id() -> Value {
    id("wh_", "The webhook.")
}

fn lost_connections() -> Value {
    json!({
        "type": "integer",
        "minimum": 0,
        "description": "Connections that this session lost since the event before; more than one if not each was told of.",
    })
}

fn text_or_null(description: &str) -> Value {
    json!({"type": ["string", "null"], "description": description})
}

fn time_or_null(description: &str) -> Value {
    json!({"type": ["string", "null"], "format": "date-time", "description": description})
}
