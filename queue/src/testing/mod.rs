//! Helpers for tests: a private Redis and the ledger checker.

mod redis_server;

pub use redis_server::TestRedis;
