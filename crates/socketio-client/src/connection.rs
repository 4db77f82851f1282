//! A joined connection, driven by whoever owns it.

use std::borrow::Cow;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use crate::codec::{Packet, PacketBody, is_valid_json};
use crate::driver::Driver;
use crate::error::{ConnectError, ConnectPhase, Disconnect, EmitError, ProtocolError};
use crate::event::{AckId, Incoming};
use crate::options::ConnectOptions;
use crate::session::{End, Signal};
use crate::transport::{Transport, upgrade};

/// Opens a connection and joins the namespace.
///
/// Returns when the server has confirmed the namespace; events that follow the confirmation are not lost. Dropping
/// the future drops the connection.
pub async fn connect(options: &ConnectOptions) -> Result<Connection, ConnectError> {
    connect_over(async || Transport::dial(options).await, options).await
}

/// As [`connect`], over the stream that `dial` opens.
pub(crate) async fn connect_over<D>(dial: D, options: &ConnectOptions) -> Result<Connection, ConnectError>
where
    D: AsyncFnOnce() -> Result<Transport, ConnectError>,
{
    let mut phase = ConnectPhase::Handshake;
    let joined = tokio::time::timeout(options.connect_timeout, establish(dial, options, &mut phase)).await;
    joined.unwrap_or(Err(ConnectError::Timeout { phase }))
}

async fn establish<D>(dial: D, options: &ConnectOptions, phase: &mut ConnectPhase) -> Result<Connection, ConnectError>
where
    D: AsyncFnOnce() -> Result<Transport, ConnectError>,
{
    let upgraded = upgrade(dial().await?, options).await?;
    *phase = ConnectPhase::Open;
    let mut driver = Driver::new(upgraded, options);
    loop {
        let error = match driver.signal().await {
            Ok(Signal::Opened) => {
                *phase = ConnectPhase::Join;
                continue;
            }
            Ok(Signal::Joined) => break,
            // Nothing is handed out before joining.
            Ok(Signal::Incoming(_)) => continue,
            Ok(Signal::Refused(refusal)) => ConnectError::Refused(refusal),
            Ok(Signal::InvalidNamespace) => ConnectError::InvalidNamespace,
            Err(end) => connect_error(end, *phase),
        };
        driver.hang_up().await;
        return Err(error);
    }
    driver.release_buffers();
    debug!(namespace = driver.session.namespace(), "joined namespace `{}`", driver.session.namespace());
    Ok(Connection::new(driver, options))
}

fn connect_error(end: End, phase: ConnectPhase) -> ConnectError {
    match end {
        End::Kicked { .. } => ConnectError::Kicked,
        End::Closed { code, reason } => ConnectError::Closed { code, reason },
        End::Lost(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            ConnectError::Closed { code: None, reason: String::new() }
        }
        End::Lost(error) => ConnectError::unreachable(error),
        End::Dead => ConnectError::Timeout { phase },
        End::Mismatch => ConnectError::ProtocolMismatch,
        End::Protocol(error) => ConnectError::Protocol(error),
    }
}

/// A connection that has joined its namespace.
///
/// It has no task of its own: whoever owns it drives it by calling [`next`](Self::next) again and again, which
/// writes what was queued, keeps the heartbeat and reads. Nothing happens while nobody calls it, so call it from a
/// loop that does not block (see [`pause_reading`](Self::pause_reading) for an owner that cannot take more), or hand
/// the connection to [`Client::spawn`](crate::Client::spawn).
///
/// Dropping it closes the TCP connection at once; [`close`](Self::close) says goodbye first.
pub struct Connection {
    driver: Driver<Transport>,
    emitter: Emitter,
}

/// What sending needs to know.
struct Emitter {
    /// `42/chat,`
    event_prefix: Box<str>,
    /// `43/chat,`
    ack_prefix: Box<str>,
    next_ack: u64,
    max_message_bytes: usize,
    queue_frames: usize,
    queue_bytes: usize,
}

