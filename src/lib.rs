//! spaces-bridge: HTTP in front of Avaya Spaces, whose messaging speaks Socket.IO only.

pub mod app;
pub mod catalogue;
pub mod cli;
pub mod config;
pub mod consumers;
mod core_files;
pub mod delivery;
pub mod demo;
pub mod domain;
pub mod event_log;
mod failure;
pub mod governor;
pub mod http;
pub mod master_key;
pub mod metrics;
pub mod recovery;
pub mod replies;
pub mod seal;
pub mod send_log;
pub mod server;
pub mod session;
pub mod shutdown;
pub mod store;
pub mod subscriptions;
pub mod telemetry;
pub mod upstream;
pub mod webhooks;
