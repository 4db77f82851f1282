#!/usr/bin/env bash
# Licences, sources and bans of deny.toml. The list of advisories is a git repository and changes without us, so that it
# is no part of this check: `cargo deny check advisories` asks it.
source "$(dirname "$0")/lib.sh"

version=0.20.2
deny=$CI_DIR/cargo-deny/bin/cargo-deny
if [[ $("$deny" --version 2>/dev/null) != "cargo-deny $version" ]]; then
  say "building cargo-deny $version"
  # An unoptimised build takes a third of the time and checks this tree in a second.
  CARGO_PROFILE_DEV_DEBUG=false CARGO_INCREMENTAL=0 cargo install --debug --locked --quiet \
    --root "$CI_DIR/cargo-deny" --target-dir "$CI_DIR/cargo-deny/target" "cargo-deny@$version"
  rm -rf "$CI_DIR/cargo-deny/target"
fi
"$deny" --workspace --all-features --locked check bans licenses sources
