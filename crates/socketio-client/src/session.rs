//! The protocol's state on one connection: what each packet means at its time. No I/O.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use tracing::warn;

use crate::codec::{EnginePacket, Handshake, Packet, PacketBody, Protocol, encode_query};
use crate::error::{ProtocolError, Refusal, RefusedBy};
use crate::event::{Ack, AckId, BinarySkipped, Event, Incoming};
use crate::heartbeat::Heartbeat;
use crate::options::{ConnectOptions, QueryPair, secrets};
use crate::outbox::Outbox;
use crate::websocket::Opcode;

/// After the namespace was left by the server: how long the end of the whole connection may take to follow.
const KICK_GRACE: Duration = Duration::from_millis(250);

/// What the driver of a connection has to know about.
#[derive(Debug)]
pub(crate) enum Signal {
    Opened,
    Joined,
    Refused(Refusal),
    InvalidNamespace,
    Incoming(Incoming),
}

/// How a connection ends, whatever it was doing.
#[derive(Debug)]
pub(crate) enum End {
    Kicked { whole: bool },
    Closed { code: Option<u16>, reason: String },
    Dead,
    Lost(std::io::Error),
    Mismatch,
    Protocol(ProtocolError),
}

impl<E: Into<ProtocolError>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Protocol(error.into())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has come yet.
    Opening,
    /// The open packet has come, the answer to the CONNECT packet has not.
    Joining,
    Joined,
    /// The server has ended the namespace; perhaps it is about to end the connection.
    Kicked {
        until: Instant,
    },
}

/// A binary packet whose attachments have not all come.
#[derive(Debug)]
struct Attachments {
    missing: u32,
    /// Handed out at the end; none if the packet is for another namespace.
    skipped: Option<BinarySkipped>,
}

#[derive(Debug)]
pub(crate) struct Session {
    protocol: Protocol,
    namespace: Arc<str>,
    query: Arc<Vec<QueryPair>>,
    phase: Phase,
    /// Whether the server has ended the root namespace (Engine.IO 3).
    root_left: bool,
    attachments: Option<Attachments>,
    /// Whether the wrong direction of a heartbeat was reported.
    warned: bool,
    pub(crate) sid: Box<str>,
    pub(crate) ping_interval: Duration,
    pub(crate) ping_timeout: Duration,
    pub(crate) max_payload: Option<u64>,
    pub(crate) binary_skipped: u64,
}

