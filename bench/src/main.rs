//! Benchmarks of Lanekeeper's engine, each beside the raw Redis limit of the same run.
//!
//! Every workload has a fresh Redis (AOF, synced every second). Raw limit and Lanekeeper take turns, `--repeats` times; the table
//! shows medians, and the median of the same-repeat ratios, which says more than jobs/s on a shared machine.

#![expect(clippy::print_stdout, reason = "a program that prints its figures")]

mod idle;
mod ours;
mod raw;
mod report;
mod server;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;

use report::{Measured, Report};

#[derive(Debug, Parser)]
#[command(about = "Benchmarks of Lanekeeper's engine, each beside the raw Redis limit of the same run")]
struct Args {
    /// The worker binary, for the idle measurement.
    #[arg(long)]
    worker: PathBuf,
    /// Jobs of the enqueue and drain workloads.
    #[arg(long, default_value_t = 100_000)]
    jobs: usize,
    /// Interleaved repeats.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Seconds of the pickup workload, at 500 jobs/s.
    #[arg(long, default_value_t = 10)]
    pickup_seconds: usize,
    /// Seconds for which an idle worker is watched.
    #[arg(long, default_value_t = 20)]
    idle_seconds: u64,
    /// Where the figures go.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// About 200 bytes, as the peer benchmarks have it.
fn payload(i: usize, ts: f64) -> String {
    format!("{{\"i\":{i},\"ts\":{ts:.6},\"pad\":\"{:0160}\"}}", 0)
}

/// Waits until job `i` of a steady `rate` is to be sent.
fn pace(clock: Instant, i: usize, rate: usize) {
    let due = Duration::from_secs_f64(i as f64 / rate as f64);
    while let Some(left) = due.checked_sub(clock.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut report = Report::default();
    for repeat in 1..=args.repeats {
        eprintln!("bench: repeat {repeat} of {}", args.repeats);
        runtime.block_on(throughput(&args, &mut report))?;
        runtime.block_on(pickup(&args, &mut report))?;
    }
    runtime.block_on(memory(&args, &mut report))?;
    runtime.block_on(idle::measure(&args.worker, args.idle_seconds, &mut report))?;
    print!("{}", report.table());
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

async fn throughput(args: &Args, report: &mut Report) -> Result<()> {
    let n = args.jobs;
    let bench = ours::Bench::start().await?;
    let port = bench.port();
    let took = |d: Duration| n as f64 / d.as_secs_f64();

    let raw_one = tokio::task::spawn_blocking(move || raw::enqueue(port, n, 50, 1)).await??;
    bench.flush().await?;
    let one = bench.enqueue_one_by_one(n, 50).await?;
    report.add(
        "enqueue, 50 in flight",
        "jobs/s",
        Measured { ours: took(one), raw: took(raw_one), raw_name: "raw-lua" },
    );
    bench.flush().await?;

    let raw_bulk = tokio::task::spawn_blocking(move || raw::enqueue(port, n, 4, 50)).await??;
    let cpu = bench.cpu().await?;
    let raw_drain = tokio::task::spawn_blocking(move || raw::drain_fused(port, n, 4, 50)).await??;
    let raw_cpu = (bench.cpu().await? - cpu) / n as f64 * 1e6;
    bench.flush().await?;

    let bulk = bench.enqueue_bulk(n).await?;
    report.add(
        "bulk enqueue",
        "jobs/s",
        Measured { ours: took(bulk), raw: took(raw_bulk), raw_name: "raw-batch" },
    );
    let (cpu, own) = (bench.cpu().await?, ours::own_cpu()?);
    let drain = bench.drain(n).await?;
    let redis_cpu = (bench.cpu().await? - cpu) / n as f64 * 1e6;
    let worker_cpu = (ours::own_cpu()? - own) / n as f64 * 1e6;
    report.add(
        "drain, no-op handler",
        "jobs/s",
        Measured { ours: took(drain), raw: took(raw_drain), raw_name: "raw-fused" },
    );
    report.add(
        "drain: Redis CPU per job",
        "µs",
        Measured { ours: redis_cpu, raw: raw_cpu, raw_name: "raw-fused" },
    );
    report.add_alone("drain: worker CPU per job", "µs", worker_cpu);
    Ok(())
}

async fn pickup(args: &Args, report: &mut Report) -> Result<()> {
    let seconds = args.pickup_seconds;
    let bench = ours::Bench::start().await?;
    let port = bench.port();
    let raw = tokio::task::spawn_blocking(move || raw::pickup_list(port, 500, seconds)).await??;
    bench.flush().await?;
    let ours = bench.pickup(500, seconds).await?;
    for (name, rank) in [("pickup at 500 jobs/s, p50", 0.5), ("pickup at 500 jobs/s, p99", 0.99)] {
        let of = |sorted: &[f64]| sorted[((sorted.len() - 1) as f64 * rank) as usize];
        report.add(name, "ms", Measured { ours: of(&ours), raw: of(&raw), raw_name: "raw-list" });
    }
    Ok(())
}

async fn memory(args: &Args, report: &mut Report) -> Result<()> {
    let n = args.jobs;
    let bench = ours::Bench::start().await?;
    let port = bench.port();
    let before = bench.used_memory().await?;
    tokio::task::spawn_blocking(move || raw::enqueue(port, n, 4, 50)).await??;
    let raw = (bench.used_memory().await? - before) as f64 / n as f64;
    bench.flush().await?;
    let before = bench.used_memory().await?;
    bench.enqueue_bulk(n).await?;
    let ours = (bench.used_memory().await? - before) as f64 / n as f64;
    report.add(
        "memory per waiting job (200 B payload)",
        "B",
        Measured { ours, raw, raw_name: "raw hash + list" },
    );
    Ok(())
}
