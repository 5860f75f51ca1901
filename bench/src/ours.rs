//! Lanekeeper's side of each workload, by the shipped library and the shipped worker engine.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt;
use lanekeeper_api::policy::{
    Backoff, ExecHandler, Handler as HandlerPolicy, Jitter, JobTypePolicy, LanePolicy, QueuePolicy,
    Retention, RetryPolicy, Source,
};
use lanekeeper_queue::Queue;
use lanekeeper_queue::testing::TestRedis;
use lanekeeper_queue::types::{EnqueueOptions, Enqueued, NewJob, WorkerIdentity};
use lanekeeper_worker::Shutdown;
use lanekeeper_worker::engine::{self, Options};
use lanekeeper_worker::handler::{Always, Answer, Handler, JobContext, Running};
use lanekeeper_worker::metrics::Metrics;
use tokio::sync::Notify;

use crate::{payload, server};

/// The queue of every workload.
pub(crate) const QUEUE: &str = "bench/main";
const SLOTS: u32 = 200;

/// A Redis of its own with the queue on it.
pub(crate) struct Bench {
    redis: TestRedis,
    queue: Queue,
}

impl Bench {
    pub(crate) async fn start() -> Result<Self> {
        let redis = TestRedis::start().await.context("starting redis-server")?;
        let queue = redis.queue(QUEUE).await?;
        queue.configure(&policy(), false).await?;
        Ok(Self { redis, queue })
    }

    pub(crate) fn port(&self) -> u16 {
        self.redis.port()
    }

    pub(crate) fn url(&self) -> String {
        self.redis.url()
    }

    /// Empties the server and puts the queue back.
    pub(crate) async fn flush(&self) -> Result<()> {
        let _: () = redis::cmd("FLUSHALL").query_async(&mut self.queue.connection()).await?;
        self.queue.configure(&policy(), false).await?;
        Ok(())
    }

    pub(crate) async fn cpu(&self) -> Result<f64> {
        server::cpu_seconds(&mut self.queue.connection()).await
    }

    pub(crate) async fn used_memory(&self) -> Result<u64> {
        server::used_memory(&mut self.queue.connection()).await
    }

    pub(crate) async fn commands(&self) -> Result<u64> {
        server::commands(&mut self.queue.connection()).await
    }

    pub(crate) async fn live_workers(&self) -> Result<usize> {
        Ok(self.queue.stats().await?.workers.len())
    }

    /// One job per call, `depth` calls in flight.
    pub(crate) async fn enqueue_one_by_one(&self, n: usize, depth: usize) -> Result<Duration> {
        let started = Instant::now();
        let mut calls = futures::stream::iter(0..n)
            .map(|i| async move { accepted(&self.queue.enqueue(&[job(i, 0.0)]).await?) })
            .buffer_unordered(depth);
        while let Some(done) = calls.next().await {
            done?;
        }
        Ok(started.elapsed())
    }

    /// 200 jobs per call, 4 calls in flight.
    pub(crate) async fn enqueue_bulk(&self, n: usize) -> Result<Duration> {
        let started = Instant::now();
        let mut calls = futures::stream::iter((0..n).step_by(200))
            .map(|from| async move {
                let jobs: Vec<NewJob> = (from..(from + 200).min(n)).map(|i| job(i, 0.0)).collect();
                accepted(&self.queue.enqueue(&jobs).await?)
            })
            .buffer_unordered(4);
        while let Some(done) = calls.next().await {
            done?;
        }
        Ok(started.elapsed())
    }

    /// Works off `n` waiting jobs with one worker and a handler that does nothing.
    pub(crate) async fn drain(&self, n: usize) -> Result<Duration> {
        let handler = Arc::new(Count::new(n, None));
        let started = Instant::now();
        let running = self.work(handler.clone());
        handler.all.notified().await;
        let took = started.elapsed();
        running.end().await?;
        let stats = self.queue.stats().await?;
        let done: u64 = stats.lanes.iter().flat_map(|lane| &lane.types).map(|t| t.succeeded_total).sum();
        anyhow::ensure!(done == n as u64, "{done} of {n} jobs are recorded as succeeded");
        Ok(took)
    }

