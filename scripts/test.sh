#!/usr/bin/env bash
# The one test command. On a Debian machine that has the Rust toolchain and a C compiler it installs what else is needed
# and runs every check, in this order:
#
#   scripts/test.sh                 all of them
#   scripts/test.sh rust openapi    only these
#
# Each check is a script in scripts/ci and runs alone as well. All of them run even if one fails; the last line tells.

set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

all=(format rust peer fuzz docs dependencies openapi api-fuzz manifests image container kubernetes)
phases=("${@:-${all[@]}}")
[[ $# -gt 0 ]] || phases=("${all[@]}")

# What phases note here, they have left out.
unchecked=target/ci/unchecked
rm -f "$unchecked"

results=()
failed=0
for phase in "${phases[@]}"; do
  printf '\n======== %s\n' "$phase"
  start=$SECONDS
  "scripts/ci/$phase.sh"
  case $? in
    0) verdict=passed ;;
    75) verdict='NOT CHECKED' ;;
    *) verdict=FAILED failed=$((failed + 1)) ;;
  esac
  took=$((SECONDS - start))
  printf '======== %s: %s after %d s\n' "$phase" "$verdict" "$took"
  results+=("$(printf '%-14s %-12s %5d s' "$phase" "$verdict" "$took")")
done

printf '\n'
printf '%s\n' "${results[@]}"
printf '\n'
if [[ $failed -gt 0 ]]; then
  echo "$failed of ${#phases[@]} checks failed after $SECONDS s."
  exit 1
fi
if [[ -s $unchecked ]]; then
  sed 's/^/NOT CHECKED    /' "$unchecked"
  printf '\n'
fi
if [[ -s $unchecked || ${results[*]} == *'NOT CHECKED'* ]]; then
  echo "What could be checked here passed, after $SECONDS s; the rest is marked above."
else
  echo "All ${#phases[@]} checks passed after $SECONDS s."
fi
