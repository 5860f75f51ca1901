//! Queue semantics: a Redis function library (`lua/`) and its typed Rust side.
//!
//! Knows Redis and the resolved policy; knows nothing of Kubernetes. Decisions are pure (`retry`, `takeover`, `explain`) or single
//! transitions of the library; this crate holds no loop.

mod acl;
mod admin;
mod answer;
pub mod client;
mod connection;
mod damage;
mod dead;
mod enqueue;
mod error;
mod events;
pub mod explain;
mod gather;
mod group;
mod library;
pub mod name;
mod pack;
mod pause;
mod policy;
mod record;
mod restart;
pub mod retry;
mod safety;
mod settlements;
mod stats;
pub mod takeover;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod types;
mod unpack;
mod wake;
mod wire;
mod work;

pub use acl::worker_acl;
pub use client::Queue;
pub use connection::{RedisOptions, redacted};
pub use enqueue::{MAX_BYTES_PER_CALL, MAX_JOBS_PER_CALL};
pub use error::{Error, Result};
pub use library::{LIBRARY_VERSION, install_library, library_source, newer_library};
pub use name::QueueName;
pub use policy::Replaceable;
pub use restart::Restarts;
pub use safety::{Safety, safety};
pub use wake::{Waker, hear};
pub use work::{MAX_BATCH, MAX_NOTES};