    /// Sorted times from enqueue to the start of the handler, ms.
    pub(crate) async fn pickup(&self, rate: usize, seconds: usize) -> Result<Vec<f64>> {
        let n = rate * seconds;
        let clock = Instant::now();
        let handler = Arc::new(Count::new(n, Some(clock)));
        let running = self.work(handler.clone());
        for i in 0..n {
            let due = clock + Duration::from_secs_f64(i as f64 / rate as f64);
            tokio::time::sleep_until(due.into()).await;
            accepted(&self.queue.enqueue(&[job(i, clock.elapsed().as_secs_f64())]).await?)?;
        }
        handler.all.notified().await;
        running.end().await?;
        let mut latencies =
            std::mem::take(&mut *handler.latencies.lock().unwrap_or_else(PoisonError::into_inner));
        latencies.sort_by(f64::total_cmp);
        Ok(latencies)
    }

    fn work(&self, handler: Arc<Count>) -> Work {
        let shutdown = Shutdown::default();
        let options = Options {
            redis: self.redis.options(),
            queue: self.queue.name().clone(),
            identity: WorkerIdentity {
                name: "bench".into(),
                boot: format!("{:?}", Instant::now()),
                pool: String::new(),
                node: "here".into(),
            },
            lanes: vec!["main".into()],
            order: engine::Order::Strict,
            slots: SLOTS,
            drain_timeout: Duration::from_secs(10),
            listen: None,
            shutdown: shutdown.clone(),
        };
        let engine = engine::run(options, Arc::new(Always(handler)), Arc::new(Metrics::default()));
        Work { shutdown, engine: tokio::spawn(engine) }
    }
}

struct Work {
    shutdown: Shutdown,
    engine: tokio::task::JoinHandle<Result<(), lanekeeper_worker::Error>>,
}

impl Work {
    async fn end(self) -> Result<()> {
        self.shutdown.drain.cancel();
        Ok(self.engine.await??)
    }
}

/// Counts, and keeps the time since each payload's `ts` when there is a clock.
struct Count {
    left: AtomicUsize,
    all: Notify,
    clock: Option<Instant>,
    latencies: Mutex<Vec<f64>>,
}

impl Count {
    fn new(n: usize, clock: Option<Instant>) -> Self {
        Self { left: AtomicUsize::new(n), all: Notify::new(), clock, latencies: Mutex::default() }
    }
}

impl Handler for Count {
    fn run<'a>(&'a self, job: &'a JobContext) -> Running<'a> {
        if let Some(clock) = self.clock {
            let body = String::from_utf8_lossy(&job.job.payload);
            let sent = body.split_once("\"ts\":").and_then(|(_, t)| t.split(',').next()?.parse::<f64>().ok());
            let took = (clock.elapsed().as_secs_f64() - sent.unwrap_or(f64::NAN)) * 1e3;
            self.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        }
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.all.notify_one();
        }
        Box::pin(std::future::ready(Ok(Answer::default())))
    }
}

/// CPU seconds of this process, user and system.
pub(crate) fn own_cpu() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit_once(')').context("/proc/self/stat")?.1;
    let ticks: Vec<f64> = after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse().ok()).collect();
    // USER_HZ, which Linux fixes at 100 for programs.
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

fn job(i: usize, ts: f64) -> NewJob {
    NewJob {
        payload: payload(i, ts).into_bytes(),
        options: EnqueueOptions { job_type: "noop".into(), ..EnqueueOptions::default() },
    }
}

fn accepted(replies: &[Enqueued]) -> Result<()> {
    match replies.iter().find(|reply| !matches!(reply, Enqueued::Accepted { .. })) {
        Some(other) => anyhow::bail!("not accepted: {other:?}"),
        None => Ok(()),
    }
}

fn policy() -> QueuePolicy {
    let noop = JobTypePolicy {
        lane: "main".into(),
        owner: None,
        priority: 5,
        key: None,
        key_for_ms: 60_000,
        concurrency_key: None,
        per_worker: None,
        timeout_ms: 60_000,
        retry: RetryPolicy { limit: 3, backoff: Backoff::Schedule(vec![1000]), jitter: Jitter::None },
        give_up_after_ms: 3_600_000,
        crash_budget: 3,
        completed: Retention { keep: 1000, for_ms: 86_400_000 },
        handler: HandlerPolicy::Exec(ExecHandler {
            command: vec!["true".into()],
            env: BTreeMap::new(),
            permanent_exit_codes: vec![],
        }),
    };
    QueuePolicy {
        queue: QUEUE.into(),
        source: Source { owner: "cli".into(), uid: "local".into(), created_ms: 0, generation: 1 },
        paused: false,
        closed: None,
        max_payload: 262_144,
        lease_ms: 15_000,
        lanes: vec![LanePolicy::new("main", 60_000)],
        job_types: BTreeMap::from([("noop".into(), noop)]),
    }
}
