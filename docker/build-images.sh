#!/usr/bin/env bash
# Builds the project's images as OCI tars in target/images, without a Docker engine and without a registry.
#
#   docker/build-images.sh            release binaries, statically linked: what ships
#   docker/build-images.sh --debug    the binaries of `cargo build`, with the libraries they need: quick, for development
#   docker/build-images.sh --no-build images of the binaries that are there
#
# Load them with `tests/cluster/cluster.sh load-image target/images/*.tar`.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=release build=yes
for arg in "$@"; do
  case $arg in
    --debug) profile=debug ;;
    --no-build) build=no ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 2 ;;
  esac
done

packages=(-p lanekeeper-operator -p lanekeeper-worker -p lanekeeper -p saas-app)
tag=${LANEKEEPER_IMAGE_TAG:-dev}
out=target/images
host=$(rustc -vV | sed -n 's/^host: //p')
mkdir -p "$out"

if [ "$profile" = release ]; then
  # A target directory of its own: other flags than `cargo build` must not make each other rebuild.
  export CARGO_TARGET_DIR=target/static
  binaries=target/static/$host/release libraries=()
  # --target keeps the flags away from build scripts and procedural macros, which cannot be static.
  [ $build = no ] || RUSTFLAGS='-C target-feature=+crt-static' nice cargo build --locked --release --target "$host" "${packages[@]}"
else
  binaries=target/debug libraries=(--with-libs)
  [ $build = no ] || nice cargo build --locked "${packages[@]}"
fi

ca=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
certificates=()
if [ -f "$ca" ]; then certificates=("$ca:/etc/ssl/certs/ca-certificates.crt"); fi

image() { # image NAME BINARY [MKIMAGE ARGS...]
  local name=$1 binary=$2
  shift 2
  [ -x "$binaries/$binary" ] || { echo "build-images: $binaries/$binary is not there; build it first" >&2; exit 1; }
  python3 tests/cluster/mkimage.py "localhost/$name:$tag" "$out/$name.tar" \
    --user 65532:65532 --mkdir tmp=1777 --mkdir home/nonroot=755 "${libraries[@]}" "$@" \
    "$binaries/$binary:/usr/local/bin/$binary" "${certificates[@]}" \
    docker/rootfs/etc/passwd:/etc/passwd docker/rootfs/etc/group:/etc/group docker/rootfs/etc/nsswitch.conf:/etc/nsswitch.conf
}

image lanekeeper-operator lanekeeper-operator
image lanekeeper-worker lanekeeper-worker
image lanekeeper-cli lanekeeper
image saas saas-app --mkdir data=1777
