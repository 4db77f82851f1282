#!/usr/bin/env bash
# The fuzz targets, guided by coverage: parsers of what strangers send. Each makes a bounded number of runs; `FUZZ_SECONDS` lets each run
# for so long instead.
source "$(dirname "$0")/lib.sh"

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

# run NAME RUNS SEEDS...: fuzzes one target, starting from what is in these directories.
run() {
  local name=$1 bounds=("-runs=$2" -seed=1)
  shift 2
  [[ -z ${FUZZ_SECONDS:-} ]] || bounds=("-max_total_time=$FUZZ_SECONDS")
  say "fuzzing $name"
  local corpus=$FUZZ/corpus/$name artifacts=$FUZZ/artifacts/ log=$FUZZ/$name.log
  [[ -n ${FUZZ_SECONDS:-} ]] || rm -rf "$corpus"
  mkdir -p "$corpus" "$artifacts"
  if ! "$FUZZ/build/$target/debug/$name" "${bounds[@]}" -timeout=20 -rss_limit_mb=2048 -max_len=16384 \
    -artifact_prefix="$artifacts" "$corpus" "$@" >"$log" 2>&1; then
    tail --lines=60 "$log"
    fail "$name found something; what it was stands in $artifacts"
  fi
  grep '^Done' "$log"
}

say "building the fuzz targets"
build fuzz
build crates/socketio-client/fuzz
run payload 6000 src/incoming/presets/payloads
run message 300000 fuzz/seeds/message
run form 100000 fuzz/seeds/form
run markup 15000 fuzz/seeds/markup
run event 200000 fuzz/seeds/event
run codec 500000
