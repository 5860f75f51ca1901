//! What the tests on a real cluster share: the cluster itself, the installed release, queues as applications see
//! them, waiting with a deadline, and what is printed when something fails.
//!
//! `KUBECONFIG` names a cluster to use; without it `tests/cluster/cluster.sh up` brings one up. The images come from
//! `docker/build-images.sh`.

pub mod cluster;
pub mod command;
pub mod diagnostics;
pub mod figures;
pub mod jobs;
pub mod objects;
pub mod release;
pub mod scenario;
pub mod wait;
