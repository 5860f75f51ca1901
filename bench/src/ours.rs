//! A Redis of its own with the queue on it.

use std::sync::Arc;

use anyhow::{Context, Result};
use lanekeeper_api::policy::QueuePolicy;
use lanekeeper_bench::policy::{self, QUEUE};
use lanekeeper_bench::work::Work;
use lanekeeper_queue::Queue;
use lanekeeper_queue::testing::TestRedis;
use lanekeeper_queue::types::TypeStats;
use lanekeeper_worker::Shutdown;
use lanekeeper_worker::handler::Handler;
use redis::aio::ConnectionManager;

use crate::server;

/// Slots of the one worker of most workloads.
const SLOTS: u32 = 200;

/// See the module.
pub(crate) struct Bench {
    redis: TestRedis,
    pub queue: Queue,
}

impl Bench {
    /// A fresh server, the queue with the policy of a user who asked for nothing.
    pub(crate) async fn start() -> Result<Self> {
        // No rewrite of the append-only file falls into what is timed, be it ours or the raw limit's.
        let settings = ["--auto-aof-rewrite-min-size", "4gb"];
        let redis = TestRedis::start_with(&settings).await.context("starting redis-server")?;
        let queue = redis.queue(QUEUE).await?;
        queue.configure(&policy::plain()?, false).await?;
        Ok(Self { redis, queue })
    }

    pub(crate) fn port(&self) -> u16 {
        self.redis.port()
    }

    pub(crate) fn url(&self) -> String {
        self.redis.url()
    }

    pub(crate) fn connection(&self) -> ConnectionManager {
        self.queue.connection()
    }

    /// Empties the server and puts the queue back.
    pub(crate) async fn flush(&self) -> Result<()> {
        self.flush_to(&policy::plain()?).await
    }

    /// Empties the server and puts the queue back under another policy.
    pub(crate) async fn flush_to(&self, policy: &QueuePolicy) -> Result<()> {
        let _: () = redis::cmd("FLUSHALL").query_async(&mut self.connection()).await?;
        self.queue.configure(policy, false).await?;
        Ok(())
    }

    pub(crate) async fn cpu(&self) -> Result<f64> {
        server::cpu_seconds(&mut self.connection()).await
    }

    pub(crate) async fn used_memory(&self) -> Result<u64> {
        server::used_memory(&mut self.connection()).await
    }

    pub(crate) async fn live_workers(&self) -> Result<usize> {
        Ok(self.queue.stats().await?.workers.len())
    }

    /// The figures of the one job type.
    pub(crate) async fn figures(&self) -> Result<TypeStats> {
        let stats = self.queue.stats().await?;
        stats.lanes.into_iter().flat_map(|lane| lane.types).next().context("the queue has no job type")
    }

    /// Whether Redis has recorded `n` successes.
    pub(crate) async fn recorded(&self, n: usize) -> Result<()> {
        let done = self.figures().await?.succeeded_total;
        anyhow::ensure!(done == n as u64, "{done} of {n} jobs are recorded as succeeded");
        Ok(())
    }

    /// Starts the one worker of a workload.
    pub(crate) fn work(&self, handler: Arc<dyn Handler>) -> Result<Work> {
        self.worker("bench", SLOTS, handler)
    }

    /// Starts a worker.
    pub(crate) fn worker(&self, name: &str, slots: u32, handler: Arc<dyn Handler>) -> Result<Work> {
        Work::start(name, self.redis.options(), slots, handler, Shutdown::default())
    }
}
