#!/usr/bin/env bash
# Every test, in tiers from cheap to dear. A tier is left out only by name: LANEKEEPER_SKIP="cluster,demo".
#   rust       unit tests, queue on real Redis servers, workers and CLI as real processes
#   apiserver  reconcilers against a real kube-apiserver and etcd
#   faults     rows of the fault table in small sizes, judged by the ledger (a short run of `make faults`)
#   demo       `make demo`, short, and its summary
#   cluster    images, Helm chart and examples on a real node (kind where Docker runs)
set -euo pipefail
cd "$(dirname "$0")/.."
tiers=(rust apiserver faults demo cluster)
skip=${LANEKEEPER_SKIP:-}
for name in ${skip//,/ }; do
  [[ " ${tiers[*]} " == *" $name "* ]] || { echo "LANEKEEPER_SKIP names '$name', which is no tier; tiers: ${tiers[*]}" >&2; exit 2; }
done
skipped() { [[ ",${skip// /}," == *",$1,"* ]]; }

figures=target/figures
mkdir -p "$figures"
ran=() times=()
run() { # run TIER CMD...
  local tier=$1 started=$SECONDS
  shift
  if skipped "$tier"; then printf '\n==== tier %s: EXCLUDED by LANEKEEPER_SKIP\n' "$tier"; return; fi
  printf '\n==== tier %s\n' "$tier"
  "$@" || { echo "tier $tier FAILED after $((SECONDS - started)) s" >&2; exit 1; }
  ran+=("$tier"); times+=("$tier $((SECONDS - started)) s")
}

kube_binaries() { tests/cluster/cluster.sh build; }

tier_rust() {
  # The programs that tests of other crates start.
  cargo build --locked -p lanekeeper -p lanekeeper-worker -p saas-app || return
  # The operator's API-server tests are a tier of their own, and so are the crates under tests/.
  local rest=(--locked --workspace --exclude lanekeeper-operator --exclude lanekeeper-tests --exclude lanekeeper-faults)
  local operator=(--locked -p lanekeeper-operator --lib --bins --test fleet --test host --test local)
  cargo test "${rest[@]}" --no-run && cargo test "${operator[@]}" --no-run || return
  # The operator's tests wait more than they compute: they run beside the others, and are shown after them.
  local log=target/operator-tests.log rc=0
  cargo test "${operator[@]}" >"$log" 2>&1 &
  local beside=$!
  cargo test "${rest[@]}" || rc=$?
  wait "$beside" || rc=$?
  cat "$log"
  [ "$rc" -eq 0 ] || return "$rc"
  cargo test --locked -p lanekeeper-faults --lib
}
tier_apiserver() {
  kube_binaries && cargo test --locked -p lanekeeper-operator --test kubernetes
}
tier_faults() { scripts/faults.sh short; }
tier_demo() { DEMO_SECONDS=${DEMO_SECONDS:-30} scripts/demo.sh </dev/null; }
tier_cluster() {
  kube_binaries && docker/build-images.sh || return
  local rc=0
  cargo test --locked -p lanekeeper-tests --no-run || return
  tests/cluster/cluster.sh up && cargo test --locked -p lanekeeper-tests -- --test-threads 1 --nocapture || rc=$?
  tests/cluster/cluster.sh down || rc=1
  return $rc
}

started=$SECONDS
scripts/setup.sh
run rust tier_rust
run apiserver tier_apiserver
run faults tier_faults
run demo tier_demo
run cluster tier_cluster

printf '\n==== tiers run: %s' "${ran[*]:-none}"
[ -n "$skip" ] && printf '; EXCLUDED by name: %s' "$skip"
printf '\n'
printf '  %s\n' "${times[@]}"
echo "all tiers: ${#ran[@]} passed, 0 failed in $((SECONDS - started)) s"
[ ${#ran[@]} -gt 0 ] || { echo "no tier ran" >&2; exit 1; }
