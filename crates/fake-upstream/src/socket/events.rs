//! What a joined client emits, apart from messages.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::connection::Connection;
use super::send;
use crate::record::ConnectionId;
use crate::script::{OverLimit, SubscribeFault};
use crate::state::{Shared, State, Window, event_frame};

/// One event of the client, by name; unknown ones are taken silently.
pub(super) fn on_event(connection: &Connection, event: &str, payload: &str) {
    let shared = &connection.shared;
    let state = &mut *shared.lock();
    let id = connection.id;
    let Some(sender) = state.hub.get(id).filter(|sender| sender.joined) else {
        return;
    };
    let token = Arc::clone(&sender.token);
    let Some(user) = sender.user.clone() else {
        return;
    };
    state.seen.emit(id, &token, event, payload);

    let Ok(Value::Object(payload_object)) = serde_json::from_str::<Value>(payload) else {
        return;
    };
    if let Some(over) = state.limit_exceeded(&token, &user, payload.len()) {
        return on_over_limit(state, id, event, payload_object, over);
    }
    match event {
        "SUBSCRIBE_CHANNEL" => subscribe(shared, state, id, &user, payload_object),
        "UNSUBSCRIBE_CHANNEL" => unsubscribe(state, id, &payload_object),
        "SEND_MESSAGE" => send::send_message(shared, state, id, &user, payload_object),
        "SEND_PRESENCE_EVENT" => relay_presence(state, id, &user, payload_object),
        "SEND_MEDIA_SESSION_EVENTS" => relay_media(state, id, &user, payload_object),
        _ => {}
    }
}

impl State {
    fn limit_exceeded(&mut self, token: &str, user: &str, bytes: usize) -> Option<OverLimit> {
        let too_large = self.limits.payload_kib.is_some_and(|kib| bytes as u64 > u64::from(kib) * 1024);
        if too_large {
            let over = self.scripts.take(token, |script| &mut script.over_payload);
            return Some(over.unwrap_or(OverLimit::Silence));
        }
        let window = match self.emit_rates.get_mut(user) {
            Some(window) => window,
            None => self.emit_rates.entry(user.to_owned()).or_insert_with(Window::new),
        };
        let interval = Duration::from_secs(self.limits.emit_interval.into());
        window.count(self.limits.emits, interval).err()?;
        let over = self.scripts.take(token, |script| &mut script.over_emits);
        Some(over.unwrap_or(OverLimit::Silence))
    }
}

fn on_over_limit(state: &mut State, id: ConnectionId, event: &str, mut payload: Map<String, Value>, over: OverLimit) {
    match over {
        OverLimit::Failed(error) if event == "SEND_MESSAGE" => {
            payload.insert("error".to_owned(), error.into());
            let frame = event_frame("SEND_MESSAGE_FAILED", &Value::Object(payload));
            state.hub.send(id, frame, &mut state.seen);
        }
        OverLimit::Failed(_) | OverLimit::Silence => {}
        OverLimit::Fault(fault) => {
            state.hub.suffer(id, fault, &mut state.seen);
        }
    }
}

fn subscribe(shared: &Arc<Shared>, state: &mut State, id: ConnectionId, user: &str, payload: Map<String, Value>) {
    let token = state.hub.get(id).map(|connection| Arc::clone(&connection.token)).unwrap_or_default();
    let fault = state.scripts.take(&token, |script| &mut script.subscribe);
    if let Some(SubscribeFault::Refused { code, message, with_channel }) = &fault {
        return refuse_subscription(state, id, payload, code, message, *with_channel);
    }
    if fault == Some(SubscribeFault::Ignored) {
        return;
    }
    let channel = payload.get("channel").filter(|channel| channel.is_object());
    let Some(space_id) = channel.and_then(|channel| channel.get("_id")).and_then(Value::as_str).map(str::to_owned) else {
        return refuse_subscription(state, id, payload, "invalid.parameters", "channel data was not provided", true);
    };
    let pin = channel.and_then(|channel| channel.get("password")).and_then(Value::as_str);
    let refusal = match state.world.spaces.get(&space_id) {
        None => Some(("topic.not.found", "the space does not exist")),
        Some(space) if !space.admits(user) => Some(("not.authorized", "not a member of the space")),
        Some(space) if !space.accepts_pin(pin) => Some(("invalid.password", "the password is wrong")),
        Some(_) => None,
    };
    if let Some((code, message)) = refusal {
        return refuse_subscription(state, id, payload, code, message, true);
    }
    let answer = json!({
        "channel": {"_id": space_id, "type": "topic"},
        "dtsid": state.world.ids.device_session(),
        "sessionId": state.world.ids.uuid(),
    });
    let finish = move |state: &mut State, answers: u32| {
        state.hub.subscribe(id, &space_id);
        record_subscriptions(state, id);
        for _ in 0..answers {
            state.hub.send(id, event_frame("CHANNEL_SUBSCRIBED", &answer), &mut state.seen);
        }
    };
    match fault {
        Some(SubscribeFault::Late(delay)) => shared.after(delay, move |state| finish(state, 1)),
        Some(SubscribeFault::Unanswered) => finish(state, 0),
        Some(SubscribeFault::AnsweredTwice) => finish(state, 2),
        Some(SubscribeFault::Refused { .. } | SubscribeFault::Ignored) | None => finish(state, 1),
    }
}

