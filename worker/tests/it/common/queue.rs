//! A queue on a private Redis, and workers on it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lanekeeper_api::policy::{
    Backoff, ExecHandler, Handler as Runs, Jitter, JobTypePolicy, LanePolicy, QueuePolicy, Retention,
    RetryPolicy, Source,
};
use lanekeeper_queue::Queue;
use lanekeeper_queue::client::RedisOptions;
use lanekeeper_queue::testing::TestRedis;
use lanekeeper_queue::types::{Configured, EnqueueOptions, Enqueued, Job, JobState, NewJob, WorkerIdentity};
use lanekeeper_worker::engine::{self, Options, Order};
use lanekeeper_worker::handler::{Always, Answer, Failure, Handler, JobContext, Running};
use lanekeeper_worker::metrics::Metrics;
use lanekeeper_worker::{Error, Shutdown};

/// Leases of the tests: short, so that what waits for one does not take long.
pub(crate) const LEASE: Duration = Duration::from_millis(1500);

/// A Redis and a queue in it.
pub(crate) struct Bed {
    pub(crate) redis: TestRedis,
    pub(crate) queue: Queue,
}

impl Bed {
    /// A queue with this policy.
    pub(crate) async fn new(policy: &QueuePolicy) -> Self {
        let redis = TestRedis::start().await.expect("redis-server");
        let queue = redis.queue(&policy.queue).await.expect("a queue");
        queue.configure(policy, false).await.expect("a policy");
        Self { redis, queue }
    }

    /// Starts Redis again and waits until the test's own connection is back too.
    pub(crate) async fn restart_redis(&mut self) {
        self.redis.restart().await.expect("redis-server");
        self.queue = self.redis.queue(&self.queue.name().to_string()).await.expect("a queue");
    }

    /// Writes the policy and gives its version.
    pub(crate) async fn configure(&self, policy: &QueuePolicy) -> u64 {
        match self.queue.configure(policy, false).await.expect("a policy") {
            Configured::Applied { version } | Configured::Unchanged { version } => version,
            other => panic!("not applied: {other:?}"),
        }
    }

    /// Enqueues one job per payload and gives their ids.
    pub(crate) async fn enqueue(&self, job_type: &str, payloads: &[&[u8]]) -> Vec<String> {
        let jobs: Vec<_> = payloads
            .iter()
            .map(|payload| NewJob {
                payload: payload.to_vec(),
                options: EnqueueOptions { job_type: job_type.into(), ..EnqueueOptions::default() },
            })
            .collect();
        let mut ids = Vec::new();
        for chunk in jobs.chunks(200) {
            for enqueued in self.queue.enqueue(chunk).await.expect("enqueue") {
                match enqueued {
                    Enqueued::Accepted { id, .. } => ids.push(id),
                    other => panic!("not accepted: {other:?}"),
                }
            }
        }
        ids
    }

    /// The job.
    pub(crate) async fn job(&self, id: &str) -> Job {
        let mut jobs = self.queue.get(&[id.to_owned()], false).await.expect("get");
        jobs.remove(0).expect("the job has a record")
    }

    /// Waits until the job is in this state.
    pub(crate) async fn becomes(&self, id: &str, state: JobState) -> Job {
        super::eventually(&format!("{id} becomes {state:?}"), async || self.job(id).await.state == state)
            .await;
        self.job(id).await
    }

    /// An engine with this handler in this process.
    pub(crate) fn engine(&self, settings: Settings, handler: impl Handler + 'static) -> Engine {
        let shutdown = Shutdown::new();
        let metrics = Arc::new(Metrics::default());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let probes = format!("http://{}", listener.local_addr().unwrap());
        let options = Options {
            redis: settings.redis.map_or_else(|| self.redis.options(), RedisOptions::new),
            queue: self.queue.name().clone(),
            identity: identity(settings.name),
            lanes: settings.lanes.iter().map(|&lane| lane.to_owned()).collect(),
            order: settings.order,
            slots: settings.slots,
            drain_timeout: settings.drain,
            listen: Some(listener),
            shutdown: shutdown.clone(),
        };
        let running =
            tokio::spawn(engine::run(options, Arc::new(Always(Arc::new(handler))), Arc::clone(&metrics)));
        Engine { shutdown, metrics, probes, running }
    }
}

