# shellcheck shell=bash
# Debian packages, Go programs and the base images, each made once.

# COMMAND:PACKAGE pairs
NODE_PACKAGES="runc:runc nft:nftables iptables:iptables conntrack:conntrack ipset:ipset socat:socat ethtool:ethtool
  openssl:openssl nsenter:util-linux ip:iproute2 gcc:gcc"
IMAGE_PACKAGES="curl:curl python3:python3 busybox:busybox-static redis-server:redis-server redis-cli:redis-tools"

packages() { # packages PAIR...
  local need=() pair
  for pair in "$@"; do command -v "${pair%%:*}" >/dev/null || need+=("${pair##*:}"); done
  if [ "$PROVIDER" = node ] && [ ! -x /usr/lib/cni/bridge ]; then need+=(containernetworking-plugins); fi
  [ ${#need[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "please install ${need[*]} (no apt-get here to do it with)"
  say "apt-get install ${need[*]}"
  # RUNLEVEL=1 keeps Debian from starting a Redis of its own
  { as_root apt-get update -qq &&
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${need[@]}"; } \
    >"$LOG/apt.log" 2>&1 || die "apt-get, see $LOG/apt.log"
}

gobuild() { # gobuild OUT DIR LDFLAGS PKG
  [ ! -x "$BIN/$1" ] || return 0
  command -v go >/dev/null || die "Go is needed to build $1 (version: see $2/go.mod)"
  say "go build $1"
  local started=$SECONDS
  (cd "$2" && CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags "-s -w $3" -o "$BIN/.$1" "$4") >>"$LOG/build.log" 2>&1 ||
    die "build of $1, see $LOG/build.log"
  mv "$BIN/.$1" "$BIN/$1"
  echo "$1 $((SECONDS - started)) s" >>"$LOG/build-times.txt"
}

kubernetes() { # kubernetes NAME...
  local c v=k8s.io/component-base/version
  for c in "$@"; do
    gobuild "$c" "$SRC/src/kubernetes" "-X $v.gitVersion=v1.36.3 -X $v.gitMajor=1 -X $v.gitMinor=36 -X $v.gitTreeState=clean" "k8s.io/kubernetes/cmd/$c"
  done
}

etcd_binary() { gobuild etcd "$SRC/src/etcd" "" go.etcd.io/etcd/server/v3; }
helm_binary() { gobuild helm "$SRC/src/helm" "" helm.sh/helm/v4/cmd/helm; }

node_binaries() {
  local c
  kubernetes kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl
  for c in containerd containerd-shim-runc-v2 ctr; do
    gobuild $c "$SRC/src/containerd" "-X github.com/containerd/containerd/v2/version.Version=v2.4.2" github.com/containerd/containerd/v2/cmd/$c
  done
  etcd_binary
  helm_binary
  for c in nsfwd coredns; do gobuild $c "$SRC/src/$c" "" .; done
  [ -x "$BIN/pause" ] || gcc -Os -static -o "$BIN/pause" "$SRC/src/pause/pause.c"
}

image() { # image TAR NAME ARGS-OF-MKIMAGE...
  local tar=$1
  [ ! -f "$IMG/$tar.tar" ] || return 0
  shift
  local name=$1
  shift
  python3 "$SRC/mkimage.py" "$name" "$IMG/$tar.tar" "$@" >>"$LOG/images.log"
}

test_images() { # what tests run beside the project's own images
  local applet links=()
  for applet in $(busybox --list); do [ "$applet" = busybox ] || links+=(--link "/bin/$applet=busybox"); done
  image busybox localhost/busybox:1 --user 65532 --entrypoint /bin/sh --mkdir tmp=1777 --mkdir root "$(command -v busybox):/bin/busybox" "${links[@]}"
  image redis localhost/redis:7.0.15 --user 65532 --with-libs --mkdir data=1777 --mkdir tmp=1777 --workdir /data \
    "$(readlink -f "$(command -v redis-server)"):/usr/bin/redis-server" "$(command -v redis-cli):/usr/bin/redis-cli"
}

node_images_build() {
  image pause localhost/pause:1 "$BIN/pause:/pause"
  image coredns localhost/coredns:1 --user 65532 "$BIN/coredns:/coredns"
  test_images
}

node_build() {
  # shellcheck disable=SC2086
  packages $NODE_PACKAGES $IMAGE_PACKAGES
  node_binaries
  node_images_build
}
