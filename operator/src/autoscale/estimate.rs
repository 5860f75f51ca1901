//! What the counters of a job type tell of its rate and its service time.
//!
//! Both come from monotonic counters, so a burst that came and went between two samples still counts.

use super::sample::TypeLoad;

/// Service time assumed before anything has ended, ms.
const PRIOR_MS: f64 = 1_000.0;
/// How many ended attempts the prior weighs.
const PRIOR_WEIGHT: f64 = 0.5;
/// About as many of the latest attempts make up the mean.
const MEMORY: f64 = 200.0;
/// How many attempts the totals weigh that an operator finds when it starts.
const INHERITED: f64 = 50.0;
/// Memory of the fast rate, ms; at least one service time, so that one burst of long jobs never asks for
/// more slots than it has jobs.
const FAST_MS: f64 = 15_000.0;
/// Memory of the slow rate, ms; at least three service times.
const SLOW_MS: f64 = 120_000.0;

/// What is known of one job type.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Estimate {
    arrived_total: u64,
    ended_total: u64,
    busy_ms_total: u64,
    /// Decayed count of ended attempts and the sum of their durations.
    ended: f64,
    busy_ms: f64,
    /// Time that running jobs have spent and no counter shows yet.
    exposure_ms: f64,
    /// Share of it per running job.
    running: u64,
    fast_per_ms: f64,
    slow_per_ms: f64,
}

impl Estimate {
    /// The first sample of a type: its totals are history, not a burst.
    #[must_use]
    pub fn first(load: &TypeLoad) -> Self {
        let ended = (load.ended_total as f64).min(INHERITED);
        let mean =
            if load.ended_total == 0 { 0.0 } else { load.busy_ms_total as f64 / load.ended_total as f64 };
        Self {
            arrived_total: load.arrived_total,
            ended_total: load.ended_total,
            busy_ms_total: load.busy_ms_total,
            ended,
            busy_ms: ended * mean,
            running: load.running,
            ..Self::default()
        }
    }

    /// The next sample, `elapsed_ms` later. True in the second place: jobs came or went in between.
    #[must_use]
    pub fn next(&self, load: &TypeLoad, elapsed_ms: u64) -> (Self, bool) {
        // A counter that fell belongs to a queue that was deleted or restored: start its history anew.
        if load.ended_total < self.ended_total || load.busy_ms_total < self.busy_ms_total {
            return (Self::first(load), true);
        }
        let ended = load.ended_total - self.ended_total;
        // Cancelling a waiting job lowers this one; that is no arrival.
        let arrived = load.arrived_total.saturating_sub(self.arrived_total);
        let mut next = self.clone();
        next.learn_service(load, ended, elapsed_ms);
        next.learn_rate(arrived as f64, elapsed_ms as f64);
        next.arrived_total = load.arrived_total;
        next.ended_total = load.ended_total;
        next.busy_ms_total = load.busy_ms_total;
        next.running = load.running;
        (next, ended > 0 || arrived > 0)
    }

    fn learn_service(&mut self, load: &TypeLoad, ended: u64, elapsed_ms: u64) {
        let busy_ms = (load.busy_ms_total - self.busy_ms_total) as f64;
        let keep = (1.0 - 1.0 / MEMORY).powf(ended as f64);
        self.ended = self.ended * keep + ended as f64;
        self.busy_ms = self.busy_ms * keep + busy_ms;
        let ran = self.running.min(load.running) as f64 * elapsed_ms as f64;
        self.exposure_ms = if load.running == 0 { 0.0 } else { (self.exposure_ms + ran - busy_ms).max(0.0) };
    }

    fn learn_rate(&mut self, arrived: f64, elapsed_ms: f64) {
        // Two samples within one millisecond are as good as one millisecond apart.
        let elapsed_ms = elapsed_ms.max(1.0);
        let rate = arrived / elapsed_ms;
        let service = self.service_ms();
        let blend = |old: f64, memory: f64| old + (rate - old) * (1.0 - (-elapsed_ms / memory).exp());
        self.fast_per_ms = blend(self.fast_per_ms, FAST_MS.max(service));
        self.slow_per_ms = blend(self.slow_per_ms, SLOW_MS.max(3.0 * service));
    }

    /// Mean time an attempt takes, ms.
    ///
    /// Jobs that still run are heard too: when they have run for twice the mean, they are the better
    /// witness (a type whose first jobs take an hour must not look like the prior for an hour).
    #[must_use]
    pub fn service_ms(&self) -> f64 {
        let mean = (self.busy_ms + PRIOR_MS * PRIOR_WEIGHT) / (self.ended + PRIOR_WEIGHT);
        let elapsed = if self.running == 0 { 0.0 } else { self.exposure_ms / self.running as f64 };
        let service = if elapsed > 2.0 * mean { elapsed } else { mean };
        service.max(1.0)
    }

    /// Jobs becoming due per ms: the slow rate, unless the fast one is beyond what chance explains.
    #[must_use]
    pub fn rate_per_ms(&self) -> f64 {
        let noise = 3.0 * (self.slow_per_ms.max(1.0 / 30_000.0) / 30_000.0).sqrt();
        if self.fast_per_ms > self.slow_per_ms + noise { self.fast_per_ms } else { self.slow_per_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(arrived: u64, ended: u64, busy: u64, running: u64) -> TypeLoad {
        TypeLoad {
            arrived_total: arrived,
            ended_total: ended,
            busy_ms_total: busy,
            running,
            ..TypeLoad::default()
        }
    }

    #[test]
    fn measured_service_time_replaces_the_prior() {
        let start = Estimate::first(&load(0, 0, 0, 0));
        assert_eq!(start.service_ms(), PRIOR_MS);
        let (after, moved) = start.next(&load(100, 100, 1_000, 0), 5_000);
        assert!(moved);
        assert!((after.service_ms() - 10.0).abs() < 6.0, "{}", after.service_ms());
    }

    #[test]
    fn totals_found_at_the_start_are_history_and_no_burst() {
        let start = Estimate::first(&load(1_000_000, 1_000_000, 200_000_000, 0));
        assert!((start.service_ms() - 200.0).abs() < 10.0);
        assert_eq!(start.rate_per_ms(), 0.0);
    }

    #[test]
    fn jobs_that_still_run_are_heard() {
        let mut estimate = Estimate::first(&load(4, 0, 0, 4));
        for _ in 0..60 {
            estimate = estimate.next(&load(4, 0, 0, 4), 5_000).0;
        }
        assert!(estimate.service_ms() >= 290_000.0, "{}", estimate.service_ms());
    }

    #[test]
    fn a_counter_that_fell_starts_anew_and_is_no_negative_rate() {
        let start = Estimate::first(&load(500, 500, 5_000, 0));
        let (after, moved) = start.next(&load(3, 2, 20, 1), 5_000);
        assert!(moved);
        assert_eq!(after.rate_per_ms(), 0.0);
    }

    #[test]
    fn one_burst_of_long_jobs_never_looks_like_more_slots_than_it_has_jobs() {
        let mut estimate = Estimate::first(&load(0, 100, 3_000_000, 0));
        estimate = estimate.next(&load(20, 100, 3_000_000, 20), 200).0;
        assert!(estimate.rate_per_ms() * estimate.service_ms() <= 20.5);
    }
}
