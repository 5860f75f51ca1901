//! Carries a plan of faults out.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::crew::Crew;
use crate::plan::Fault;
use crate::policy::LEASE_MS;
use crate::stage::Stage;

/// What was done and seen.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Raged {
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
pub async fn rage(plan: &[(Duration, Fault)], stage: &mut Stage, crew: &mut Crew) -> Result<Raged> {
    let mut raged = Raged::default();
    let mut held_before = Vec::new();
    for (pause, fault) in plan {
        tokio::time::sleep(*pause).await;
        if !matches!(fault, Fault::KillRedis(_)) {
            let (held, waited) = leases_held(stage, 10).await?;
            held_before.push(held);
            raged.waited_for_leases += usize::from(waited);
        }
        match *fault {
            Fault::KillWorker(place) => {
                crew.kill_and_replace(place).await?;
                raged.worker_kills += 1;
            }
            Fault::KillRedis(down) => {
                stage.kill_redis(down).await?;
                raged.redis_kills += 1;
            }
            Fault::StopWorker(place) => {
                crew.freeze(place)?;
                tokio::time::sleep(Duration::from_millis(LEASE_MS * 3)).await;
                crew.thaw(place)?;
                raged.worker_stops += 1;
            }
        }
    }
    held_before.sort_unstable();
    raged.leases_held_min = held_before.first().copied().unwrap_or(0);
    raged.leases_held_median = held_before.get(held_before.len() / 2).copied().unwrap_or(0);
    Ok(raged)
}

/// Leases held now; waits, bounded, until there are `least`, so that each fault meets work under way.
///
/// # Errors
/// When there are not so many within a minute.
pub async fn leases_held(stage: &Stage, least: u64) -> Result<(u64, bool)> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut waited = false;
    loop {
        // An error is Redis still coming back: its figures are not zero, they are unknown.
        if let Ok(stats) = stage.queue.stats().await {
            let held = stats.lanes.iter().flat_map(|lane| &lane.types).map(|figures| figures.running).sum();
            if held >= least {
                return Ok((held, waited));
            }
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "no {least} leases held within a minute: the load is too low"
        );
        waited = true;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