impl Session {
    pub(crate) fn new(options: &ConnectOptions) -> Self {
        Self {
            protocol: options.protocol,
            namespace: Arc::clone(&options.namespace),
            query: Arc::clone(&options.query),
            phase: Phase::Opening,
            root_left: false,
            attachments: None,
            warned: false,
            sid: Box::default(),
            ping_interval: Duration::ZERO,
            ping_timeout: Duration::ZERO,
            max_payload: None,
            binary_skipped: 0,
        }
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn is_opening(&self) -> bool {
        self.phase == Phase::Opening
    }

    /// Returns when a kick has to be reported, whether or not more follows.
    pub(crate) fn kicked_until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Kicked { until } => Some(until),
            Phase::Opening | Phase::Joining | Phase::Joined => None,
        }
    }

    /// Tells what a lost or closed connection means: after a kick it was part of the kick.
    pub(crate) fn explain(&self, end: End) -> End {
        match (self.phase, end) {
            (Phase::Kicked { .. }, End::Closed { .. } | End::Lost(_)) => End::Kicked { whole: true },
            (Phase::Joining | Phase::Joined, End::Closed { .. }) if self.root_left => End::Kicked { whole: true },
            (_, end) => end,
        }
    }

    /// Makes the end that a close frame stands for.
    pub(crate) fn closed(&self, code: Option<u16>, reason: &str) -> End {
        End::Closed { code, reason: secrets(&self.query).mask_text(reason) }
    }

    /// Takes in a text message.
    pub(crate) fn on_text(
        &mut self,
        text: &str,
        outbox: &mut Outbox,
        heartbeat: &mut Option<Heartbeat>,
    ) -> Result<Option<Signal>, End> {
        let packet = EnginePacket::decode(text)?;
        let Some(heartbeat) = heartbeat else {
            let EnginePacket::Open(json) = packet else {
                return Err(ProtocolError::Unexpected("something else before the open packet").into());
            };
            let handshake = Handshake::decode(json)?;
            *heartbeat = Some(Heartbeat::new(self.protocol, &handshake, Instant::now()));
            self.on_open(handshake, outbox);
            return Ok(Some(Signal::Opened));
        };
        match packet {
            EnginePacket::Open(_) => Err(ProtocolError::Unexpected("second open packet").into()),
            EnginePacket::Close => Err(self.closed(None, "")),
            EnginePacket::Ping(data) => {
                let answer = EnginePacket::Pong(data).encode();
                outbox.push_urgent(Opcode::Text, answer.as_bytes());
                heartbeat.on_ping(Instant::now());
                self.warn_of_server_ping();
                Ok(None)
            }
            EnginePacket::Pong(_) | EnginePacket::Noop | EnginePacket::Upgrade => Ok(None),
            EnginePacket::Message(_) if self.attachments.is_some() => {
                Err(ProtocolError::Unexpected("packet in place of an attachment").into())
            }
            EnginePacket::Message(text) => self.on_packet(text),
        }
    }

    /// Takes in a binary message.
    pub(crate) fn on_binary(&mut self) -> Result<Option<Signal>, End> {
        let Some(attachments) = &mut self.attachments else {
            return Err(ProtocolError::Unexpected("binary message without a packet that announces it").into());
        };
        attachments.missing = attachments.missing.saturating_sub(1);
        Ok(self.take_skipped())
    }

    fn on_open(&mut self, handshake: Handshake, outbox: &mut Outbox) {
        self.phase = Phase::Joining;
        self.sid = handshake.sid.into();
        self.ping_interval = handshake.ping_interval;
        self.ping_timeout = handshake.ping_timeout;
        self.max_payload = handshake.max_payload;
        if let Some(frame) = self.connect_frame() {
            outbox.push_control(Opcode::Text, frame.as_bytes());
        }
    }

    /// Returns the message that asks for the namespace; Engine.IO 3 servers join everyone to the root unasked.
    fn connect_frame(&self) -> Option<String> {
        let pairs = || self.query.iter().map(|pair| (pair.name.as_str(), pair.value.as_str()));
        let (query, auth) = match self.protocol {
            Protocol::EngineIo3 if &*self.namespace == "/" => return None,
            Protocol::EngineIo3 => (Some(encode_query(pairs())), None),
            Protocol::EngineIo4 => {
                let auth: serde_json::Map<_, _> =
                    pairs().map(|(name, value)| (name.to_owned(), serde_json::Value::from(value))).collect();
                (None, Some(serde_json::Value::Object(auth).to_string()))
            }
        };
        let body = PacketBody::Connect {
            query: query.as_deref().filter(|_| !self.query.is_empty()),
            payload: auth.as_deref().filter(|_| !self.query.is_empty()),
        };
        Some(Packet { namespace: &self.namespace, body }.encode_frame())
    }

    fn on_packet(&mut self, text: &str) -> Result<Option<Signal>, End> {
        let Packet { namespace, body } = Packet::decode(text)?;
        let ours = namespace == &*self.namespace;
        let joined = ours && self.phase == Phase::Joined;
        match body {
            PacketBody::Connect { payload, .. } => self.on_connect(ours, payload),
            PacketBody::Disconnect => self.on_disconnect(ours, namespace),
            PacketBody::Error { payload } => Ok(self.on_error(ours, namespace, payload)),
            PacketBody::Event { name, args, ack } => {
                Ok(joined.then(|| Signal::Incoming(Incoming::Event(Event::new(text, name, &args, ack)))))
            }
            PacketBody::Ack { id, args } => Ok(joined.then(|| Signal::Incoming(Incoming::Ack(Ack::new(text, id, &args))))),
            PacketBody::BinaryEvent { attachments, name, ack, .. } => {
                Ok(self.on_binary_packet(joined, attachments, Some(name), ack))
            }
            PacketBody::BinaryAck { attachments, id, .. } => Ok(self.on_binary_packet(joined, attachments, None, Some(id))),
        }
    }

    fn on_connect(&mut self, ours: bool, payload: Option<&str>) -> Result<Option<Signal>, End> {
        if self.phase != Phase::Joining {
            return Ok(None);
        }
        // Servers of Engine.IO 4 give every namespace a sid of its own, and never join a client to the root unasked.
        if self.protocol == Protocol::EngineIo4 && !payload.is_some_and(has_sid) {
            return Err(End::Mismatch);
        }
        if !ours {
            return Ok(None);
        }
        self.phase = Phase::Joined;
        Ok(Some(Signal::Joined))
    }

    fn on_disconnect(&mut self, ours: bool, namespace: &str) -> Result<Option<Signal>, End> {
        if !ours {
            self.root_left |= namespace == "/";
            return Ok(None);
        }
        if self.root_left {
            return Err(End::Kicked { whole: true });
        }
        self.phase = Phase::Kicked { until: Instant::now() + KICK_GRACE };
        Ok(None)
    }

    fn on_error(&self, ours: bool, namespace: &str, payload: Option<&str>) -> Option<Signal> {
        let by = if ours {
            RefusedBy::Namespace
        } else if namespace == "/" && self.phase == Phase::Joining {
            RefusedBy::Root
        } else {
            return None;
        };
        if payload.is_some_and(says_invalid_namespace) {
            return Some(Signal::InvalidNamespace);
        }
        let payload = payload.map(|json| secrets(&self.query).mask_json(json));
        Some(Signal::Refused(Refusal { by, payload }))
    }

    fn on_binary_packet(
        &mut self,
        deliver: bool,
        attachments: u32,
        event: Option<Cow<'_, str>>,
        ack: Option<u64>,
    ) -> Option<Signal> {
        self.binary_skipped += u64::from(deliver);
        let skipped = deliver.then(|| BinarySkipped { event: event.map(Cow::into_owned), ack: ack.map(AckId), attachments });
        self.attachments = Some(Attachments { missing: attachments, skipped });
        self.take_skipped()
    }

    fn take_skipped(&mut self) -> Option<Signal> {
        let complete = self.attachments.take_if(|attachments| attachments.missing == 0)?;
        complete.skipped.map(|skipped| Signal::Incoming(Incoming::BinarySkipped(skipped)))
    }

    fn warn_of_server_ping(&mut self) {
        if self.protocol == Protocol::EngineIo3 && !self.warned {
            self.warned = true;
            warn!("the server pings, as Engine.IO 4 servers do; the connection speaks Engine.IO 3");
        }
    }
}

fn has_sid(payload: &str) -> bool {
    #[derive(Deserialize)]
    struct Connected {
        #[serde(rename = "sid")]
        _sid: serde::de::IgnoredAny,
    }
    serde_json::from_str::<Connected>(payload).is_ok()
}

fn says_invalid_namespace(payload: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Text(String),
        Object { message: String },
    }
    match serde_json::from_str(payload) {
        Ok(Said::Text(message) | Said::Object { message }) => message == "Invalid namespace",
        Err(_) => false,
    }
}
