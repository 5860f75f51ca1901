//! How long a worker takes from being asked for to its readiness.

/// Bounds of what is believed, ms.
const BOUNDS_MS: (u64, u64) = (100, 300_000);
/// Weight of the newest measurement.
const BLEND: f64 = 0.3;

/// A learned start-up time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Startup {
    ms: f64,
    measured: bool,
    /// When more were asked for, and how many were ready then.
    waiting: Option<(u64, u32)>,
}

impl Startup {
    /// What the platform guesses before anything was measured.
    #[must_use]
    pub(super) fn new(prior_ms: u64) -> Self {
        Self { ms: prior_ms as f64, measured: false, waiting: None }
    }

    /// The present estimate, ms.
    #[must_use]
    pub(super) fn ms(&self) -> u64 {
        (self.ms as u64).clamp(BOUNDS_MS.0, BOUNDS_MS.1)
    }

    /// Replicas were set to `to` while `ready` were ready.
    pub(super) fn scaled(&mut self, to: u32, ready: u32, now_ms: u64) {
        if to <= ready {
            self.waiting = None;
        } else if self.waiting.is_none() {
            self.waiting = Some((now_ms, ready));
        }
    }

    /// So many are asked for and ready now.
    pub(super) fn see(&mut self, replicas: u32, ready: u32, now_ms: u64) {
        let Some((since, before)) = self.waiting else { return };
        if ready > before {
            let took = now_ms.saturating_sub(since) as f64;
            self.ms = if self.measured { self.ms + (took - self.ms) * BLEND } else { took };
            self.measured = true;
            self.waiting = None;
        } else if replicas <= ready {
            self.waiting = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_measurement_replaces_the_guess_and_later_ones_blend_in() {
        let mut startup = Startup::new(10_000);
        startup.scaled(2, 0, 1_000);
        startup.see(2, 0, 2_000);
        assert_eq!(startup.ms(), 10_000);
        startup.see(2, 1, 5_000);
        assert_eq!(startup.ms(), 4_000);
        startup.scaled(4, 2, 10_000);
        startup.see(4, 3, 24_000);
        assert_eq!(startup.ms(), 7_000);
    }

    #[test]
    fn a_worker_that_was_taken_back_before_it_came_is_no_measurement() {
        let mut startup = Startup::new(10_000);
        startup.scaled(3, 1, 1_000);
        startup.see(1, 1, 90_000);
        startup.see(1, 2, 95_000);
        assert_eq!(startup.ms(), 10_000);
    }
}
