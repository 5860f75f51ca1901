//! What a worker costs that has nothing to do: the real binary, watched from the server's side.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::ours::{Bench, QUEUE};
use crate::report::Report;

/// Redis commands per second and resident memory of one idle worker.
pub(crate) async fn measure(worker: &Path, seconds: u64, report: &mut Report) -> Result<()> {
    let bench = Bench::start().await?;
    let mut child = Command::new(worker)
        .arg("run")
        .env("LANEKEEPER_REDIS_URL", bench.url())
        .env("LANEKEEPER_QUEUE", QUEUE)
        .env("LANEKEEPER_LANES", "main")
        .env("LANEKEEPER_LISTEN", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", worker.display()))?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while bench.live_workers().await? == 0 {
        anyhow::ensure!(Instant::now() < deadline, "the worker did not show up within 20 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = bench.commands().await?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let per_second = (bench.commands().await? - before) as f64 / seconds as f64;
    report.add_alone("idle worker: Redis commands", "/s", per_second);
    let pid = child.id().context("the idle worker has ended")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rss = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    report.add_alone("idle worker: resident memory", "MB", rss.context("VmRSS")? / 1024.0);
    child.kill().await?;
    Ok(())
}
