//! Integration tests.

mod delivery;
mod support;
