//! Lanekeeper in the peer benchmarks: one process that enqueues or drains, by the shipped library and worker engine. The
//! contract is that of the harness; see `bench/peers/lanekeeper/README.md`.

#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::{Parser, Subcommand};
use lanekeeper_bench::clock::wall_s;
use lanekeeper_bench::count::Count;
use lanekeeper_bench::work::Work;
use lanekeeper_bench::{policy, produce};
use lanekeeper_queue::{Queue, RedisOptions, install_library};
use lanekeeper_worker::Shutdown;
use tokio::runtime::{Builder, Runtime};

#[derive(Debug, Parser)]
#[command(about = "Lanekeeper's adapter of the peer benchmarks")]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Redis to use.
    #[arg(long, env = "REDIS_URL", default_value = "redis://127.0.0.1:6379/0")]
    redis_url: String,
    /// Slots of the worker.
    #[arg(long, env = "CONCURRENCY", default_value_t = 200)]
    concurrency: u32,
    /// Calls in flight of `enqueue`.
    #[arg(long, env = "INFLIGHT", default_value_t = 50)]
    inflight: usize,
    /// Bytes of padding in a payload.
    #[arg(long, env = "PAD", default_value_t = lanekeeper_bench::jobs::PAD)]
    pad: usize,
    /// 1: `drain` keeps and prints latencies.
    #[arg(long, env = "LAT", default_value_t = 0)]
    lat: u8,
    /// Threads of the runtime for handlers and producers; 0: the main thread. The engine has one more of its own.
    #[arg(long, env = "THREADS", default_value_t = 0)]
    threads: usize,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enqueues N jobs, one per call.
    Enqueue { n: usize },
    /// Enqueues N jobs, 200 per call.
    Bulk { n: usize },
    /// Works; prints after N jobs and works on until SIGTERM.
    Drain { n: usize },
    /// Enqueues RATE jobs a second for SECONDS.
    Latency { rate: usize, seconds: usize },
}

fn main() -> Result<()> {
    let args = Args::parse();
    runtime(args.threads)?.block_on(run(&args))
}

fn runtime(threads: usize) -> std::io::Result<Runtime> {
    match threads {
        0 => Builder::new_current_thread().enable_all().build(),
        n => Builder::new_multi_thread().worker_threads(n).enable_all().build(),
    }
}

async fn run(args: &Args) -> Result<()> {
    let queue = queue(args).await?;
    match args.command {
        Command::Enqueue { n } => {
            print(n, produce::one_by_one(&queue, n, args.inflight, args.pad).await?, "")
        }
        Command::Bulk { n } => print(n, produce::bulk(&queue, n, args.pad).await?, ""),
        Command::Latency { rate, seconds } => {
            let (n, started) = (rate * seconds, Instant::now());
            produce::paced(&queue, 0..n, started, rate, wall_s, args.pad).await?;
            print(n, started.elapsed(), "");
        }
        Command::Drain { n } => drain(args, n).await?,
    }
    Ok(())
}

/// The queue; the first process of a run loads the library and writes the policy.
async fn queue(args: &Args) -> Result<Queue> {
    let name = policy::QUEUE.parse().map_err(|why: String| anyhow!(why))?;
    let queue = Queue::connect(&RedisOptions::new(&args.redis_url), name).await.context("connecting")?;
    if queue.policy().await?.is_none() {
        install_library(&mut queue.connection()).await?;
        queue.configure(&policy::plain()?, false).await?;
    }
    Ok(queue)
}

async fn drain(args: &Args, n: usize) -> Result<()> {
    let handler = Arc::new(if args.lat == 1 { Count::timed(n, wall_s) } else { Count::new(n) });
    let shutdown = Shutdown::on_signals()?;
    let redis = RedisOptions::new(&args.redis_url);
    let work = Work::start("peer", redis, args.concurrency, handler.clone(), shutdown.clone())?;
    tokio::select! {
        () = handler.all() => print(n, handler.took(), &quantiles(&handler.latencies())),
        () = shutdown.drain.cancelled() => {}
    }
    work.ended().await
}

fn quantiles(sorted: &[f64]) -> String {
    let at = |rank: f64| sorted.get(((sorted.len() as f64 * rank) as usize).min(sorted.len() - 1)).copied();
    match (sorted.is_empty(), sorted.last()) {
        (false, Some(max)) => {
            let (p50, p99) = (at(0.5).unwrap_or(f64::NAN), at(0.99).unwrap_or(f64::NAN));
            format!(",\"p50_ms\":{p50:.3},\"p99_ms\":{p99:.3},\"max_ms\":{max:.3}")
        }
        _ => String::new(),
    }
}

fn print(n: usize, took: Duration, more: &str) {
    let seconds = took.as_secs_f64();
    println!("{{\"n\":{n},\"seconds\":{seconds:.4},\"jobs_per_s\":{:.1}{more}}}", n as f64 / seconds);
}
