//! Integration tests: one file per subject, against the real parts.

mod delivery;
mod http_api;
mod sending;
mod store_contract;
mod support;
