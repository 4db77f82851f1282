//! The open connections, who they belong to and what they are subscribed to.
//!
//! A message goes to the connections found by space or by user; nothing here walks over all connections.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::sync::CancellationToken;

use crate::record::{ConnectionId, Ended, Seen, Way};
use crate::script::Fault;

/// What a connection's task is told to write.
#[derive(Debug)]
pub(crate) enum Out {
    Frame(Utf8Bytes),
    Binary(Bytes),
    /// Nothing to write: the fault happens when all before it is written.
    Then(Fault),
    /// A close frame, empty or with a code, then the end.
    Close(Option<u16>),
}

/// The levers by which a connection's task can be ended from outside.
#[derive(Debug, Clone)]
pub(crate) struct Levers {
    /// Ends the task wherever it waits.
    pub(crate) cut: CancellationToken,
    /// Set before `cut` for an end by TCP reset.
    pub(crate) reset: Arc<AtomicBool>,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) token: Arc<str>,
    pub(crate) user: Option<String>,
    pub(crate) joined: bool,
    pub(crate) frozen: bool,
    pub(crate) subscriptions: HashSet<String>,
    pub(crate) ended: Option<Ended>,
    outbox: mpsc::Sender<Out>,
    levers: Levers,
}

#[derive(Debug, Default)]
pub(crate) struct Hub {
    last_id: u64,
    connections: HashMap<ConnectionId, Connection>,
    by_space: HashMap<String, BTreeSet<ConnectionId>>,
    by_user: HashMap<String, BTreeSet<ConnectionId>>,
    by_token: HashMap<Arc<str>, BTreeSet<ConnectionId>>,
}

impl Hub {
    pub(crate) fn open(&mut self, token: &Arc<str>, frozen: bool, outbox: mpsc::Sender<Out>, levers: Levers) -> ConnectionId {
        self.last_id += 1;
        let id = ConnectionId(self.last_id);
        let connection = Connection {
            token: Arc::clone(token),
            user: None,
            joined: false,
            frozen,
            subscriptions: HashSet::new(),
            ended: None,
            outbox,
            levers,
        };
        self.connections.insert(id, connection);
        self.by_token.entry(Arc::clone(token)).or_default().insert(id);
        id
    }

    /// Forgets the connection and answers why it ended, if that was decided here.
    pub(crate) fn close(&mut self, id: ConnectionId) -> Option<Ended> {
        self.leave(id);
        let connection = self.connections.remove(&id)?;
        remove_from(&mut self.by_token, &connection.token, id);
        connection.ended
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(&id)
    }

