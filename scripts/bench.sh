#!/usr/bin/env bash
# Benchmarks on a private Redis (AOF everysec), each beside the raw Redis limit of the same run. Prints a table and
# writes target/figures/bench.json. No assertion on time: wall-clock on a shared machine is noisy.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
mkdir -p target/figures
cargo build --locked --release -p lanekeeper-bench -p lanekeeper-worker
exec target/release/lanekeeper-bench --worker target/release/lanekeeper-worker --json target/figures/bench.json "$@"
