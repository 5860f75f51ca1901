//! The traffic generator: a plan that follows from a seed, and the loop that enqueues it.

pub mod command;
pub mod ledger;
pub mod plan;
pub mod run;
