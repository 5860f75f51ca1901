//! What is found in Redis beside what the manifests say: jobs that nothing in them will run, workers of others.

use std::time::Duration;

use lanekeeper_queue::types::Stats;
use lanekeeper_queue::{Queue, QueueName, RedisOptions};

use super::event::LocalEventKind;

/// Longest wait for a warning: it must not hold up what it warns about.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a queue that was applied has beside what its manifest says; `first`: before this local mode has started any workers for it.
pub(super) async fn of_applied(
    name: &QueueName,
    redis: &RedisOptions,
    first: bool,
) -> Vec<(LocalEventKind, String)> {
    let Some(stats) = stats(name, redis).await else { return Vec::new() };
    let workers =
        other_workers(name, &stats).filter(|_| first).map(|words| (LocalEventKind::OtherWorkers, words));
    let jobs = of_types(name, &stats).into_iter().map(|words| (LocalEventKind::JobsLeft, words));
    workers.into_iter().chain(jobs).collect()
}

/// Waiting jobs of types that the queue's policy no longer has, one line per type.
fn of_types(name: &QueueName, stats: &Stats) -> Vec<String> {
    let homeless = stats.lanes.iter().filter(|lane| lane.name.is_empty()).flat_map(|lane| &lane.types);
    let left = homeless.map(|t| (&t.name, t.ready + t.scheduled)).filter(|(_, waiting)| *waiting > 0);
    left.map(|(job_type, waiting)| {
        format!(
            "warning: {} of type `{job_type}` {} in {name}, which no longer has that type; they stay until it has it again",
            jobs(waiting),
            wait(waiting)
        )
    })
    .collect()
}

/// Waiting jobs of a queue that is in no manifest any more.
pub(super) async fn of_queue(name: &QueueName, redis: &RedisOptions) -> Option<String> {
    let stats = stats(name, redis).await?;
    let types = stats.lanes.iter().flat_map(|lane| &lane.types);
    let waiting: u64 = types.map(|t| t.ready + t.scheduled).sum();
    (waiting > 0).then(|| {
        format!(
            "warning: {} {} in {name}, which is in no manifest any more; they stay until its JobQueue is back",
            jobs(waiting),
            wait(waiting)
        )
    })
}

/// Workers that serve the queue already.
fn other_workers(name: &QueueName, stats: &Stats) -> Option<String> {
    let working: Vec<_> = stats.workers.iter().filter(|worker| !worker.draining).collect();
    let first = &working.first()?.identity;
    let count = working.len();
    let many = if count == 1 { "1 worker".to_owned() } else { format!("{count} workers") };
    Some(format!(
        "warning: {many} that this local mode did not start already at work on {name} ({} on {}): another `lanekeeper up`, or \
         a cluster. Jobs are shared between them and those started here",
        first.name, first.node
    ))
}

/// A warning that cannot be computed must not fail what was done.
async fn stats(name: &QueueName, redis: &RedisOptions) -> Option<Stats> {
    let read = async { Queue::connect(redis, name.clone()).await?.stats().await };
    tokio::time::timeout(PATIENCE, read).await.ok()?.ok()
}

fn jobs(count: u64) -> String {
    if count == 1 { "1 job".to_owned() } else { format!("{count} jobs") }
}

fn wait(count: u64) -> &'static str {
    if count == 1 { "waits" } else { "wait" }
}
