//! Compares `socketio-client` with `rust_socketio` 0.6: shared parts of the benchmark, the claims and the tests.

pub mod process;
pub mod server;
