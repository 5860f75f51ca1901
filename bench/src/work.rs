//! The shipped worker engine, started in this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use lanekeeper_queue::RedisOptions;
use lanekeeper_queue::types::WorkerIdentity;
use lanekeeper_worker::engine::{self, Options};
use lanekeeper_worker::handler::{Always, Handler};
use lanekeeper_worker::metrics::Metrics;
use lanekeeper_worker::{Error, Shutdown};
use tokio::task::JoinHandle;

use crate::policy::{LANE, QUEUE};

/// How long the last jobs of a workload get.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// A worker that runs.
pub struct Work {
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    engine: JoinHandle<Result<(), Error>>,
}

impl Work {
    /// Starts a worker of that name; handlers run on the calling runtime.
    ///
    /// # Errors
    /// When the queue's name is none.
    pub fn start(
        name: &str,
        redis: RedisOptions,
        slots: u32,
        handler: Arc<dyn Handler>,
        shutdown: Shutdown,
    ) -> Result<Self> {
        let options = Options {
            redis,
            queue: QUEUE.parse().map_err(|why: String| anyhow!(why))?,
            identity: WorkerIdentity {
                name: name.into(),
                boot: format!("{name}-{:?}", Instant::now()),
                pool: String::new(),
                node: "here".into(),
            },
            lanes: vec![LANE.into()],
            order: engine::Order::Strict,
            slots,
            drain_timeout: DRAIN_TIMEOUT,
            listen: None,
            shutdown: shutdown.clone(),
        };
        let metrics = Arc::new(Metrics::default());
        let engine = engine::run(options, Arc::new(Always(handler)), Arc::clone(&metrics));
        Ok(Self { metrics, shutdown, engine: tokio::spawn(engine) })
    }

    /// Claims made so far.
    #[must_use]
    pub fn claims(&self) -> u64 {
        let text = self.metrics.text();
        let count =
            text.lines().find_map(|l| l.strip_prefix("lanekeeper_worker_claim_duration_seconds_count "));
        count.and_then(|count| count.parse().ok()).unwrap_or_default()
    }

    /// Waits until the worker has ended by itself.
    ///
    /// # Errors
    /// When it did not end in good order.
    pub async fn ended(self) -> Result<()> {
        Ok(self.engine.await??)
    }

    /// Asks the worker to drain and waits until it has.
    ///
    /// # Errors
    /// As `ended`.
    pub async fn end(self) -> Result<()> {
        self.shutdown.drain.cancel();
        self.ended().await
    }
}
