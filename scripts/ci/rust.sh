#!/usr/bin/env bash
# Lints and tests of the whole workspace, with the real Socket.IO servers and receivers that verify webhooks with the official
# libraries.
source "$(dirname "$0")/lib.sh"

rust_component clippy clippy
say "clippy"
cargo clippy --workspace --all-targets --locked -- -D warnings

node_tools
say "installing the servers of tests/servers, with Node $(node --version)"
npm ci --prefix tests/servers --no-audit --no-fund --loglevel=error

python_packages receivers tests/servers/requirements.txt

say "tests"
REQUIRE_NODE=1 REQUIRE_PYTHON=1 cargo test --workspace --locked
