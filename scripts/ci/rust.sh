#!/usr/bin/env bash
# Lints and tests of the whole workspace, with the real Socket.IO servers.
source "$(dirname "$0")/lib.sh"

rust_component clippy clippy
say "clippy"
cargo clippy --workspace --all-targets --locked -- -D warnings

node_tools
say "installing the Socket.IO servers of tests/servers, with Node $(node --version)"
npm ci --prefix tests/servers --no-audit --no-fund --loglevel=error

say "tests"
REQUIRE_NODE=1 cargo test --workspace --locked
