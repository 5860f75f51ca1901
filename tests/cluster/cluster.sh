#!/bin/bash
# A real single-node Kubernetes cluster, wholly inside one network namespace.
#   cluster.sh build         install packages, build the binaries and the base images, start nothing
#   cluster.sh up            build what is missing, start everything, wait for Ready
#   cluster.sh down          stop everything that it started, by pid, and remove all state
#   cluster.sh restart       down-less recovery: same as up (starts what is not running)
#   cluster.sh status        processes, memory, CPU, node, pods
#   cluster.sh load-image T  import an OCI or docker-archive tar into the CRI namespace
#   cluster.sh images        list images
#   cluster.sh ns CMD...     run a command in the node's network namespace
#   cluster.sh forward L=A   forward host 127.0.0.1 port to ADDR:PORT in the namespace (until killed)
# Host access: KUBECONFIG=$KC_ROOT/kubeconfig (https://127.0.0.1:$API_PORT through nsfwd); tools in $KC_ROOT/bin.
set -euo pipefail
umask 022

SRC=$(cd "$(dirname "$0")" && pwd)
ROOT=${KC_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/one-node-kubernetes}
NS=${KC_NS:-kc}
NODE=${KC_NODE:-node1}
API_PORT=${KC_API_PORT:-6443}
NODE_IP=10.240.0.10
POD_CIDR=10.244.0.0/16
NODE_POD_CIDR=10.244.0.0/24
SVC_CIDR=10.96.0.0/16
DNS_IP=10.96.0.10
PROXY_MODE=${KC_PROXY_MODE:-iptables}     # iptables | nftables
NSF=/run/netns/$NS
BIN=$ROOT/bin ETC=$ROOT/etc PKI=$ROOT/pki RUN=$ROOT/run LOG=$ROOT/log IMG=$ROOT/images DATA=$ROOT/data
SOCK=$RUN/containerd.sock
export PATH=$BIN:$PATH
KC=$ROOT/kubeconfig

say() { printf '%s %s\n' "$(date +%H:%M:%S.%3N)" "$*"; }
die() { say "FAILED: $*" >&2; exit 1; }
k() { "$BIN/kubectl" --kubeconfig "$KC" "$@"; }
ctr8() { "$BIN/ctr" -a "$SOCK" -n k8s.io "$@"; }
inns() { nsenter --net="$NSF" -- "$@"; }

alive() { # alive NAME: the pid in the pid file is ours and still runs
  local p s; [ -s "$RUN/$1.pid" ] || return 1
  read -r p s <"$RUN/$1.pid"
  [ -n "$s" ] && [ "$(start_of "$p")" = "$s" ]
}
start_of() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" {print $20}'; } # empty for a zombie
start() { # start NAME host|ns CMD...
  local n=$1 where=$2; shift 2
  alive "$n" && return 0
  echo "=== $(date -Is) start: $*" >>"$LOG/$n.log"
  if [ "$where" = ns ]; then set -- nsenter --net="$NSF" -- "$@"; fi
  setsid "$@" >>"$LOG/$n.log" 2>&1 </dev/null &
  local p=$!
  disown
  echo "$p $(start_of $p)" >"$RUN/$n.pid"
}
stop() { # stop NAME [seconds]
  local p s i t=${2:-10}
  if alive "$1"; then
    read -r p s <"$RUN/$1.pid"; kill "$p" 2>/dev/null || true
    for ((i = 0; i < t * 20; i++)); do alive "$1" || break; sleep .05; done
    if alive "$1"; then kill -9 "$p"; say "$1 needed SIGKILL"; fi
  fi
  rm -f "$RUN/$1.pid"
}
wait_for() { # wait_for SECONDS WHAT CMD...
  local t=$1 what=$2 end; shift 2; end=$((SECONDS + t))
  while [ $SECONDS -lt $end ]; do "$@" >/dev/null 2>&1 && return 0; sleep .1; done
  die "timed out after ${t}s: $what"
}

