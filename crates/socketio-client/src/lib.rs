//! Socket.IO over WebSocket for Engine.IO 3 and 4.
//!
//! [`codec`] holds the wire format, free of I/O and usable by clients and servers.

mod backoff;
mod client;
mod connection;
mod driver;
mod error;
mod event;
mod heartbeat;
mod options;
mod outbox;
mod redact;
mod session;
mod transport;
mod websocket;

pub mod codec;

pub use backoff::Backoff;
pub use client::{AckError, Client, Events, Received};
pub use codec::Protocol;
pub use connection::{Connection, Counters, connect};
pub use error::{
    ConnectError, ConnectPhase, Disconnect, EmitError, FailureClass, InvalidFrame, InvalidUpgrade,
    ProtocolError, Refusal, RefusedBy,
};
pub use event::{Ack, AckId, Args, BinarySkipped, Event, Incoming};
pub use options::{ConnectOptions, OptionsError, TlsConfig, TlsSetupError};