fn refuse_subscription(
    state: &mut State,
    id: ConnectionId,
    mut payload: Map<String, Value>,
    code: &str,
    message: &str,
    with_channel: bool,
) {
    if !with_channel {
        payload.remove("channel");
    }
    payload.insert("error".to_owned(), json!({"code": code, "message": message}));
    let frame = event_frame("SUBSCRIBE_CHANNEL_FAILED", &Value::Object(payload));
    state.hub.send(id, frame, &mut state.seen);
}

fn unsubscribe(state: &mut State, id: ConnectionId, payload: &Map<String, Value>) {
    let Some(channel) = payload.get("channel") else {
        return;
    };
    let Some(space_id) = channel.get("_id").and_then(Value::as_str) else {
        return;
    };
    state.hub.unsubscribe(id, space_id);
    record_subscriptions(state, id);
    let answer = json!({"channel": {"_id": space_id, "type": "topic"}});
    state.hub.send(id, event_frame("CHANNEL_UNSUBSCRIBED", &answer), &mut state.seen);
}

fn record_subscriptions(state: &mut State, id: ConnectionId) {
    if let (Some(connection), Some(entry)) = (state.hub.get(id), state.seen.connection(id)) {
        entry.subscriptions.clone_from(&connection.subscriptions);
    }
}

/// Presence goes to every subscriber, the sender included; what cannot be processed comes back as invalid.
fn relay_presence(state: &mut State, id: ConnectionId, user: &str, mut payload: Map<String, Value>) {
    complete_sender(state, user, &mut payload);
    payload.remove("loopbackMetadata");
    let space_id = payload.get("topicId").and_then(Value::as_str).unwrap_or_default().to_owned();
    let subscribed = state.hub.get(id).is_some_and(|connection| connection.subscriptions.contains(&space_id));
    if !subscribed || !payload.get("category").is_some_and(Value::is_string) {
        payload.insert("category".to_owned(), "media.session.invalid".into());
        let frame = event_frame("PRESENCE_EVENT_RESPONSE", &Value::Object(payload));
        return state.hub.send(id, frame, &mut state.seen);
    }
    payload.entry("receivers").or_insert_with(|| json!([]));
    let frame = event_frame("PRESENCE_EVENT_RESPONSE", &Value::Object(payload));
    let subscribers: Vec<_> = state.hub.subscribers(&space_id).collect();
    for subscriber in subscribers {
        state.hub.send(subscriber, frame.clone(), &mut state.seen);
    }
}

/// Media events go to the other subscribers.
fn relay_media(state: &mut State, id: ConnectionId, user: &str, mut payload: Map<String, Value>) {
    complete_sender(state, user, &mut payload);
    let space_id = payload.get("topicId").and_then(Value::as_str).unwrap_or_default().to_owned();
    let subscribed = state.hub.get(id).is_some_and(|connection| connection.subscriptions.contains(&space_id));
    if !subscribed {
        return;
    }
    let event_id = state.world.ids.object();
    payload.insert("_id".to_owned(), event_id.into());
    let frame = event_frame("MEDIA_SESSION_RESPONSE", &Value::Object(payload));
    let others: Vec<_> = state.hub.subscribers(&space_id).filter(|subscriber| *subscriber != id).collect();
    for subscriber in others {
        state.hub.send(subscriber, frame.clone(), &mut state.seen);
    }
}

fn complete_sender(state: &State, user: &str, payload: &mut Map<String, Value>) {
    if let Some(user) = state.world.users.get(user) {
        payload.insert("sender".to_owned(), user.as_sender());
    }
}
