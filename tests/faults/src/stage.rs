//! Where a row plays: a Redis of its own, a queue, handlers that write their effects down, and the ledger at the end.

use std::time::{Duration, Instant};

use anyhow::Result;
use lanekeeper_api::policy::QueuePolicy;
use lanekeeper_queue::testing::TestRedis;
use lanekeeper_queue::testing::dump::{Holdings, dump};
use lanekeeper_queue::testing::ledger::{FifoScope, KeyRules, Liveness, Rules, TypeRules, Verdict};
use lanekeeper_queue::types::{EnqueueOptions, NewJob};
use lanekeeper_queue::{Queue, RedisOptions, Restarts};

use crate::client::Client;
use crate::clock::now_ms;
use crate::court::sentence;
use crate::crew::{Crew, Recipe};
use crate::effects::{Called, Effects};
use crate::history::History;
use crate::policy;
use crate::rows::Cx;
use crate::testimony::{Witnesses, hear};

/// A reply that comes later than this was never sent, ms.
const LATE_MS: u64 = 60_000;

/// The stage of one row.
pub struct Stage {
    /// Its server.
    pub redis: TestRedis,
    /// The queue, on a direct connection.
    pub queue: Queue,
    /// What is in force.
    pub policy: QueuePolicy,
    /// The handlers.
    pub effects: Effects,
    /// Logs of workers and handlers.
    pub folder: tempfile::TempDir,
    /// What clients of this process were told.
    pub history: History,
    /// When Redis was killed, ms.
    pub kills_ms: Vec<u64>,
    /// What the ledger judges by.
    pub rules: Rules,
    /// Whether real workers ran, so that each success has an effect.
    workers: bool,
    /// Starts of Redis that were seen to, as the operator does.
    restarts: Restarts,
}

/// What the ledger said, and what it saw.
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// Redis in the end.
    pub holdings: Holdings,
    /// Grants that a kill of Redis undid.
    pub undone_grants: u64,
    /// Every call of a handler.
    pub calls: Vec<Called>,
}

