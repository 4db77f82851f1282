//! What a test does as somebody else, or as fate.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::clock;
use crate::record::ConnectionId;
use crate::script::{Expiry, Fault};
use crate::server::FakeUpstream;
use crate::socket::{Change, Origin, announce, announce_change};
use crate::state::{State, event_frame};
use crate::world::{Draft, Space, SpaceKind, Token, TokenKind, User, World};

/// The connections that something happens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Every connection.
    Everybody,
    /// The connections of a token.
    Token(String),
    /// The joined connections of a user, by id.
    User(String),
    /// One connection.
    Connection(ConnectionId),
    /// The connections that get the events of a space, by id.
    Space(String),
}

impl Who {
    /// The connections of a token.
    pub fn token(token: impl AsRef<str>) -> Self {
        Self::Token(token.as_ref().to_owned())
    }

    /// The joined connections of a user.
    pub fn user(user: impl AsRef<str>) -> Self {
        Self::User(user.as_ref().to_owned())
    }

    /// The connections that get the events of a space.
    pub fn space(space: impl AsRef<str>) -> Self {
        Self::Space(space.as_ref().to_owned())
    }

    fn connections(&self, state: &State) -> Vec<ConnectionId> {
        match self {
            Self::Everybody => state.hub.everybody().collect(),
            Self::Token(token) => state.hub.of_token(token).collect(),
            Self::User(user) => state.hub.of_user(user).collect(),
            Self::Connection(id) => state.hub.get(*id).map(|_| *id).into_iter().collect(),
            Self::Space(space) => state.recipients(space),
        }
    }
}

/// The user, space or message named does not exist, or the message is deleted already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such user, space or message in the fake upstream")]
pub struct UnknownTarget;

/// A small world that is the same every time.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DemoWorld {
    /// The account that the demo acts for.
    pub ana: User,
    /// A colleague in both group spaces.
    pub bo: User,
    /// A colleague that shares only a direct space with Ana.
    pub cleo: User,
    /// Ana's token, valid for 24 hours.
    pub token: Token,
    /// A group space of Ana and Bo.
    pub operations: Space,
    /// Another group space of Ana and Bo.
    pub lounge: Space,
    /// The direct space of Ana and Cleo.
    pub direct: Space,
}

/// Filling the world.
impl FakeUpstream {
    /// Looks at or changes the world. The closure runs under a lock: it must not call the fake upstream.
    pub fn with_world<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        work(&mut self.shared.lock().world)
    }

    /// Adds a registered user.
    pub fn user(&self, displayname: &str) -> User {
        self.with_world(|world| world.user(displayname))
    }

    /// Makes a token with the life that the documentation gives its kind.
    pub fn token_for(&self, user: &User, kind: TokenKind) -> Token {
        self.with_world(|world| world.token_for(user, kind))
    }

    /// Adds a group space; the first member is its admin.
    pub fn space(&self, title: &str, members: &[&User]) -> Space {
        self.with_world(|world| world.space(title, members))
    }

    /// Finds or makes the direct space of two users; nobody is told.
    pub fn direct_space(&self, one: &User, other: &User) -> Space {
        self.with_world(|world| world.direct_space(one, other))
    }

    /// Fills an empty world for demonstrations.
    pub fn demo_world(&self) -> DemoWorld {
        self.with_world(|world| {
            let (ana, bo, cleo) = (world.user("Ana Ruiz"), world.user("Bo Lind"), world.user("Cleo Marsh"));
            let token = world.token_for(&ana, TokenKind::Jwt);
            let operations = world.space("Operations", &[&ana, &bo]);
            let lounge = world.space("Lounge", &[&bo, &ana]);
            let direct = world.add_space("", SpaceKind::Direct, &[&ana, &cleo]);
            DemoWorld { ana, bo, cleo, token, operations, lounge, direct }
        })
    }
}

/// Acting as a user.
impl FakeUpstream {
    /// Posts a chat message; answers it as stored.
    pub fn post_as(&self, user: impl AsRef<str>, space: impl AsRef<str>, html: &str) -> Result<Value, UnknownTarget> {
        let draft = Draft::chat(space.as_ref(), user.as_ref(), html);
        announce(&self.shared, &mut self.shared.lock(), draft, Origin::default()).ok_or(UnknownTarget)
    }

    /// Posts any payload that a client could send: a post, a task, a comment, attachments.
    pub fn send_as(&self, user: impl AsRef<str>, space: impl AsRef<str>, payload: &Value) -> Result<Value, UnknownTarget> {
        let mut draft = Draft::chat(space.as_ref(), user.as_ref(), "");
        draft.payload.extend(payload.as_object().cloned().unwrap_or_default());
        announce(&self.shared, &mut self.shared.lock(), draft, Origin::default()).ok_or(UnknownTarget)
    }

    /// Puts a message into the history without telling anyone, as one missed in the past; `created_ms` is since 1970.
    pub fn backdate_as(
        &self,
        user: impl AsRef<str>,
        space: impl AsRef<str>,
        html: &str,
        created_ms: i64,
    ) -> Result<Value, UnknownTarget> {
        let draft = Draft { created_ms, ..Draft::chat(space.as_ref(), user.as_ref(), html) };
        self.with_world(|world| world.store(draft).map(crate::world::Message::to_json)).ok_or(UnknownTarget)
    }

