#!/usr/bin/env bash
# cargo-deny over licences, bans and sources (deny.toml). Advisories are a separate, non-blocking matter: a new
# advisory must not turn an unrelated change red.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.20.2
# Outside target/, so that a fresh clone need not build it again.
tools=${LANEKEEPER_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/lanekeeper/tools}
if ! "$tools/bin/cargo-deny" --version 2>/dev/null | grep -q " $version$"; then
  echo "installing cargo-deny $version (once, some minutes)"
  cargo install --quiet --locked --root "$tools" --target-dir "$tools/build" "cargo-deny@$version"
  rm -rf "$tools/build"
fi
"$tools/bin/cargo-deny" --log-level error --all-features check --hide-inclusion-graph licenses bans sources
