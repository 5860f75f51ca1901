//! The generic cell rate algorithm: `limit` jobs per time, of which `burst` may come at once.

use lanekeeper_api::policy::RateLimit;

/// A rate in force.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    limit: f64,
    per_ms: f64,
    burst: f64,
}

impl Rate {
    pub(super) fn of(spec: &RateLimit) -> Self {
        Self {
            limit: f64::from(spec.limit),
            per_ms: spec.per_ms as f64,
            burst: f64::from(spec.burst.unwrap_or(spec.limit)),
        }
    }

    /// The same with another limit, with which the burst grows.
    pub(super) fn with_limit(self, limit: u32) -> Self {
        let limit = f64::from(limit);
        Self { limit, burst: (self.burst * limit / self.limit).max(1.0), ..self }
    }

    /// Time of so many jobs, µs.
    fn time_us(&self, jobs: f64) -> f64 {
        jobs * self.per_ms * 1_000.0 / self.limit
    }

    /// Whether the rate can have produced the arrival time; otherwise that says nothing.
    pub(super) fn is_sound(&self, arrival_us: u64, now_us: u64) -> bool {
        arrival_us as f64 <= now_us as f64 + self.time_us(self.burst) + 1_000.0
    }

    fn sound(&self, arrival_us: u64, now_us: u64) -> f64 {
        if self.is_sound(arrival_us, now_us) { arrival_us as f64 } else { now_us as f64 }
    }

    /// How many jobs may start, at most `most`; where none may, when the next one may, ms.
    pub(super) fn room(&self, arrival_us: u64, now_us: u64, most: usize) -> Result<usize, u64> {
        let each = self.time_us(1.0);
        let arrival = self.sound(arrival_us, now_us);
        let behind = (arrival - now_us as f64).max(0.0);
        let tolerance = (self.burst - 1.0) * each;
        let room = ((tolerance - behind) / each + 1.0 + 1e-9).floor();
        if room >= 1.0 {
            return Ok(most.min(room as usize));
        }
        Err(((arrival - tolerance) / 1_000.0).ceil() as u64)
    }

    /// The arrival time after `count` more jobs.
    pub(super) fn spent(&self, arrival_us: u64, now_us: u64, count: usize) -> u64 {
        let from = self.sound(arrival_us, now_us).max(now_us as f64);
        (from + self.time_us(count as f64)).floor() as u64
    }
}
