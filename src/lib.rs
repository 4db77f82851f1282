//! spaces-bridge: HTTP in front of Avaya Spaces, whose messaging speaks Socket.IO only.

pub mod domain;
pub mod metrics;
pub mod seal;
pub mod session;
pub mod store;
pub mod upstream;
