//! What the fake upstream saw: connections, emits, frames, REST calls.
//!
//! Everything is bounded by [`Options::record`](crate::Options::record): the oldest entries go first, counts stay.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// The number of a connection; the first one is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// One WebSocket connection, open or closed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectionSeen {
    /// Its number.
    pub id: ConnectionId,
    /// The token of its URL; empty if it had none.
    pub token: Arc<str>,
    /// The pairs of its URL's query, decoded.
    pub query: Vec<(String, String)>,
    /// The query of its last join packet, as it came.
    pub join_query: Option<String>,
    /// The id of its user, once joined.
    pub user: Option<String>,
    /// When the upgrade was accepted.
    pub opened_at: Instant,
    /// When `/chat` was joined.
    pub joined_at: Option<Instant>,
    /// When it ended.
    pub closed_at: Option<Instant>,
    /// How it ended.
    pub ended: Option<Ended>,
    /// The spaces it is subscribed to now.
    pub subscriptions: HashSet<String>,
    /// The pings received.
    pub pings: u64,
}

/// How a connection ended, as seen from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The client closed the WebSocket in order.
    ClientClosed,
    /// The client's TCP connection ended without a close frame.
    ClientVanished,
    /// The client broke the protocol.
    ProtocolError,
    /// Nothing came for `pingInterval + pingTimeout`.
    PingTimeout,
    /// The server closed it, by script.
    ServerClosed,
    /// The server cut it, by script, or was stopped.
    Cut,
    /// The client did not read, and more was waiting for it than [`Options::outbox`](crate::Options::outbox) allows.
    TooSlow,
}

/// One event that a client emitted on `/chat`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Emit {
    /// Its number among all emits, from 0.
    pub number: u64,
    /// The connection it came on.
    pub connection: ConnectionId,
    /// The token of that connection.
    pub token: Arc<str>,
    /// The event's name.
    pub event: String,
    /// The event's first argument as it came; empty if there was none.
    pub payload: String,
    /// When it came.
    pub at: Instant,
}

impl Emit {
    /// The payload, parsed; `null` if it is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.payload).unwrap_or_default()
    }
}

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client.
    Received,
    /// To the client.
    Sent,
}

/// One text frame.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Frame {
    /// The connection.
    pub connection: ConnectionId,
    /// Which way it went.
    pub way: Way,
    /// The whole text.
    pub text: Utf8Bytes,
    /// When it was read or handed over for writing.
    pub at: Instant,
}

/// One REST call.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RestCall {
    /// The method.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query as it came.
    pub query: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `accept-version` header.
    pub accept_version: Option<String>,
    /// The status answered; nothing while the call runs or if it was cut.
    pub status: Option<u16>,
    /// When it came.
    pub at: Instant,
    number: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    now: usize,
    peak: usize,
    total: usize,
}

/// What was seen so far.
#[derive(Debug)]
pub struct Seen {
    capacity: usize,
    with_frames: bool,
    connections: BTreeMap<ConnectionId, ConnectionSeen>,
    closed: VecDeque<ConnectionId>,
    by_token: HashMap<Arc<str>, Count>,
    all: Count,
    emits: VecDeque<Emit>,
    emits_total: u64,
    frames: VecDeque<Frame>,
    rest_calls: VecDeque<RestCall>,
    rest_total: u64,
    refused: u64,
    pub(crate) changed: bool,
}

impl Seen {
    pub(crate) fn new(capacity: usize, with_frames: bool) -> Self {
        Self {
            capacity: capacity.max(1),
            with_frames,
            connections: BTreeMap::new(),
            closed: VecDeque::new(),
            by_token: HashMap::new(),
            all: Count::default(),
            emits: VecDeque::new(),
            emits_total: 0,
            frames: VecDeque::new(),
            rest_calls: VecDeque::new(),
            rest_total: 0,
            refused: 0,
            changed: false,
        }
    }

    /// Connections open now.
    pub fn open_now(&self) -> usize {
        self.all.now
    }