    /// Changes the text of a message; answers it as it is now.
    pub fn edit(&self, message_id: impl AsRef<str>, html: &str) -> Result<Value, UnknownTarget> {
        let mut content = Map::new();
        content.insert("bodyText".to_owned(), html.into());
        let state = &mut *self.shared.lock();
        state.world.edit(message_id.as_ref(), &content, clock::now_ms()).ok_or(UnknownTarget)?;
        announce_change(&self.shared, state, message_id.as_ref(), Change::Edited, &Arc::default()).ok_or(UnknownTarget)
    }

    /// Deletes a message; answers what is left of it.
    pub fn delete(&self, message_id: impl AsRef<str>) -> Result<Value, UnknownTarget> {
        let state = &mut *self.shared.lock();
        state.world.delete(message_id.as_ref(), clock::now_ms()).ok_or(UnknownTarget)?;
        announce_change(&self.shared, state, message_id.as_ref(), Change::Deleted, &Arc::default()).ok_or(UnknownTarget)
    }

    /// Gives a space another title; subscribers hear of it as `topic.updated`.
    pub fn rename_space(&self, user: impl AsRef<str>, space: impl AsRef<str>, title: &str) -> Result<Value, UnknownTarget> {
        let state = &mut *self.shared.lock();
        let sender = state.world.users.get(user.as_ref()).ok_or(UnknownTarget)?.as_sender();
        let found = state.world.spaces.get_mut(space.as_ref()).ok_or(UnknownTarget)?;
        title.clone_into(&mut found.title);
        found.active_ms = clock::now_ms();
        let object = json!({"_id": found.id, "category": "topic.updated", "topicId": found.id, "topicTitle": title,
            "topicType": found.kind.as_str(), "sender": sender, "content": {"bodyText": title, "description": found.description},
            "created": clock::iso(found.created_ms), "modified": clock::iso(found.active_ms)});
        state.send_to(&Who::space(space.as_ref()), &event_frame("MESSAGE_SENT", &object));
        Ok(object)
    }

    /// Relays a presence event of a user to the subscribers of a space; answers how many heard it.
    pub fn presence_as(&self, user: impl AsRef<str>, space: impl AsRef<str>, category: &str) -> Result<usize, UnknownTarget> {
        let state = &mut *self.shared.lock();
        let sender = state.world.users.get(user.as_ref()).ok_or(UnknownTarget)?.as_sender();
        let object = json!({"category": category, "topicId": space.as_ref(), "sender": sender, "receivers": [],
            "content": {"idle": false, "offline": false, "role": "member",
                "mediaSession": {"audio": false, "connected": false, "screenshare": false, "selfMuted": true, "video": false}}});
        Ok(state.send_to(&Who::space(space.as_ref()), &event_frame("PRESENCE_EVENT_RESPONSE", &object)))
    }

    /// Relays a media event to the subscribers of a space; answers how many heard it.
    pub fn media(&self, space: impl AsRef<str>, category: &str) -> usize {
        let state = &mut *self.shared.lock();
        let id = state.world.ids.object();
        let object = json!({"_id": id, "messageId": id, "category": category, "topicId": space.as_ref(),
            "sender": {"type": "spaceserver"}, "content": {"attendees": [], "recordings": [], "data": []}});
        state.send_to(&Who::space(space.as_ref()), &event_frame("MEDIA_SESSION_RESPONSE", &object))
    }

    /// Sends any event with any payload, as it is; answers how many connections get it.
    pub fn inject(&self, who: &Who, event: &str, payload: &Value) -> usize {
        self.shared.lock().send_to(who, &event_frame(event, payload))
    }
}

/// Acting as fate.
impl FakeUpstream {
    /// Lets the fault happen to the connections; answers how many there were.
    pub fn fault(&self, who: &Who, fault: &Fault) -> usize {
        let state = &mut *self.shared.lock();
        let connections = who.connections(state);
        connections.iter().filter(|id| state.hub.suffer(**id, fault.clone(), &mut state.seen)).count()
    }

    /// Lets the token end now; its open connections suffer what the script's `expiry` says.
    pub fn expire(&self, token: impl AsRef<str>) {
        let state = &mut *self.shared.lock();
        if let Some(stored) = state.world.tokens.get_mut(token.as_ref()) {
            stored.expires_at = clock::now_ms();
            stored.revoked = true;
        }
        for id in Who::token(token.as_ref()).connections(state) {
            match state.scripts.take(token.as_ref(), |script| &mut script.expiry) {
                None | Some(Expiry::Kept) => {}
                Some(Expiry::Fault(fault)) => {
                    state.hub.suffer(id, fault, &mut state.seen);
                }
            }
        }
    }

    /// Delivers every echo and event that was held or overtaken; answers how many there were.
    pub fn release(&self) -> usize {
        self.shared.lock().release()
    }
}

impl State {
    fn send_to(&mut self, who: &Who, frame: &Utf8Bytes) -> usize {
        let connections = who.connections(self);
        for id in &connections {
            self.hub.send(*id, frame.clone(), &mut self.seen);
        }
        connections.len()
    }
}
