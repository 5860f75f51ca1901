//! The one place of the command line that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, ms since the epoch, by this machine's clock. Ages of jobs are told by Redis' clock instead.
#[allow(clippy::disallowed_methods)]
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
