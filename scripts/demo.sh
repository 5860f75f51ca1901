#!/usr/bin/env bash
# The SaaS workload in the local mode: real Redis, real workers, real handlers. See examples/saas/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
echo "demo: building (a first build takes some minutes)"
cargo build --locked -p lanekeeper -p saas-app
exec target/debug/saas-app demo --lanekeeper target/debug/lanekeeper --examples examples/saas \
  --seconds "${DEMO_SECONDS:-60}" --summary target/demo-summary.json "$@"
