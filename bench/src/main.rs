//! Benchmarks of Lanekeeper's engine, each beside the raw Redis limit of the same run.
//!
//! Every workload has a fresh Redis (AOF, synced every second). Raw limit and Lanekeeper take turns, `--repeats` times; the table
//! shows medians, and the median of the same-repeat ratios, which says more than jobs/s on a shared machine.

#![expect(clippy::print_stdout, reason = "a program that prints its figures")]

mod ours;
mod own;
mod raw;
mod report;
mod server;
mod slowlog;
mod workloads;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use report::Report;
use workloads::{calls, herd, http, idle, memory, pickup, sustained, throughput};

#[derive(Debug, Parser)]
#[command(about = "Benchmarks of Lanekeeper's engine, each beside the raw Redis limit of the same run")]
struct Args {
    /// The worker binary, for the idle measurement.
    #[arg(long)]
    worker: PathBuf,
    /// Jobs of the enqueue and drain workloads.
    #[arg(long, default_value_t = 100_000)]
    jobs: usize,
    /// Jobs of the drain by the `http` handler.
    #[arg(long, default_value_t = 20_000)]
    http_jobs: usize,
    /// Interleaved repeats.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Seconds of the pickup workload, at 500 jobs/s.
    #[arg(long, default_value_t = 10)]
    pickup_seconds: usize,
    /// Seconds for which an idle worker is watched.
    #[arg(long, default_value_t = 20)]
    idle_seconds: u64,
    /// Jobs in the queue in which every call is timed.
    #[arg(long, default_value_t = 1_000_000)]
    call_jobs: usize,
    /// Calls of each function there.
    #[arg(long, default_value_t = 4000)]
    calls: usize,
    /// Seconds of the steady load, at 2,000 jobs/s.
    #[arg(long, default_value_t = 20)]
    sustain_seconds: usize,
    /// Only these, by name.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Workload>,
    /// Where the figures go.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Workload {
    Throughput,
    Http,
    Pickup,
    Memory,
    Idle,
    Herd,
    Calls,
    Sustained,
}

/// In their order: what is repeated, and what runs once.
const REPEATED: [Workload; 3] = [Workload::Throughput, Workload::Http, Workload::Pickup];
const ONCE: [Workload; 5] =
    [Workload::Memory, Workload::Idle, Workload::Herd, Workload::Calls, Workload::Sustained];

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut report = Report::default();
    for repeat in 1..=args.repeats {
        eprintln!("bench: repeat {repeat} of {}", args.repeats);
        runtime.block_on(run(&REPEATED, &args, &mut report))?;
    }
    runtime.block_on(run(&ONCE, &args, &mut report))?;
    print!("{}", report.table());
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

async fn run(workloads: &[Workload], args: &Args, report: &mut Report) -> Result<()> {
    for workload in workloads {
        if !args.only.is_empty() && !args.only.contains(workload) {
            continue;
        }
        eprintln!("bench: {workload:?}");
        match workload {
            Workload::Throughput => throughput::measure(args.jobs, report).await,
            Workload::Http => http::measure(args.http_jobs, report).await,
            Workload::Pickup => pickup::measure(args.pickup_seconds, report).await,
            Workload::Memory => memory::measure(args.jobs, report).await,
            Workload::Idle => idle::measure(&args.worker, args.idle_seconds, report).await,
            Workload::Herd => herd::measure(report).await,
            Workload::Calls => calls::measure(args.call_jobs, args.calls, report).await,
            Workload::Sustained => sustained::measure(args.sustain_seconds, report).await,
        }
        .with_context(|| format!("workload {workload:?}"))?;
    }
    Ok(())
}
