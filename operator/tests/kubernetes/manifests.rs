//! Manifests that tests apply.

/// One lane, one job type.
pub(crate) const QUEUE: &str = "
apiVersion: lanekeeper.dev/v1beta1
kind: JobQueue
metadata: {name: saas}
spec:
  lanes: [{name: fast, startWithin: 60s}]
  jobTypes:
  - {name: mail, lane: fast, timeout: 10s, handler: {http: {url: 'http://mailer/jobs'}}}
";

/// A pool for that lane.
pub(crate) const POOL: &str = "
apiVersion: lanekeeper.dev/v1beta1
kind: WorkerPool
metadata: {name: workers}
spec:
  queue: saas
  lanes: [{name: fast}]
  concurrency: 2
  scaling: {maxReplicas: 5, idleAfter: 1s}
";

/// The same, scaled by hand.
pub(crate) const MANUAL_POOL: &str = "
apiVersion: lanekeeper.dev/v1beta1
kind: WorkerPool
metadata: {name: workers}
spec:
  queue: saas
  lanes: [{name: fast}]
  scaling: {mode: Manual}
";

/// `QUEUE` with more lines of spec.
pub(crate) fn queue_with(lines: &str) -> String {
    QUEUE.replace("spec:\n", &format!("spec:\n  {}\n", lines.replace('\n', "\n  ")))
}
