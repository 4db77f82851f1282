#!/usr/bin/env bash
# Every source is formatted.
source "$(dirname "$0")/lib.sh"

cargo fmt --all --check