/// What a connection has counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// WebSocket messages received, heartbeats included.
    pub frames_in: u64,
    /// WebSocket frames wholly written, heartbeats included.
    pub frames_out: u64,
    /// Binary events and acknowledgements that were skipped.
    pub binary_skipped: u64,
}

impl Connection {
    fn new(driver: Driver<Transport>, options: &ConnectOptions) -> Self {
        let namespace = driver.session.namespace();
        let suffix = if namespace == "/" { String::new() } else { format!("{namespace},") };
        let server_limit = driver.session.max_payload.and_then(|bytes| usize::try_from(bytes).ok());
        let emitter = Emitter {
            event_prefix: format!("42{suffix}").into(),
            ack_prefix: format!("43{suffix}").into(),
            next_ack: 0,
            max_message_bytes: options.max_message_bytes.min(server_limit.unwrap_or(usize::MAX)),
            queue_frames: options.queue_frames,
            queue_bytes: options.queue_bytes,
        };
        Self { driver, emitter }
    }

    /// Queues an event with one argument, given as JSON text.
    ///
    /// It is written by the next call of [`next`](Self::next), together with whatever else is queued.
    pub fn emit(&mut self, event: &str, payload: &str) -> Result<(), EmitError> {
        self.emit_args(event, &[payload])
    }

    /// Queues an event with any number of arguments, each given as JSON text.
    pub fn emit_args(&mut self, event: &str, args: &[&str]) -> Result<(), EmitError> {
        self.send(Kind::Event(event), None, args)
    }

    /// Queues an event with one argument and asks for an acknowledgement, which comes as [`Incoming::Ack`].
    ///
    /// The server need not answer; when the connection ends, nothing answers any more.
    pub fn emit_with_ack(&mut self, event: &str, payload: &str) -> Result<AckId, EmitError> {
        self.emit_args_with_ack(event, &[payload])
    }

    /// Queues an event with any number of arguments and asks for an acknowledgement.
    pub fn emit_args_with_ack(&mut self, event: &str, args: &[&str]) -> Result<AckId, EmitError> {
        let id = AckId(self.emitter.next_ack);
        self.send(Kind::Event(event), Some(id), args)?;
        Ok(self.emitter.take_ack_id())
    }

    /// Queues the answer to an event that carries this [`ack_id`](crate::Event::ack_id).
    pub fn ack(&mut self, id: AckId, args: &[&str]) -> Result<(), EmitError> {
        self.send(Kind::Ack, Some(id), args)
    }

    /// Waits for what the server sends next, and drives the connection meanwhile.
    ///
    /// Cancel-safe: dropping the future loses nothing, and what was queued stays queued. After an error the
    /// connection is closed, and every further call returns [`Disconnect::Closed`].
    pub async fn next(&mut self) -> Result<Incoming, Disconnect> {
        loop {
            if self.driver.is_ended() {
                return Err(Disconnect::Closed);
            }
            let disconnect = match self.driver.signal().await {
                Ok(Signal::Incoming(incoming)) => return Ok(incoming),
                Ok(Signal::Opened | Signal::Joined | Signal::InvalidNamespace) => continue,
                Ok(Signal::Refused(refusal)) => Disconnect::Refused(refusal),
                Err(end) => disconnect(end),
            };
            self.driver.hang_up().await;
            return Err(disconnect);
        }
    }

    /// Writes what is queued, without reading and without keeping the heartbeat; for an owner that has filled the
    /// queue and has more.
    ///
    /// Cancel-safe. If the connection breaks, [`next`](Self::next) tells how.
    pub async fn flush(&mut self) {
        self.driver.flush().await;
    }

