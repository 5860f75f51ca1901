# shellcheck shell=bash
# The one-node cluster as a whole: up, down, status.

COMPONENTS="etcd kube-apiserver kube-controller-manager kube-scheduler containerd kubelet kube-proxy nsfwd"

# Pods are stopped through these cgroups, so they must be ours alone.
refuse_a_second_kubelet() {
  [ -f "$RUN/sysctls" ] && return 0 # we were up before
  [ -z "$(pod_processes)" ] || die "another kubelet runs pods on this machine: the one-node cluster needs it alone"
}

node_up() {
  [ "$(id -u)" = 0 ] || die "the one-node cluster needs root (network namespaces, mounts, cgroups); where Docker runs, install kind instead"
  local t0 s v
  t0=$(date +%s%N)
  since() { echo "$((($(date +%s%N) - t0) / 1000000)) ms"; }
  node_build
  refuse_a_second_kubelet
  pki
  configs
  network
  say "preparation done after $(since)"
  control_plane
  runtime
  say "containerd up, images loaded after $(since)"
  wait_for 60 "apiserver /readyz" k get --raw /readyz
  say "apiserver ready after $(since)"
  controllers
  k apply --server-side --force-conflicts -f "$SRC/manifests/addons.yaml" >"$LOG/addons.log" 2>&1 || die "addons, see $LOG/addons.log"
  node
  wait_for 60 "kubelet /healthz" inns curl -sf --max-time 2 http://127.0.0.1:10248/healthz
  wait_for 90 "node Ready" node_is_ready
  say "node Ready after $(since)"
  # the kubelet sets these; this machine's own values are safer for whatever else runs here
  while read -r s v; do case $s in kernel/panic*) echo "$v" >"/proc/sys/$s" ;; esac done <"$RUN/sysctls"
  wait_for 90 "CoreDNS" k -n kube-system wait --for=condition=Available --timeout=2s deployment/coredns
  # the real thing: a question through the Service address to a pod
  wait_for 60 "DNS through the Service" inns timeout 3 busybox nslookup -type=a kubernetes.default.svc.cluster.local $DNS_IP
  wait_for 30 "default service account" k get sa default
  say "one-node cluster up after $(since); KUBECONFIG=$KC"
}

node_is_ready() { k get node "$NODE" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' | grep -q True; }

node_down() {
  local c p i
  for c in nsfwd kube-proxy kubelet kube-scheduler kube-controller-manager; do stop $c 10; done
  stop kube-apiserver 1 # its graceful shutdown waits up to a minute for watches
  # pods go the short way: the whole node is going away
  if [ -S "$SOCK" ] && alive containerd; then
    for c in $(ctr8 tasks ls -q 2>/dev/null); do ctr8 tasks kill -s SIGKILL "$c" >/dev/null 2>&1 || true; done
  fi
  if [ -f "$RUN/sysctls" ]; then for p in $(pod_processes); do kill -9 "$p" 2>/dev/null || true; done; fi
  stop containerd 10
  stop etcd 10
  for p in $(our_shims); do kill -9 "$p" 2>/dev/null || true; done
  for ((i = 0; i < 50; i++)); do
    [ -z "$(our_shims)" ] && break
    sleep .1
  done
  remove_traces
  say "down: all state removed (binaries, image tars and logs kept)"
}

remove_traces() { # mounts, network, cgroups, sysctls, files
  local i s v c
  for i in 1 2 3; do # deepest first; a mount may have been stacked
    awk -v r="$ROOT/" 'index($5, r) == 1 {print $5}' /proc/self/mountinfo | sort -r | while read -r c; do umount -l "$c" 2>/dev/null || true; done
  done
  [ ! -e "$NSF" ] || ip netns del "$NS"
  for s in $NODE_NET $POD_CIDR $SVC_CIDR; do ip route del unreachable "$s" 2>/dev/null || true; done
  if [ -f "$RUN/sysctls" ]; then
    for c in /sys/fs/cgroup/*/kubepods /sys/fs/cgroup/kubepods; do
      [ ! -d "$c" ] || find "$c" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
    while read -r s v; do echo "$v" >"/proc/sys/$s"; done <"$RUN/sysctls"
  fi
  if awk -v r="$ROOT/" 'index($5, r) == 1 {f=1} END {exit !f}' /proc/self/mountinfo; then die "mounts left below $ROOT: not deleting"; fi
  rm -rf --one-file-system "$DATA" "$RUN" "$PKI" "$ETC" "$KC"
}

pod_processes() {
  find /sys/fs/cgroup/pids/kubepods /sys/fs/cgroup/kubepods -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u || true
}

our_shims() { # shims whose command line names our socket
  local f
  for f in /proc/[0-9]*/cmdline; do
    if { tr "\0" " " <"$f"; } 2>/dev/null | grep -q "^$BIN/containerd-shim-runc-v2 .*-address $SOCK"; then
      f=${f#/proc/}
      echo "${f%/cmdline}"
    fi
  done
}

node_status() {
  local c p s rss ticks
  printf '%-26s %8s %9s %9s\n' COMPONENT PID RSS_MiB CPU_s
  for c in $COMPONENTS; do
    if alive "$c"; then
      read -r p s <"$RUN/$c.pid"
      rss=$(awk '/VmRSS/{print $2/1024}' "/proc/$p/status")
      ticks=$(sed 's/.*) //' "/proc/$p/stat" | awk '{print ($12+$13)/100}')
      printf '%-26s %8s %9.1f %9.1f\n' "$c" "$p" "$rss" "$ticks"
    else printf '%-26s %8s\n' "$c" "not running"; fi
  done
  rss=0
  for p in $(our_shims); do rss=$((rss + $(awk '/VmRSS/{print $2}' "/proc/$p/status" 2>/dev/null || echo 0))); done
  printf '%-26s %8s %9s\n' shims - $((rss / 1024))
  [ -f "$KC" ] || { say "no cluster: cluster.sh up"; return 1; }
  k get --raw /readyz && echo
  k get nodes -o wide
  k get pods -A -o wide
}

node_images() { ctr8 images ls; }
node_load_image() { ctr8 images import "$1"; }
node_kill_container() { ctr8 tasks kill -s SIGKILL "$1"; }

node_forward() { # node_forward PORT NAMESPACE SERVICE SERVICE-PORT
  local ip
  ip=$(k -n "$2" get service "$3" -o 'jsonpath={.spec.clusterIP}') || die "no Service $2/$3"
  [ -n "$ip" ] && [ "$ip" != None ] || die "Service $2/$3 has no cluster IP to forward to"
  exec "$BIN/nsfwd" "$NSF" "127.0.0.1:$1=$ip:$4"
}
