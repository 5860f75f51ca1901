//! Pure checks of what people wrote, and its resolution to plain figures.
//!
//! Whatever the schema and its CEL rules refuse is refused here too, because the local mode has no API server; and
//! more, because CEL does not see everything (positions in key templates, ports, two objects at once). All problems
//! of an object are found in one pass.

mod endings;
mod gates;
mod handler;
mod key;
mod name;
mod policy;
mod pool;
mod problem;
mod queue;
pub mod reason;
pub(crate) mod similar;
mod template;
mod warning;

#[cfg(test)]
mod tests;

pub use key::{KeyError, MAX_TEMPLATE, parse_key};
pub use pool::{MAX_DEFAULT_DRAIN_MS, PoolPlan, ScalingPlan, pool_against, pool_warnings, worker_pool};
pub use problem::Problem;
pub use queue::{MAX_PAYLOAD, job_queue};
pub use warning::job_queue_warnings;
