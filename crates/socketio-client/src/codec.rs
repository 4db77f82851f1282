//! The wire format, without any I/O, for both ends of a connection.
//!
//! A WebSocket text message is one Engine.IO packet ([`EnginePacket`]); a message packet carries one Socket.IO
//! [`Packet`]. Both decode from and encode to text; payloads stay the JSON text that they were, checked for
//! validity but never parsed into values. Decoding any input returns; it never panics.
//!
//! The rules come from the public protocol documents:
//! [Engine.IO 3](https://github.com/socketio/engine.io-protocol/tree/v3),
//! [Engine.IO 4](https://socket.io/docs/v4/engine-io-protocol/),
//! [Socket.IO protocol 4](https://github.com/socketio/socket.io-protocol/tree/v4) and
//! [Socket.IO protocol 5](https://socket.io/docs/v4/socket-io-protocol/).
//!
//! ```
//! use socketio_client::codec::{EnginePacket, Packet, PacketBody};
//!
//! let frame = r#"42/chat,7["greet",{"name":"Ada"}]"#;
//! let EnginePacket::Message(text) = EnginePacket::decode(frame)? else { panic!("a message") };
//! let packet = Packet::decode(text)?;
//! assert_eq!(packet.namespace, "/chat");
//! let PacketBody::Event { ref name, ref args, ack } = packet.body else { panic!("an event") };
//! assert_eq!((name.as_ref(), args.as_slice(), ack), ("greet", [r#"{"name":"Ada"}"#].as_slice(), Some(7)));
//! assert_eq!(packet.encode_frame(), frame);
//! # Ok::<(), socketio_client::codec::DecodeError>(())
//! ```

mod binary;
mod engine;
mod packet;
mod query;

pub use binary::{decode_attachment, encode_attachment};
pub use engine::{EnginePacket, Handshake};
pub use packet::{Packet, PacketBody, is_valid_json};
pub use query::{decode_query, encode_query};

use thiserror::Error;

/// The pair of protocol versions that both ends must agree on before they connect.
///
/// There is no negotiation: a server of one version often accepts a client of the other and falls silent later, so
/// the caller chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Engine.IO 3 with Socket.IO protocol 4: servers of Socket.IO 1.x and 2.x, and 3.x/4.x with `allowEIO3`.
    #[default]
    EngineIo3,
    /// Engine.IO 4 with Socket.IO protocol 5: servers of Socket.IO 3.x and 4.x.
    EngineIo4,
}

impl Protocol {
    /// Returns the value of the `EIO` query pair that announces this version.
    pub fn eio(self) -> &'static str {
        match self {
            Self::EngineIo3 => "3",
            Self::EngineIo4 => "4",
        }
    }
}

/// Why a text or binary message is not a packet.
///
/// The message itself is not part of the error, so that nothing secret can reach a log through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// An empty message has no type.
    #[error("empty packet")]
    Empty,
    /// The first character is no Engine.IO packet type.
    #[error("unknown Engine.IO packet type")]
    UnknownEngineType,
    /// The first character of a message is no Socket.IO packet type.
    #[error("unknown Socket.IO packet type")]
    UnknownPacketType,
    /// The open packet is not a JSON object with `sid`, `pingInterval` and `pingTimeout`.
    #[error("open packet without sid, pingInterval and pingTimeout")]
    InvalidHandshake,
    /// A binary packet does not begin with the number of its attachments and a dash.
    #[error("binary packet without a valid attachment count")]
    InvalidAttachmentCount,
    /// The ack id does not fit 64 bits.
    #[error("ack id out of range")]
    AckIdOutOfRange,
    /// An ack says not what it acknowledges.
    #[error("ack without id")]
    MissingAckId,
    /// The payload is not valid JSON, or not of the form that the packet type demands.
    #[error("payload is not the JSON that the packet type demands")]
    InvalidPayload,
    /// An attachment of Engine.IO 3 does not begin with the message type byte.
    #[error("attachment without its type byte")]
    InvalidAttachment,
}
