//! Helpers for tests: a private Redis and the ledger checker.

pub mod ledger;
mod redis_server;

pub use redis_server::TestRedis;
