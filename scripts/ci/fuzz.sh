#!/usr/bin/env bash
# The fuzz targets, guided by coverage, for a short time each: parsers of what strangers send. `FUZZ_SECONDS` lets them run longer;
# what they find to be new they keep.
source "$(dirname "$0")/lib.sh"

readonly SECONDS_EACH=${FUZZ_SECONDS:-15}
readonly FUZZ=$CI_DIR/fuzz
target=$(rustc -vV | sed -n 's/^host: //p')

debian_packages g++
# What `cargo fuzz` sets, without a sanitizer of addresses: there is no unsafe code, and the stable compiler has none.
coverage=(-Cpasses=sancov-module)
for argument in level=4 inline-8bit-counters pc-table trace-compares; do
  coverage+=("-Cllvm-args=-sanitizer-coverage-$argument")
done
# With a target given the flags are not those of build scripts, which cannot be linked with them.
build() {
  RUSTFLAGS="${coverage[*]} --cfg fuzzing" \
    cargo build --manifest-path "$1/Cargo.toml" --target "$target" --target-dir "$FUZZ/build" --locked
}

# run NAME SEEDS...: fuzzes one target, starting from what is in these directories.
run() {
  local name=$1
  shift
  say "fuzzing $name for $SECONDS_EACH s"
  local corpus=$FUZZ/corpus/$name artifacts=$FUZZ/artifacts/ log=$FUZZ/$name.log
  mkdir -p "$corpus" "$artifacts"
  if ! "$FUZZ/build/$target/debug/$name" -max_total_time="$SECONDS_EACH" -timeout=20 -rss_limit_mb=2048 -max_len=16384 -seed=1 \
    -artifact_prefix="$artifacts" "$corpus" "$@" >"$log" 2>&1; then
    tail --lines=60 "$log"
    fail "$name found something; what it was stands in $artifacts"
  fi
  grep '^Done' "$log"
}

say "building the fuzz targets"
build fuzz
build crates/socketio-client/fuzz
run payload src/incoming/presets/payloads
run message fuzz/seeds/message
run form fuzz/seeds/form
run markup fuzz/seeds/markup
run event fuzz/seeds/event
run codec
