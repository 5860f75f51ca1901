//! The one place of the benchmarks that reads the wall clock.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Seconds since the epoch: the clock that producer and worker share when they are two processes.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Seconds since this process first asked: for everything that happens in one process.
#[must_use]
pub fn mono_s() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}
