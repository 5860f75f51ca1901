//! Replicas follow the queue: from zero at once, up with a burst, and down to zero again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use lanekeeper_tests::objects::{Objects, deployment_name};
use lanekeeper_tests::scenario::{self, World};
use lanekeeper_tests::{figures, wait};
use serde_json::json;
use tokio::sync::watch;

use crate::manifests;

const SAMPLES: usize = 20;
/// Several pools take turns, so that the next sample need not wait for the last one's scale-down.
const POOLS: usize = 4;
const BURST: usize = 5_000;

#[test]
fn the_first_job_raises_replicas_from_zero_within_a_second() {
    scenario::run("wakeup", async |world| {
        let mut pools = Vec::new();
        for index in 0..POOLS {
            let name = format!("wake-{index}");
            world.apply(&manifests::quick(&name, 1, "2s")).await?;
            pools.push((Replicas::watch(world, &name), world.jobs(&name).await?, name));
        }
        let objects = world.objects();
        for (_, _, name) in &pools {
            objects.condition("WorkerPool", name, "Ready", "True", Duration::from_secs(120)).await?;
            objects.at_zero(name, Duration::from_secs(60)).await?;
        }
        let mut samples = Vec::new();
        let mut pickup = Vec::new();
        for index in 0..SAMPLES {
            let (replicas, jobs, name) = &mut pools[index % POOLS];
            objects.at_zero(name, Duration::from_secs(120)).await?;
            let started = Instant::now();
            let id = jobs.enqueue("quick", "{}").await?;
            let seen = replicas.above_zero(started).await?;
            samples.push(millis(seen.duration_since(started)));
            let done = jobs.all_succeed(&[id], Duration::from_secs(60)).await?;
            let attempt = done[0].history.last().context("a job that succeeded has an attempt")?;
            pickup.push(attempt.started_ms - done[0].due_ms);
        }
        let p95 = figures::percentile(&samples, 95);
        figures::record(
            "wakeup",
            &json!({
                "samples": SAMPLES,
                "enqueue_to_replicas_ms": {"p50": figures::percentile(&samples, 50), "p95": p95, "max": samples.iter().max()},
                "enqueue_to_start_ms": {"p50": figures::percentile(&pickup, 50), "p95": figures::percentile(&pickup, 95)},
                "all_ms": samples,
            }),
        )?;
        ensure!(p95 < 1_000, "p95 of the first enqueue to replicas > 0 is {p95} ms: {samples:?}");
        Ok(())
    });
}

#[test]
fn a_burst_is_done_without_loss_and_leaves_nothing_running() {
    scenario::run("burst", async |world| {
        world.apply(&manifests::quick("burst", 3, "5s")).await?;
        let objects = world.objects();
        objects.condition("WorkerPool", "burst", "Ready", "True", Duration::from_secs(120)).await?;
        objects.at_zero("burst", Duration::from_secs(60)).await?;
        let replicas = Replicas::watch(world, "burst");
        let jobs = world.jobs("burst").await?;

        let payloads: Vec<String> = (0..BURST).map(|n| json!({ "n": n }).to_string()).collect();
        let started = Instant::now();
        let ids = jobs.enqueue_all("quick", &payloads).await?;
        let accepted = started.elapsed();
        wait::until_true("5,000 jobs are done", Duration::from_secs(420), async || {
            let stats = jobs.stats().await?;
            let left: u64 = stats
                .lanes
                .iter()
                .flat_map(|lane| &lane.types)
                .map(|t| t.ready + t.scheduled + t.running)
                .sum();
            ensure!(left == 0, "{left} jobs left");
            Ok(true)
        })
        .await?;
        let drained = started.elapsed();
        let done = jobs.all_succeed(&ids, Duration::from_secs(30)).await?;
        let attempts: u64 = done.iter().map(|job| u64::from(job.attempts)).sum();
        objects.at_zero("burst", Duration::from_secs(120)).await?;
        let to_zero = started.elapsed() - drained;

        figures::record(
            "burst",
            &json!({
                "jobs": BURST, "succeeded": done.len(), "lost": 0, "attempts": attempts,
                "enqueue_ms": millis(accepted), "drain_s": drained.as_secs_f64(),
                "jobs_per_s": BURST as f64 / drained.as_secs_f64(),
                "max_replicas": replicas.highest(), "to_zero_s": to_zero.as_secs_f64(),
            }),
        )?;
        ensure!(attempts == BURST as u64, "{attempts} attempts for {BURST} jobs on healthy workers");
        ensure!(replicas.highest() > 1, "a burst of {BURST} jobs deserves more than one replica");
        let reasons = objects.event_reasons("burst").await?;
        ensure!(reasons.iter().any(|reason| reason == "ScaledUp"), "Events about the pool: {reasons:?}");
        ensure!(reasons.iter().any(|reason| reason == "ScaledToZero"), "Events about the pool: {reasons:?}");
        Ok(())
    });
}

/// `spec.replicas` of a pool's Deployment, as a watch sees it.
struct Replicas {
    seen: watch::Receiver<(i32, Instant)>,
    highest: watch::Receiver<i32>,
    task: tokio::task::JoinHandle<()>,
}

impl Replicas {
    fn watch(world: &World, pool: &str) -> Self {
        let api = Objects::new(&world.cluster, &world.namespace).deployments();
        let config = watcher::Config::default().fields(&format!("metadata.name={}", deployment_name(pool)));
        let (send, seen) = watch::channel((0, Instant::now()));
        let (send_highest, highest) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut changes = watcher(api, config).default_backoff().applied_objects().boxed();
            while let Some(change) = changes.next().await {
                let Ok(deployment) = change else { continue };
                let replicas = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1);
                send.send_replace((replicas, Instant::now()));
                send_highest.send_if_modified(|highest| {
                    let higher = replicas > *highest;
                    *highest = replicas.max(*highest);
                    higher
                });
            }
        });
        Self { seen, highest, task }
    }

    fn highest(&self) -> i32 {
        *self.highest.borrow()
    }

    /// When replicas rose above zero after `since`.
    async fn above_zero(&mut self, since: Instant) -> Result<Instant> {
        let limit = Duration::from_secs(60);
        let risen = self.seen.wait_for(|(replicas, at)| *replicas > 0 && *at >= since);
        let risen =
            tokio::time::timeout(limit, risen).await.context("replicas did not rise within a minute")??;
        Ok(risen.1)
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
