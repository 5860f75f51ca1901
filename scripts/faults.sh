#!/usr/bin/env bash
# The rows of the fault table, judged by the ledger.  faults.sh short|full [ROW...] [more flags of lanekeeper-faults]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
mode=${1:-short}
shift || true
case $mode in
  short) size=(--short) ;;
  full) size=() ;;
  *) echo "usage: faults.sh short|full [ROW...] [flags]" >&2; exit 2 ;;
esac
profile=${LANEKEEPER_PROFILE:-dev}
cargo build --locked --profile "$profile" -p lanekeeper-worker -p lanekeeper -p lanekeeper-faults
dir=${CARGO_TARGET_DIR:-target}/debug
[ "$profile" = release ] && dir=${CARGO_TARGET_DIR:-target}/release
mkdir -p target/figures
exec "$dir/lanekeeper-faults" "${size[@]}" --worker "$dir/lanekeeper-worker" --cli "$dir/lanekeeper" --json target/figures/faults.json "$@"
