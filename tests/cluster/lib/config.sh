# shellcheck shell=bash
# Settings and configuration files of the one-node cluster.

NS=${KC_NS:-kc}
NODE=${KC_NODE:-node1}
API_PORT=${KC_API_PORT:-6443}
NODE_IP=10.240.0.10
NODE_NET=10.240.0.0/24
POD_CIDR=10.244.0.0/16
NODE_POD_CIDR=10.244.0.0/24
SVC_CIDR=10.96.0.0/16
DNS_IP=10.96.0.10                         # also in manifests/addons.yaml
PROXY_MODE=${KC_PROXY_MODE:-iptables}     # iptables | nftables
NSF=/run/netns/$NS
SOCK=$RUN/containerd.sock

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
}
