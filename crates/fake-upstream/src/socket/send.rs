//! Messages: taken from clients, stored, shown to everyone concerned.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::clock;
use crate::record::ConnectionId;
use crate::script::{ChangeStyle, Place, SendFault, SendRefusal};
use crate::state::{Delivery, Faults, Shared, State, event_frame};
use crate::world::{Draft, completed_sender};

const SUBSCRIPTION_REQUIRED: &str = "app.event.channel.subscription.required";

/// Where a message came from.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    /// The token whose script applies; empty for acts of the test.
    pub(crate) token: Arc<str>,
    /// The sending socket and the `loopbackMetadata` that only it gets back.
    pub(crate) socket: Option<(ConnectionId, Option<Value>)>,
}

/// What kind of change an event tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Edited,
    Deleted,
}

/// `SEND_MESSAGE`
pub(super) fn send_message(shared: &Arc<Shared>, state: &mut State, id: ConnectionId, user: &str, payload: Map<String, Value>) {
    let Some(sender) = state.hub.get(id) else {
        return;
    };
    let token = Arc::clone(&sender.token);
    let refusal = match state.scripts.take(&token, |script| &mut script.send_refusal) {
        Some(scripted) => Some(scripted),
        None => refusal_by_rule(state, id, user, &payload),
    };
    if let Some(refusal) = refusal {
        return refuse(state, id, user, &token, payload, refusal);
    }
    let fault = state.scripts.take(&token, |script| &mut script.send_fault);
    if let Some(SendFault::BeforeStoring(fault)) = fault {
        state.hub.suffer(id, fault, &mut state.seen);
        return;
    }
    let loopback = payload.get("loopbackMetadata").cloned();
    let draft = Draft {
        space: payload.get("topicId").and_then(Value::as_str).unwrap_or_default().to_owned(),
        sender: user.to_owned(),
        payload,
        created_ms: clock::now_ms(),
    };
    if let Some(SendFault::AfterStoring(fault)) = fault {
        // The blow comes first, so that the echo finds nobody.
        state.hub.suffer(id, fault, &mut state.seen);
    }
    announce(shared, state, draft, Origin { token, socket: Some((id, loopback)) });
}

/// What the rules of the space and the documentation say against a message.
fn refusal_by_rule(state: &mut State, id: ConnectionId, user: &str, payload: &Map<String, Value>) -> Option<SendRefusal> {
    let sender = state.hub.get(id)?;
    let space_id = payload.get("topicId").and_then(Value::as_str).unwrap_or_default();
    if !sender.subscriptions.contains(space_id) {
        let token = Arc::clone(&sender.token);
        let place = state.scripts.take(&token, |script| &mut script.subscription_required);
        return Some(SendRefusal::SubscriptionRequired(place.unwrap_or(Place::Error)));
    }
    let category = payload.get("category").and_then(Value::as_str);
    let text = payload.get("content").and_then(|content| content.get("bodyText"));
    if !matches!(category, Some("chat" | "idea" | "task")) || !text.is_some_and(Value::is_string) {
        let message = "category and content.bodyText are required".to_owned();
        return Some(SendRefusal::Object { code: "invalid.parameters".to_owned(), message });
    }
    let space = state.world.spaces.get(space_id)?;
    if space.muted.contains(user) {
        return Some(SendRefusal::policy());
    }
    space.archived.then(|| SendRefusal::Text("topic.invalid_acesss_to_archived_topic".to_owned()))
}

fn refuse(state: &mut State, id: ConnectionId, user: &str, token: &str, payload: Map<String, Value>, refusal: SendRefusal) {
    let completed = match state.world.users.get(user) {
        Some(user) => completed_sender(&payload, user),
        None => payload.clone(),
    };
    let mut answer = match refusal {
        SendRefusal::Silence => return,
        SendRefusal::Bare => payload,
        SendRefusal::Text(text) => with(completed, "error", text.into()),
        SendRefusal::Object { code, message } => with(completed, "error", json!({"code": code, "message": message})),
        SendRefusal::SubscriptionRequired(place) => {
            let word: Value = SUBSCRIPTION_REQUIRED.into();
            match place {
                Place::Error => with(completed, "error", word),
                Place::ErrorCode => with(completed, "error", json!({"code": word, "message": "subscribe first"})),
                Place::Category => with(completed, "category", word),
                Place::Type => with(completed, "type", word),
                Place::Code => with(completed, "code", word),
            }
        }
    };
    if state.scripts.take(token, |script| &mut script.failure_without_loopback).is_some() {
        answer.remove("loopbackMetadata");
    }
    let frame = event_frame("SEND_MESSAGE_FAILED", &Value::Object(answer));
    state.hub.send(id, frame, &mut state.seen);
}

fn with(mut object: Map<String, Value>, name: &str, value: Value) -> Map<String, Value> {
    object.insert(name.to_owned(), value);
    object
}

/// Stores a message and sends `MESSAGE_SENT` to everyone concerned; answers the message as stored.
pub(crate) fn announce(shared: &Arc<Shared>, state: &mut State, mut draft: Draft, origin: Origin) -> Option<Value> {
    if let Some(style) = state.scripts.take(&origin.token, |script| &mut script.text)
        && let Some(Value::Object(content)) = draft.payload.get_mut("content")
    {
        for field in ["bodyText", "description"] {
            if let Some(Value::String(text)) = content.get_mut(field) {
                *text = style.apply(text);
            }
        }
    }
    let message = state.world.store(draft)?;
    let space = message.space.clone();
    let object = message.to_json();
    broadcast(shared, state, &space, &object, origin);
    Some(object)
}

/// Sends `MESSAGE_SENT` for a message that was edited or deleted; answers the message as it is now.
pub(crate) fn announce_change(
    shared: &Arc<Shared>,
    state: &mut State,
    message_id: &str,
    change: Change,
    token: &Arc<str>,
) -> Option<Value> {
    let style = state.scripts.take(token, |script| match change {
        Change::Edited => &mut script.edits,
        Change::Deleted => &mut script.deletions,
    });
    let message = state.world.messages.get(message_id)?;
    let space = message.space.clone();
    let mut object = message.to_json();
    if let Some(ChangeStyle::Category(category)) = style {
        object["category"] = category.into();
    }
    broadcast(shared, state, &space, &object, Origin { token: Arc::clone(token), socket: None });
    Some(object)
}

fn broadcast(shared: &Arc<Shared>, state: &mut State, space: &str, object: &Value, origin: Origin) {
    let frame = event_frame("MESSAGE_SENT", object);
    let mut delivery = Delivery::new(space, frame.clone());
    let mut faults = Faults { event: state.scripts.take(&origin.token, |script| &mut script.events), echo: None };
    if let Some((sender, loopback)) = origin.socket {
        delivery = delivery.with_echo(sender, with_loopback(&frame, loopback.as_ref()));
        faults.echo = state.scripts.take(&origin.token, |script| &mut script.echo);
    }
    shared.dispatch(state, delivery, &faults);
}

/// The frame with `loopbackMetadata` as the last member of its object, so that the rest is serialised once.
fn with_loopback(frame: &Utf8Bytes, loopback: Option<&Value>) -> Utf8Bytes {
    match (loopback, frame.as_str().strip_suffix("}]")) {
        (Some(loopback), Some(open)) => format!(r#"{open},"loopbackMetadata":{loopback}}}]"#).into(),
        _ => frame.clone(),
    }
}
