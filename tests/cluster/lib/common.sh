# shellcheck shell=bash
# Paths, messages, and processes that are ours: started, found again and stopped by pid and start time.

ROOT=${KC_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/one-node-kubernetes}
BIN=$ROOT/bin ETC=$ROOT/etc PKI=$ROOT/pki RUN=$ROOT/run LOG=$ROOT/log IMG=$ROOT/images DATA=$ROOT/data
KC=$ROOT/kubeconfig
PATH=$BIN:$PATH:/usr/sbin:/sbin

say() { printf '%s %s\n' "$(date +%H:%M:%S.%3N)" "$*" >&2; }
die() { say "FAILED: $*"; exit 1; }
k() { kubectl --kubeconfig "$KC" "$@"; }

exclusively() { # one build, up or down at a time; others wait their turn
  mkdir -p "$BIN" "$ETC" "$PKI" "$RUN" "$LOG" "$IMG" "$DATA"
  exec 9>"$ROOT/.lock"
  flock -n 9 || { say "another cluster.sh is at work in $ROOT: waiting"; flock 9; }
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# alive NAME: the pid in the pid file is ours and still runs
alive() {
  local p s
  [ -s "$RUN/$1.pid" ] || return 1
  read -r p s <"$RUN/$1.pid"
  [ -n "$s" ] && [ "$(start_of "$p")" = "$s" ]
}

# start_of PID: its start time in ticks; empty for a zombie and for nobody
start_of() { { sed 's/.*) //' "/proc/$1/stat" | awk '$1 != "Z" {print $20}'; } 2>/dev/null; }

# start NAME host|ns CMD...
start() {
  local n=$1 where=$2
  shift 2
  alive "$n" && return 0
  echo "=== $(date -Is) start: $*" >>"$LOG/$n.log"
  if [ "$where" = ns ]; then set -- nsenter --net="$NSF" -- "$@"; fi
  setsid "$@" >>"$LOG/$n.log" 2>&1 </dev/null 9>&- &
  local p=$!
  disown
  echo "$p $(start_of $p)" >"$RUN/$n.pid"
}

# stop NAME [seconds before SIGKILL]
stop() {
  local p s i t=${2:-10}
  if alive "$1"; then
    read -r p s <"$RUN/$1.pid"
    kill "$p" 2>/dev/null || true
    for ((i = 0; i < t * 20; i++)); do
      alive "$1" || break
      sleep .05
    done
    if alive "$1"; then
      kill -9 "$p"
      say "$1 needed SIGKILL"
    fi
  fi
  rm -f "$RUN/$1.pid"
}

# wait_for SECONDS WHAT CMD...
wait_for() {
  local t=$1 what=$2 end
  shift 2
  end=$((SECONDS + t))
  while [ $SECONDS -lt $end ]; do
    "$@" >/dev/null 2>&1 && return 0
    sleep .1
  done
  die "timed out after ${t}s: $what (logs in $LOG)"
}
