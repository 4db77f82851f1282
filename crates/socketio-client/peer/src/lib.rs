//! Compares `socketio-client` with `rust_socketio`.
