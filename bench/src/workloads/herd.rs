//! Many idle workers, one job: how many of them move.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lanekeeper_bench::jobs::{PAD, accepted, job};
use lanekeeper_bench::work::Work;
use lanekeeper_worker::handler::{Answer, Handler, JobContext, Running};

use crate::ours::Bench;
use crate::report::Report;
use crate::server;

const WORKERS: usize = 50;
const SLOTS: u32 = 10;
/// Jobs sent one after another, each when all workers are idle again.
const JOBS: usize = 40;
const DEADLINE: Duration = Duration::from_secs(30);

struct Noop;

impl Handler for Noop {
    fn run<'a>(&'a self, _: &'a JobContext) -> Running<'a> {
        Box::pin(std::future::ready(Ok(Answer::default())))
    }
}

/// Workers that claimed between the enqueue of one job and the record of its success. One is the least; each idle
/// worker looks for itself every 2 s, which may add one now and then.
pub(crate) async fn measure(report: &mut Report) -> Result<()> {
    let bench = Bench::start().await?;
    let workers = (0..WORKERS)
        .map(|i| bench.worker(&format!("bench-{i}"), SLOTS, Arc::new(Noop)))
        .collect::<Result<Vec<_>>>()?;
    let mut moved = Vec::with_capacity(JOBS);
    for i in 0..JOBS {
        all_idle(&bench).await?;
        let before: Vec<u64> = workers.iter().map(Work::claims).collect();
        accepted(&bench.queue.enqueue(&[job(i, 0.0, PAD)]).await?)?;
        succeeded(&bench, i + 1).await?;
        moved.push(workers.iter().zip(&before).filter(|(worker, before)| worker.claims() > **before).count());
    }
    futures::future::try_join_all(workers.into_iter().map(Work::end)).await?;
    let mean = moved.iter().sum::<usize>() as f64 / JOBS as f64;
    report.add_alone("50 idle workers, one job: workers that claim, mean", "workers", mean);
    let most = moved.iter().max().copied().unwrap_or_default();
    report.add_alone("50 idle workers, one job: workers that claim, most", "workers", most as f64);
    Ok(())
}

/// Waits until every worker blocks on its wake list.
async fn all_idle(bench: &Bench) -> Result<()> {
    let started = Instant::now();
    while server::blocked_clients(&mut bench.connection()).await? < WORKERS as u64 {
        ensure!(started.elapsed() < DEADLINE, "the workers did not become idle");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn succeeded(bench: &Bench, n: usize) -> Result<()> {
    let started = Instant::now();
    while bench.figures().await?.succeeded_total < n as u64 {
        ensure!(started.elapsed() < DEADLINE, "a job was not worked off");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
