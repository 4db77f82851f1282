//! Integration tests: one file per subject, against the real parts.

mod command_line;
mod delivery;
mod demo;
mod durability;
mod http_api;
mod secrets;
mod sending;
mod store_contract;
mod support;
mod webhooks;
