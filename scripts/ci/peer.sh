#!/usr/bin/env bash
# The peer that the client crate is compared with: it builds, and it behaves as the records say. Its TLS needs OpenSSL's headers,
# which nothing else here does, so it is a package of its own.
source "$(dirname "$0")/lib.sh"

debian_packages libssl-dev pkg-config
node_tools
say "installing the Socket.IO servers of tests/servers"
npm ci --prefix tests/servers --no-audit --no-fund --loglevel=error
say "tests against rust_socketio"
REQUIRE_NODE=1 cargo test --manifest-path crates/socketio-client/peer/Cargo.toml --locked
