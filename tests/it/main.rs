//! Integration tests.

mod delivery;
mod store_contract;
mod support;
