//! Times as Kubernetes writes them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// A timestamp from ms since the epoch.
#[must_use]
pub fn timestamp(wall_ms: u64) -> Timestamp {
    i64::try_from(wall_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}

/// A `metav1.Time`, which has whole seconds, from ms since the epoch.
#[must_use]
pub fn meta_time(wall_ms: u64) -> Time {
    Time(timestamp(wall_ms - wall_ms % 1000))
}

/// Ms since the epoch of a `metav1.Time`; what lies before it counts as 0.
#[must_use]
pub fn wall_ms_of(time: &Time) -> u64 {
    u64::try_from(time.0.as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_time_keeps_whole_seconds() {
        assert_eq!(wall_ms_of(&meta_time(1_700_000_000_999)), 1_700_000_000_000);
    }
}
