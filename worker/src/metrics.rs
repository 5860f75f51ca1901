//! Figures for Prometheus.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

type Labels = Vec<(&'static str, String)>;

/// How an attempt ended, as a label value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Settled as a success.
    Success,
    /// To be tried again.
    Retry,
    /// To the dead letters.
    Dead,
    /// Handed back.
    Release,
    /// Held because the handler asked to come back later.
    Snooze,
    /// The lease had gone to another worker.
    Lost,
    /// Called off.
    Cancelled,
}

const ENDINGS: [(Ending, &str); 7] = [
    (Ending::Success, "success"),
    (Ending::Retry, "retry"),
    (Ending::Dead, "dead"),
    (Ending::Release, "release"),
    (Ending::Snooze, "snooze"),
    (Ending::Lost, "lost"),
    (Ending::Cancelled, "cancelled"),
];

impl Ending {
    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        ENDINGS.iter().find(|(ending, _)| *ending == self).map_or("", |(_, name)| name)
    }
}

/// All figures of one worker.
pub struct Metrics {
    registry: Registry,
    attempts: Family<Labels, Counter>,
    duration: Family<Labels, Histogram, fn() -> Histogram>,
    pickup: Family<Labels, Histogram, fn() -> Histogram>,
    /// Slots in all.
    pub slots: Gauge,
    /// Slots that run a job.
    pub slots_busy: Gauge,
    /// Finished attempts that Redis does not know of yet.
    pub unsettled: Gauge,
    /// Policy version in use; 0 when there is none.
    pub policy_version: Gauge,
    /// 1 while the worker takes no more jobs.
    pub draining: Gauge,
    /// Round trip of a claim and settle.
    pub claim_duration: Histogram,
    /// Jobs claimed.
    pub claimed: Counter,
    /// Settlements sent again because the reply to the first was an error or lost.
    pub settle_retries: Counter,
    /// Settlements refused because the lease was another's.
    pub stale_settlements: Counter,
    /// Failed calls to Redis.
    pub redis_errors: Counter,
    /// Expired leases that this worker took over.
    pub taken_over: Counter,
}

/// The figures of one job type, looked up once.
pub(crate) struct TypeMetrics {
    endings: [Counter; ENDINGS.len()],
    pub(crate) duration: Histogram,
    pub(crate) pickup: Histogram,
}

impl TypeMetrics {
    pub(crate) fn ended(&self, ending: Ending) {
        self.endings[ending as usize].inc();
    }
}

/// From 1 ms to about 17 minutes.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 11))
}

/// From 0.25 ms to 4 s.
fn round_trips() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 4.0, 8))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("lanekeeper_worker"),
            attempts: Family::default(),
            duration: Family::new_with_constructor(durations),
            pickup: Family::new_with_constructor(durations),
            slots: Gauge::default(),
            slots_busy: Gauge::default(),
            unsettled: Gauge::default(),
            policy_version: Gauge::default(),
            draining: Gauge::default(),
            claim_duration: round_trips(),
            claimed: Counter::default(),
            settle_retries: Counter::default(),
            stale_settlements: Counter::default(),
            redis_errors: Counter::default(),
            taken_over: Counter::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("attempts", "Attempts by job type and outcome", self.attempts.clone());
        let help = "Time from claim to the handler's end";
        r.register_with_unit("attempt_duration", help, Unit::Seconds, self.duration.clone());
        let help = "Time from a job becoming due to its claim";
        r.register_with_unit("pickup_delay", help, Unit::Seconds, self.pickup.clone());
        r.register("slots", "Slots in all", self.slots.clone());
        r.register("slots_busy", "Slots that run a job", self.slots_busy.clone());
        r.register("unsettled", "Finished attempts that Redis does not know of yet", self.unsettled.clone());
        r.register("policy_version", "Policy version in use", self.policy_version.clone());
        r.register("draining", "1 while no more jobs are taken", self.draining.clone());
        let help = "Round trip of a claim and settle";
        r.register_with_unit("claim_duration", help, Unit::Seconds, self.claim_duration.clone());
        r.register("claimed", "Jobs claimed", self.claimed.clone());
        r.register("settle_retries", "Settlements sent again", self.settle_retries.clone());
        let help = "Settlements refused because the lease was another's";
        r.register("stale_settlements", help, self.stale_settlements.clone());
        r.register("redis_errors", "Failed calls to Redis", self.redis_errors.clone());
        r.register("taken_over", "Expired leases taken over", self.taken_over.clone());
    }

    pub(crate) fn of_type(&self, job_type: &str) -> TypeMetrics {
        let labels = || vec![("type", job_type.to_owned())];
        TypeMetrics {
            endings: ENDINGS.map(|(_, name)| {
                let labels = vec![("type", job_type.to_owned()), ("outcome", name.to_owned())];
                self.attempts.get_or_create(&labels).clone()
            }),
            duration: self.duration.get_or_create(&labels()).clone(),
            pickup: self.pickup.get_or_create(&labels()).clone(),
        }
    }

    /// The OpenMetrics text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_carry_their_labels() {
        let metrics = Metrics::default();
        let mail = metrics.of_type("mail");
        mail.ended(Ending::Dead);
        mail.duration.observe(0.01);
        let text = metrics.text();
        assert!(text.contains(r#"lanekeeper_worker_attempts_total{type="mail",outcome="dead"} 1"#), "{text}");
        assert!(
            text.contains(r#"lanekeeper_worker_attempt_duration_seconds_count{type="mail"} 1"#),
            "{text}"
        );
    }

    #[test]
    fn endings_stand_at_their_index() {
        for (at, (ending, _)) in ENDINGS.iter().enumerate() {
            assert_eq!(*ending as usize, at);
        }
    }
}
