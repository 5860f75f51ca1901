# shellcheck shell=bash
# Which cluster this machine gets.

# A docker command alone proves nothing: only an engine that answers does.
docker_runs() { command -v docker >/dev/null && timeout 10 docker info >/dev/null 2>&1; }

provider() {
  case ${LANEKEEPER_CLUSTER:-} in
    kind | node) echo "$LANEKEEPER_CLUSTER" ;;
    "") if command -v kind >/dev/null && docker_runs; then echo kind; else echo node; fi ;;
    *) die "LANEKEEPER_CLUSTER is '$LANEKEEPER_CLUSTER'; it may be kind or node" ;;
  esac
}
PROVIDER=$(provider)
