//! The engine: claims jobs, keeps their leases, sweeps up after crashed workers, settles what handlers say.
//!
//! ```text
//!   engine thread (one thread, its own runtime)                handlers' runtime (the caller's)
//!   ┌──────────────────────────────────────────────┐           ┌───────────────────────────┐
//!   │ claim   settle + claim in one call, batched  ├─ tickets ─► executor: runners, attempts │
//!   │ lease   heartbeats, a third of a lease apart │◄ finished ─┤                           │
//!   │ calls   hears of cancellations and new jobs  │            │                           │
//!   │ sweep   expired leases, decided in Rust      │           │  http · exec · your own   │
//!   │ wake    blocks on the wake lists             ├─── stop ──►                           │
//!   │ probes  /livez /readyz /metrics              │           └───────────────────────────┘
//!   └──────────────────────────────────────────────┘
//! ```
//!
//! Handlers never run on the engine's thread: one that blocks all its own threads still keeps its leases, hears of
//! nothing, and cannot keep other jobs from being settled. The engine never exits because of Redis: an outage is waited
//! out with growing pauses, finished jobs are kept and said when it is over, and the lease tokens sort out what was said
//! twice.

mod batch;
mod calls;
mod claim;
mod decide;
mod drain;
mod executor;
pub(crate) mod health;
mod lanes;
mod lease;
mod offers;
mod order;
mod policy;
mod sweep;
mod table;
mod wake;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use lanekeeper_queue::client::RedisOptions;
use lanekeeper_queue::types::{Outcome, Settlement, WorkerIdentity};
use lanekeeper_queue::{Queue, QueueName};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::error::Error;
use crate::handler::{Handlers, JobContext};
use crate::metrics::{Ending, Metrics};
use crate::shutdown::Shutdown;
use executor::{Ended, Executor};
use health::Health;
use lanes::Kind;
pub use lanes::Order;
use policy::{PolicyView, TypeEntry};
use table::Table;

/// How a worker takes part in a queue.
pub struct Options {
    /// Where the queue is.
    pub redis: RedisOptions,
    /// Which queue.
    pub queue: QueueName,
    /// Who works; `boot` must be new for every process.
    pub identity: WorkerIdentity,
    /// Lanes to take from.
    pub lanes: Vec<String>,
    /// Which of them goes first.
    pub order: Order,
    /// Most jobs at once.
    pub slots: u32,
    /// Time between being asked to end and having ended.
    pub drain_timeout: Duration,
    /// Where probes and metrics are served, if anywhere.
    pub listen: Option<std::net::TcpListener>,
    /// How the worker is asked to end.
    pub shutdown: Shutdown,
}

/// What the engine's parts share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    queue: Queue,
    handlers: Arc<dyn Handlers>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<Health>,
    table: Mutex<Table>,
    executor: Arc<Executor>,
    policy: RwLock<Option<Arc<PolicyView>>>,
    /// The version that Redis showed last; the claim loop loads the policy when it has another.
    version: AtomicU64,
    queue_label: Arc<str>,
    /// Wakes the claim loop.
    engine: Arc<Notify>,
    /// Asks for a heartbeat out of turn.
    heartbeat: Notify,
    /// A handler told something of its job.
    told: Arc<Notify>,
    /// Held while the sweep settles what it took over.
    sweeping: tokio::sync::Mutex<()>,
    arms: wake::Arms,
    ears: offers::Ears,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn policy(&self) -> Option<Arc<PolicyView>> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_policy(&self, policy: Option<Arc<PolicyView>>) {
        let lanes = |view: &Option<Arc<PolicyView>>| view.as_ref().map(|view| Arc::clone(&view.lanes));
        let now = lanes(&policy);
        let before =
            std::mem::replace(&mut *self.policy.write().unwrap_or_else(PoisonError::into_inner), policy);
        if lanes(&before) != now {
            self.arms.moved();
        }
    }

    fn saw_version(&self, version: u64) {
        self.version.store(version, Ordering::Release);
    }

    /// Whether the worker has what it needs to take jobs.
    pub(crate) fn ready(&self) -> Result<(), &'static str> {
        let policy = self.policy().ok_or("no policy yet")?;
        if self.options.shutdown.drain.is_cancelled() {
            return Err("draining");
        }
        if self.health.redis_answers(policy.lease) { Ok(()) } else { Err("Redis does not answer") }
    }

    /// Brings the gauges up to date.
    pub(crate) fn gauge(&self) {
        let (busy, unsettled) = {
            let table = self.table();
            (table.busy(), table.unsettled())
        };
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.slots.set(i64::from(self.options.slots));
        self.metrics.slots_busy.set(count(busy));
        self.metrics.unsettled.set(count(unsettled));
        let version = self.policy().map_or(0, |policy| policy.version);
        self.metrics.policy_version.set(i64::try_from(version).unwrap_or(i64::MAX));
        self.metrics.draining.set(i64::from(self.options.shutdown.drain.is_cancelled()));
    }

    /// Turns an attempt's end into a settlement to send.
    fn conclude(&self, ctx: &JobContext, entry: &TypeEntry, ended: Ended, took: Duration) {
        let stopped = ctx.stop.cause();
        entry.metrics.duration.observe(took.as_secs_f64());
        // The newest policy decides, when it still has the type.
        let view = self.policy();
        let newest = view.as_ref().and_then(|view| view.types.get(&ctx.job.job_type));
        let policy = newest.map_or(&entry.policy, |entry| &entry.policy);
        match decide::outcome(&ctx.job, policy, ended, stopped, ctx.now_ms()) {
            Some(outcome) => {
                let ending = decide::ending(&outcome, stopped);
                self.say(ctx, entry, outcome, ending, took, view.map_or(0, |view| view.version));
            }
            None => {
                entry.metrics.ended(Ending::Lost);
                batch::log_lost(ctx);
            }
        }
    }

    /// Counts and logs an outcome, and puts it where settlements wait.
    fn say(
        &self,
        ctx: &JobContext,
        entry: &TypeEntry,
        outcome: Outcome,
        ending: Ending,
        took: Duration,
        policy_version: u64,
    ) {
        entry.metrics.ended(ending);
        batch::log_end(ctx, &outcome, ending, took);
        let settlement = Settlement {
            id: ctx.job.id.clone(),
            token: ctx.job.token,
            key: ctx.job.key.clone(),
            outcome,
            policy_version,
            note: ctx.notes.last(),
        };
        self.table().push(settlement);
    }
}

