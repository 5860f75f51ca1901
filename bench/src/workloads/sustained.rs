//! A steady load for as long as asked: latency, memory, and whether every job is accounted for.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use lanekeeper_bench::clock::mono_s;
use lanekeeper_bench::count::Count;
use lanekeeper_bench::jobs::PAD;
use lanekeeper_bench::produce;

use super::at;
use crate::ours::Bench;
use crate::report::{Measured, Report};
use crate::{own, raw};

const RATE: usize = 2000;
/// The raw limit does not change with time: it is measured for no longer than this.
const RAW_SECONDS: usize = 20;

/// 2,000 jobs/s for `seconds`. The first memory figures are taken after a tenth of the time, when the process is warm.
pub(crate) async fn measure(seconds: usize, report: &mut Report) -> Result<()> {
    let n = RATE * seconds;
    let bench = Bench::start().await?;
    let (port, raw_seconds) = (bench.port(), seconds.min(RAW_SECONDS));
    let raw = tokio::task::spawn_blocking(move || raw::pickup_list(port, RATE, raw_seconds)).await??;
    bench.flush().await?;

    let handler = Arc::new(Count::timed(n, mono_s));
    let work = bench.work(handler.clone())?;
    let start = Instant::now();
    produce::paced(&bench.queue, 0..n / 10, start, RATE, mono_s, PAD).await?;
    let early = memory(&bench).await?;
    produce::paced(&bench.queue, n / 10..n, start, RATE, mono_s, PAD).await?;
    let late = memory(&bench).await?;
    handler.all().await;
    work.end().await?;
    let figures = bench.figures().await?;
    let kept = figures.succeeded_total + figures.ready + figures.scheduled + figures.running + figures.dead;

    let ours = handler.latencies();
    let name = |what: &str| format!("2,000 jobs/s for {seconds} s: {what}");
    for (what, rank) in [("pickup p50", 0.5), ("pickup p99", 0.99), ("pickup p99.9", 0.999)] {
        let measured = Measured { ours: at(&ours, rank), raw: at(&raw, rank), raw_name: "raw-list" };
        report.add(&name(what), "ms", measured);
    }
    report.add_alone(&name("Redis memory, early"), "MB", early.0);
    report.add_alone(&name("Redis memory, at the end"), "MB", late.0);
    report.add_alone(&name("memory of producer and worker, early"), "MB", early.1);
    report.add_alone(&name("memory of producer and worker, at the end"), "MB", late.1);
    report.add_alone(&name("jobs lost"), "jobs", n as f64 - kept as f64);
    report.add_alone(&name("jobs done"), "jobs", figures.succeeded_total as f64);
    Ok(())
}

/// Memory of Redis' data and of this process, MB.
async fn memory(bench: &Bench) -> Result<(f64, f64)> {
    Ok((bench.used_memory().await? as f64 / 1e6, own::resident_mb("self")?))
}
