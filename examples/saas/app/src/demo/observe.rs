//! Watches the status file, keeps what was highest and first, and draws the view.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lanekeeper_queue::types::Stats;
use tokio::sync::watch;
use tokio::time::Instant;

use super::screen::Screen;
use super::status::{self, Pool, Status};
use crate::traffic::run::Progress;

const EVERY: Duration = Duration::from_millis(200);

/// What was seen so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Seen {
    /// Where the queue is, once `up` says so.
    pub(super) redis: Option<String>,
    /// Policies are applied.
    pub(super) ready: bool,
    /// Figures of the queue.
    pub(super) stats: Option<Stats>,
    /// Pools by name, without the namespace.
    pub(super) pools: BTreeMap<String, Pool>,
    /// Most replicas that each pool had.
    pub(super) max_replicas: BTreeMap<String, u32>,
    /// When the first worker showed itself, by the queue's clock.
    pub(super) first_worker_ms: Option<u64>,
}

/// A worker that may be killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Victim {
    /// Its name.
    pub(super) worker: String,
    /// Its pool.
    pub(super) pool: String,
    /// Its process.
    pub(super) pid: u32,
    /// Jobs that its pool runs.
    pub(super) running: u64,
}

impl Seen {
    /// Takes in a newer status.
    fn add(&mut self, queue: &str, status: Status) {
        self.redis = status.redis.or_else(|| self.redis.take());
        self.ready |= status.ready;
        self.stats = status.queues.get(queue).cloned().flatten().or_else(|| self.stats.take());
        let short = |name: String| name.rsplit_once('/').map_or(name.clone(), |(_, short)| short.to_owned());
        self.pools = status.pools.into_iter().map(|(name, pool)| (short(name), pool)).collect();
        for (name, pool) in &self.pools {
            let most = self.max_replicas.entry(name.clone()).or_default();
            *most = pool.replicas.max(*most);
        }
        let started =
            self.stats.iter().flat_map(|stats| &stats.workers).map(|worker| worker.started_ms).min();
        self.first_worker_ms = [self.first_worker_ms, started].into_iter().flatten().min();
    }

    /// A worker of the pool that runs most jobs for each of its workers.
    pub(super) fn busiest(&self) -> Option<Victim> {
        let lanes = &self.stats.as_ref()?.lanes;
        let running = |pool: &Pool| -> u64 {
            let ours = lanes.iter().filter(|lane| pool.lanes.contains(&lane.name));
            ours.flat_map(|lane| &lane.types).map(|job_type| job_type.running).sum()
        };
        let victims = self.pools.iter().filter_map(|(name, pool)| {
            let worker = pool.workers.first()?;
            let victim = Victim {
                worker: worker.name.clone(),
                pool: name.clone(),
                pid: worker.pid?,
                running: running(pool),
            };
            Some((victim.running / pool.workers.len() as u64, victim))
        });
        victims.max_by_key(|(each, _)| *each).map(|(_, victim)| victim)
    }

    /// Whether every pool is known and has no replica.
    pub(super) fn all_gone(&self) -> bool {
        !self.pools.is_empty() && self.pools.values().all(|pool| pool.replicas == 0 && pool.desired == 0)
    }
}

/// What the observer shares with the rest of the demo.
#[derive(Clone)]
pub(super) struct Observer {
    seen: watch::Receiver<Seen>,
    screen: Arc<Mutex<Screen>>,
}

impl Observer {
    /// Starts watching; ends with the receiver of `traffic`.
    pub(super) fn start(file: PathBuf, queue: &'static str, traffic: watch::Receiver<Progress>) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let screen = Arc::new(Mutex::new(Screen::new()));
        let shown = Arc::clone(&screen);
        tokio::spawn(async move {
            let start = Instant::now();
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            while !sender.is_closed() && traffic.has_changed().is_ok() {
                ticks.tick().await;
                match status::read(&file) {
                    Ok(Some(status)) => sender.send_modify(|seen| seen.add(queue, status)),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%error, "status of lanekeeper up"),
                }
                let (seen, progress) = (sender.borrow().clone(), traffic.borrow().clone());
                shown.lock().unwrap_or_else(PoisonError::into_inner).draw(start.elapsed(), &seen, &progress);
            }
        });
        Self { seen, screen }
    }

    /// Writes a line that stays.
    pub(super) fn say(&self, line: &str) {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).say(line);
    }

    /// What was seen last.
    pub(super) fn now(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until something is seen, at most this long; false when it was not.
    pub(super) async fn until(&self, limit: Duration, condition: impl FnMut(&Seen) -> bool) -> bool {
        let mut seen = self.seen.clone();
        let waited = tokio::time::timeout(limit, seen.wait_for(condition)).await;
        matches!(waited, Ok(Ok(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> Status {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_most_replicas_are_remembered_when_they_are_gone() {
        let mut seen = Seen::default();
        assert!(!seen.all_gone(), "nothing is known yet");
        seen.add(
            "apps/saas",
            status(r#"{"ready":true,"redis":"redis://x","pools":{"apps/a":{"replicas":3,"desired":3}}}"#),
        );
        assert!(!seen.all_gone());
        seen.add("apps/saas", status(r#"{"pools":{"apps/a":{"replicas":0,"desired":0}}}"#));
        assert!(seen.all_gone());
        assert_eq!(seen.max_replicas["a"], 3);
        assert!(seen.ready);
        assert_eq!(seen.redis.as_deref(), Some("redis://x"));
    }

    #[test]
    fn the_victim_is_a_worker_of_the_pool_that_runs_most() {
        let mut seen = Seen::default();
        assert_eq!(seen.busiest(), None);
        let lane = |name: &str, running| lanekeeper_queue::types::LaneStats {
            name: name.into(),
            types: vec![lanekeeper_queue::types::TypeStats { running, ..Default::default() }],
        };
        seen.stats = Some(Stats { lanes: vec![lane("a", 1), lane("b", 4)], ..Stats::default() });
        let pools = r#"{"pools":{
            "x/a":{"replicas":1,"lanes":["a"],"workers":[{"name":"a-1","pid":11}]},
            "x/b":{"replicas":1,"lanes":["b"],"workers":[{"name":"b-1","pid":12}]}}}"#;
        seen.add("x/q", status(pools));
        let victim = seen.busiest().unwrap();
        assert_eq!((victim.worker.as_str(), victim.pid, victim.running), ("b-1", 12, 4));
    }
}
