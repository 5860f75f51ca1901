#!/usr/bin/env bash
# A Kubernetes to test on and to play with: kind where a Docker engine runs, else a real single node
# built from the Kubernetes Go modules, wholly inside one network namespace without a way out.
#
#   cluster.sh build              install packages, build what `up` needs, start nothing
#   cluster.sh up                 start everything, wait until pods can run; safe to repeat
#   cluster.sh down               stop what `up` started and remove its state
#   cluster.sh status             what runs, nodes, pods
#   cluster.sh load-image TAR...  make the images of OCI or docker-archive tars known to the node
#   cluster.sh images             list the node's images
#   cluster.sh kubeconfig         print the path of the kubeconfig
#   cluster.sh env                print lines for `eval`: KUBECONFIG, and PATH with kubectl and helm
#   cluster.sh provider           print kind or node
#   cluster.sh forward PORT NAMESPACE/SERVICE:PORT
#                                 127.0.0.1:PORT here to that Service, until killed
#   cluster.sh kill-container ID  end a container by SIGKILL, as a crash would
#   cluster.sh ns CMD...          (node only) run a command in the node's network namespace
#
# LANEKEEPER_CLUSTER=kind|node chooses by hand. KC_ROOT (default ~/.cache/one-node-kubernetes) holds binaries,
# images, logs and state; KC_NS and KC_API_PORT rename the namespace and move the API's port of the node.
set -euo pipefail
umask 022

SRC=$(cd "$(dirname "$0")" && pwd)
for part in common provider binaries pki config network components node kind; do
  # shellcheck source=/dev/null
  . "$SRC/lib/$part.sh"
done

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
  build | up | down) exclusively ;;
esac
case $command in
  build | up | down | status | images) "${PROVIDER}_$command" ;;
  load-image)
    [ $# -gt 0 ] || die "load-image needs at least one tar"
    for tar in "$@"; do
      [ -f "$tar" ] || die "no such image tar: $tar"
      "${PROVIDER}_load_image" "$tar"
    done ;;
  forward)
    [[ $# -eq 2 && $1 =~ ^[0-9]+$ && $2 =~ ^([^/]+)/([^:]+):([0-9]+)$ ]] || die "usage: forward PORT NAMESPACE/SERVICE:PORT"
    "${PROVIDER}_forward" "$1" "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}" "${BASH_REMATCH[3]}" ;;
  kill-container)
    [ $# -eq 1 ] || die "usage: kill-container ID"
    "${PROVIDER}_kill_container" "$1" ;;
  kubeconfig) echo "$KC" ;;
  env) printf 'export KUBECONFIG=%q\nexport PATH=%q:$PATH\n' "$KC" "$BIN" ;;
  provider) echo "$PROVIDER" ;;
  ns)
    [ "$PROVIDER" = node ] || die "ns is for the one-node cluster only; this is $PROVIDER"
    inns "$@" ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 2 ;;
esac
