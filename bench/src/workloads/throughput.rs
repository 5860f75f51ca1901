//! Enqueueing and draining at full speed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use lanekeeper_bench::count::Count;
use lanekeeper_bench::jobs::{PAD, job_of_tenant};
use lanekeeper_bench::{policy, produce};

use crate::ours::Bench;
use crate::report::{Measured, Report};
use crate::{own, raw};

/// A drain, and what it cost.
struct Drained {
    jobs_per_s: f64,
    /// CPU per job, µs.
    redis_us: f64,
    /// The raw client's is below what Linux counts.
    worker_us: Option<f64>,
}

/// Enqueue, bulk enqueue, drain with the least policy and with everything a policy can ask for.
pub(crate) async fn measure(n: usize, report: &mut Report) -> Result<()> {
    let bench = Bench::start().await?;
    enqueue(&bench, n, report).await?;
    bench.flush().await?;
    let (raw_bulk, raw) = raw_drain(&bench, n).await?;

    bench.flush().await?;
    let bulk = produce::bulk(&bench.queue, n, PAD).await?;
    let measured = Measured { ours: rate(n, bulk), raw: raw_bulk, raw_name: "raw-batch" };
    report.add("bulk enqueue", "jobs/s", measured);
    let plain = drain(&bench, n).await?;
    add_drain("drain, no-op handler", &plain, &raw, report);

    bench.flush_to(&policy::everything()?).await?;
    produce::bulk_of(&bench.queue, n, job_of_tenant).await?;
    let everything = drain(&bench, n).await?;
    add_drain(
        "drain with everything (key, concurrency key, lane rate, history kept)",
        &everything,
        &raw,
        report,
    );
    Ok(())
}

async fn enqueue(bench: &Bench, n: usize, report: &mut Report) -> Result<()> {
    let port = bench.port();
    let raw = tokio::task::spawn_blocking(move || raw::enqueue(port, n, 50, 1)).await??;
    bench.flush().await?;
    let ours = produce::one_by_one(&bench.queue, n, 50, PAD).await?;
    let measured = Measured { ours: rate(n, ours), raw: rate(n, raw), raw_name: "raw-lua" };
    report.add("enqueue, 50 in flight", "jobs/s", measured);
    Ok(())
}

/// The raw limits: bulk enqueue, jobs/s, and the drain.
async fn raw_drain(bench: &Bench, n: usize) -> Result<(f64, Drained)> {
    let port = bench.port();
    let bulk = tokio::task::spawn_blocking(move || raw::enqueue(port, n, 4, 50)).await??;
    let cpu = bench.cpu().await?;
    let took = tokio::task::spawn_blocking(move || raw::drain_fused(port, n, 4, 50)).await??;
    let redis_us = (bench.cpu().await? - cpu) / n as f64 * 1e6;
    Ok((rate(n, bulk), Drained { jobs_per_s: rate(n, took), redis_us, worker_us: None }))
}

/// Works off `n` waiting jobs with one worker and a handler that does nothing; its start is part of it.
async fn drain(bench: &Bench, n: usize) -> Result<Drained> {
    let handler = Arc::new(Count::new(n));
    let (cpu, own, started) = (bench.cpu().await?, own::cpu_seconds()?, Instant::now());
    let work = bench.work(handler.clone())?;
    handler.all().await;
    let took = started.elapsed();
    work.end().await?;
    let drained = Drained {
        jobs_per_s: rate(n, took),
        redis_us: (bench.cpu().await? - cpu) / n as f64 * 1e6,
        worker_us: Some((own::cpu_seconds()? - own) / n as f64 * 1e6),
    };
    bench.recorded(n).await?;
    Ok(drained)
}

fn add_drain(name: &str, ours: &Drained, raw: &Drained, report: &mut Report) {
    let beside = |ours, raw| Measured { ours, raw, raw_name: "raw-fused" };
    report.add(name, "jobs/s", beside(ours.jobs_per_s, raw.jobs_per_s));
    report.add(&format!("{name}: Redis CPU per job"), "µs", beside(ours.redis_us, raw.redis_us));
    if let Some(worker_us) = ours.worker_us {
        report.add_alone(&format!("{name}: worker CPU per job"), "µs", worker_us);
    }
}

fn rate(n: usize, took: Duration) -> f64 {
    n as f64 / took.as_secs_f64()
}
