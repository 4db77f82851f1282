"""Reads rendered manifests and writes those that `podman play kube` can run on one machine.

Usage: pod_manifest.py IMAGE PORT INTERNAL_PORT KEYS_DIRECTORY < rendered > adapted

What stays is as rendered: container, arguments, security context, mounts, settings, claim. What changes: the image's
name, the network (the machine's own, with free ports) and the keys, which are made for this run.
"""

import base64
import pathlib
import re
import secrets
import sys

import yaml

RUNNABLE = {"Deployment", "ConfigMap", "PersistentVolumeClaim"}


def main() -> None:
    image, port, internal_port, keys = sys.argv[1:]
    documents = [document for document in yaml.safe_load_all(sys.stdin) if document["kind"] in RUNNABLE]
    by_kind = {document["kind"]: document for document in documents}

    pod = by_kind["Deployment"]["spec"]["template"]["spec"]
    pod["hostNetwork"] = True
    (container,) = pod["containers"]
    container["image"] = image
    # On the machine's own network no port is mapped, so that the probes cannot name one either.
    del container["ports"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        container[probe]["httpGet"]["port"] = int(port)

    # podman 4.3 mounts a Secret's values undecoded, so that the keys come as files.
    (keys_volume,) = (volume for volume in pod["volumes"] if "secret" in volume)
    del keys_volume["secret"]
    keys_volume["hostPath"] = {"path": write_keys(keys), "type": "Directory"}

    settings = by_kind["ConfigMap"]["data"]
    settings["spaces-bridge.toml"] = replace(
        settings["spaces-bridge.toml"],
        (r'listen = "0\.0\.0\.0:8080"', f'listen = "127.0.0.1:{port}"'),
        (r'internal_listen = "0\.0\.0\.0:9090"', f'internal_listen = "127.0.0.1:{internal_port}"'),
    )

    yaml.safe_dump_all(documents, sys.stdout, sort_keys=False)


def write_keys(directory: str) -> str:
    """Makes fresh keys under the names that the Secret has."""
    path = pathlib.Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    (path / "master_key").write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    (path / "admin_key").write_text(secrets.token_hex(24))
    return str(path)


def replace(text: str, *rules: tuple[str, str]) -> str:
    """Applies every rule, each of which has to match one line."""
    for pattern, replacement in rules:
        text, count = re.subn(f"^{pattern}$", replacement, text, flags=re.MULTILINE)
        if count != 1:
            sys.exit(f"the settings have {count} lines `{pattern}`, not one")
    return text


if __name__ == "__main__":
    main()
