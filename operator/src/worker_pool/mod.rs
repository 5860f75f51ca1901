//! The WorkerPool reconciler: a pool becomes a Deployment and what belongs to it.
//!
//! | phase | file | needs |
//! |---|---|---|
//! | dereference | [`dereference`] | API server: the queue, its credentials, signing Secrets |
//! | validate | [`validate`] | nothing |
//! | build | [`build`](mod@build) | nothing |
//! | apply | [`apply`] | API server |
//! | status | [`status`] | API server; what it says is worked out without |
//!
//! `replicas` are not this reconciler's: see [`apply`] for how a new Deployment is handed over to the scaler.

pub mod apply;
pub mod build;
pub mod dereference;
mod reconcile;
pub mod status;
pub mod validate;

pub use reconcile::{Error, reconcile};
