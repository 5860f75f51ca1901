//! The one place of the fault tests that reads the wall clock: that of the Redis servers, which run on the same machine.

use std::time::{SystemTime, UNIX_EPOCH};

/// µs since the epoch.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
}

/// ms since the epoch.
#[must_use]
pub fn now_ms() -> u64 {
    now_us() / 1000
}
