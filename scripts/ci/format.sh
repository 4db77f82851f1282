#!/usr/bin/env bash
# Every source is formatted.
source "$(dirname "$0")/lib.sh"

rust_component fmt rustfmt
cargo fmt --all --check
