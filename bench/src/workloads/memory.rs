//! What a waiting job takes.

use anyhow::Result;
use lanekeeper_bench::jobs::PAD;
use lanekeeper_bench::produce;

use crate::ours::Bench;
use crate::raw;
use crate::report::{Measured, Report};

/// Bytes of Redis per waiting job.
pub(crate) async fn measure(n: usize, report: &mut Report) -> Result<()> {
    let bench = Bench::start().await?;
    let port = bench.port();
    let before = bench.used_memory().await?;
    tokio::task::spawn_blocking(move || raw::enqueue(port, n, 4, 50)).await??;
    let raw = (bench.used_memory().await? - before) as f64 / n as f64;
    bench.flush().await?;
    let before = bench.used_memory().await?;
    produce::bulk(&bench.queue, n, PAD).await?;
    let ours = (bench.used_memory().await? - before) as f64 / n as f64;
    let measured = Measured { ours, raw, raw_name: "raw hash + list" };
    report.add("memory per waiting job (200 B payload)", "B", measured);
    Ok(())
}
