//! Carries the plan out.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lanekeeper_queue::Queue;
use lanekeeper_queue::testing::TestRedis;
use serde::Serialize;

use crate::crew::Crew;
use crate::plan::Fault;
use crate::policy::LEASE_MS;

/// What was done and seen.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Workers killed.
    pub worker_kills: usize,
    /// Redis kills.
    pub redis_kills: usize,
    /// Workers frozen past their lease.
    pub worker_stops: usize,
    /// Leases held right before each worker kill or stop: the least, and the median.
    pub leases_held_min: u64,
    /// Median of the same.
    pub leases_held_median: u64,
    /// Faults put off until enough leases were held.
    pub waited_for_leases: usize,
}

/// Runs every fault of the plan.
///
/// # Errors
/// When a process cannot be started or does not come back.
pub async fn rage(
    plan: &[(Duration, Fault)],
    redis: &mut TestRedis,
    crew: &mut Crew,
    queue: &Queue,
) -> Result<Report> {
    let mut report = Report::default();
    let mut held_before = Vec::new();
    for (number, (pause, fault)) in plan.iter().enumerate() {
        tokio::time::sleep(*pause).await;
        if !matches!(fault, Fault::KillRedis(_)) {
            let (held, waited) = leases_held(queue).await?;
            held_before.push(held);
            report.waited_for_leases += usize::from(waited);
        }
        match *fault {
            Fault::KillWorker(place) => {
                crew.kill_and_replace(place).await?;
                report.worker_kills += 1;
            }
            Fault::KillRedis(down) => {
                redis.kill();
                tokio::time::sleep(down).await;
                redis.restart().await.context("Redis did not come back")?;
                report.redis_kills += 1;
            }
            Fault::StopWorker(place) => {
                crew.freeze(place)?;
                tokio::time::sleep(Duration::from_millis(LEASE_MS * 3)).await;
                crew.thaw(place)?;
                report.worker_stops += 1;
            }
        }
        if (number + 1).is_multiple_of(10) || number + 1 == plan.len() {
            eprintln!("faults: {} of {} done", number + 1, plan.len());
        }
    }
    held_before.sort_unstable();
    report.leases_held_min = held_before.first().copied().unwrap_or(0);
    report.leases_held_median = held_before.get(held_before.len() / 2).copied().unwrap_or(0);
    Ok(report)
}

/// Leases held now; waits, bounded, until there are ten, so that each fault meets work under way.
async fn leases_held(queue: &Queue) -> Result<(u64, bool)> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut waited = false;
    loop {
        // An error is Redis still coming back: its figures are not zero, they are unknown.
        if let Ok(stats) = queue.stats().await {
            let held = stats.lanes.iter().flat_map(|lane| &lane.types).map(|figures| figures.running).sum();
            if held >= 10 {
                return Ok((held, waited));
            }
        }
        anyhow::ensure!(Instant::now() < deadline, "no ten leases held within a minute: the load is too low");
        waited = true;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
