//! The JobQueue reconciler: a queue becomes a policy in Redis and credentials for its workers.
//!
//! | phase | file | needs |
//! |---|---|---|
//! | dereference | [`dereference`] | API server: Secrets that the spec names |
//! | validate | [`validate`] | nothing |
//! | observe | [`observe`] | Redis and API server: what is there |
//! | plan | [`plan`] | nothing |
//! | apply | [`apply`] | Redis and API server |
//! | status | [`status`] | API server; what it says is worked out without |
//! | clean up | [`cleanup`] | Redis, for a while; never a valid spec |
//!
//! A phase that fails ends the run, and `status` says why: expected failures are facts to report, not errors.

pub mod apply;
pub mod cleanup;
pub mod credentials;
pub mod dereference;
mod gates;
pub mod observe;
pub mod plan;
mod reconcile;
pub mod status;
pub mod validate;

pub use reconcile::{Error, reconcile};
