//! The fast figures of queues and pools, collected when they are asked for.
//!
//! They come from what the autoscaler's loops last saw. A queue that cannot be read has no figures but
//! `lanekeeper_queue_readable 0`: a source that failed must not look like a queue that is empty.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use lanekeeper_queue::QueueName;
use lanekeeper_queue::types::{LaneStats, Stats};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::context::Context;
use crate::autoscale::QueueView;

type Labels = Vec<(&'static str, String)>;

/// Shows what it is pointed at. Cheap to clone; clones show the same.
#[derive(Clone, Default)]
pub struct Figures {
    contexts: Arc<Mutex<Vec<Weak<Context>>>>,
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

impl Figures {
    /// Figures that are part of `registry`; nothing is shown before this instance leads.
    pub fn new(registry: &mut Registry) -> Self {
        let figures = Self::default();
        registry.register_collector(Box::new(figures.clone()));
        figures
    }

    /// Shows the queues and pools of a running operator, for as long as it runs.
    pub fn show(&self, context: &Arc<Context>) {
        let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        contexts.retain(|context| context.strong_count() > 0);
        contexts.push(Arc::downgrade(context));
    }

    fn views(&self) -> Vec<(QueueName, QueueView)> {
        let contexts: Vec<_> = {
            let contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
            contexts.iter().filter_map(Weak::upgrade).collect()
        };
        let of = |context: &Arc<Context>| {
            let queues = context.known.queues();
            let view = |name: QueueName| Some((name.clone(), context.fleet.view(&name)?.borrow().clone()));
            queues.into_iter().filter_map(view).collect::<Vec<_>>()
        };
        contexts.iter().flat_map(of).collect()
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let rows = Rows::of(&self.views());
        for (name, help, rows) in rows.gauges() {
            write(&mut encoder, name, help, MetricType::Gauge, rows, ConstGauge::new)?;
        }
        for (name, help, rows) in rows.counters() {
            write(&mut encoder, name, help, MetricType::Counter, rows, ConstCounter::new)?;
        }
        Ok(())
    }
}

fn write<N: Copy, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kind: MetricType,
    rows: &[(Labels, N)],
    metric: impl Fn(N) -> M,
) -> Result<(), fmt::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in rows {
        metric(*value).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}

/// Figures by metric.
#[derive(Debug, Default)]
struct Rows {
    readable: Vec<(Labels, i64)>,
    depth: Vec<(Labels, i64)>,
    scheduled: Vec<(Labels, i64)>,
    running: Vec<(Labels, i64)>,
    dead: Vec<(Labels, i64)>,
    oldest: Vec<(Labels, i64)>,
    pool_replicas: Vec<(Labels, i64)>,
    pool_ready: Vec<(Labels, i64)>,
    pool_desired: Vec<(Labels, i64)>,
    pool_busy: Vec<(Labels, i64)>,
    enqueued: Vec<(Labels, u64)>,
    succeeded: Vec<(Labels, u64)>,
    failed: Vec<(Labels, u64)>,
    died: Vec<(Labels, u64)>,
}

type Metric<'a, N> = (&'static str, &'static str, &'a [(Labels, N)]);

impl Rows {
    fn of(views: &[(QueueName, QueueView)]) -> Self {
        let mut rows = Self::default();
        for (name, view) in views {
            rows.add(name, view);
        }
        rows
    }

    fn gauges(&self) -> [Metric<'_, i64>; 10] {
        [
            ("lanekeeper_queue_readable", "1 where the queue's Redis could be read", &self.readable),
            ("lanekeeper_queue_depth", "Jobs that are due and wait", &self.depth),
            ("lanekeeper_queue_scheduled", "Jobs not due yet", &self.scheduled),
            ("lanekeeper_queue_running", "Jobs that run", &self.running),
            ("lanekeeper_queue_dead", "Dead letters", &self.dead),
            ("lanekeeper_queue_oldest_age_seconds", "Age of the oldest due job", &self.oldest),
            ("lanekeeper_pool_replicas", "Workers asked for", &self.pool_replicas),
            ("lanekeeper_pool_ready_replicas", "Workers that take jobs", &self.pool_ready),
            ("lanekeeper_pool_desired_replicas", "Workers that the load asks for", &self.pool_desired),
            ("lanekeeper_pool_busy_slots", "Slots in use", &self.pool_busy),
        ]
    }

