//! What the benchmarks and the adapter of the peer benchmarks share: jobs, policies, producers, and the worker engine
//! with a handler that counts.

pub mod clock;
pub mod count;
pub mod jobs;
pub mod policy;
pub mod produce;
pub mod work;
