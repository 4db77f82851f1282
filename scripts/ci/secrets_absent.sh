#!/usr/bin/env bash
# secrets_absent.sh LOG SECRETS: fails if the log holds one of the secrets, one on each line, and shows where without showing it.

set -euo pipefail
export LC_ALL=C
log=$1 secrets=$2

# How many of the lines found are shown.
readonly SHOWN=5

if [[ ! -s $log || ! -s $secrets ]]; then
  echo "no log or no secrets to look for: nothing would be proved" >&2
  exit 2
fi
if grep --quiet --fixed-strings "the suite's log is cut here" "$log"; then
  echo "the log is incomplete: it has reached its bound" >&2
  exit 2
fi

found=$(grep --max-count=$SHOWN --line-number --fixed-strings --file="$secrets" "$log") && status=0 || status=$?
case $status in
  1) exit 0 ;;
  0) ;;
  *) exit 2 ;;
esac
# The longest first, so that nothing is left of a secret that contains another.
while IFS= read -r secret; do
  found=${found//"$secret"/[a secret]}
done < <(awk '{ print length($0) "\t" $0 }' "$secrets" | sort --numeric-sort --reverse | cut --fields=2-)
printf 'secrets in %s:\n%s\n' "$log" "$(cut --characters=-2000 <<<"$found")" >&2
exit 1
