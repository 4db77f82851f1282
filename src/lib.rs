//! spaces-bridge: HTTP in front of Avaya Spaces, whose messaging speaks Socket.IO only.

pub mod delivery;
pub mod domain;
pub mod event_log;
pub mod metrics;
pub mod seal;
pub mod session;
pub mod store;
pub mod upstream;
pub mod webhooks;
