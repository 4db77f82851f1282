#!/usr/bin/env bash
# The peer that the client crate is compared with: it builds, and it behaves as the records say. Its TLS needs OpenSSL's headers,
# which nothing else here does, so it is a package of its own.
source "$(dirname "$0")/lib.sh"

debian_packages libssl-dev pkg-config
say "tests against rust_socketio"
cargo test --manifest-path crates/socketio-client/peer/Cargo.toml --locked
