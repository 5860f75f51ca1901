//! The operator against a real API server and a real Redis.
//!
//! Needs `etcd`, `kube-apiserver`, `openssl` and `redis-server`. The first two are looked for in `LANEKEEPER_TEST_BIN`, else in
//! `$KC_ROOT/bin`, where `tests/cluster/cluster.sh build` leaves them. A test that cannot run fails, unless
//! `LANEKEEPER_SKIP` names the tier `apiserver`.
//!
//! The operator runs in the test's process with the rights of `rbac.yaml` and no others. No controller manager runs: what
//! it would do (pods, garbage collection) is not the operator's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod admission;
mod bed;
mod deletion;
mod election;
mod leaders;
mod manifests;
mod platform;
mod pools;
mod process;
mod queues;
mod server;
