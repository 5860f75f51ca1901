#!/usr/bin/env bash
# Faults under load, checked by the ledger.  faults.sh short|full [more flags of lanekeeper-faults]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
mode=${1:-short}
shift || true
case $mode in
  short) counts=(--worker-kills 8 --redis-kills 2 --worker-stops 2) ;;
  full) counts=(--worker-kills 50 --redis-kills 10 --worker-stops 5) ;;
  *) echo "usage: faults.sh short|full [flags]" >&2; exit 2 ;;
esac
mkdir -p target/figures
cargo build --locked --profile "${LANEKEEPER_PROFILE:-dev}" -p lanekeeper-worker -p lanekeeper-faults
dir=target/debug
[ "${LANEKEEPER_PROFILE:-dev}" = release ] && dir=target/release
exec "$dir/lanekeeper-faults" "${counts[@]}" --rate 550 --worker "$dir/lanekeeper-worker" --json target/figures/faults.json "$@"
