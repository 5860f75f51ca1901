//! Figures of the reconcilers.

use std::time::Instant;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::figures::Figures;
use crate::metrics::LoopMetrics;

/// Everything an operator counts and shows. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Telemetry {
    /// Figures of the reconcilers.
    pub reconcilers: Metrics,
    /// Figures of the autoscaler's loops.
    pub loops: LoopMetrics,
    /// Figures of queues and pools.
    pub figures: Figures,
}

impl Telemetry {
    /// Figures that are part of `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            reconcilers: Metrics::new(registry),
            loops: LoopMetrics::new(registry),
            figures: Figures::new(registry),
        }
    }
}

/// How a reconcile ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// It did what it should, a condition that reports a bad spec included.
    Ok,
    /// It is tried again.
    Error,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    kind: &'static str,
    result: Outcome,
}

/// The figures. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Metrics {
    reconciles: Family<ResultLabels, Counter>,
    durations: Family<KindLabels, Histogram, fn() -> Histogram>,
    leader: Gauge,
}

impl Metrics {
    /// Figures that are part of `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            durations: Family::new_with_constructor(histogram),
            leader: Gauge::default(),
        };
        registry.register(
            "lanekeeper_reconciles",
            "Reconciles, by kind and result",
            metrics.reconciles.clone(),
        );
        registry.register(
            "lanekeeper_reconcile_duration_seconds",
            "Time one reconcile took",
            metrics.durations.clone(),
        );
        registry.register("lanekeeper_leader", "1 where this instance leads", metrics.leader.clone());
        metrics
    }

    /// This instance leads, or no longer does.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// A reconcile begins.
    #[must_use]
    pub fn start(&self, kind: &'static str) -> Timer {
        Timer { metrics: self.clone(), kind, began: Instant::now() }
    }
}

/// A reconcile under way.
pub struct Timer {
    metrics: Metrics,
    kind: &'static str,
    began: Instant,
}

impl Timer {
    /// It has ended.
    pub fn end(self, result: Outcome) {
        let labels = KindLabels { kind: self.kind };
        self.metrics.durations.get_or_create(&labels).observe(self.began.elapsed().as_secs_f64());
        self.metrics.reconciles.get_or_create(&ResultLabels { kind: self.kind, result }).inc();
    }
}

fn histogram() -> Histogram {
    Histogram::new([0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reconcile_is_counted_once() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        metrics.start("JobQueue").end(Outcome::Ok);
        metrics.set_leader(true);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains(r#"lanekeeper_reconciles_total{kind="JobQueue",result="Ok"} 1"#), "{text}");
        assert!(text.contains("lanekeeper_leader 1"), "{text}");
    }
}