impl Stage {
    /// Sets it up; `arguments` are those of the server.
    pub async fn new(arguments: &[&str], change: impl FnOnce(&mut QueuePolicy)) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("lanekeeper-faults-").tempdir()?;
        let effects = Effects::start(std::fs::File::create(folder.path().join("effects.log"))?).await?;
        let redis = TestRedis::start_with(arguments).await?;
        let queue = redis.queue("faults/main").await?;
        let mut policy = policy::policy(effects.address);
        change(&mut policy);
        queue.configure(&policy, false).await?;
        let rules = rules(&policy);
        let (history, kills_ms) = (History::default(), Vec::new());
        let restarts = Restarts::default();
        Ok(Self { redis, queue, policy, effects, folder, history, kills_ms, rules, workers: false, restarts })
    }

    /// A client that writes down what it is told.
    #[must_use]
    pub fn client(&self, name: &str) -> Client {
        Client::new(name, self.queue.clone(), self.history.clone())
    }

    /// Another connection to the queue, through `url`.
    pub async fn connect(&self, url: &str) -> Result<Queue> {
        Ok(Queue::connect(&RedisOptions::new(url), self.queue.name().clone()).await?)
    }

    /// Real workers, which reach Redis by `url`.
    pub fn crew_by(&mut self, cx: &Cx, url: String, size: usize, concurrency: u32) -> Result<Crew> {
        self.workers = true;
        Crew::start(self.recipe(cx, url, "main", concurrency), size)
    }

    /// Real workers.
    pub fn crew(&mut self, cx: &Cx, size: usize, concurrency: u32) -> Result<Crew> {
        self.crew_by(cx, self.redis.url(), size, concurrency)
    }

    /// Real workers that serve another lane than `main`, and whose handlers are never called.
    pub fn crew_on(&self, cx: &Cx, lane: &'static str, size: usize, concurrency: u32) -> Result<Crew> {
        Crew::start(self.recipe(cx, self.redis.url(), lane, concurrency), size)
    }

    fn recipe(&self, cx: &Cx, redis_url: String, lanes: &'static str, concurrency: u32) -> Recipe {
        let (queue, logs) = (self.queue.name().to_string(), self.folder.path().to_owned());
        Recipe { binary: cx.worker.clone(), redis_url, queue, lanes, concurrency, logs }
    }

    /// Waits until nothing is ready, scheduled or running; false when the time is over.
    pub async fn drained(&self, bound: Duration) -> Result<bool> {
        let deadline = Instant::now() + bound;
        loop {
            // The first calls after an outage may fail while the connection comes back: unknown is not zero.
            match self.left().await {
                Ok(0) => return Ok(true),
                Err(error) if Instant::now() > deadline => return Err(error),
                Ok(_) if Instant::now() > deadline => return Ok(false),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Jobs that have not ended.
    pub async fn left(&self) -> Result<u64> {
        let stats = self.queue.stats().await?;
        let types = stats.lanes.iter().flat_map(|lane| &lane.types);
        Ok(types.map(|figures| figures.ready + figures.scheduled + figures.running).sum())
    }

    /// The last fault is over: everything must end within `bound` from here (I14).
    pub fn healed(&mut self, bound: Duration) {
        let bound_ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        self.rules.liveness = Some(Liveness { healed_ms: now_ms(), bound_ms });
    }

    /// Redis is killed without a warning and comes back after `down`.
    pub async fn kill_redis(&mut self, down: Duration) -> Result<()> {
        self.kills_ms.push(now_ms());
        self.redis.kill();
        tokio::time::sleep(down).await;
        self.redis.restart().await?;
        self.tidied().await
    }

    /// Has the file of a Redis that came back rewritten, as the operator does.
    pub async fn tidied(&self) -> Result<()> {
        // The connection may need a moment.
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(error) = self.restarts.tidy(&mut self.queue.connection()).await {
            anyhow::ensure!(Instant::now() < deadline, "the restarted Redis cannot be asked: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// One more kill and start in quiet, so that what the file says is what is judged.
    pub async fn reread(&mut self) -> Result<()> {
        self.redis.written().await?;
        self.kill_redis(Duration::ZERO).await
    }

    /// Hears all witnesses and lets the ledger judge. Workers must be gone.
    pub async fn judged(self, with_payload: bool) -> Result<Judged> {
        let holdings = dump(&self.queue, with_payload).await?;
        let calls = self.effects.finish().await?;
        let witnesses = Witnesses {
            clients: self.history.events(),
            effects: self.workers.then(|| calls.iter().map(|call| call.effect.clone()).collect()),
            kills_ms: self.kills_ms,
            holdings,
        };
        let verdict = sentence(&witnesses, &self.rules)?;
        let undone_grants = hear(&witnesses).undone_grants;
        Ok(Judged { verdict, holdings: witnesses.holdings, undone_grants, calls })
    }
}

/// What the policy promises.
fn rules(policy: &QueuePolicy) -> Rules {
    let of = |entry: &lanekeeper_api::policy::JobTypePolicy| TypeRules {
        max_attempts: entry.retry.limit + 1,
        crash_budget: entry.crash_budget,
    };
    let trims = policy.job_types.values().any(|entry| entry.completed.keep < 1_000_000);
    let key_for = policy.job_types.values().map(|entry| entry.key_for_ms).min().unwrap_or(0);
    Rules {
        late_ms: LATE_MS,
        types: policy.job_types.iter().map(|(name, entry)| (name.clone(), of(entry))).collect(),
        fifo: Some(FifoScope::Type),
        keys: KeyRules { after_success_ms: key_for, dead_hold: true },
        ids_return: trims,
        trims,
        ..Rules::default()
    }
}

/// A job of type `work` with this id, on which the handler spends `ms` and which fails `fail` times first.
#[must_use]
pub fn work(id: String, ms: u64, fail: u64) -> NewJob {
    NewJob {
        payload: format!(r#"{{"ms":{ms},"fail":{fail}}}"#).into_bytes(),
        options: EnqueueOptions { job_type: "work".into(), id: Some(id), ..EnqueueOptions::default() },
    }
}
