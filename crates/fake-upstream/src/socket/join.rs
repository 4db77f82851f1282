//! Admission to `/chat`.

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use socketio_client::codec::decode_query;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::connection::{Connection, Step};
use crate::clock;
use crate::record::Ended;
use crate::script::{AckStyle, Refusal};
use crate::state::State;

pub(super) const NAMESPACE: &str = "/chat";

/// `40/chat?token=…&tokenType=…,`
pub(super) fn on_connect(connection: &mut Connection, namespace: &str, query: Option<&str>, payload: Option<&str>) -> Step {
    if namespace == "/" {
        return Step::GoOn;
    }
    let shared = Arc::clone(&connection.shared);
    let state = &mut *shared.lock();
    if namespace != NAMESPACE {
        let refusal = Utf8Bytes::from(format!("44{namespace},\"Invalid namespace\""));
        state.hub.send(connection.id, refusal, &mut state.seen);
        return Step::GoOn;
    }
    if let Some(entry) = state.seen.connection(connection.id) {
        entry.join_query = query.map(str::to_owned);
    }
    if payload.is_some() {
        // The form of Socket.IO 3: a 2.0.4 server drops it without an answer.
        return Step::GoOn;
    }

    let joining = credentials(connection, query);
    match state.refusal_at_join(&joining) {
        Some(refusal) => {
            state.seen.join_refused();
            refuse(connection, state, refusal)
        }
        None => admit(connection, state, &joining),
    }
}

/// What the client offers, the URL winning over the packet.
struct Credentials {
    token: Arc<str>,
    token_type: Option<String>,
}

fn credentials(connection: &Connection, query: Option<&str>) -> Credentials {
    let packet = decode_query(query.unwrap_or_default());
    let find = |name: &str| {
        let pairs = connection.handshake.query.iter().chain(&packet);
        pairs.into_iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.clone())
    };
    Credentials { token: find("token").unwrap_or_default().into(), token_type: find("tokenType") }
}

impl State {
    /// What keeps a client out before the WebSocket exists.
    pub(super) fn refusal_at_upgrade(&mut self, token: &str) -> Option<Refusal> {
        let scripted = self.scripts.take_if(token, |script| &mut script.refuse, Refusal::is_at_upgrade);
        let refusal = scripted.or_else(|| {
            if self.world.valid_token(token).is_none() {
                return self.scripts.take_if(token, |script| &mut script.bad_token, Refusal::is_at_upgrade);
            }
            if self.has_too_many_connections(token) {
                return self.scripts.take_if(token, |script| &mut script.over_connections, Refusal::is_at_upgrade);
            }
            None
        });
        if refusal.is_some() {
            self.seen.join_refused();
        }
        refusal
    }

    fn refusal_at_join(&mut self, offered: &Credentials) -> Option<Refusal> {
        let token = &*offered.token;
        if let Some(refusal) = self.scripts.take_if(token, |script| &mut script.refuse, |refusal| !refusal.is_at_upgrade()) {
            return Some(refusal);
        }
        let known = self
            .world
            .valid_token(token)
            .filter(|known| offered.token_type.as_deref().is_none_or(|token_type| known.kind.accepts_socket_type(token_type)));
        if known.is_none() {
            let scripted = self.scripts.take_if(token, |script| &mut script.bad_token, |refusal| !refusal.is_at_upgrade());
            return Some(scripted.unwrap_or_else(|| Refusal::Text("Not authorized".to_owned())));
        }
        if self.has_too_many_connections(token) {
            let scripted = self.scripts.take_if(token, |script| &mut script.over_connections, |refusal| !refusal.is_at_upgrade());
            return Some(scripted.unwrap_or_else(|| Refusal::Text("Too many connections".to_owned())));
        }
        None
    }

    fn has_too_many_connections(&self, token: &str) -> bool {
        let (Some(limit), Some(token)) = (self.limits.connections, self.world.tokens.get(token)) else {
            return false;
        };
        self.hub.of_user(&token.user).count() >= usize::try_from(limit).unwrap_or(usize::MAX)
    }
}

fn refuse(connection: &Connection, state: &mut State, refusal: Refusal) -> Step {
    let frame = match refusal {
        Refusal::Text(text) => format!("44/chat,{}", json!(text)),
        Refusal::Object(object) => format!("44/chat,{object}"),
        Refusal::RootText(text) => format!("44{}", json!(text)),
        Refusal::Kick => "41/chat".to_owned(),
        Refusal::Close => return Step::Close(Ended::ServerClosed, None),
        Refusal::Silence | Refusal::Http { .. } | Refusal::Hangup | Refusal::Unanswered | Refusal::Mute => {
            return Step::GoOn;
        }
    };
    state.hub.send(connection.id, frame.into(), &mut state.seen);
    Step::GoOn
}

fn admit(connection: &mut Connection, state: &mut State, joining: &Credentials) -> Step {
    let token = &joining.token;
    let Some(known) = state.world.tokens.get(&**token) else {
        return Step::GoOn;
    };
    let user = known.user.clone();
    let life = known.life_at(clock::now_ms());
    connection.token_ends_at = tokio::time::Instant::now().checked_add(life);

    let ack = match state.scripts.take(token, |script| &mut script.ack_style) {
        None | Some(AckStyle::Comma) => "40/chat,".to_owned(),
        Some(AckStyle::Bare) => "40/chat".to_owned(),
        Some(AckStyle::WithData(data)) => format!("40/chat,{data}"),
    };
    let root_after = connection.root_after_join;
    let fault = state.scripts.take(token, |script| &mut script.after_join);
    let (id, token) = (connection.id, Arc::clone(token));
    let finish = move |state: &mut State| {
        state.hub.join(id, &token, &user);
        if let Some(entry) = state.seen.connection(id) {
            entry.user = Some(user);
            entry.joined_at = Some(Instant::now());
        }
        state.hub.send(id, ack.into(), &mut state.seen);
        if root_after {
            state.hub.send(id, Utf8Bytes::from_static("40"), &mut state.seen);
        }
        if let Some(fault) = fault {
            state.hub.suffer_in_turn(id, fault);
        }
    };
    match state.scripts.take(&joining.token, |script| &mut script.ack_delay) {
        Some(delay) => connection.shared.after(delay, finish),
        None => finish(state),
    }
    Step::GoOn
}
