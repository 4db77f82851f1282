#!/usr/bin/env bash
# The committed description of the API is what the program prints.
source "$(dirname "$0")/lib.sh"

debug_binary
target/debug/spaces-bridge openapi > "$CI_DIR/openapi.json"
diff -u openapi/openapi.json "$CI_DIR/openapi.json" ||
  fail "openapi/openapi.json is old: cargo run -- openapi > openapi/openapi.json"
