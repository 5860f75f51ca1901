//! The autoscaler: what is waiting in, replicas out.
//!
//! [`sample`] holds what a decision reads, [`decide()`] is the pure decision.

pub mod decide;
pub mod reason;
pub mod sample;

pub use decide::{Decision, LimitedBy, State, decide};
pub use reason::Reason;
pub use sample::{Load, Mode, Sample, ScalePolicy, TypeLoad};