    /// Leaves the namespace and closes the connection, waiting up to two seconds for the server's part.
    ///
    /// What is queued is written first, as far as that time allows.
    pub async fn close(mut self) {
        if !self.driver.is_ended() {
            let packet = Packet { namespace: self.driver.session.namespace(), body: PacketBody::Disconnect };
            let frame = packet.encode_frame();
            self.driver.leave(&frame).await;
        }
    }

    /// Stops or resumes handing out what the server sends, for an owner that has no room.
    ///
    /// While paused, [`next`](Self::next) goes on writing and keeping the heartbeat, and returns only when the
    /// connection ends. With Engine.IO 3, where the client pings, nothing is read at all and the pause may last for
    /// ever; a silent server is noticed only after the pause. With Engine.IO 4, where the server pings, reading goes
    /// on and up to one mebibyte is kept for later; beyond that pings go unanswered, and the server drops the
    /// connection after its `pingInterval + pingTimeout`.
    pub fn pause_reading(&mut self, pause: bool) {
        self.driver.pause(pause);
    }

    /// Returns the name that the server gave the connection.
    pub fn sid(&self) -> &str {
        &self.driver.session.sid
    }

    /// Returns the namespace.
    pub fn namespace(&self) -> &str {
        self.driver.session.namespace()
    }

    /// Returns the time between two pings, as the server set it.
    pub fn ping_interval(&self) -> Duration {
        self.driver.session.ping_interval
    }

    /// Returns how long a ping may stay unanswered, as the server set it.
    pub fn ping_timeout(&self) -> Duration {
        self.driver.session.ping_timeout
    }

    /// Returns the largest message that may be sent, in bytes.
    pub fn max_message_bytes(&self) -> usize {
        self.emitter.max_message_bytes
    }

    /// Returns how many messages are queued that are not wholly written; they are the last ones taken.
    pub fn queued_messages(&self) -> usize {
        self.driver.outbox.queued_frames()
    }

    /// Tells whether any message that is not too large would be taken now.
    pub fn has_room(&self) -> bool {
        self.emitter.admit(self.emitter.max_message_bytes, self.queued_messages(), self.queued_bytes()).is_ok()
    }

    /// Returns how many bytes are queued.
    pub fn queued_bytes(&self) -> usize {
        self.driver.outbox.queued_bytes()
    }

    /// Returns when bytes last arrived.
    pub fn last_received(&self) -> Instant {
        self.driver.last_received
    }

    /// Returns what the connection has counted.
    pub fn counters(&self) -> Counters {
        Counters {
            frames_in: self.driver.frames_in,
            frames_out: self.driver.outbox.sent(),
            binary_skipped: self.driver.session.binary_skipped,
        }
    }

    /// Returns how much of a message is taken by what stands before its body.
    pub(crate) fn head_bytes(&self) -> usize {
        /// Digits of the largest ack id.
        const ACK_ID: usize = 20;
        self.emitter.event_prefix.len() + ACK_ID
    }

    /// Queues an event whose body comes from [`encode_body`]; the caller has checked size and room.
    pub(crate) fn send_body(&mut self, body: &str) {
        self.driver.outbox.push(&[self.emitter.event_prefix.as_bytes(), body.as_bytes()]);
    }

    /// As [`send_body`](Self::send_body), asking for an acknowledgement.
    pub(crate) fn send_body_with_ack(&mut self, body: &str) -> AckId {
        let id = self.emitter.take_ack_id();
        let digits = id.to_string();
        self.driver.outbox.push(&[self.emitter.event_prefix.as_bytes(), digits.as_bytes(), body.as_bytes()]);
        id
    }

    /// Queues an answer whose body comes from [`encode_body`]; the caller has checked size and room.
    pub(crate) fn send_answer(&mut self, id: AckId, body: &str) {
        let digits = id.to_string();
        self.driver.outbox.push(&[self.emitter.ack_prefix.as_bytes(), digits.as_bytes(), body.as_bytes()]);
    }

