//! Socket.IO over WebSocket for Engine.IO 3 and 4.
//!
//! [`codec`] holds the wire format, free of I/O and usable by clients and servers.

pub mod codec;

pub use codec::Protocol;
