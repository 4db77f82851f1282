#!/usr/bin/env bash
# The rendered manifests start: `podman play kube` makes the pod with its volume, settings and keys, and it gets ready.
source "$(dirname "$0")/lib.sh"
source "$ROOT/scripts/ci/containers.sh"

python_tools
kubectl_tool
need_image
read -r port internal_port < <(free_ports 2)
manifests=$CI_DIR/pod.yaml

clean_up() {
  local status=$?
  [[ $status == 0 ]] || podman_ logs --tail 50 spaces-bridge-pod-0-spaces-bridge 2>/dev/null || true
  podman_ play kube --down "$manifests" >/dev/null 2>&1 || true
  podman_ volume prune --force >/dev/null 2>&1 || true
}

say "adapting the manifests to one machine"
kubectl kustomize deploy/kustomize/base > "$CI_DIR/manifests.yaml"
python scripts/ci/pod_manifest.py "$IMAGE" "$port" "$internal_port" "$CI_DIR/keys" \
  < "$CI_DIR/manifests.yaml" > "$manifests"

say "starting the pod"
trap clean_up EXIT
podman_ play kube "$manifests"
wait_for 30 "the pod to be ready" get "http://127.0.0.1:$port/readyz"
get "http://127.0.0.1:$internal_port/metrics" | grep -q '^# HELP' || fail "no metrics on the internal port"
podman_ exec spaces-bridge-pod-0-spaces-bridge /usr/bin/spaces-bridge healthcheck --config /etc/spaces-bridge/spaces-bridge.toml ||
  fail "the health check refuses a healthy pod"

say "stopping the pod"
podman_ play kube --down "$manifests"
