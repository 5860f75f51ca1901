//! Row 9: somebody lets a Redis evict while jobs flow. The local mode, real and whole, closes the queue to its workers, and
//! opens it again once the Redis is safe.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lanekeeper_queue::testing::TestRedis;
use lanekeeper_queue::types::{EnqueueOptions, NewJob};
use lanekeeper_queue::{Queue, RedisOptions};

use super::{Cx, Report};

/// Longest time until workers are refused.
const CLOSED: Duration = Duration::from_secs(5);

const MANIFESTS: &str = "
apiVersion: lanekeeper.dev/v1beta1
kind: JobQueue
metadata: {name: main, namespace: faults}
spec:
  lanes: [{name: main, startWithin: 5s}]
  jobTypes: [{name: work, lane: main, handler: {exec: {command: [cat]}}}]
---
apiVersion: lanekeeper.dev/v1beta1
kind: WorkerPool
metadata: {name: main, namespace: faults}
spec: {queue: main, lanes: [{name: main}], scaling: {minReplicas: 1, maxReplicas: 1}}
";

pub(super) async fn play(cx: Cx) -> Result<Report> {
    let redis = TestRedis::start().await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("main.yaml");
    std::fs::write(&file, MANIFESTS)?;
    let log = std::fs::File::create(folder.path().join("up.log"))?;
    let mut up = tokio::process::Command::new(&cx.cli)
        .args(["up", "-f"])
        .arg(&file)
        .arg("--state")
        .arg(folder.path().join("state"))
        .env("LANEKEEPER_REDIS_URL", redis.url())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", cx.cli.display()))?;
    let name = "faults/main".parse().map_err(anyhow::Error::msg)?;
    let queue = Queue::connect(&RedisOptions::new(redis.url()), name).await?;
    let mut report = Report::default();
    let open = until(&queue, Duration::from_secs(30), |closed, done| !closed && done > 0).await?;
    report.must("the local mode did not work the queue", open.is_some());
    let mut slowest = Duration::ZERO;
    for _ in 0..cx.size(3, 1) {
        set(&queue, "allkeys-lru").await?;
        let closed = until(&queue, Duration::from_secs(30), |closed, _| closed).await?;
        slowest = slowest.max(closed.unwrap_or(Duration::from_secs(30)));
        // Nothing starts while it is closed.
        let before = succeeded(&queue).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = succeeded(&queue).await?;
        report.must(format!("{} jobs ran in a closed queue", after - before), after - before <= 10);
        set(&queue, "noeviction").await?;
        let open = until(&queue, Duration::from_secs(30), |closed, _| !closed).await?;
        report.must("it did not open again", open.is_some());
    }
    report.figure("slowestCloseMs", u64::try_from(slowest.as_millis())?);
    report.must(format!("closed after {slowest:?}, wanted at most {CLOSED:?}"), slowest <= CLOSED);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(up.id().context("it has ended by itself")?)?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    up.wait().await?;
    Ok(report)
}

async fn set(queue: &Queue, policy: &str) -> Result<()> {
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("maxmemory-policy").arg(policy);
    Ok(set.query_async(&mut queue.connection()).await?)
}

/// How long it took until the queue was so, while jobs come in; none when it never was.
async fn until(
    queue: &Queue,
    bound: Duration,
    is_so: impl Fn(bool, u64) -> bool,
) -> Result<Option<Duration>> {
    let since = Instant::now();
    while since.elapsed() < bound {
        let options = EnqueueOptions { job_type: "work".into(), ..EnqueueOptions::default() };
        // Before the policy is there, and while it is closed, nothing is taken.
        let _ = queue.enqueue(&[NewJob { payload: b"{}".to_vec(), options }]).await;
        if let Ok(stats) = queue.stats().await {
            let done =
                stats.lanes.iter().flat_map(|lane| &lane.types).map(|figures| figures.succeeded_total).sum();
            if is_so(stats.closed.is_some(), done) {
                return Ok(Some(since.elapsed()));
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(None)
}

async fn succeeded(queue: &Queue) -> Result<u64> {
    let stats = queue.stats().await?;
    Ok(stats.lanes.iter().flat_map(|lane| &lane.types).map(|figures| figures.succeeded_total).sum())
}