/// Works until asked to end. Handlers run on the calling runtime, everything else on a thread of the engine's own.
///
/// Dropping the future ends the engine at once, as the second stage of a shutdown would.
///
/// # Errors
/// When the settings can never work, or when the drain time was over before everything was handed back.
pub async fn run(options: Options, handlers: Arc<dyn Handlers>, metrics: Arc<Metrics>) -> Result<(), Error> {
    let runtime = Handle::current();
    let _ended_with_us = options.shutdown.clone().now_on_drop();
    let (done, ended) = tokio::sync::oneshot::channel();
    let body = move || {
        let result = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Start)
            .and_then(|own| own.block_on(engine(options, handlers, metrics, runtime)));
        // The receiver is gone when the caller has dropped the engine; nobody wants the result then.
        let _ = done.send(result);
    };
    std::thread::Builder::new().name("lanekeeper".into()).spawn(body).map_err(Error::Start)?;
    ended.await.unwrap_or(Err(Error::EngineGone))
}

async fn engine(
    mut options: Options,
    handlers: Arc<dyn Handlers>,
    metrics: Arc<Metrics>,
    runtime: Handle,
) -> Result<(), Error> {
    let health = Arc::new(Health::new());
    let probes = crate::probes::serve(options.listen.take(), Arc::clone(&health), Arc::clone(&metrics))?;
    let Some(queue) = connect(&options, &health, &metrics).await? else { return Ok(()) };
    let engine = Arc::new(Notify::new());
    let shared = Arc::new(Shared {
        queue_label: options.queue.to_string().into(),
        table: Mutex::new(Table::new(options.slots as usize)),
        executor: Arc::new(Executor::new(runtime, Arc::clone(&engine))),
        options,
        queue,
        handlers,
        metrics,
        health,
        policy: RwLock::default(),
        version: AtomicU64::new(0),
        engine,
        heartbeat: Notify::new(),
        told: Arc::new(Notify::new()),
        sweeping: tokio::sync::Mutex::default(),
        arms: wake::Arms::default(),
        ears: offers::Ears::default(),
    });
    probes.now_serve(&shared);
    let mut beside = tokio::task::JoinSet::new();
    beside.spawn(lease::run(Arc::clone(&shared)));
    beside.spawn(sweep::run(Arc::clone(&shared)));
    beside.spawn(calls::run(Arc::clone(&shared)));
    beside.spawn(wake::run(Arc::clone(&shared), Kind::Critical));
    beside.spawn(wake::run(Arc::clone(&shared), Kind::Other));
    let mut claim = claim::Loop::new(Arc::clone(&shared));
    let over = tokio::select! {
        over = claim.run() => over,
        () = broken(&mut beside) => return Err(Error::EngineGone),
    };
    beside.shutdown().await;
    drain::leave(&shared).await;
    over
}

/// Ends when one of the tasks beside the claim loop panicked; without it leases would lapse unseen.
async fn broken(beside: &mut tokio::task::JoinSet<()>) {
    loop {
        match beside.join_next().await {
            Some(Err(error)) if error.is_panic() => return,
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

/// Connects, however long it takes; none when the worker was asked to end first.
async fn connect(options: &Options, health: &Health, metrics: &Metrics) -> Result<Option<Queue>, Error> {
    let mut backoff = health::Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        health.round();
        match health::bounded(Queue::connect(&options.redis, options.queue.clone())).await {
            Ok(queue) => return Ok(Some(queue)),
            Err(error) if error.hopeless() => return Err(Error::Redis(error.to_string())),
            Err(error) => health.failed("connect", &error, metrics),
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.pause()) => {}
            () = options.shutdown.drain.cancelled() => return Ok(None),
        }
    }
}
