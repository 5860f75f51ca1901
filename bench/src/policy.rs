//! Policies of the benchmarks. They are resolved from manifests, so that what a workload does not name has the default
//! that users get.

use anyhow::{Context, Result, anyhow};
use lanekeeper_api::policy::{QueuePolicy, Source};
use lanekeeper_api::{manifest, validate};

/// The queue of every workload.
pub const QUEUE: &str = "bench/main";
/// Its one lane.
pub const LANE: &str = "main";
/// Its one job type.
pub const JOB_TYPE: &str = "noop";

const MANIFEST: &str = "\
apiVersion: lanekeeper.dev/v1beta1
kind: JobQueue
metadata: {namespace: bench, name: main}
spec:
  lanes:
  - name: main
";
const JOB_TYPES: &str = "  jobTypes:
  - name: noop
    lane: main
";

/// Never run: the benchmarks bring their own handlers.
const NOTHING: &str = "    handler: {exec: {command: ['true']}}\n";

/// All that a job type can ask for, so that each job pays for it; no bound is reached.
const EVERYTHING: &str = r"
    owner: team-bench
    priority: 3
    key: 'noop:{i}'
    perWorker: 200
    concurrencyKey: {key: 'tenant:{tenant}', limit: 200}
    completed: {keep: 1000000, for: 24h}
";
/// The same of its lane.
const LANE_RATE: &str = "    rateLimit: {limit: 1000000, per: 1s}\n";

/// A queue as a user gets it who names nothing but a lane and a job type.
///
/// # Errors
/// When the manifest does not fit the schema any more.
pub fn plain() -> Result<QueuePolicy> {
    resolve(NOTHING)
}

/// A queue with everything there is: an idempotency key and a concurrency key from the payload, a rate limit of the lane, a limit
/// per worker, every job's history kept.
///
/// # Errors
/// As `plain`.
pub fn everything() -> Result<QueuePolicy> {
    resolve_on(LANE_RATE, &format!("{NOTHING}{EVERYTHING}"))
}

/// As `plain`, with the `http` handler.
///
/// # Errors
/// As `plain`.
pub fn http(url: &str) -> Result<QueuePolicy> {
    resolve(&format!("    handler: {{http: {{url: '{url}'}}}}\n"))
}

fn resolve(fields: &str) -> Result<QueuePolicy> {
    resolve_on("", fields)
}

fn resolve_on(lane: &str, fields: &str) -> Result<QueuePolicy> {
    let text = format!("{MANIFEST}{lane}{JOB_TYPES}{fields}");
    let manifests = manifest::parse(&[("bench", &text)]).map_err(|errors| anyhow!("{errors:?}"))?;
    let queue = manifests.queues.first().context("the manifest has no queue")?;
    let source = Source { owner: "bench".into(), uid: "bench".into(), created_ms: 0, generation: 1 };
    validate::job_queue(queue, source).map_err(|problems| anyhow!("{problems:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_policy_is_what_users_get() {
        let policy = plain().unwrap();
        assert_eq!((policy.queue.as_str(), policy.lanes[0].name.as_str()), (QUEUE, LANE));
        let noop = &policy.job_types[JOB_TYPE];
        assert!(noop.key.is_none() && noop.per_worker.is_none());
        assert!(noop.retry.limit > 0 && noop.completed.keep > 0 && noop.completed.keep < 100_000);
    }

    #[test]
    fn everything_is_asked_for() {
        let policy = everything().unwrap();
        let noop = &policy.job_types[JOB_TYPE];
        assert!(policy.lanes[0].rate_limit.is_some() && noop.concurrency_key.is_some());
        assert!(noop.key.is_some() && noop.per_worker.is_some() && noop.completed.keep > 100_000);
    }
}
