//! How soon a job starts at a rate that leaves nothing to batch, and what that costs Redis.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use lanekeeper_bench::clock::mono_s;
use lanekeeper_bench::count::Count;
use lanekeeper_bench::jobs::PAD;
use lanekeeper_bench::produce;

use super::at;
use crate::ours::Bench;
use crate::raw;
use crate::report::{Measured, Report};

const RATE: usize = 500;

/// Pickup latency and Redis CPU per job at 500 jobs/s.
pub(crate) async fn measure(seconds: usize, report: &mut Report) -> Result<()> {
    let n = RATE * seconds;
    let bench = Bench::start().await?;
    let port = bench.port();
    let cpu = bench.cpu().await?;
    let raw = tokio::task::spawn_blocking(move || raw::pickup_list(port, RATE, seconds)).await??;
    let raw_us = (bench.cpu().await? - cpu) / n as f64 * 1e6;
    bench.flush().await?;

    let handler = Arc::new(Count::timed(n, mono_s));
    let cpu = bench.cpu().await?;
    let work = bench.work(handler.clone())?;
    produce::paced(&bench.queue, 0..n, Instant::now(), RATE, mono_s, PAD).await?;
    handler.all().await;
    work.end().await?;
    let redis_us = (bench.cpu().await? - cpu) / n as f64 * 1e6;
    bench.recorded(n).await?;

    let ours = handler.latencies();
    let beside = |ours, raw| Measured { ours, raw, raw_name: "raw-list" };
    report.add("pickup at 500 jobs/s, p50", "ms", beside(at(&ours, 0.5), at(&raw, 0.5)));
    report.add("pickup at 500 jobs/s, p99", "ms", beside(at(&ours, 0.99), at(&raw, 0.99)));
    report.add("500 jobs/s: Redis CPU per job", "µs", beside(redis_us, raw_us));
    Ok(())
}
