#!/usr/bin/env bash
# Installs the Debian packages that builds and tests need and that are missing. Says what it does.
set -euo pipefail
need=()
want() { command -v "$1" >/dev/null 2>&1 || need+=("$2"); }
want redis-server redis-server
want redis-cli redis-tools
want cc gcc
want make make
want openssl openssl
want python3 python3
want curl curl
[ ${#need[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
  echo "setup: please install: ${need[*]} (no apt-get here to do it with)" >&2
  exit 2
fi
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
echo "setup: apt-get install ${need[*]}"
"${sudo[@]}" apt-get update -qq
# Debian starts a Redis of its own on install; the project only ever starts private ones.
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
