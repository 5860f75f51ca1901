//! Everything at once, and row 4: Redis alone, again and again.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio_util::sync::CancellationToken;

use super::{Cx, Report};
use crate::load::{Load, produce};
use crate::plan::{Counts, draw};
use crate::stage::Stage;
use crate::storm::rage;
use crate::zombie::haunt;

/// Longest time to drain after the last fault.
const DRAIN: Duration = Duration::from_secs(240);

/// Workers and Redis killed, workers frozen, stale settlements.
pub(super) async fn mixed(cx: Cx) -> Result<Report> {
    let counts = Counts {
        worker_kills: cx.size(50, 12),
        redis_kills: cx.size(10, 2),
        worker_stops: cx.size(5, 2),
        pause_ms: (200, if cx.full { 3000 } else { 1500 }),
    };
    let load = Load { rate: 550, seed: cx.seed, ms: (10, 60), mixed: true };
    play(&cx, counts, load, 4).await
}

/// Row 4.
pub(super) async fn redis_kills(cx: Cx) -> Result<Report> {
    let counts =
        Counts { worker_kills: 0, redis_kills: cx.size(50, 3), worker_stops: 0, pause_ms: (200, 1500) };
    let load = Load { rate: 300, seed: cx.seed, ms: (10, 60), mixed: false };
    play(&cx, counts, load, 2).await
}

async fn play(cx: &Cx, counts: Counts, load: Load, workers: usize) -> Result<Report> {
    let mut stage = Stage::new(&[], |_| {}).await?;
    let mut crew = stage.crew(cx, workers, 50)?;
    let stop = CancellationToken::new();
    let started = Instant::now();
    let producer = produce(stage.client("producer"), stage.redis.options(), load, stop.clone());
    let producer = tokio::spawn(producer);
    let zombie = tokio::spawn(haunt(stage.client("zombie"), stop.clone()));
    let plan = draw(&mut StdRng::seed_from_u64(cx.seed), counts, crew.size());
    let raged = rage(&plan, &mut stage, &mut crew).await?;
    stop.cancel();
    let produced = producer.await??;
    let haunting = zombie.await??;
    let seconds = started.elapsed().as_secs().max(1);
    stage.healed(DRAIN);
    stage.drained(DRAIN).await?;
    crew.drain().await?;
    stage.reread().await?;
    let counted = counters(&stage.queue).await?;
    let late = count_stale(stage.folder.path())?;
    let judged = stage.judged(false).await?;

    let mut report = Report::default();
    report.figure("seconds", seconds);
    report.figure("jobs", produced.jobs);
    report.figure("jobsPerSecond", produced.jobs / seconds);
    report.figure("repeatedCalls", produced.repeated_calls);
    report.figure("counted", counted);
    report.figure("faults", serde_json::to_value(&raged)?);
    report.figure("staleSettlements", serde_json::to_value(&haunting)?);
    report.figure("lateSettlementsOfWorkers", late);
    report.must("a stale settlement was accepted", haunting.accepted == 0);
    report.must("no stale settlement was tried", counts.worker_kills == 0 || haunting.refused > 0);
    report.judged(&judged);
    Ok(report)
}

/// What the queue counted, to tell a counter that is wrong from a job that is.
async fn counters(queue: &lanekeeper_queue::Queue) -> Result<serde_json::Value> {
    let stats = queue.stats().await?;
    let types = || stats.lanes.iter().flat_map(|lane| &lane.types);
    Ok(serde_json::json!({
        "enqueued": types().map(|figures| figures.enqueued_total).sum::<u64>(),
        "succeeded": types().map(|figures| figures.succeeded_total).sum::<u64>(),
        "attempts": types().map(|figures| figures.attempts_total).sum::<u64>(),
    }))
}

/// Settlements that workers report as refused because the lease was no longer theirs.
pub(super) fn count_stale(logs: &std::path::Path) -> Result<u64> {
    let mut refused = 0;
    for entry in std::fs::read_dir(logs)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let text = std::fs::read_to_string(&path)?;
            refused +=
                text.lines().filter(|line| line.contains("the lease is another's by now")).count() as u64;
        }
    }
    Ok(refused)
}
