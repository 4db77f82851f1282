#!/usr/bin/env bash
# The image builds from the unchanged Dockerfile, is small, and holds no shell.
source "$(dirname "$0")/lib.sh"
source "$ROOT/scripts/ci/containers.sh"

container_tools
base_image
start=$SECONDS
build_image
say "built in $((SECONDS - start)) s"

tree=$(podman_ image mount "$IMAGE")
trap 'podman_ image umount "$IMAGE" >/dev/null' EXIT
image_kib=$(du --summarize --block-size=1K "$tree" | cut -f1)
binary_kib=$(du --apparent-size --block-size=1K "$tree/usr/bin/spaces-bridge" | cut -f1)
echo "image $((image_kib / 1024)) MiB (at most 40), binary $((binary_kib / 1024)) MiB (at most 25)"
((image_kib <= 40 * 1024)) || fail "the image is larger than 40 MiB"
((binary_kib <= 25 * 1024)) || fail "the binary is larger than 25 MiB"

programs=$(find "$tree" -type f -perm /111 ! -name '*.so*' -printf '/%P\n')
[[ $programs == /usr/bin/spaces-bridge ]] || fail "the image holds more programs than its own: $programs"
[[ $(stat --format %u:%g "$tree/data") == 65532:65532 ]] || fail "/data does not belong to the image's user"
[[ $(podman_ inspect --format '{{.Config.User}}' "$IMAGE") == 65532:65532 ]] || fail "the image runs as another user"
[[ $(podman_ inspect --format '{{.HealthCheck.Test}}' "$IMAGE") == *healthcheck* ]] || fail "the image has no health check"
