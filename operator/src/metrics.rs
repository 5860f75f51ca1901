//! Figures of the autoscaler's loops. What queues and pools look like is shown by whoever holds their views; here
//! stands what the loops did.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::autoscale::ScaleEvent;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Direction {
    Up,
    Down,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ScaleLabels {
    direction: Direction,
    reason: &'static str,
}

/// The figures. Cheap to clone; clones count together. `Default` counts where nobody looks.
#[derive(Debug, Clone)]
pub struct LoopMetrics {
    scaled: Family<ScaleLabels, Counter>,
    evaluation: Histogram,
    blind: Counter,
    platform_errors: Counter,
    taken_over: Counter,
}

impl Default for LoopMetrics {
    fn default() -> Self {
        Self {
            scaled: Family::default(),
            evaluation: Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]),
            blind: Counter::default(),
            platform_errors: Counter::default(),
            taken_over: Counter::default(),
        }
    }
}

impl LoopMetrics {
    /// Figures that are part of `registry`.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register("lanekeeper_scale_events", "Changes of replicas, by reason", new.scaled.clone());
        registry.register(
            "lanekeeper_scale_loop_duration_seconds",
            "Time from reading a queue's figures to the last of its pools being scaled",
            new.evaluation.clone(),
        );
        registry.register(
            "lanekeeper_scale_loop_blind",
            "Evaluations that could not read a queue's figures and left replicas as they were",
            new.blind.clone(),
        );
        registry.register(
            "lanekeeper_scale_errors",
            "Pools that could not be observed or scaled",
            new.platform_errors.clone(),
        );
        registry.register(
            "lanekeeper_leases_taken_over",
            "Leases of lost workers that this process took over and settled",
            new.taken_over.clone(),
        );
        new
    }

    pub(crate) fn scaled(&self, event: &ScaleEvent) {
        let direction = if event.to > event.from { Direction::Up } else { Direction::Down };
        self.scaled.get_or_create(&ScaleLabels { direction, reason: event.reason.as_str() }).inc();
    }

    pub(crate) fn evaluated(&self, took: Duration, could_read: bool) {
        self.evaluation.observe(took.as_secs_f64());
        if !could_read {
            self.blind.inc();
        }
    }

    pub(crate) fn platform_failed(&self) {
        self.platform_errors.inc();
    }

    pub(crate) fn took_over(&self, leases: usize) {
        self.taken_over.inc_by(leases as u64);
    }
}
