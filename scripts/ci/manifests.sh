#!/usr/bin/env bash
# Dockerfile, compose file and Kubernetes manifests: rendered, checked against their schemas, linted.
source "$(dirname "$0")/lib.sh"

python_tools
kubectl_tool
rendered=$CI_DIR/manifests.yaml

say "YAML"
yamllint --strict --config-file deploy/yamllint.yaml deploy

say "Dockerfile"
hadolint Dockerfile
checkov --file Dockerfile --framework dockerfile --skip-download --quiet --compact

say "compose file"
check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml

say "Kubernetes manifests"
kubectl kustomize deploy/kustomize/base > "$rendered"
kubernetes-validate --strict --kubernetes-version 1.37 "$rendered"
checkov --file "$rendered" --framework kubernetes --config-file deploy/checkov.yaml --skip-download --quiet --compact
echo "no finding"
