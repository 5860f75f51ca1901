//! The only place that reads clocks; everything else takes `now`.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Wall clock, ms since the epoch: for records that people read, never for intervals.
#[must_use]
#[allow(clippy::disallowed_methods)]
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Monotonic clock, ms since this process first asked: for every interval. A wall clock that jumps
/// must neither end a calm period early nor stretch it.
#[must_use]
pub fn mono_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    // Starts at one day, so that "one window ago" never underflows.
    const BASE: u64 = 86_400_000;
    let start = START.get_or_init(Instant::now);
    BASE + u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX - BASE)
}