# ---------------------------------------------------------------- binaries
packages() {
  local need=() c
  for c in runc:runc nft:nftables iptables:iptables conntrack:conntrack ipset:ipset socat:socat ethtool:ethtool \
    openssl:openssl curl:curl busybox:busybox-static redis-server:redis-server nsenter:util-linux ip:iproute2; do
    command -v "${c%%:*}" >/dev/null || need+=("${c##*:}")
  done
  [ -x /usr/lib/cni/bridge ] || need+=(containernetworking-plugins)
  if [ ${#need[@]} -gt 0 ]; then
    say "apt-get install ${need[*]}"; apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >"$LOG/apt.log" 2>&1
  fi
}
gobuild() { # gobuild OUT DIR LDFLAGS PKG
  [ -x "$BIN/$1" ] && return 0
  say "go build $1"
  (cd "$2" && CGO_ENABLED=0 /usr/bin/env time -f "$1 %es %MKB" -a -o "$LOG/build-times.txt" \
    go build -mod=mod -trimpath -ldflags "-s -w $3" -o "$BIN/$1" "$4") >>"$LOG/build.log" 2>&1 || die "build of $1, see $LOG/build.log"
}
binaries() {
  local c v="-X k8s.io/component-base/version." cv="-X github.com/containerd/containerd/v2/version.Version=v2.4.2"
  v="${v}gitVersion=v1.36.3 ${v}gitMajor=1 ${v}gitMinor=36 ${v}gitTreeState=clean"
  for c in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do gobuild $c "$SRC/src/kubernetes" "$v" k8s.io/kubernetes/cmd/$c; done
  for c in containerd containerd-shim-runc-v2 ctr; do gobuild $c "$SRC/src/containerd" "$cv" github.com/containerd/containerd/v2/cmd/$c; done
  gobuild etcd "$SRC/src/etcd" "" go.etcd.io/etcd/server/v3
  gobuild helm "$SRC/src/helm" "" helm.sh/helm/v4/cmd/helm
  for c in nsfwd coredns; do gobuild $c "$SRC/src/$c" "" .; done
  [ -x "$BIN/pause" ] || gcc -Os -static -o "$BIN/pause" "$SRC/src/pause/pause.c"
}
images() { # OCI tars, made once
  local m="python3 $SRC/mkimage.py"
  [ -f "$IMG/pause.tar" ] || $m localhost/pause:1 "$IMG/pause.tar" "$BIN/pause:/pause"
  [ -f "$IMG/coredns.tar" ] || $m localhost/coredns:1 "$IMG/coredns.tar" --user 65532 "$BIN/coredns:/coredns"
  [ -f "$IMG/busybox.tar" ] || $m localhost/busybox:1 "$IMG/busybox.tar" --entrypoint /bin/sh --mkdir tmp=1777 --mkdir root "$(command -v busybox):/bin/busybox" \
    $(busybox --list | grep -vx busybox | sed 's#.*#--link /bin/&=busybox#')
  [ -f "$IMG/redis.tar" ] || $m localhost/redis:7.0.15 "$IMG/redis.tar" --user 65532 --with-libs --mkdir data=1777 --mkdir tmp=1777 --workdir /data \
    "$(readlink -f "$(command -v redis-server)"):/usr/bin/redis-server" "$(command -v redis-cli):/usr/bin/redis-cli"
}

# ---------------------------------------------------------------- certificates and kubeconfigs
ca() { # ca NAME CN
  [ -f "$PKI/$1.crt" ] && return 0
  openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/$1.key"
  openssl req -x509 -new -key "$PKI/$1.key" -subj "/CN=$2" -days 3650 -out "$PKI/$1.crt" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature
}
cert() { # cert NAME CA SUBJECT clientAuth|serverAuth|both [SAN]
  [ -f "$PKI/$1.crt" ] && return 0
  local eku=$4; [ "$eku" = both ] && eku=serverAuth,clientAuth
  openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/$1.key"
  openssl req -new -key "$PKI/$1.key" -subj "$3" | openssl x509 -req -CA "$PKI/$2.crt" -CAkey "$PKI/$2.key" -days 3650 -out "$PKI/$1.crt" \
    -extfile <(printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=%s\n%s' "$eku" "${5:+subjectAltName=$5}") 2>/dev/null
}
kubeconf() { # kubeconf FILE USER SERVER
  [ -f "$1" ] && return 0
  local b="base64 -w0"
  (umask 077; cat >"$1" <<Y
apiVersion: v1
kind: Config
current-context: kc
clusters: [{name: kc, cluster: {server: "$3", certificate-authority-data: $($b "$PKI/ca.crt")}}]
contexts: [{name: kc, context: {cluster: kc, user: $2}}]
users: [{name: $2, user: {client-certificate-data: $($b "$PKI/$2.crt"), client-key-data: $($b "$PKI/$2.key")}}]
Y
  )
}
pki() {
  ca ca kubernetes-ca; ca front-proxy-ca front-proxy-ca; ca etcd-ca etcd-ca
  local svc=${SVC_CIDR%.*}.1
  cert apiserver ca /CN=kube-apiserver serverAuth "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,DNS:$NODE,IP:127.0.0.1,IP:$NODE_IP,IP:$svc"
  cert apiserver-kubelet-client ca /CN=kube-apiserver-kubelet-client clientAuth
  cert apiserver-etcd-client etcd-ca /CN=kube-apiserver-etcd-client clientAuth
  cert etcd etcd-ca /CN=etcd both DNS:localhost,IP:127.0.0.1
  cert front-proxy-client front-proxy-ca /CN=front-proxy-client clientAuth
  cert kubelet-server ca "/O=system:nodes/CN=system:node:$NODE" serverAuth "DNS:$NODE,IP:$NODE_IP,IP:127.0.0.1"
  cert kubelet ca "/O=system:nodes/CN=system:node:$NODE" clientAuth
  cert kube-controller-manager ca /CN=system:kube-controller-manager clientAuth
  cert kube-scheduler ca /CN=system:kube-scheduler clientAuth
  cert kube-proxy ca /CN=system:kube-proxy clientAuth
  cert admin ca /O=system:masters/CN=kubernetes-admin clientAuth
  if [ ! -f "$PKI/sa.key" ]; then openssl genrsa -out "$PKI/sa.key" 2048 2>/dev/null; openssl rsa -in "$PKI/sa.key" -pubout -out "$PKI/sa.pub" 2>/dev/null; fi
  chmod 600 "$PKI"/*.key
  local c
  for c in kubelet kube-controller-manager kube-scheduler kube-proxy; do kubeconf "$ETC/$c.kubeconfig" $c "https://$NODE_IP:6443"; done
  kubeconf "$KC" admin "https://127.0.0.1:$API_PORT"
}

# ---------------------------------------------------------------- configuration files
put() { # put FILE [COMPONENT]: write stdin if it differs; stop COMPONENT so that start() rereads it
  local t; t=$(mktemp "$ETC/.put.XXXXXX"); cat >"$t"; chmod 644 "$t"
  if cmp -s "$t" "$1"; then rm -f "$t"; return 0; fi
  mv -f "$t" "$1"; [ -z "${2:-}" ] || stop "$2"
}
configs() {
  mkdir -p "$ETC/cni"
  put "$ETC/resolv.conf" <<Y
# no upstream: nothing leaves this machine
nameserver 127.0.0.1
Y
  put "$ETC/containerd.toml" containerd <<Y
version = 3
root = '$DATA/containerd'
state = '$RUN/containerd'
disabled_plugins = ['io.containerd.nri.v1.nri', 'io.containerd.snapshotter.v1.blockfile', 'io.containerd.snapshotter.v1.btrfs', 'io.containerd.snapshotter.v1.devmapper', 'io.containerd.snapshotter.v1.erofs', 'io.containerd.snapshotter.v1.zfs', 'io.containerd.internal.v1.tracing', 'io.containerd.tracing.processor.v1.otlp']
[grpc]
  address = '$SOCK'
[plugins.'io.containerd.internal.v1.opt']
  path = '$DATA/containerd-opt'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = 'localhost/pause:1'
[plugins.'io.containerd.cri.v1.runtime']
  # no CAP_SYS_RESOURCE on this machine: an oom_score_adj below the daemon's own cannot be set
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  cdi_spec_dirs = []
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = 'runc'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
      runtime_path = '$BIN/containerd-shim-runc-v2'
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = '/usr/sbin/runc'
        Root = '$RUN/runc'
        SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/usr/lib/cni']
    conf_dir = '$ETC/cni'
    use_internal_loopback = true
Y
  put "$ETC/cni/10-kc.conflist" <<Y
{"cniVersion": "1.0.0", "name": "kc", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$DATA/cni", "ranges": [[{"subnet": "$NODE_POD_CIDR"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
Y
  put "$ETC/kubelet.yaml" kubelet <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
containerRuntimeEndpoint: unix://$SOCK
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/kubelet-server.crt
tlsPrivateKeyFile: $PKI/kubelet-server.key
address: $NODE_IP
healthzBindAddress: 127.0.0.1
clusterDNS: [$DNS_IP]
clusterDomain: cluster.local
resolvConf: $ETC/resolv.conf
podLogsDir: $DATA/pod-logs
volumePluginDir: $DATA/volume-plugins
staticPodPath: ""
maxPods: 110
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 200Mi, nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
eventRecordQPS: 50
kubeAPIQPS: 100
kubeAPIBurst: 200
Y
  put "$ETC/kube-proxy.yaml" kube-proxy <<Y
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: $PROXY_MODE
clusterCIDR: $POD_CIDR
hostnameOverride: $NODE
clientConnection: {kubeconfig: $ETC/kube-proxy.kubeconfig}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
nodePortAddresses: [primary]
Y
  put "$ETC/addons.yaml" <<Y
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kc:apiserver-kubelet-client}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:kubelet-api-admin"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: kube-apiserver-kubelet-client}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: admin, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kc:admin-token}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: admin, namespace: kube-system}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: coredns, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: system:coredns}
rules:
- {apiGroups: [""], resources: [services, pods, namespaces], verbs: [list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: system:coredns}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:coredns}
subjects: [{kind: ServiceAccount, name: coredns, namespace: kube-system}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: coredns, namespace: kube-system}
data:
  Corefile: |
    cluster.local:5353 in-addr.arpa:5353 ip6.arpa:5353 {
        errors
        health :8080
        ready :8181
        kubernetes cluster.local in-addr.arpa ip6.arpa {
            pods insecure
            ttl 5
        }
        cache 5
        loadbalance
    }
    .:5353 {
        template IN ANY . {
            rcode NXDOMAIN
        }
    }
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  replicas: 1
  selector: {matchLabels: {k8s-app: kube-dns}}
  template:
    metadata: {labels: {k8s-app: kube-dns}}
    spec:
      priorityClassName: system-cluster-critical
      serviceAccountName: coredns
      dnsPolicy: Default
      tolerations: [{operator: Exists}]
      containers:
      - name: coredns
        image: localhost/coredns:1
        imagePullPolicy: Never
        args: [-conf, /etc/coredns/Corefile]
        ports: [{name: dns, containerPort: 5353, protocol: UDP}, {name: dns-tcp, containerPort: 5353, protocol: TCP}]
        readinessProbe: {httpGet: {path: /ready, port: 8181}, periodSeconds: 1}
        livenessProbe: {httpGet: {path: /health, port: 8080}, initialDelaySeconds: 20}
        resources: {requests: {cpu: 20m, memory: 40Mi}, limits: {memory: 170Mi}}
        securityContext: {runAsNonRoot: true, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}
        volumeMounts: [{name: config, mountPath: /etc/coredns}]
      volumes: [{name: config, configMap: {name: coredns}}]
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  clusterIP: $DNS_IP
  selector: {k8s-app: kube-dns}
  ports: [{name: dns, port: 53, protocol: UDP, targetPort: dns}, {name: dns-tcp, port: 53, protocol: TCP, targetPort: dns-tcp}]
Y
}

# ---------------------------------------------------------------- network namespace, mounts, sysctls
SYSCTLS="vm/overcommit_memory kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes fs/inotify/max_user_instances"
network() {
  local s
  if [ ! -f "$RUN/sysctls" ]; then for s in $SYSCTLS; do echo "$s $(cat /proc/sys/$s)"; done >"$RUN/sysctls"; fi
  [ "$(cat /proc/sys/fs/inotify/max_user_instances)" -ge 1024 ] || echo 1024 >/proc/sys/fs/inotify/max_user_instances
  mountpoint -q "$DATA" || { mount --bind "$DATA" "$DATA"; mount --make-rshared "$DATA"; }
  mountpoint -q "$RUN" || { mount --bind "$RUN" "$RUN"; mount --make-rshared "$RUN"; }
  # a mistaken connection from the host's own namespace must fail here, not leave by the default route
  for s in $NODE_IP/24 $POD_CIDR $SVC_CIDR; do ip route replace unreachable "${s/.10\/24/.0/24}"; done
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

# ---------------------------------------------------------------- components
control_plane() {
  start etcd ns "$BIN/etcd" --name=kc --data-dir="$DATA/etcd" --listen-client-urls=https://127.0.0.1:2379 --advertise-client-urls=https://127.0.0.1:2379 \
    --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 --initial-cluster=kc=http://127.0.0.1:2380 \
    --cert-file="$PKI/etcd.crt" --key-file="$PKI/etcd.key" --client-cert-auth --trusted-ca-file="$PKI/etcd-ca.crt" \
    --listen-metrics-urls=http://127.0.0.1:2381 --snapshot-count=10000 --log-level=warn
  start kube-apiserver ns "$BIN/kube-apiserver" --advertise-address=$NODE_IP --bind-address=0.0.0.0 --secure-port=6443 \
    --etcd-servers=https://127.0.0.1:2379 --etcd-cafile="$PKI/etcd-ca.crt" --etcd-certfile="$PKI/apiserver-etcd-client.crt" --etcd-keyfile="$PKI/apiserver-etcd-client.key" \
    --client-ca-file="$PKI/ca.crt" --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --enable-bootstrap-token-auth=true \
    --allow-privileged=true --service-cluster-ip-range=$SVC_CIDR \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local --service-account-key-file="$PKI/sa.pub" --service-account-signing-key-file="$PKI/sa.key" \
    --kubelet-client-certificate="$PKI/apiserver-kubelet-client.crt" --kubelet-client-key="$PKI/apiserver-kubelet-client.key" --kubelet-certificate-authority="$PKI/ca.crt" \
    --kubelet-preferred-address-types=InternalIP,Hostname \
    --requestheader-client-ca-file="$PKI/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy-client --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --requestheader-group-headers=X-Remote-Group --requestheader-username-headers=X-Remote-User \
    --proxy-client-cert-file="$PKI/front-proxy-client.crt" --proxy-client-key-file="$PKI/front-proxy-client.key" --profiling=false
  start nsfwd host "$BIN/nsfwd" "$NSF" "127.0.0.1:$API_PORT=$NODE_IP:6443"
}
controllers() {
  local kc=$ETC/kube-controller-manager.kubeconfig ks=$ETC/kube-scheduler.kubeconfig
  start kube-controller-manager ns "$BIN/kube-controller-manager" --kubeconfig="$kc" --authentication-kubeconfig="$kc" --authorization-kubeconfig="$kc" --bind-address=127.0.0.1 \
    --allocate-node-cidrs=true --cluster-cidr=$POD_CIDR --node-cidr-mask-size=24 --service-cluster-ip-range=$SVC_CIDR \
    --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key" --root-ca-file="$PKI/ca.crt" --service-account-private-key-file="$PKI/sa.key" \
    --client-ca-file="$PKI/ca.crt" --requestheader-client-ca-file="$PKI/front-proxy-ca.crt" \
    --use-service-account-credentials=true --controllers='*,bootstrapsigner,tokencleaner' --flex-volume-plugin-dir="$DATA/volume-plugins" --leader-elect=true --profiling=false
  start kube-scheduler ns "$BIN/kube-scheduler" --kubeconfig="$ks" --authentication-kubeconfig="$ks" --authorization-kubeconfig="$ks" --bind-address=127.0.0.1 --leader-elect=true --profiling=false
}
runtime() {
  start containerd ns "$BIN/containerd" --config "$ETC/containerd.toml"
  wait_for 30 containerd ctr8 version
  local t d
  for t in pause coredns busybox redis; do
    d=$(sha256sum "$IMG/$t.tar" | cut -c1-16)
    [ -e "$DATA/loaded/$t.$d" ] && continue
    mkdir -p "$DATA/loaded"; ctr8 images import "$IMG/$t.tar" >>"$LOG/images.log" 2>&1 || die "import of $t.tar, see $LOG/images.log"
    : >"$DATA/loaded/$t.$d"
  done
}
node() {
  start kubelet ns "$BIN/kubelet" --config="$ETC/kubelet.yaml" --kubeconfig="$ETC/kubelet.kubeconfig" --root-dir="$DATA/kubelet" --cert-dir="$PKI/kubelet" \
    --hostname-override=$NODE --node-ip=$NODE_IP --containerd="$SOCK" --v=2
  start kube-proxy ns "$BIN/kube-proxy" --config="$ETC/kube-proxy.yaml"
}

up() {
  local t0; t0=$(date +%s%N)
  mkdir -p "$BIN" "$ETC" "$PKI" "$RUN" "$LOG" "$IMG" "$DATA"
  since() { echo $((($(date +%s%N) - t0) / 1000000)) ms; }
  packages; binaries; images >>"$LOG/images.log"
  pki; configs; network
  say "preparation done after $(since)"
  control_plane
  runtime
  say "containerd up, images loaded after $(since)"
  wait_for 60 "apiserver /readyz" k get --raw /readyz
  say "apiserver ready after $(since)"
  controllers
  k apply --server-side --force-conflicts -f "$ETC/addons.yaml" >"$LOG/addons.log" 2>&1 || die "addons, see $LOG/addons.log"
  node
  wait_for 60 "kubelet /healthz" inns curl -sf --max-time 2 http://127.0.0.1:10248/healthz
  wait_for 90 "node Ready" sh -c "'$BIN/kubectl' --kubeconfig '$KC' get node $NODE -o 'jsonpath={.status.conditions[?(@.type==\"Ready\")].status}' | grep -q True"
  say "node Ready after $(since)"
  # the kubelet sets these; this machine's own values are safer for whatever else runs here
  local s v; while read -r s v; do case $s in kernel/panic*) echo "$v" >/proc/sys/$s ;; esac; done <"$RUN/sysctls"
  wait_for 90 "CoreDNS" k -n kube-system wait --for=condition=Available --timeout=2s deployment/coredns
  # the real thing: a question through the Service address to a pod
  wait_for 60 "DNS through the Service" inns timeout 3 busybox nslookup -type=a kubernetes.default.svc.cluster.local $DNS_IP
  wait_for 30 "default service account" k get sa default
  (umask 077; k -n kube-system create token admin --duration=24h >"$ROOT/admin.token")
  say "CoreDNS Available, cluster up after $(since)"
}

down() {
  local c p s i d
  # ask the kubelet's pods to go the short way: the whole node is going away
  for c in nsfwd kube-proxy kubelet kube-scheduler kube-controller-manager; do stop $c 10; done
  stop kube-apiserver 1 # its graceful shutdown waits up to a minute for watches
  if [ -S "$SOCK" ] && alive containerd; then
    for c in $(ctr8 tasks ls -q 2>/dev/null); do ctr8 tasks kill -s SIGKILL "$c" >/dev/null 2>&1 || true; done
  fi
  for p in $(ours_in_cgroups); do kill -9 "$p" 2>/dev/null || true; done
  stop containerd 10; stop etcd 10
  for p in $(ours_shims); do kill -9 "$p" 2>/dev/null || true; done
  for ((i = 0; i < 50; i++)); do [ -z "$(ours_in_cgroups)$(ours_shims)" ] && break; sleep .1; done
  # mounts below our own directories, deepest first
  for i in 1 2 3; do
    awk -v r="$ROOT/" 'index($5, r) == 1 {print $5}' /proc/self/mountinfo | sort -r | while read -r d; do umount -l "$d" 2>/dev/null || true; done
  done
  if [ -e "$NSF" ]; then ip netns del "$NS"; fi
  for s in $NODE_IP/24 $POD_CIDR $SVC_CIDR; do ip route del unreachable "${s/.10\/24/.0/24}" 2>/dev/null || true; done
  for c in /sys/fs/cgroup/*/kubepods; do
    [ -d "$c" ] || continue
    find "$c" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  if [ -f "$RUN/sysctls" ]; then while read -r s d; do echo "$d" >"/proc/sys/$s"; done <"$RUN/sysctls"; fi
  if awk -v r="$ROOT/" 'index($5, r) == 1 {f=1} END {exit !f}' /proc/self/mountinfo; then die "mounts left below $ROOT: not deleting"; fi
  rm -rf --one-file-system "$DATA" "$RUN" "$PKI" "$ETC" "$KC" "$ROOT/admin.token"
  say "down: all state removed (binaries, image tars and logs kept)"
}
ours_in_cgroups() { cat /dev/null $(find /sys/fs/cgroup/pids/kubepods -name cgroup.procs 2>/dev/null) 2>/dev/null | sort -u || true; }
ours_shims() { # shims whose command line names our socket
  local f
  for f in /proc/[0-9]*/cmdline; do
    if { tr "\0" " " <"$f"; } 2>/dev/null | grep -q "^$BIN/containerd-shim-runc-v2 .*-address $SOCK"; then f=${f#/proc/}; echo "${f%/cmdline}"; fi
  done
}

COMPONENTS="etcd kube-apiserver kube-controller-manager kube-scheduler containerd kubelet kube-proxy nsfwd"
status() {
  local c p s rss ticks
  printf '%-26s %8s %9s %9s\n' COMPONENT PID RSS_MiB CPU_s
  for c in $COMPONENTS; do
    if alive $c; then
      read -r p s <"$RUN/$c.pid"
      rss=$(awk '/VmRSS/{print $2/1024}' /proc/$p/status)
      ticks=$(sed 's/.*) //' /proc/$p/stat | awk '{print ($12+$13)/100}')
      printf '%-26s %8s %9.1f %9.1f\n' $c "$p" "$rss" "$ticks"
    else printf '%-26s %8s\n' $c "not running"; fi
  done
  p=$(ours_shims | wc -l); rss=0
  for c in $(ours_shims); do rss=$((rss + $(awk '/VmRSS/{print $2}' /proc/$c/status 2>/dev/null || echo 0))); done
  printf '%-26s %8s %9s\n' "shims ($p)" - $((rss / 1024))
  [ -f "$KC" ] && { k get --raw '/readyz' && echo; k get nodes -o wide; k get pods -A -o wide; }
}

case ${1:-} in
  up | restart) up ;;
  build) mkdir -p "$BIN" "$ETC" "$PKI" "$RUN" "$LOG" "$IMG" "$DATA"; packages; binaries; images >>"$LOG/images.log" ;;
  down) down ;;
  status) status ;;
  load-image) shift; for t in "$@"; do ctr8 images import "$t"; done ;;
  images) ctr8 images ls ;;
  ns) shift; exec nsenter --net="$NSF" -- "$@" ;;
  forward) shift; exec "$BIN/nsfwd" "$NSF" "$@" ;;
  *) sed -n '2,14p' "$0"; exit 2 ;;
esac
