# shellcheck shell=bash
# Components of the one-node cluster and their flags.

ctr8() { "$BIN/ctr" -a "$SOCK" -n k8s.io "$@"; }

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