/// A worker's identity.
pub(crate) fn identity(name: &str) -> WorkerIdentity {
    let boot = format!("{:x}", rand::random::<u64>());
    WorkerIdentity { name: name.into(), boot, pool: "pool".into(), node: "node".into() }
}

/// Settings of an engine.
pub(crate) struct Settings {
    pub(crate) name: &'static str,
    pub(crate) lanes: &'static [&'static str],
    pub(crate) order: Order,
    pub(crate) slots: u32,
    pub(crate) drain: Duration,
    pub(crate) redis: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "w1",
            lanes: &["fast", "slow"],
            order: Order::Strict,
            slots: 10,
            drain: Duration::from_secs(20),
            redis: None,
        }
    }
}

/// A running engine.
pub(crate) struct Engine {
    pub(crate) shutdown: Shutdown,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) probes: String,
    pub(crate) running: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Engine {
    /// Drains it.
    pub(crate) async fn stop(self) -> Result<(), Error> {
        self.shutdown.drain.cancel();
        self.running.await.expect("the engine does not panic")
    }

    /// Status and text of a probe.
    pub(crate) async fn probe(&self, path: &str) -> (u16, String) {
        get(&format!("{}{path}", self.probes)).await
    }
}

/// Status and text.
pub(crate) async fn get(url: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut socket = tokio::net::TcpStream::connect(host).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text)
}

/// A handler from a closure over the job's context.
pub(crate) fn does<F, Fut>(run: F) -> Does<F>
where
    F: Fn(Peek) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Answer, Failure>> + Send + 'static,
{
    Does(run)
}

/// See [`does`].
pub(crate) struct Does<F>(F);

impl<F, Fut> Handler for Does<F>
where
    F: Fn(Peek) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Answer, Failure>> + Send + 'static,
{
    fn run<'a>(&'a self, job: &'a JobContext) -> Running<'a> {
        let peek =
            Peek { id: job.job.id.clone(), attempt: job.job.attempt, payload: job.job.payload.clone() };
        Box::pin((self.0)(peek))
    }
}

/// What the closures of [`does`] see.
pub(crate) struct Peek {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) payload: Vec<u8>,
}

/// An empty success.
pub(crate) fn done() -> Result<Answer, Failure> {
    Ok(Answer::default())
}

/// Lanes `fast` and `slow`; types `mail` (fast) and `report` (slow), retried after 50 ms, twice.
pub(crate) fn policy() -> QueuePolicy {
    QueuePolicy {
        queue: "apps/test".into(),
        source: Source { owner: "cli".into(), uid: "local".into(), created_ms: 1, generation: 1 },
        paused: false,
        closed: None,
        max_payload: 256 * 1024,
        capacity: None,
        lease_ms: u64::try_from(LEASE.as_millis()).unwrap(),
        lanes: vec![LanePolicy::new("fast", 1000), LanePolicy::new("slow", 60_000)],
        job_types: BTreeMap::from([("mail".into(), job_type("fast")), ("report".into(), job_type("slow"))]),
    }
}

/// A job type of that lane.
pub(crate) fn job_type(lane: &str) -> JobTypePolicy {
    JobTypePolicy {
        key_for_ms: 60_000,
        timeout_ms: 60_000,
        retry: RetryPolicy { limit: 2, backoff: Backoff::Schedule(vec![50]), jitter: Jitter::None },
        give_up_after_ms: 3_600_000,
        completed: Retention { keep: 10_000, for_ms: 3_600_000 },
        ..JobTypePolicy::new(lane, exec(&["true"]))
    }
}

/// An exec handler.
pub(crate) fn exec(command: &[&str]) -> Runs {
    Runs::Exec(ExecHandler::of(command))
}