    pub(crate) fn join(&mut self, id: ConnectionId, token: &Arc<str>, user: &str) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.token != *token {
            remove_from(&mut self.by_token, &connection.token, id);
            connection.token = Arc::clone(token);
            self.by_token.entry(Arc::clone(token)).or_default().insert(id);
        }
        connection.joined = true;
        connection.user = Some(user.to_owned());
        self.by_user.entry(user.to_owned()).or_default().insert(id);
    }

    /// Takes the connection out of `/chat` with all its subscriptions; the socket stays.
    pub(crate) fn leave(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.joined = false;
        let subscriptions = std::mem::take(&mut connection.subscriptions);
        if let Some(user) = connection.user.take() {
            remove_from(&mut self.by_user, user.as_str(), id);
        }
        for space in subscriptions {
            remove_from(&mut self.by_space, space.as_str(), id);
        }
    }

    pub(crate) fn subscribe(&mut self, id: ConnectionId, space: &str) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.joined && connection.subscriptions.insert(space.to_owned()) {
            self.by_space.entry(space.to_owned()).or_default().insert(id);
        }
    }

    pub(crate) fn unsubscribe(&mut self, id: ConnectionId, space: &str) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.subscriptions.remove(space) {
            remove_from(&mut self.by_space, space, id);
        }
    }

    pub(crate) fn subscribers(&self, space: &str) -> impl Iterator<Item = ConnectionId> {
        self.by_space.get(space).into_iter().flatten().copied()
    }

    /// The joined connections of a user.
    pub(crate) fn of_user(&self, user: &str) -> impl Iterator<Item = ConnectionId> {
        self.by_user.get(user).into_iter().flatten().copied()
    }

    pub(crate) fn of_token(&self, token: &str) -> impl Iterator<Item = ConnectionId> {
        self.by_token.get(token).into_iter().flatten().copied()
    }

    pub(crate) fn everybody(&self) -> impl Iterator<Item = ConnectionId> {
        self.connections.keys().copied()
    }

    /// Hands a frame to the connection's task; a client with too many waiting frames is cut.
    pub(crate) fn send(&mut self, id: ConnectionId, frame: Utf8Bytes, seen: &mut Seen) {
        let Some(connection) =
            self.connections.get_mut(&id).filter(|connection| !connection.frozen && !connection.levers.cut.is_cancelled())
        else {
            return;
        };
        seen.frame(id, Way::Sent, &frame);
        connection.hand_over(Out::Frame(frame));
    }

    /// Lets the fault happen to the connection once it has written what is waiting.
    pub(crate) fn suffer_in_turn(&mut self, id: ConnectionId, fault: Fault) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.hand_over(Out::Then(fault));
        }
    }

    /// Lets the fault happen to the connection; answers whether the connection exists.
    pub(crate) fn suffer(&mut self, id: ConnectionId, fault: Fault, seen: &mut Seen) -> bool {
        match &fault {
            Fault::Kick => {
                self.send(id, Utf8Bytes::from_static("41/chat"), seen);
                self.leave(id);
            }
            Fault::Disconnect => {
                self.send(id, Utf8Bytes::from_static("41"), seen);
                self.send(id, Utf8Bytes::from_static("41/chat"), seen);
                self.leave(id);
            }
            Fault::Deafen => self.leave(id),
            Fault::Unsubscribe(space) => self.unsubscribe(id, space),
            Fault::Frame(text) => self.send(id, Utf8Bytes::from(text.as_str()), seen),
            Fault::Close | Fault::CloseWith(_) | Fault::Cut | Fault::Reset | Fault::Freeze | Fault::Thaw | Fault::Binary(_) => {}
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        match fault {
            Fault::Disconnect | Fault::Close => connection.close(None),
            Fault::CloseWith(code) => connection.close(Some(code)),
            Fault::Cut => connection.end(Ended::Cut),
            Fault::Reset => {
                connection.levers.reset.store(true, Ordering::Relaxed);
                connection.end(Ended::Cut);
            }
            Fault::Freeze => connection.frozen = true,
            Fault::Thaw => connection.frozen = false,
            Fault::Binary(bytes) => connection.hand_over(Out::Binary(bytes.into())),
            Fault::Kick | Fault::Deafen | Fault::Unsubscribe(_) | Fault::Frame(_) => {}
        }
        if let Some(entry) = seen.connection(id) {
            entry.subscriptions.clone_from(&connection.subscriptions);
        }
        true
    }
}

impl Connection {
    fn hand_over(&mut self, out: Out) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.outbox.try_send(out) {
            self.end(Ended::TooSlow);
        }
    }

    fn close(&mut self, code: Option<u16>) {
        self.ended = Some(Ended::ServerClosed);
        self.hand_over(Out::Close(code));
    }

    fn end(&mut self, how: Ended) {
        self.ended = Some(how);
        self.levers.cut.cancel();
    }
}

fn remove_from<K, Q>(index: &mut HashMap<K, BTreeSet<ConnectionId>>, key: &Q, id: ConnectionId)
where
    K: std::borrow::Borrow<Q> + std::hash::Hash + Eq,
    Q: std::hash::Hash + Eq + ?Sized,
{
    if let Some(ids) = index.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}