    /// Connections ever opened.
    pub fn opened(&self) -> usize {
        self.all.total
    }

    /// Connections of this token open now.
    pub fn open_now_with(&self, token: impl AsRef<str>) -> usize {
        self.count(token.as_ref()).now
    }

    /// The most connections of this token that were open at once.
    pub fn peak_with(&self, token: impl AsRef<str>) -> usize {
        self.count(token.as_ref()).peak
    }

    /// Connections of this token ever opened.
    pub fn opened_with(&self, token: impl AsRef<str>) -> usize {
        self.count(token.as_ref()).total
    }

    /// Joins and upgrades refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The connections, open and closed, in the order of their opening.
    pub fn connections(&self) -> impl DoubleEndedIterator<Item = &ConnectionSeen> {
        self.connections.values()
    }

    /// The connections of one token, in the order of their opening.
    pub fn connections_with(&self, token: impl AsRef<str>) -> impl DoubleEndedIterator<Item = &ConnectionSeen> {
        self.connections.values().filter(move |connection| &*connection.token == token.as_ref())
    }

    /// The connections of one token that are open now.
    pub fn open_with(&self, token: impl AsRef<str>) -> impl DoubleEndedIterator<Item = &ConnectionSeen> {
        self.connections_with(token).filter(|connection| connection.closed_at.is_none())
    }

    /// Whether an open, joined connection of the token is subscribed to the space.
    pub fn is_subscribed(&self, token: impl AsRef<str>, space_id: &str) -> bool {
        self.open_with(token).any(|connection| connection.subscriptions.contains(space_id))
    }

    /// The emits kept, in the order they came.
    pub fn emits(&self) -> impl DoubleEndedIterator<Item = &Emit> {
        self.emits.iter()
    }

    /// The emits of one event.
    pub fn emits_of(&self, event: &str) -> impl DoubleEndedIterator<Item = &Emit> {
        self.emits.iter().filter(move |emit| emit.event == event)
    }

    /// The payloads of every `SEND_MESSAGE` kept, in the order they came.
    pub fn sends(&self) -> Vec<Value> {
        self.emits_of("SEND_MESSAGE").map(Emit::json).collect()
    }

    /// The emits ever received.
    pub fn emits_total(&self) -> u64 {
        self.emits_total
    }

    /// The text frames kept, both ways.
    pub fn frames(&self) -> impl DoubleEndedIterator<Item = &Frame> {
        self.frames.iter()
    }

    /// The REST calls kept, in the order they came.
    pub fn rest_calls(&self) -> impl DoubleEndedIterator<Item = &RestCall> {
        self.rest_calls.iter()
    }

    /// How many of the REST calls kept have this method and path.
    pub fn rest_count(&self, method: &str, path: &str) -> usize {
        self.rest_calls.iter().filter(|call| call.method == method && call.path == path).count()
    }

    /// The REST calls ever received.
    pub fn rest_total(&self) -> u64 {
        self.rest_total
    }

    /// The pings received on all connections kept.
    pub fn pings(&self) -> u64 {
        self.connections.values().map(|connection| connection.pings).sum()
    }

    /// A few lines that tell what was seen, for the message of a failed test. Names no token.
    pub fn summary(&self) -> String {
        let mut text = format!(
            "connections: {} open, {} opened, {} refused; emits: {}; rest calls: {}",
            self.all.now, self.all.total, self.refused, self.emits_total, self.rest_total
        );
        for emit in self.emits.iter().rev().take(8).rev() {
            let _ = write!(text, "\n  emit {} on {}: {} {:.200}", emit.number, emit.connection.0, emit.event, emit.payload);
        }
        for call in self.rest_calls.iter().rev().take(8).rev() {
            let _ = write!(text, "\n  rest {} {} -> {:?}", call.method, call.path, call.status);
        }
        text
    }

    fn count(&self, token: &str) -> Count {
        self.by_token.get(token).copied().unwrap_or_default()
    }
}

