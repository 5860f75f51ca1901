# shellcheck shell=bash
# Certificate authorities, certificates and kubeconfigs of the one-node cluster, each made once.

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
