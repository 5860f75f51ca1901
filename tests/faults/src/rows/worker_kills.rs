//! Row 1: workers are killed in the middle of jobs; how long until somebody else has them?

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use lanekeeper_queue::takeover::LEASE_EXPIRED;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;

use super::{Cx, Report, percentile};
use crate::load::{Load, produce};
use crate::stage::Stage;
use crate::storm::leases_held;

/// Lease of the row, ms, and the bound on the recovery.
const LEASE_MS: u64 = 15_000;
const RECOVERED_MS: u64 = 17_000;

pub(super) async fn play(cx: Cx) -> Result<Report> {
    let mut stage = Stage::new(&[], |policy| policy.lease_ms = LEASE_MS).await?;
    let mut crew = stage.crew(&cx, 6, 20)?;
    let stop = CancellationToken::new();
    let load = Load { rate: 50, seed: cx.seed, ms: (300, 1500), mixed: false };
    let producer = tokio::spawn(produce(stage.client("producer"), stage.redis.options(), load, stop.clone()));
    let mut random = StdRng::seed_from_u64(cx.seed);
    for _ in 0..cx.size(200, 10) {
        tokio::time::sleep(Duration::from_millis(random.random_range(300..700))).await;
        leases_held(&stage, 10).await?;
        crew.kill_and_replace(random.random_range(0..crew.size())).await?;
    }
    stop.cancel();
    let jobs = producer.await??.jobs;
    stage.healed(Duration::from_secs(90));
    stage.drained(Duration::from_secs(100)).await?;
    let killed: HashMap<String, u64> = crew.killed.iter().cloned().collect();
    let kills = killed.len();
    crew.drain().await?;
    let judged = stage.judged(false).await?;

    let mut recoveries = Vec::new();
    for job in &judged.holdings.jobs {
        for pair in job.history.windows(2) {
            let lost = pair[0].error.as_ref().is_some_and(|error| error.code == LEASE_EXPIRED);
            if let Some(at_ms) = killed.get(&pair[0].worker).filter(|_| lost) {
                recoveries.push(pair[1].started_ms.saturating_sub(*at_ms));
            }
        }
    }
    let mut report = Report::default();
    report.figure("kills", kills);
    report.figure("jobs", jobs);
    report.figure("jobsRecovered", recoveries.len());
    for (name, percent) in [("recoveryP50Ms", 50.0), ("recoveryP99Ms", 99.0), ("recoveryMaxMs", 100.0)] {
        report.figure(name, percentile(&mut recoveries, percent));
    }
    let p99 = percentile(&mut recoveries, 99.0);
    report.must("no job was recovered", !recoveries.is_empty());
    report.must(format!("recovery p99 {p99} ms, wanted at most {RECOVERED_MS}"), p99 <= RECOVERED_MS);
    report.judged(&judged);
    Ok(report)
}
