# Shared by the scripts that build and run the image: podman and buildah as root, without a daemon, a registry or systemd.
# shellcheck shell=bash

IMAGE=localhost/spaces-bridge:ci
CONTAINERS=$CI_DIR/containers

# Installs the tools and settles where they keep things: in a store of their own, so that no other setting interferes.
container_tools() {
  [[ $(id -u) == 0 ]] || cannot "images are built and run as root here: sudo $0"
  debian_packages podman buildah runc catatonit debootstrap
  mkdir -p "$CONTAINERS"
  # runc runs on mixed control groups where crun refuses; the limits need no right to raise them.
  cat > "$CONTAINERS/containers.conf" <<'CONF'
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
  export CONTAINERS_CONF=$CONTAINERS/containers.conf
  local driver
  for driver in overlay vfs; do
    STORE=(--root "$CONTAINERS/$driver" --runroot "$CONTAINERS/$driver-run" --storage-driver "$driver")
    # Leaves no mount behind that would keep the folder from being removed.
    [[ $driver != overlay ]] || STORE+=(--storage-opt overlay.skip_mount_home=true)
    if podman_ info >/dev/null 2>&1; then
      return
    fi
  done
  podman_ info || cannot "podman does not work on this machine"
}

# Without systemd nothing would run an image's health check by the clock; podman says so at every start, we once.
podman_() {
  podman "${STORE[@]}" "$@" 2> >(grep --line-buffered -v 'unable to get systemd connection' >&2)
}

buildah_() { buildah "${STORE[@]}" "$@"; }

# Makes the Dockerfile's base image from Debian's packages and this machine's Rust toolchain, which the build mounts.
base_image() {
  local base suite mirror root=$CONTAINERS/base
  base=$(sed -n 's/^FROM \(rust:[^ ]*\).*/\1/p' Dockerfile | sort -u)
  suite=${base##*-}
  if podman_ image exists "docker.io/library/$base"; then
    return
  fi
  say "making a stand-in for $base"
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Origin: Debian' 'Label: Debian' | sed -n 1p)
  [[ -n $mirror ]] || cannot "this machine's package sources name no Debian mirror to make $base from"
  rm -rf "$root"
  debootstrap --variant=minbase --include=gcc,libc6-dev,ca-certificates "$suite" "$root" "$mirror" \
    > "$CONTAINERS/base.log" 2>&1 || {
    tail -20 "$CONTAINERS/base.log" >&2
    cannot "debootstrap cannot make a Debian $suite here"
  }
  tar --create --directory "$root" . | podman_ import --quiet \
    --change 'ENV PATH=/opt/rust/bin:/usr/bin:/bin' \
    --change 'ENV CARGO_HOME=/usr/local/cargo' \
    --change 'ENV CARGO_NET_OFFLINE=true' \
    - "docker.io/library/$base" >/dev/null
  rm -rf "$root"
}

# Builds the image from the unchanged Dockerfile; the crates come from this machine's cache, so that it needs no network.
build_image() {
  say "building the image with $(rustc --version)"
  cargo fetch --locked
  buildah_ bud --layers --isolation chroot --pull-never --format docker \
    --volume "$(rustc --print sysroot):/opt/rust:ro" \
    --volume "${CARGO_HOME:-$HOME/.cargo}/registry:/usr/local/cargo/registry" \
    --build-arg "VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | sed -n 1p)" \
    --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    --tag "$IMAGE" .
}

# The image of the present sources; when nothing changed since it was built, every layer is found again.
need_image() {
  container_tools
  base_image
  build_image > "$CONTAINERS/build.log" 2>&1 || {
    tail -40 "$CONTAINERS/build.log" >&2
    fail "the image does not build"
  }
}

# Runs a container as strictly as the deploy files ask for: run_hardened NAME PORT PORT ARGUMENT…
run_hardened() {
  local name=$1 port=$2 internal_port=$3
  shift 3
  podman_ run --detach --name "$name" --network host --read-only --read-only-tmpfs=false \
    --cap-drop ALL --security-opt no-new-privileges --memory 256m --pids-limit 256 --volume "$name:/data" \
    --env "SPACES_BRIDGE_HTTP__LISTEN=127.0.0.1:$port" \
    --env "SPACES_BRIDGE_HTTP__INTERNAL_LISTEN=127.0.0.1:$internal_port" \
    "$IMAGE" "$@" >/dev/null
}
