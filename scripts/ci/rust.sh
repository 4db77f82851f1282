#!/usr/bin/env bash
# Lints and tests of the whole workspace, with the real Socket.IO servers, receivers that verify webhooks with the official
# libraries, and the programs that recipes are written for.
source "$(dirname "$0")/lib.sh"

rust_component clippy clippy
say "clippy"
cargo clippy --workspace --all-targets --locked -- -D warnings

node_tools
say "installing the servers of tests/servers, with Node $(node --version)"
npm ci --prefix tests/servers --no-audit --no-fund --loglevel=error

python_packages receivers tests/servers/requirements.txt
debian_packages curl jq
alertmanager_tool
have pwsh || unchecked "the recipe for PowerShell, which no registry of packages has"

say "tests"
suite=$CI_DIR/suite
rm -rf "$suite"
SUITE_LOG=$suite REQUIRE_NODE=1 REQUIRE_PYTHON=1 REQUIRE_CURL=1 REQUIRE_ALERTMANAGER=1 cargo test --workspace --locked

say "looking for $(wc -l <"$suite/secrets") secrets in the $(wc -c <"$suite/log") bytes that the tests made the service write"
# First that the look finds what is there: the last of the secrets, planted behind a piece of the log.
{
  head -n 1000 "$suite/log"
  printf 'planted: %s\n' "$(tail -n 1 "$suite/secrets")"
} >"$suite/planted"
status=0
scripts/ci/secrets_absent.sh "$suite/planted" "$suite/secrets" 2>"$suite/report" || status=$?
[[ $status == 1 ]] || fail "a planted secret was not found"
grep --quiet --fixed-strings 'planted: [a secret]' "$suite/report" || fail "the report of a planted secret does not hide it"
scripts/ci/secrets_absent.sh "$suite/log" "$suite/secrets" || fail "a secret was written"
rm -rf "$suite"
