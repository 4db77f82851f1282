#!/usr/bin/env bash
# Schemathesis asks the live service what its own OpenAPI description allows, and much that it does not: no answer may be
# a 5xx, or one that the description does not name with this status, type, header and body.
source "$(dirname "$0")/lib.sh"

python_tools
debug_binary
port=$(free_ports 1)
address=http://127.0.0.1:$port
log=$CI_DIR/api-fuzz.log

target/debug/spaces-bridge demo --listen "127.0.0.1:$port" > "$log" 2>&1 &
service=$!
clean_up() {
  local status=$?
  [[ $status == 0 ]] || tail -50 "$log"
  kill "$service" 2>/dev/null || true
  wait "$service" || true
}
trap clean_up EXIT
wait_for 30 "the demo and its token" demo_access "$log"
read -r scheme token space < <(demo_access "$log")

# fuzz CONFIGURATION ARGUMENT…: with the lines cut, because a generated address can have tens of thousands of characters.
fuzz() {
  local configuration=$1 status=0
  shift
  # From the folder of the checks, because it leaves notes where it runs.
  (
    cd "$CI_DIR"
    timeout --signal INT 900 schemathesis --config-file "$configuration" run "$address/openapi.json" \
      --header "Authorization: $scheme $token" --max-examples "${EXAMPLES:-40}" "$@" | cut -c 1-2000
  ) || status=$?
  kill -0 "$service" || fail "the service ended under the requests"
  return "$status"
}

say "every operation, with whatever ids the generator finds"
findings=0
fuzz "$ROOT/tests/schemathesis/schemathesis.toml" || findings=1

say "the operations of one space, with the id of a real one"
{
  cat tests/schemathesis/schemathesis.toml
  printf '\n[parameters]\n"path.spaceId" = "%s"\n' "$space"
} > "$CI_DIR/schemathesis-space.toml"
fuzz "$CI_DIR/schemathesis-space.toml" --include-path-regex '^/spaces/\{' || findings=1

get "$address/readyz" >/dev/null || fail "the service is no longer ready after the requests"
if grep -q 'panicked at' "$log"; then
  fail "something panicked: $(grep 'panicked at' "$log" | sort | uniq -c)"
fi
((findings == 0)) || fail "the answers are not what the description says"
