#!/usr/bin/env bash
# The image runs as the deploy files run it: another user, no rights, a read-only root file system. The service keeps its
# data over a restart, answers its own health check and ends by itself when told to; the demo confirms a message.
source "$(dirname "$0")/lib.sh"
source "$ROOT/scripts/ci/containers.sh"

need_image
read -r port internal_port demo_port demo_internal_port < <(free_ports 4)
service=spaces-bridge-ci demo=spaces-bridge-ci-demo

clean_up() {
  local status=$? name
  for name in "$service" "$demo"; do
    [[ $status == 0 ]] || podman_ logs --tail 50 "$name" 2>/dev/null || true
    podman_ rm --force --ignore --time 1 "$name" >/dev/null 2>&1 || true
    podman_ volume rm --force "$name" >/dev/null 2>&1 || true
  done
}
trap clean_up EXIT

# ends_by_itself NAME: on SIGTERM, in less than the grace time that the deploy files give.
ends_by_itself() {
  local start=$SECONDS
  podman_ stop --time 40 "$1" >/dev/null
  [[ $(podman_ inspect --format '{{.State.ExitCode}}' "$1") == 0 ]] || fail "$1 did not end cleanly on SIGTERM"
  echo "ended $((SECONDS - start)) s after SIGTERM"
}

demo_printed() {
  podman_ logs "$demo" > "$CI_DIR/demo.log" 2>&1
  demo_access "$CI_DIR/demo.log"
}

say "the service"
run_hardened "$service" "$port" "$internal_port" serve
wait_for 30 "the service to live" get "http://127.0.0.1:$port/livez"
wait_for 30 "the service to be ready" get "http://127.0.0.1:$port/readyz"
podman_ exec "$service" /usr/bin/spaces-bridge healthcheck || fail "the health check refuses a healthy service"
get "http://127.0.0.1:$internal_port/metrics" | grep -q '^# HELP' || fail "no metrics on the internal listener"
pid=$(podman_ inspect --format '{{.State.Pid}}' "$service")
grep -q '^Uid:[[:space:]]65532[[:space:]]65532' "/proc/$pid/status" || fail "the service runs as another user"
grep -q '^CapEff:[[:space:]]0*$' "/proc/$pid/status" || fail "the service has capabilities"
awk '$5 == "/" && $6 ~ /^ro,/ { found = 1 } END { exit !found }' "/proc/$pid/mountinfo" || fail "the root file system can be written"
volume=$(podman_ volume inspect --format '{{.Mountpoint}}' "$service")
[[ -s $volume/store.db ]] || fail "the service keeps no store in its volume"
[[ $(stat --format %a "$volume/master.key") == 600 ]] || fail "others may read the generated master key"
[[ -z $(find "$volume" ! -user 65532) ]] || fail "something in the volume belongs to another user"
ends_by_itself "$service"

say "the same service again, on the data it left"
podman_ start "$service" >/dev/null
wait_for 30 "the restarted service" get "http://127.0.0.1:$port/readyz"
ends_by_itself "$service"
if podman_ run --rm --network none --env SPACES_BRIDGE_HTTP__LISTEN="127.0.0.1:$port" "$IMAGE" healthcheck >/dev/null 2>&1; then
  fail "the health check accepts a service that is not there"
fi

say "the demo"
run_hardened "$demo" "$demo_port" "$demo_internal_port" demo --listen "127.0.0.1:$demo_port"
wait_for 30 "the demo and its token" demo_printed
read -r scheme token space < <(demo_access "$CI_DIR/demo.log")
podman_ exec "$demo" /usr/bin/spaces-bridge healthcheck || fail "the health check refuses a healthy demo"
answer=$(post_json "http://127.0.0.1:$demo_port/spaces/$space/messages" "$scheme $token" '{"text":"from the container"}')
echo "$answer"
[[ $answer == 201\ * ]] || fail "the demo did not confirm the message"
ends_by_itself "$demo"
