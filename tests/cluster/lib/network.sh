# shellcheck shell=bash
# The network namespace the whole node lives in, its mounts, and the sysctls that have to change.

inns() { nsenter --net="$NSF" -- "$@"; }

SYSCTLS="vm/overcommit_memory kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes fs/inotify/max_user_instances"
network() {
  local s
  if [ ! -f "$RUN/sysctls" ]; then for s in $SYSCTLS; do echo "$s $(cat /proc/sys/$s)"; done >"$RUN/sysctls"; fi
  [ "$(cat /proc/sys/fs/inotify/max_user_instances)" -ge 1024 ] || echo 1024 >/proc/sys/fs/inotify/max_user_instances
  mountpoint -q "$DATA" || { mount --bind "$DATA" "$DATA"; mount --make-rshared "$DATA"; }
  mountpoint -q "$RUN" || { mount --bind "$RUN" "$RUN"; mount --make-rshared "$RUN"; }
  # a mistaken connection from the host's own namespace must fail here, not leave by the default route
  for s in $NODE_NET $POD_CIDR $SVC_CIDR; do ip route replace unreachable "$s"; done
  [ -e "$NSF" ] && return 0
  ip netns add "$NS"
  inns ip link set lo up
  # CONFIG_DUMMY is off in this kernel: an empty bridge carries the node's address. A veth
  # pair with both ends in this namespace gives it a carrier.
  inns ip link add node0 type bridge
  inns ip link add nv0 type veth peer name nv1
  inns ip link set nv0 master node0
  inns ip link set nv0 up; inns ip link set nv1 up; inns ip link set node0 up
  inns ip addr add $NODE_IP/24 dev node0
  inns ip route add default dev node0      # ends on the bridge: there is no way out
  inns sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables'
}
