//! Integration tests: one file per subject, against the real parts.

mod bad_input;
mod delivery;
mod http_api;
mod reading;
mod real_socketio;
mod sending;
mod sessions;
mod store_contract;
mod support;
