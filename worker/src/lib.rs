//! Lanekeeper's worker: claims jobs from a queue, keeps their leases, runs their handlers, says how they ended.
//!
//! Knows Redis through `lanekeeper-queue`; knows nothing of Kubernetes. As a library it runs any [`handler::Handler`]
//! ([`engine::run`]); as a program it runs the handlers that the policy names ([`run`]).

pub mod args;
mod copy;
pub mod engine;
mod error;
pub mod handler;
mod harden;
pub mod metrics;
mod probes;
mod run;
mod shutdown;

pub use copy::copy;
pub use error::Error;
pub use harden::harden;
pub use run::run;
pub use shutdown::Shutdown;
