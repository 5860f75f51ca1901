//! The autoscaler: what is waiting in, replicas out.
//!
//! [`sample`] holds what a decision reads, [`mod@decide`] is the pure decision, made of the needs that
//! [`need`] adds up from what [`estimate`] has learned. [`sampler`] makes samples from figures, and
//! [`fleet`] runs one loop per queue around it all.

pub mod decide;
pub mod estimate;
pub mod fleet;
mod maintain;
pub mod need;
pub mod reason;
mod runner;
pub mod sample;
pub mod sampler;
mod startup;
#[cfg(test)]
mod tests;
pub mod view;
mod wake;

pub use decide::{Decision, LimitedBy, State, decide};
pub use fleet::{Fleet, QueueTarget, Settings};
pub use need::Terms;
pub use reason::Reason;
pub use sample::{Held, Load, Mode, Sample, ScalePolicy, TypeLoad};
pub use sampler::PoolSpec;
pub use view::{PoolView, QueueView, ScaleEvent};
