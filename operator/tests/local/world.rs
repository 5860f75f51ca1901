//! A local mode on a Redis of its own, and what can be seen of it.

use std::time::Duration;

use lanekeeper_api::manifest::{self, Manifests};
use lanekeeper_operator::local::{
    self, LocalEvent, LocalEventKind, LocalHandle, LocalOptions, LocalPhase, LocalSnapshot, PoolSnapshot,
    WorkerCommand,
};
use lanekeeper_queue::testing::TestRedis;
use lanekeeper_queue::types::{EnqueueOptions, Enqueued, NewJob, TypeStats};
use lanekeeper_queue::{Queue, QueueName};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

pub(crate) const DEADLINE: Duration = Duration::from_secs(40);

pub(crate) fn yaml(queue: &str, pool: &str) -> String {
    format!(
        "apiVersion: lanekeeper.dev/v1beta1
kind: JobQueue
metadata: {{name: test, namespace: apps}}
spec:
  lease: 1s
  {queue}
  lanes: [{{name: fast, startWithin: 2s}}]
  jobTypes:
  - {{name: nap, lane: fast, handler: {{exec: {{command: [/bin/sleep, '0.02']}}}}}}
  - {{name: sleep, lane: fast, handler: {{exec: {{command: [/bin/sleep, '6']}}}}}}
---
apiVersion: lanekeeper.dev/v1beta1
kind: WorkerPool
metadata: {{name: fast, namespace: apps}}
spec:
  queue: test
  lanes: [{{name: fast}}]
  concurrency: 5
  scaling: {{maxReplicas: 3, idleAfter: 1s}}
  {pool}
"
    )
}

pub(crate) fn manifests(text: &str) -> Manifests {
    manifest::parse(&[("test.yaml", text)]).expect("the manifests are good")
}

pub(crate) struct World {
    pub(crate) redis: TestRedis,
    pub(crate) queue: Queue,
    pub(crate) local: LocalHandle,
    pub(crate) _dir: tempfile::TempDir,
}

pub(crate) fn options(redis: &TestRedis, dir: &tempfile::TempDir, text: &str) -> LocalOptions {
    LocalOptions {
        manifests: manifests(text),
        redis: redis.options(),
        allow_unsafe: false,
        worker: WorkerCommand {
            exe: std::env::current_exe().expect("this binary"),
            args: ["--exact", "worker_process", "--nocapture"].map(str::to_owned).to_vec(),
        },
        worker_env: Vec::new(),
        worker_log_dir: dir.path().join("logs"),
        secrets_dir: dir.path().join("secrets"),
        node: "test".into(),
        tick: Duration::from_millis(500),
    }
}

impl World {
    pub(crate) async fn start(text: &str) -> Self {
        Self::on(TestRedis::start().await.expect("redis starts"), text).await
    }

    pub(crate) async fn on(redis: TestRedis, text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let local =
            local::start(options(&redis, &dir, text), CancellationToken::new()).await.expect("it starts");
        let queue =
            Queue::connect(&redis.options(), QueueName::new("apps", "test")).await.expect("connected");
        Self { redis, queue, local, _dir: dir }
    }

    pub(crate) async fn enqueue(&self, job_type: &str, count: usize) {
        let options = EnqueueOptions { job_type: job_type.into(), ..EnqueueOptions::default() };
        let jobs = vec![NewJob { payload: b"{}".to_vec(), options }; count];
        let answers = self.queue.enqueue_all(&jobs).await.expect("enqueued");
        assert!(answers.iter().all(|a| matches!(a, Enqueued::Accepted { .. })), "{answers:?}");
    }

    /// Waits for a snapshot.
    pub(crate) async fn until(&self, what: &str, there: impl Fn(&LocalSnapshot) -> bool) -> LocalSnapshot {
        let mut seen = self.local.snapshot();
        let found = tokio::time::timeout(DEADLINE, seen.wait_for(|s| there(s))).await;
        match found {
            Ok(found) => found.expect("the local mode lives").clone(),
            Err(_) => panic!("{what}: {:#?}", self.local.snapshot().borrow().pools),
        }
    }

    pub(crate) async fn end(self) {
        tokio::time::timeout(DEADLINE, self.local.drain()).await.expect("it drains");
        let last = self.local.snapshot().borrow().clone();
        assert_eq!(last.phase, LocalPhase::Stopped);
        assert!(last.pools.values().all(|p| p.workers.is_empty()), "{last:?}");
    }
}

pub(crate) fn pool(snapshot: &LocalSnapshot) -> &PoolSnapshot {
    &snapshot.pools["apps/fast"]
}

/// `kill -9` of a pool's first worker.
pub(crate) fn kill(pool: &PoolSnapshot) {
    let pid = pool.workers[0].pid.and_then(|p| i32::try_from(p).ok()).expect("it runs");
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it can be killed");
}

pub(crate) fn of_type<'a>(snapshot: &'a LocalSnapshot, name: &str) -> Option<&'a TypeStats> {
    let stats = snapshot.queues["apps/test"].stats.as_deref()?;
    stats.lanes.iter().flat_map(|l| &l.types).find(|t| t.name == name)
}

pub(crate) fn succeeded(snapshot: &LocalSnapshot, name: &str) -> u64 {
    of_type(snapshot, name).map_or(0, |t| t.succeeded_total)
}

pub(crate) async fn event(events: &mut broadcast::Receiver<LocalEvent>, kind: LocalEventKind) -> LocalEvent {
    let next = async {
        loop {
            let event = events.recv().await.expect("the local mode lives");
            if event.kind == kind {
                return event;
            }
        }
    };
    tokio::time::timeout(DEADLINE, next).await.unwrap_or_else(|_| panic!("{kind:?} never came"))
}
