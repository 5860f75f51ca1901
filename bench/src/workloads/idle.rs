//! What a worker costs that has nothing to do: the real binary, watched from the server's side.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lanekeeper_bench::policy::{LANE, QUEUE};
use tokio::process::Command;

use crate::ours::Bench;
use crate::report::Report;
use crate::{own, server};

/// Redis commands per second and resident memory of one idle worker.
pub(crate) async fn measure(worker: &Path, seconds: u64, report: &mut Report) -> Result<()> {
    let bench = Bench::start().await?;
    let mut child = Command::new(worker)
        .arg("run")
        .env("LANEKEEPER_REDIS_URL", bench.url())
        .env("LANEKEEPER_QUEUE", QUEUE)
        .env("LANEKEEPER_LANES", LANE)
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
    let before = server::commands(&mut bench.connection()).await?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let sent = server::commands(&mut bench.connection()).await? - before;
    report.add_alone("idle worker: Redis commands", "/s", sent as f64 / seconds as f64);
    let pid = child.id().context("the idle worker has ended")?;
    report.add_alone("idle worker: resident memory", "MB", own::resident_mb(&pid.to_string())?);
    child.kill().await?;
    Ok(())
}
