//! Helpers for tests: a private Redis and a dump of what it holds, the ledger checker, the reference model and a clock that a
//! test sets.

pub mod clock;
pub mod dump;
pub mod ledger;
pub mod model;
mod redis_server;

pub use redis_server::TestRedis;
