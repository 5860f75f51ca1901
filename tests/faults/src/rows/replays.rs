//! Row 19: a replay of many dead letters is killed at random instants and run again until nothing is left: each job is
//! replayed once. The replay is a process of its own, so that the kill is a kill.

use std::time::Duration;

use anyhow::{Context, Result};
use lanekeeper_queue::types::DeadFilter;
use lanekeeper_queue::{Queue, QueueName, RedisOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::dead_letters::kill_jobs;
use super::{Cx, Report};
use crate::stage::Stage;

/// Dead letters replayed in one call.
const STEP: u32 = 10;

pub(super) async fn play(cx: Cx) -> Result<Report> {
    let stage = Stage::new(&[], |policy| policy.lease_ms = 60_000).await?;
    let wanted = cx.size(10_000, 2_000);
    kill_jobs(&stage, wanted).await?;
    let mut random = StdRng::seed_from_u64(cx.seed);
    let (mut runs, mut kills) = (0_u64, 0_u64);
    while stage.queue.stats().await?.dead > 0 {
        runs += 1;
        let mut replay = tokio::process::Command::new(std::env::current_exe()?)
            .args(["--worker", "-", "--cli", "-", "--replay", &stage.redis.url()])
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting a replay")?;
        // The last runs are left alone, so that the row ends.
        let patience = if runs <= 40 { random.random_range(20..90) } else { 60_000 };
        if tokio::time::timeout(Duration::from_millis(patience), replay.wait()).await.is_err() {
            replay.kill().await?;
            kills += 1;
        }
        anyhow::ensure!(runs < 60, "dead letters are left after {runs} runs");
    }
    let judged = stage.judged(false).await?;
    let of =
        |job: &lanekeeper_queue::types::Job| job.history.iter().filter(|a| a.outcome == "replay").count();
    let once = judged.holdings.jobs.iter().filter(|job| of(job) == 1).count();
    let mut report = Report::default();
    report.figure("deadLetters", wanted);
    report.figure("runs", runs);
    report.figure("runsKilled", kills);
    report.figure("replayedOnce", once);
    report.must(format!("{once} of {wanted} were replayed exactly once"), once == wanted);
    report.must("no run was killed", kills > 0);
    report.judged(&judged);
    Ok(report)
}

/// Replays page by page until no dead letter is left.
///
/// # Errors
/// When Redis cannot be reached.
pub async fn replay_all(url: &str) -> Result<()> {
    let name: QueueName = "faults/main".parse().map_err(anyhow::Error::msg)?;
    let queue = Queue::connect(&RedisOptions::new(url), name).await?;
    loop {
        let page = queue.dead_list(&DeadFilter::default(), STEP, None).await?;
        if page.jobs.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = page.jobs.into_iter().map(|job| job.id).collect();
        queue.dead_replay(&ids, "ops", "").await?;
    }
}