    fn counters(&self) -> [Metric<'_, u64>; 4] {
        [
            ("lanekeeper_jobs_enqueued", "Jobs accepted", &self.enqueued),
            ("lanekeeper_jobs_succeeded", "Jobs that succeeded", &self.succeeded),
            ("lanekeeper_attempts_failed", "Attempts that failed", &self.failed),
            ("lanekeeper_jobs_died", "Jobs that died", &self.died),
        ]
    }

    fn add(&mut self, name: &QueueName, view: &QueueView) {
        let full = name.to_string();
        let (namespace, queue) = full.split_once('/').unwrap_or(("", &full));
        let own = Own { namespace, queue };
        let fresh = view.stats.as_deref().filter(|_| view.error.is_none());
        self.readable.push((own.with(&[]), i64::from(fresh.is_some())));
        if let Some(stats) = fresh {
            for lane in &stats.lanes {
                self.add_lane(stats, lane, &own);
            }
        }
        for (pool, seen) in &view.pools {
            let labels = own.with(&[("pool", &pool.name)]);
            if let Some(observed) = &seen.observed {
                self.pool_replicas.push((labels.clone(), i64::from(observed.replicas)));
                self.pool_ready.push((labels.clone(), i64::from(observed.ready)));
            }
            if let Some(decision) = &seen.decision {
                self.pool_desired.push((labels.clone(), i64::from(decision.replicas)));
            }
            if fresh.is_some() {
                self.pool_busy.push((labels, i64::from(seen.busy)));
            }
        }
    }

    fn add_lane(&mut self, stats: &Stats, lane: &LaneStats, own: &Own<'_>) {
        for job_type in &lane.types {
            let labels = own.with(&[("lane", &lane.name), ("type", &job_type.name)]);
            let oldest = job_type.oldest_due_ms.map_or(0, |due| stats.now_ms.saturating_sub(due) / 1000);
            self.depth.push((labels.clone(), signed(job_type.ready)));
            self.scheduled.push((labels.clone(), signed(job_type.scheduled)));
            self.running.push((labels.clone(), signed(job_type.running)));
            self.dead.push((labels.clone(), signed(job_type.dead)));
            self.oldest.push((labels.clone(), signed(oldest)));
            self.enqueued.push((labels.clone(), job_type.enqueued_total));
            self.succeeded.push((labels.clone(), job_type.succeeded_total));
            self.failed.push((labels.clone(), job_type.failed_total));
            self.died.push((labels, job_type.died_total));
        }
    }
}

/// Labels that every figure of a queue has.
struct Own<'a> {
    namespace: &'a str,
    queue: &'a str,
}

impl Own<'_> {
    fn with(&self, more: &[(&'static str, &str)]) -> Labels {
        let own = [("namespace", self.namespace), ("queue", self.queue)];
        own.iter().chain(more).map(|(key, value)| (*key, (*value).to_owned())).collect()
    }
}

fn signed(figure: u64) -> i64 {
    i64::try_from(figure).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use lanekeeper_queue::types::TypeStats;

    use super::*;

    fn view(error: Option<&str>) -> Vec<(QueueName, QueueView)> {
        let mail = TypeStats {
            name: "mail".to_owned(),
            ready: 3,
            oldest_due_ms: Some(1_000),
            ..TypeStats::default()
        };
        let lanes = vec![LaneStats { name: "fast".to_owned(), types: vec![mail] }];
        let stats = Stats { now_ms: 8_500, lanes, ..Stats::default() };
        let view = QueueView {
            stats: Some(Arc::new(stats)),
            error: error.map(ToOwned::to_owned),
            ..QueueView::default()
        };
        vec![(QueueName::new("apps", "saas"), view)]
    }

    #[test]
    fn a_waiting_job_shows_by_lane_and_type() {
        let rows = Rows::of(&view(None));
        let (labels, depth) = &rows.depth[0];
        assert_eq!(*depth, 3);
        assert_eq!(rows.oldest[0].1, 7);
        let expected = [("namespace", "apps"), ("queue", "saas"), ("lane", "fast"), ("type", "mail")];
        assert_eq!(*labels, expected.map(|(key, value)| (key, value.to_owned())).to_vec());
        assert_eq!(rows.readable[0].1, 1);
    }

    #[test]
    fn a_queue_that_cannot_be_read_has_no_figures() {
        let rows = Rows::of(&view(Some("refused")));
        assert_eq!(rows.readable[0].1, 0);
        assert!(rows.depth.is_empty() && rows.enqueued.is_empty());
    }

    #[test]
    fn an_empty_collector_is_valid() {
        let mut registry = Registry::default();
        let _figures = Figures::new(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert_eq!(text, "# EOF\n");
    }
}