/// The recording side.
impl Seen {
    pub(crate) fn connection_opened(&mut self, id: ConnectionId, token: &Arc<str>, query: Vec<(String, String)>) {
        for count in [&mut self.all, self.by_token.entry(Arc::clone(token)).or_default()] {
            count.now += 1;
            count.total += 1;
            count.peak = count.peak.max(count.now);
        }
        let connection = ConnectionSeen {
            id,
            token: Arc::clone(token),
            query,
            join_query: None,
            user: None,
            opened_at: Instant::now(),
            joined_at: None,
            closed_at: None,
            ended: None,
            subscriptions: HashSet::new(),
            pings: 0,
        };
        self.connections.insert(id, connection);
        self.changed = true;
    }

    pub(crate) fn connection_closed(&mut self, id: ConnectionId, ended: Ended) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.closed_at = Some(Instant::now());
        connection.ended = Some(ended);
        connection.subscriptions = HashSet::new();
        for count in [Some(&mut self.all), self.by_token.get_mut(&connection.token)].into_iter().flatten() {
            count.now = count.now.saturating_sub(1);
        }
        self.closed.push_back(id);
        if self.closed.len() > self.capacity
            && let Some(oldest) = self.closed.pop_front()
        {
            self.connections.remove(&oldest);
        }
        self.changed = true;
    }

    pub(crate) fn connection(&mut self, id: ConnectionId) -> Option<&mut ConnectionSeen> {
        self.changed = true;
        self.connections.get_mut(&id)
    }

    pub(crate) fn join_refused(&mut self) {
        self.refused += 1;
        self.changed = true;
    }

    pub(crate) fn emit(&mut self, connection: ConnectionId, token: &Arc<str>, event: &str, payload: &str) {
        let emit = Emit {
            number: self.emits_total,
            connection,
            token: Arc::clone(token),
            event: event.to_owned(),
            payload: payload.to_owned(),
            at: Instant::now(),
        };
        self.emits_total += 1;
        push_bounded(&mut self.emits, emit, self.capacity);
        self.changed = true;
    }

    pub(crate) fn frame(&mut self, connection: ConnectionId, way: Way, text: &Utf8Bytes) {
        if self.with_frames {
            let frame = Frame { connection, way, text: text.clone(), at: Instant::now() };
            push_bounded(&mut self.frames, frame, self.capacity);
        }
        self.changed = true;
    }

    /// Notes a REST call and answers its number, for [`Seen::rest_answered`].
    pub(crate) fn rest_called(&mut self, (method, path): (&str, &str), query: &str, headers: &HeaderMap) -> u64 {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let call = RestCall {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            authorization: header("authorization"),
            accept_version: header("accept-version"),
            status: None,
            at: Instant::now(),
            number: self.rest_total,
        };
        self.rest_total += 1;
        push_bounded(&mut self.rest_calls, call, self.capacity);
        self.changed = true;
        self.rest_total - 1
    }

    pub(crate) fn rest_answered(&mut self, number: u64, status: u16) {
        if let Some(call) = self.rest_calls.iter_mut().rev().find(|call| call.number == number) {
            call.status = Some(status);
        }
        self.changed = true;
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, entry: T, capacity: usize) {
    if queue.len() >= capacity {
        queue.pop_front();
    }
    queue.push_back(entry);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_survive_the_entries_they_count() {
        let mut seen = Seen::new(2, true);
        let token: Arc<str> = "t".into();
        for number in 1..=3 {
            seen.connection_opened(ConnectionId(number), &token, Vec::new());
            seen.emit(ConnectionId(number), &token, "E", "{}");
        }
        for number in 1..=3 {
            seen.connection_closed(ConnectionId(number), Ended::Cut);
        }
        assert_eq!((seen.open_now(), seen.opened(), seen.peak_with("t")), (0, 3, 3));
        assert_eq!(seen.connections().count(), 2);
        assert_eq!((seen.emits().count(), seen.emits_total()), (2, 3));
    }
}
