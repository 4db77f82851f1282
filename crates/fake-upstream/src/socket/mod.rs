//! The Socket.IO side: Engine.IO 3 over WebSocket, namespace `/chat`.
//!
//! [`upgrade`](upgrade::upgrade) answers the HTTP request, [`connection`] is the one task of a connection, [`join`]
//! admits it to `/chat`, [`events`] and [`send`] answer what it emits. The task decodes frames; everything they cause
//! happens at once under the lock, and what is to be written goes through the connection's bounded outbox, so that
//! all clients see one order.

mod connection;
mod events;
mod join;
mod send;
mod upgrade;

pub(crate) use send::{Change, Origin, announce, announce_change};
pub(crate) use upgrade::upgrade;
