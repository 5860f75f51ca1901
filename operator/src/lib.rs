//! Lanekeeper's operator: reconcilers, the autoscaler and the platforms it scales.
//!
//! The autoscaler decides in a pure function ([`autoscale::decide`]) and acts through a
//! [`platform::Platform`]: Deployments in a cluster, child processes on one machine. The local mode
//! ([`local`]) and the operator run the same loops over the two.

pub mod args;
pub mod autoscale;
pub mod clock;
pub mod job_queue;
pub mod kubernetes;
pub mod leader;
pub mod local;
pub mod metrics;
pub mod platform;
pub mod probes;
pub mod worker_pool;
