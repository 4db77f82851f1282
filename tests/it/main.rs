//! Integration tests: one file per subject, against the real parts.

mod accounts;
mod bad_input;
mod chaos;
mod command_line;
mod delivery;
mod demo;
mod durability;
mod events;
mod http_api;
mod idempotency;
mod keys;
mod limits;
mod outbox;
mod reading;
mod real_socketio;
mod recovery;
mod rejoin;
mod secrets;
mod sending;
mod session_tasks;
mod sessions;
mod store_contract;
mod support;
mod tokens;
mod verification;
mod webhooks;
