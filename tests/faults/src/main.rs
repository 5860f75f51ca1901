//! `lanekeeper-faults`: see the crate's documentation and `make faults`.

#![expect(clippy::print_stdout, reason = "a program that prints its figures")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use lanekeeper_faults::audit::{describe, gather, prove_the_ledger};
use lanekeeper_faults::crew::{Crew, Recipe};
use lanekeeper_faults::effects::Effects;
use lanekeeper_faults::plan::{Counts, draw};
use lanekeeper_faults::storm::{Report, rage};
use lanekeeper_faults::zombie::{Haunting, haunt};
use lanekeeper_faults::{load, policy};
use lanekeeper_queue::Queue;
use lanekeeper_queue::testing::TestRedis;
use lanekeeper_queue::testing::ledger::{Verdict, check};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Kills workers and Redis under load and checks by a ledger that no job is lost or doubled.
#[derive(Debug, Parser)]
struct Args {
    /// The worker binary under test.
    #[arg(long)]
    worker: PathBuf,
    /// `kill -9` of workers.
    #[arg(long, default_value_t = 50)]
    worker_kills: usize,
    /// `kill -9` of Redis.
    #[arg(long, default_value_t = 10)]
    redis_kills: usize,
    /// Workers frozen past their lease.
    #[arg(long, default_value_t = 5)]
    worker_stops: usize,
    /// Jobs enqueued per second.
    #[arg(long, default_value_t = 500)]
    rate: u64,
    /// Repeats an earlier run's plan and jobs; drawn afresh when absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Worker processes.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// Where the figures go.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Bound on the time to drain after the last fault, seconds.
    #[arg(long, default_value_t = 240)]
    drain_seconds: u64,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    seed: u64,
    seconds: u64,
    enqueued_per_second: u64,
    repeated_calls: u64,
    found_by_repeat: u64,
    /// What workers themselves sent too late; they mostly know and say nothing.
    late_settlements_of_workers: u64,
    stale_settlements: Haunting,
    faults: Report,
    verdict: Verdict,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("faults: seed {seed} (repeat with --seed {seed})");
    let figures = run(&args, seed).await.with_context(|| format!("the run with --seed {seed}"))?;
    println!("{}", describe(&figures.verdict));
    let text = serde_json::to_string_pretty(&figures)?;
    println!("{text}");
    if let Some(path) = &args.json {
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    anyhow::ensure!(figures.stale_settlements.accepted == 0, "a stale settlement was accepted (seed {seed})");
    anyhow::ensure!(figures.stale_settlements.refused > 0, "no stale settlement was tried (seed {seed})");
    anyhow::ensure!(figures.verdict.violations.is_empty(), "the ledger found violations (seed {seed})");
    Ok(())
}

async fn run(args: &Args, seed: u64) -> Result<Figures> {
    let folder = tempfile::tempdir()?;
    let effects = Effects::start(std::fs::File::create(folder.path().join("effects.log"))?).await?;
    let mut redis = TestRedis::start().await?;
    let queue = redis.queue("faults/main").await?;
    queue.configure(&policy::policy(effects.address), false).await?;

    let recipe = Recipe {
        binary: args.worker.clone(),
        redis_url: redis.url(),
        queue: "faults/main".into(),
        concurrency: 50,
        logs: folder.path().to_owned(),
    };
    let mut crew = Crew::start(recipe, args.workers)?;
    let (progress, produced) = watch::channel(0_u64);
    let stop = CancellationToken::new();
    let started = Instant::now();
    let producer = tokio::spawn(load::produce(
        redis.options(),
        queue.name().clone(),
        args.rate,
        seed,
        progress,
        stop.clone(),
    ));

    let zombie = tokio::spawn(haunt(queue.clone(), stop.clone()));
    let counts = Counts {
        worker_kills: args.worker_kills,
        redis_kills: args.redis_kills,
        worker_stops: args.worker_stops,
    };
    let plan = draw(&mut StdRng::seed_from_u64(seed), counts, crew.size());
    let faults = rage(&plan, &mut redis, &mut crew, &queue).await?;
    stop.cancel();
    let accepted = producer.await??;
    let stale_settlements = zombie.await??;
    let seconds = started.elapsed().as_secs().max(1);
    eprintln!("faults: {} jobs accepted in {seconds} s; draining", *produced.borrow());
    drain(&queue, Duration::from_secs(args.drain_seconds)).await?;
    crew.drain().await?;

    let late_settlements_of_workers = count_stale(folder.path())?;
    let repeated_calls = accepted.repeated_calls;
    let found_by_repeat = accepted.found_by_repeat;
    let enqueued_per_second = accepted.ids.len() as u64 / seconds;
    let evidence = gather(&queue, accepted.ids, effects.finish().await?).await?;
    prove_the_ledger(&evidence)?;
    let verdict = check(&evidence);
    Ok(Figures {
        seed,
        seconds,
        enqueued_per_second,
        repeated_calls,
        found_by_repeat,
        late_settlements_of_workers,
        stale_settlements,
        faults,
        verdict,
    })
}

/// Waits until nothing is ready, scheduled or running.
async fn drain(queue: &Queue, bound: Duration) -> Result<()> {
    let deadline = Instant::now() + bound;
    loop {
        // The first calls after the last outage may fail while the connection comes back: unknown is not zero.
        let left = queue.stats().await.map(|stats| {
            stats
                .lanes
                .iter()
                .flat_map(|lane| &lane.types)
                .map(|t| t.ready + t.scheduled + t.running)
                .sum::<u64>()
        });
        match left {
            Ok(0) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Ok(left) if Instant::now() > deadline => {
                eprintln!("faults: {left} jobs are still there after {} s", bound.as_secs());
                // The ledger names them.
                return Ok(());
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Settlements that workers report as refused because the lease was no longer theirs.
fn count_stale(logs: &std::path::Path) -> Result<u64> {
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
