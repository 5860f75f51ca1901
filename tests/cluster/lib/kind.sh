# shellcheck shell=bash
# The cluster where a Docker engine runs: kind. The same images are loaded, so that the same tests run.

KIND_NAME=${KC_KIND_NAME:-lanekeeper}

kind_tools() { # kubectl and helm: what is installed counts, else our own builds
  command -v kubectl >/dev/null || kubernetes kubectl
  command -v helm >/dev/null || helm_binary
}

kind_build() {
  # shellcheck disable=SC2086
  packages $IMAGE_PACKAGES
  kind_tools
  # tests that need only an API server run these two beside kind
  kubernetes kube-apiserver kube-controller-manager
  etcd_binary
  test_images
}

kind_up() {
  # shellcheck disable=SC2086
  packages $IMAGE_PACKAGES
  kind_tools
  test_images
  if kind get clusters 2>/dev/null | grep -qx "$KIND_NAME"; then
    kind export kubeconfig --name "$KIND_NAME" --kubeconfig "$KC"
  else
    kind create cluster --name "$KIND_NAME" --kubeconfig "$KC" --wait 180s 9>&-
  fi
  kind_load_image "$IMG/busybox.tar"
  kind_load_image "$IMG/redis.tar"
  wait_for 120 "node Ready" k wait --for=condition=Ready --timeout=2s node --all
  wait_for 60 "default service account" k get sa default
  say "kind cluster $KIND_NAME up; KUBECONFIG=$KC"
}

kind_down() {
  kind delete cluster --name "$KIND_NAME" --kubeconfig "$KC"
  rm -f "$KC"
}

kind_status() {
  k get nodes -o wide
  k get pods -A -o wide
}

kind_images() { docker exec "$KIND_NAME-control-plane" crictl images; }
kind_load_image() { kind load image-archive --name "$KIND_NAME" "$1" 9>&-; }
kind_kill_container() { docker exec "$KIND_NAME-control-plane" ctr -n k8s.io tasks kill -s SIGKILL "$1"; }
kind_forward() { exec kubectl --kubeconfig "$KC" -n "$2" port-forward --address 127.0.0.1 "svc/$3" "$1:$4"; }
