//! A Socket.IO client over WebSocket, for servers of Socket.IO 1 and 2 (Engine.IO 3) and of 3 and 4 (Engine.IO 4).
//!
//! # Parts
//!
//! - [`ConnectOptions`] say where to connect and how; [`connect`] opens a [`Connection`] that has joined its namespace,
//!   or returns a [`ConnectError`] that tells refusals, wrong settings, silence and outages apart.
//! - A [`Connection`] has no task: its owner drives it with [`Connection::next`], which is cancel-safe and so fits into
//!   the owner's own `select!`. It ends with a [`Disconnect`], which says how.
//! - [`Client::spawn`] gives a connection a task and returns a handle, for owners without a loop.
//! - Reconnecting is the owner's decision, because only the owner knows its token, its subscriptions and what became
//!   of unconfirmed messages. [`Backoff`] says how long to wait.
//! - [`codec`] is the wire format alone, for both ends of a connection.
//!
//! ```no_run
//! use socketio_client::{Backoff, ConnectOptions, FailureClass, Incoming, Protocol, connect};
//! use tokio::time::{Duration, Instant, sleep};
//!
//! # fn draw() -> f64 { 0.5 }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let options = ConnectOptions::new("https://chat.example.com")?
//!     .namespace("/chat")?
//!     .protocol(Protocol::EngineIo3)
//!     .query("token", std::env::var("TOKEN")?);
//! let mut backoff = Backoff::default();
//! loop {
//!     match connect(&options).await {
//!         Ok(mut connection) => {
//!             let joined = Instant::now();
//!             connection.emit("subscribe", r#"{"room":"kitchen"}"#)?;
//!             let end = loop {
//!                 match connection.next().await {
//!                     Ok(Incoming::Event(event)) => println!("{} {:?}", event.name(), event.arg(0)),
//!                     Ok(Incoming::Ack(_) | Incoming::BinarySkipped(_)) => {}
//!                     Err(end) => break end,
//!                 }
//!             };
//!             eprintln!("disconnected: {end}");
//!             backoff.ended_after(joined.elapsed());
//!         }
//!         Err(error) if error.class() == FailureClass::Auth => return Err(error.into()),
//!         Err(error) => {
//!             eprintln!("not connected: {error}");
//!             sleep(error.retry_after().unwrap_or(Duration::ZERO)).await;
//!         }
//!     }
//!     sleep(backoff.next_delay(draw())).await;
//! }
//! # }
//! ```
//!
//! # What it promises
//!
//! - Payloads stay JSON text: they are checked, never parsed and written anew.
//! - Everything queued leaves in one write; `TCP_NODELAY` is set; compression is not offered.
//! - The heartbeat never waits for the application, as long as the connection is driven; see
//!   [`Connection::pause_reading`] for owners that cannot take more. One timer a connection, set to the next ping.
//! - An idle connection holds no read or write buffer.
//! - Values given to [`ConnectOptions::query`] are sent where servers look for them (URL and CONNECT packet), and are
//!   in no error, `Debug` output or log line.
//! - Dropping closes: of a [`Connection`], of the last clone of a [`Client`], of the future that [`connect`] returned.
//! - No input makes it panic, and nothing a server sends grows beyond a bound.
//!
//! # What it leaves out
//!
//! HTTP long-polling, sending binary (received binary is consumed, counted and reported as
//! [`Incoming::BinarySkipped`]), proxies, several namespaces on one connection.
//!
//! # Sources
//!
//! The rules are those of the public protocol documents, [Engine.IO 3](https://github.com/socketio/engine.io-protocol/tree/v3),
//! [Engine.IO 4](https://socket.io/docs/v4/engine-io-protocol/),
//! [Socket.IO protocol 4](https://github.com/socketio/socket.io-protocol/tree/v4),
//! [Socket.IO protocol 5](https://socket.io/docs/v4/socket-io-protocol/) and
//! [RFC 6455](https://www.rfc-editor.org/rfc/rfc6455), and, where these are silent, what real servers of Socket.IO 2.0.4,
//! 2.5.1 and 4.8.4 do; the tests run against all of them.

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
#[cfg(test)]
mod timing;
mod transport;
mod websocket;

pub mod codec;

pub use backoff::Backoff;
pub use client::{AckError, Client, Events, Received};
pub use codec::Protocol;
pub use connection::{Connection, Counters, connect};
pub use error::{
    ConnectError, ConnectPhase, Disconnect, EmitError, FailureClass, InvalidFrame, InvalidUpgrade, ProtocolError, Refusal,
    RefusedBy,
};
pub use event::{Ack, AckId, Args, BinarySkipped, Event, Incoming};
pub use options::{ConnectOptions, OptionsError, TlsConfig, TlsSetupError};
