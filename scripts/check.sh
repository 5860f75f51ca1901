#!/usr/bin/env bash
# What must hold before a commit: format, lints, generated files, licences and sources of dependencies.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n== check: %s\n' "$*"; }

step "format"
cargo fmt --all --check
step "clippy, warnings denied"
cargo clippy --locked --workspace --all-targets -- -D warnings
step "the worker builds without Kubernetes"
if cargo tree --locked -p lanekeeper-worker -e normal | grep -E '^\W*(kube|k8s-openapi) v'; then
  echo "check: lanekeeper-worker must not depend on kube or k8s-openapi (see above)" >&2
  exit 1
fi
step "generated files"
cargo run --locked -q -p lanekeeper-api --bin crdgen -- --check --out crds --helm charts/lanekeeper/templates/crds --docs docs/reference.md
step "licences, bans and sources of dependencies"
scripts/deny.sh
step "tests that docs/promises.md names"
scripts/promises.py
step "shell scripts parse"
git ls-files '*.sh' .ci/run | while read -r f; do bash -n "$f"; done
printf '\ncheck: all good\n'
