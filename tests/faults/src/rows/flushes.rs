//! Row 10: somebody throws the functions and the scripts of Redis away while jobs flow. Every client loads the library again.

use std::time::Duration;

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use super::{Cx, Report};
use crate::load::{Load, produce};
use crate::stage::Stage;

/// Longest stop that may follow a flush.
const STALL_MS: u64 = 1_000;

pub(super) async fn play(cx: Cx) -> Result<Report> {
    let mut stage = Stage::new(&[], |_| {}).await?;
    let crew = stage.crew(&cx, 2, 20)?;
    let stop = CancellationToken::new();
    let load = Load { rate: 200, seed: cx.seed, ms: (0, 20), mixed: false };
    let producer = tokio::spawn(produce(stage.client("producer"), stage.redis.options(), load, stop.clone()));
    crate::storm::leases_held(&stage, 1).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun_ms = crate::clock::now_ms();
    let flushes = cx.size(40, 6);
    for number in 0..flushes {
        let what = if number % 2 == 0 { "FUNCTION" } else { "SCRIPT" };
        let mut flush = redis::cmd(what);
        flush.arg("FLUSH").query_async::<redis::Value>(&mut stage.queue.connection()).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let over_ms = crate::clock::now_ms();
    stop.cancel();
    let produced = producer.await??;
    stage.healed(Duration::from_secs(30));
    stage.drained(Duration::from_secs(30)).await?;
    crew.drain().await?;
    let judged = stage.judged(false).await?;

    let mut times: Vec<u64> = judged.calls.iter().map(|call| call.at_ms).collect();
    times.retain(|at_ms| (begun_ms..=over_ms).contains(at_ms));
    times.sort_unstable();
    let stall = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(u64::MAX);
    let failed = judged.holdings.jobs.iter().filter(|job| job.tries + job.crashes > 0).count();
    let mut report = Report::default();
    report.figure("flushes", flushes);
    report.figure("jobs", produced.jobs);
    report.figure("longestGapBetweenJobsMs", stall);
    report.must(format!("no job for {stall} ms, wanted at most {STALL_MS}"), stall <= STALL_MS);
    report.must(format!("{failed} jobs failed or lost their worker"), failed == 0);
    report.must(format!("{} enqueues failed", produced.repeated_calls), produced.repeated_calls == 0);
    report.judged(&judged);
    Ok(report)
}
