//! How connecting, sending and being connected can end.

use std::io;
use std::time::Duration;

use serde_json::value::RawValue;
use thiserror::Error;

use crate::codec::DecodeError;
use crate::options::TlsSetupError;
use crate::websocket::{FrameError, UpgradeError};

/// Why [`connect`](crate::connect) did not join the namespace.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server refused this client; the same credentials will be refused again.
    #[error("server refused the connection")]
    Refused(Refusal),
    /// The server has no such namespace.
    #[error("server has no such namespace")]
    InvalidNamespace,
    /// What answers there is not the Socket.IO server that the options describe: wrong path, wrong port, a proxy.
    #[error("no Socket.IO server at this address and path")]
    Misconfigured {
        /// Status of the HTTP answer; none if the server closed the connection without an answer.
        status: Option<u16>,
    },
    /// TLS cannot be set up on this machine.
    #[error("failed to set up TLS")]
    Tls(#[source] TlsSetupError),
    /// The server speaks the other protocol version.
    #[error("server speaks another version of the protocol")]
    ProtocolMismatch,
    /// The server cannot be reached, or says that it cannot serve now.
    #[error("server is not available")]
    Unavailable {
        /// Status of the HTTP answer, if there was one.
        status: Option<u16>,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
        /// What went wrong where there was no answer.
        #[source]
        source: Option<io::Error>,
    },
    /// Nothing came in time.
    #[error("server did not answer in time ({phase})")]
    Timeout {
        /// What was being waited for.
        phase: ConnectPhase,
    },
    /// The server removed the client before it had joined.
    #[error("server removed the client before it had joined")]
    Kicked,
    /// The server closed the connection after the WebSocket handshake and before the client had joined.
    #[error("server closed the connection before the client had joined")]
    Closed {
        /// Close code of the WebSocket; none if the close frame had none or there was none.
        code: Option<u16>,
        /// Reason of the WebSocket close, secrets masked.
        reason: String,
    },
    /// The server sent what is not allowed.
    #[error("server broke the protocol")]
    Protocol(#[source] ProtocolError),
}

/// What to do about a [`ConnectError`], in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// New credentials are needed.
    Auth,
    /// Someone has to look at the settings; trying again helps only when the other side changes.
    Config,
    /// The server behaves wrongly; try again with backoff.
    Protocol,
    /// Try again with backoff.
    Unavailable,
}

/// What [`connect`](crate::connect) was waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectPhase {
    /// Name resolution, TCP, TLS and the WebSocket handshake.
    Handshake,
    /// The open packet of Engine.IO.
    Open,
    /// The answer to the CONNECT packet. Servers exist that refuse by saying nothing.
    Join,
}

/// How a server refused a client.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Who refused.
    pub by: RefusedBy,
    /// What the server said, as JSON with the values of [`ConnectOptions::query`](crate::ConnectOptions::query)
    /// masked; an HTTP body that is not JSON is given as a JSON string.
    pub payload: Option<Box<RawValue>>,
}

/// Who refused a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusedBy {
    /// The namespace asked for.
    Namespace,
    /// The root namespace, which Engine.IO 3 servers join every client to first.
    Root,
    /// The HTTP server, before any Socket.IO packet.
    Http {
        /// Status of the answer.
        status: u16,
    },
}

/// How a joined connection ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Disconnect {
    /// The server removed the client. Official clients do not reconnect by themselves after this.
    #[error("server removed the client")]
    Kicked {
        /// Whether the server ended the whole connection and not only the namespace.
        whole: bool,
    },
    /// The server refused the namespace after having accepted it.
    #[error("server withdrew the namespace")]
    Refused(Refusal),
    /// The server closed the connection: shutdown, missed heartbeat, a message too large.
    #[error("server closed the connection")]
    ServerClosed {
        /// Close code of the WebSocket; Socket.IO servers mostly send none.
        code: Option<u16>,
        /// Reason of the WebSocket close, secrets masked.
        reason: String,
    },
    /// The server fell silent.
    #[error("server missed its heartbeat")]
    HeartbeatTimeout,
    /// The connection broke without a close frame.
    #[error("connection lost")]
    Lost(#[source] io::Error),
    /// The server sent what is not allowed.
    #[error("server broke the protocol")]
    Protocol(#[source] ProtocolError),
    /// This side closed the connection, or its end has been reported already.
    #[error("connection is closed")]
    Closed,
}

/// What a server sent that is not allowed.
///
/// The offending text is left out, so that nothing secret can reach a log through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The answer to the WebSocket handshake is wrong.
    #[error("invalid WebSocket handshake")]
    Upgrade(#[source] InvalidUpgrade),
    /// Bytes that are no WebSocket frames.
    #[error("invalid WebSocket frame")]
    Frame(#[source] InvalidFrame),
    /// A message that is no packet.
    #[error("invalid packet")]
    Packet(#[source] DecodeError),
    /// A packet where it must not occur.
    #[error("unexpected packet: {0}")]
    Unexpected(&'static str),
}

/// What is wrong with the answer to a WebSocket handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(transparent)]
pub struct InvalidUpgrade(#[from] UpgradeError);

/// What is wrong with a WebSocket frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(transparent)]
pub struct InvalidFrame(#[from] FrameError);

/// Why an event was not taken for sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EmitError {
    /// Too much waits to be written already.
    #[error("outbound queue is full")]
    QueueFull,
    /// The server would close the connection over a message of this size.
    #[error("message of {size} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Size of the whole message.
        size: usize,
        /// The smaller one of the own and the server's limit.
        limit: usize,
    },
    /// An argument is not JSON.
    #[error("argument is not valid JSON")]
    InvalidJson,
    /// The connection has ended.
    #[error("connection is closed")]
    Closed,
}

impl ConnectError {
    /// Tells what to do about it.
    ///
    /// [`Kicked`](Self::Kicked), [`Closed`](Self::Closed) and a [`Timeout`](Self::Timeout) while joining count as
    /// `Unavailable`, because that is what they mean by the protocol; for a server known to refuse in that way the
    /// caller can match on them.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Refused(_) => FailureClass::Auth,
            Self::InvalidNamespace | Self::Misconfigured { .. } | Self::Tls(_) | Self::ProtocolMismatch => FailureClass::Config,
            Self::Protocol(_) => FailureClass::Protocol,
            Self::Unavailable { .. } | Self::Timeout { .. } | Self::Kicked | Self::Closed { .. } => FailureClass::Unavailable,
        }
    }

    /// Returns how long the server asked to wait before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(crate) fn unreachable(source: io::Error) -> Self {
        Self::Unavailable { status: None, retry_after: None, source: Some(source) }
    }
}

impl std::fmt::Display for ConnectPhase {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Handshake => "WebSocket handshake",
            Self::Open => "open packet",
            Self::Join => "joining the namespace",
        })
    }
}

impl From<UpgradeError> for ProtocolError {
    fn from(error: UpgradeError) -> Self {
        Self::Upgrade(InvalidUpgrade(error))
    }
}

impl From<FrameError> for ProtocolError {
    fn from(error: FrameError) -> Self {
        Self::Frame(InvalidFrame(error))
    }
}

impl From<DecodeError> for ProtocolError {
    fn from(error: DecodeError) -> Self {
        Self::Packet(error)
    }
}
