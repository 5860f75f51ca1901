#!/usr/bin/env bash
# Benchmarks on a private Redis (AOF everysec), each beside the raw Redis limit of the same run. Prints a table and
# writes target/figures/bench.json. No assertion on time: wall-clock on a shared machine is noisy.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
mkdir -p target/figures
# Apart, so that the worker is built as it is shipped: together it would get the features of the benchmarks' crates.
cargo build --locked --release -p lanekeeper-worker
cargo build --locked --release -p lanekeeper-bench
exec target/release/lanekeeper-bench --worker target/release/lanekeeper-worker --json target/figures/bench.json "$@"