    fn send(&mut self, kind: Kind<'_>, id: Option<AckId>, args: &[&str]) -> Result<(), EmitError> {
        if self.driver.is_ended() {
            return Err(EmitError::Closed);
        }
        if !args.iter().all(|arg| is_valid_json(arg)) {
            return Err(EmitError::InvalidJson);
        }
        let (prefix, name) = match kind {
            Kind::Event(name) => (&self.emitter.event_prefix, Some(quoted(name))),
            Kind::Ack => (&self.emitter.ack_prefix, None),
        };
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        let mut parts: Vec<&[u8]> = Vec::with_capacity(2 * args.len() + 7);
        parts.extend([prefix.as_bytes(), id.as_bytes(), b"["]);
        if let Some(name) = &name {
            parts.extend(name.each_ref().map(|part| part.as_bytes()));
        }
        for (index, arg) in args.iter().enumerate() {
            if index > 0 || name.is_some() {
                parts.push(b",");
            }
            parts.push(arg.as_bytes());
        }
        parts.push(b"]");
        let size = parts.iter().map(|part| part.len()).sum();
        self.emitter.admit(size, self.queued_messages(), self.queued_bytes())?;
        self.driver.outbox.push(&parts);
        Ok(())
    }
}

// What is buffered belongs to the application and may be private.
impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("sid", &self.sid())
            .field("namespace", &self.namespace())
            .field("ended", &self.driver.is_ended())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

/// What is sent by [`Connection::send`].
#[derive(Clone, Copy)]
enum Kind<'a> {
    /// An event of this name.
    Event(&'a str),
    /// The answer to an event.
    Ack,
}

/// Makes the body of a message: an array of the event's name, if there is one, and the arguments.
pub(crate) fn encode_body(event: Option<&str>, args: &[&str]) -> Result<String, EmitError> {
    if !args.iter().all(|arg| is_valid_json(arg)) {
        return Err(EmitError::InvalidJson);
    }
    let length = event.map_or(0, str::len) + args.iter().map(|arg| arg.len() + 1).sum::<usize>();
    let mut body = String::with_capacity(length + 4);
    body.push('[');
    if let Some(name) = event {
        body.extend(quoted(name));
    }
    for (index, arg) in args.iter().enumerate() {
        if index > 0 || event.is_some() {
            body.push(',');
        }
        body.push_str(arg);
    }
    body.push(']');
    Ok(body)
}

/// Returns the pieces of a name as JSON string; nearly no name needs escapes.
fn quoted(name: &str) -> [Cow<'_, str>; 3] {
    if name.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        ["\"", name, "\""].map(Cow::Borrowed)
    } else {
        let escaped = serde_json::Value::from(name).to_string();
        [Cow::Borrowed(""), Cow::Owned(escaped), Cow::Borrowed("")]
    }
}

impl Emitter {
    fn take_ack_id(&mut self) -> AckId {
        let id = AckId(self.next_ack);
        self.next_ack += 1;
        id
    }

    fn admit(&self, size: usize, queued_frames: usize, queued_bytes: usize) -> Result<(), EmitError> {
        if size > self.max_message_bytes {
            return Err(EmitError::TooLarge { size, limit: self.max_message_bytes });
        }
        let full = queued_frames >= self.queue_frames || queued_bytes + size > self.queue_bytes;
        if full && queued_frames > 0 { Err(EmitError::QueueFull) } else { Ok(()) }
    }
}

fn disconnect(end: End) -> Disconnect {
    match end {
        End::Kicked { whole } => Disconnect::Kicked { whole },
        End::Closed { code, reason } => Disconnect::ServerClosed { code, reason },
        End::Dead => Disconnect::HeartbeatTimeout,
        End::Lost(error) => Disconnect::Lost(error),
        End::Mismatch => Disconnect::Protocol(ProtocolError::Unexpected("packet of the other protocol version")),
        End::Protocol(error) => Disconnect::Protocol(error),
    }
}
