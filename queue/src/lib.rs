//! Queue semantics: a Redis function library (`lua/`) and its typed Rust side.
//!
//! Knows Redis and the resolved policy; knows nothing of Kubernetes.

pub mod client;
pub mod explain;
pub mod name;
pub mod types;

pub use client::Queue;
pub use name::QueueName;
