//! spaces-bridge: HTTP in front of Avaya Spaces, whose messaging speaks Socket.IO only.

pub mod config;
pub mod delivery;
pub mod domain;
pub mod event_log;
pub mod master_key;
pub mod metrics;
pub mod seal;
pub mod send_log;
pub mod session;
pub mod store;
pub mod subscriptions;
pub mod telemetry;
pub mod upstream;
pub mod webhooks;
