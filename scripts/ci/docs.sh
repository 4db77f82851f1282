#!/usr/bin/env bash
# The documentation builds without a warning: no broken link, nothing public without a word.
source "$(dirname "$0")/lib.sh"

RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked
