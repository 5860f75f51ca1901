//! The autoscaler's loops on a real Redis, over a platform that only remembers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use lanekeeper_api::manifest;
use lanekeeper_api::policy::{QueuePolicy, Source};
use lanekeeper_api::validate;
use lanekeeper_operator::autoscale::{
    Fleet, Mode, PoolSpec, QueueTarget, QueueView, Reason, ScaleEvent, Settings,
};
use lanekeeper_operator::platform::conformance::{self, Subject};
use lanekeeper_operator::platform::{Observed, Platform, PlatformError, PoolRef, Scale, Scaled};
use lanekeeper_queue::Queue;
use lanekeeper_queue::testing::TestRedis;
use lanekeeper_queue::types::{
    ClaimRequest, Claimed, EnqueueOptions, Enqueued, JobState, NewJob, Outcome, Settlement, WorkerIdentity,
    WorkerInfo,
};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(30);

/// A platform without workers: what is asked for is ready at once.
#[derive(Default)]
struct Memory {
    pools: Mutex<BTreeMap<PoolRef, (u32, u64)>>,
    /// Answers to give before the real ones.
    conflicts: Mutex<VecDeque<Scaled>>,
}

impl Memory {
    fn pools(&self) -> MutexGuard<'_, BTreeMap<PoolRef, (u32, u64)>> {
        self.pools.lock().expect("no test panics while holding it")
    }

    fn set(&self, pool: &PoolRef, replicas: u32) {
        let mut pools = self.pools();
        let entry = pools.entry(pool.clone()).or_default();
        *entry = (replicas, entry.1 + 1);
    }
}

impl Platform for Memory {
    async fn observe(&self, pool: &PoolRef) -> Result<Observed, PlatformError> {
        let (replicas, version) =
            *self.pools().get(pool).ok_or_else(|| PlatformError::NoSuchPool(pool.clone()))?;
        Ok(Observed { replicas, ready: replicas, version: Some(version.to_string()), ..Observed::default() })
    }

    async fn scale(&self, pool: &PoolRef, scale: &Scale) -> Result<Scaled, PlatformError> {
        if let Some(answer) = self.conflicts.lock().expect("as above").pop_front() {
            return Ok(answer);
        }
        let seen = self.observe(pool).await?;
        if seen.replicas != scale.from || scale.version.is_some() && scale.version != seen.version {
            return Ok(Scaled::Conflict);
        }
        self.set(pool, scale.to);
        Ok(Scaled::Done)
    }

    fn startup_prior_ms(&self) -> u64 {
        1_000
    }
}

const QUEUE: &str = "apiVersion: lanekeeper.dev/v1beta1
kind: JobQueue
metadata: {name: test, namespace: apps}
spec:
  lease: 1s
  lanes: [{name: fast, startWithin: 2s}, {name: slow, startWithin: 60s}]
  jobTypes:
  - {name: mail, lane: fast, crashBudget: 2, handler: {exec: {command: [cat]}}}
  - {name: report, lane: slow, handler: {exec: {command: [cat]}}}
";

struct World {
    redis: TestRedis,
    queue: Queue,
    policy: Arc<QueuePolicy>,
    platform: Arc<Memory>,
    fleet: Arc<Fleet<Memory>>,
    cancel: CancellationToken,
}

fn policy() -> QueuePolicy {
    let manifests = manifest::parse(&[("queue.yaml", QUEUE)]).expect("a good manifest");
    let source = Source { owner: "test".into(), uid: "1".into(), created_ms: 1, generation: 1 };
    validate::job_queue(&manifests.queues[0], source).expect("a good policy")
}

fn spec(name: &str, lane: &str) -> PoolSpec {
    PoolSpec {
        pool: PoolRef::new("apps", name),
        queue: "apps/test".parse().expect("a name"),
        lanes: vec![lane.into()],
        mode: Mode::Auto,
        min: 0,
        max: 5,
        slots: 10,
        oldest_age_ms: None,
        depth_per_replica: None,
        idle_after_ms: 600_000,
    }
}

impl World {
    async fn start(tick: Duration) -> Self {
        let redis = TestRedis::start().await.expect("redis starts");
        let queue = redis.queue("apps/test").await.expect("a queue");
        let policy = Arc::new(policy());
        queue.configure(&policy, false).await.expect("configured");
        let (platform, cancel) = (Arc::new(Memory::default()), CancellationToken::new());
        let settings = Settings { tick, ..Settings::default() };
        let fleet = Fleet::new(Arc::clone(&platform), settings, cancel.clone());
        let world = Self { redis, queue, policy, platform, fleet, cancel };
        for pool in [spec("fast", "fast"), spec("slow", "slow")] {
            world.platform.set(&pool.pool, 0);
            world.fleet.set_pool(pool);
        }
        world.fleet.set_queue(world.queue.name(), world.target());
        world.until("it has been read", |v| v.stats.is_some()).await;
        world
    }

    fn target(&self) -> QueueTarget {
        QueueTarget { redis: self.redis.options(), policy: Arc::clone(&self.policy) }
    }

    async fn enqueue(&self, job_type: &str) -> String {
        let options = EnqueueOptions { job_type: job_type.into(), ..EnqueueOptions::default() };
        let answers = self.queue.enqueue(&[NewJob { payload: Vec::new(), options }]).await.expect("enqueued");
        match &answers[0] {
            Enqueued::Accepted { id, .. } => id.clone(),
            other => panic!("{other:?}"),
        }
    }

    async fn until(&self, what: &str, there: impl FnMut(&QueueView) -> bool) -> QueueView {
        let mut view = self.fleet.view(self.queue.name()).expect("the queue is known");
        let found = tokio::time::timeout(DEADLINE, view.wait_for(there)).await;
        found.unwrap_or_else(|_| panic!("{what}")).expect("the loop runs").clone()
    }

    /// Claims one job as a worker of that name would, and says nothing more.
    async fn claim(&self, worker: &WorkerIdentity) -> Claimed {
        let want = ClaimRequest { slots: 1, lanes: vec!["fast".into()], ..ClaimRequest::default() };
        let (_, mut reply) = self.queue.settle_and_claim(worker, &[], &want).await.expect("claimed");
        reply.jobs.pop().expect("a job waits")
    }

    async fn end(self) {
        self.cancel.cancel();
        tokio::time::timeout(DEADLINE, self.fleet.ended()).await.expect("the loops end");
    }
}

fn worker(name: &str) -> WorkerIdentity {
    WorkerIdentity { name: name.into(), boot: format!("{name}-boot"), pool: "fast".into(), node: "n".into() }
}

async fn scaled(changes: &mut broadcast::Receiver<ScaleEvent>) -> ScaleEvent {
    tokio::time::timeout(DEADLINE, changes.recv()).await.expect("it scales").expect("the fleet lives")
}

#[tokio::test]
async fn the_memory_platform_conforms() {
    let platform = Memory::default();
    let pool = PoolRef::new("apps", "fast");
    platform.set(&pool, 0);
    let missing = PoolRef::new("apps", "nobody");
    let subject = Subject { pool, missing, starts_workers: true, deadline: DEADLINE };
    conformance::run(&platform, &subject).await.expect("it conforms");
}

#[tokio::test]
async fn the_first_job_scales_its_pool_at_once_without_waiting_for_a_tick() {
    // With a tick of an hour only the wake channel can be that fast.
    let world = World::start(Duration::from_secs(3_600)).await;
    let mut changes = world.fleet.changes();
    let mut took = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        let id = world.enqueue("mail").await;
        let event = scaled(&mut changes).await;
        took.push(start.elapsed());
        assert_eq!((event.pool.name.as_str(), event.from, event.to), ("fast", 0, 1));
        assert_eq!(event.reason, Reason::Backlog);
        world.queue.cancel(&[id], "ops").await.expect("cancelled");
        world.platform.set(&event.pool, 0);
    }
    took.sort();
    assert!(took[18] < Duration::from_secs(1), "p95 of 20: {:?}", took[18]);
    assert_eq!(world.platform.pools()[&PoolRef::new("apps", "slow")].0, 0, "the other lane's pool stays");
    world.end().await;
}

#[tokio::test]
async fn a_conflict_is_decided_again_on_fresh_figures() {
    let world = World::start(Duration::from_millis(200)).await;
    world.platform.conflicts.lock().expect("free").push_back(Scaled::Conflict);
    let mut changes = world.fleet.changes();
    world.enqueue("mail").await;
    assert_eq!(scaled(&mut changes).await.to, 1);
    world.end().await;
}

#[tokio::test]
async fn every_new_subscription_looks_again() {
    let mut world = World::start(Duration::from_secs(3_600)).await;
    world.redis.stop().await.expect("it stops");
    // Jobs that came while nobody listened: another client is faster than our subscription.
    world.redis.restart().await.expect("it comes back");
    world.queue =
        Queue::connect(&world.redis.options(), world.queue.name().clone()).await.expect("connected");
    let mut changes = world.fleet.changes();
    world.enqueue("mail").await;
    assert_eq!(scaled(&mut changes).await.to, 1);
    world.end().await;
}

#[tokio::test]
async fn a_redis_that_is_away_freezes_and_shows_it() {
    let mut world = World::start(Duration::from_millis(100)).await;
    world.platform.set(&PoolRef::new("apps", "fast"), 3);
    world.redis.stop().await.expect("it stops");
    let blind = |v: &QueueView| {
        let fast = &v.pools[&PoolRef::new("apps", "fast")];
        v.error.is_some()
            && fast.decision.as_ref().is_some_and(|d| d.reason == Reason::RedisUnreachable && d.replicas == 3)
    };
    let seen = world.until("it is blind", blind).await;
    assert!(seen.stats.is_some(), "the last figures stay");
    world.redis.restart().await.expect("it comes back");
    let back = world.until("it sees again", |v| v.error.is_none()).await;
    assert_eq!(back.pools[&PoolRef::new("apps", "fast")].observed.as_ref().map(|o| o.replicas), Some(3));
    world.end().await;
}

#[tokio::test]
async fn pools_and_queues_that_are_removed_are_scaled_no_more() {
    let world = World::start(Duration::from_millis(100)).await;
    let fast = PoolRef::new("apps", "fast");
    world.fleet.remove_pool(&fast);
    world.until("the pool is gone", |v| !v.pools.contains_key(&fast)).await;
    world.enqueue("mail").await;
    world
        .until("the job is seen", |v| v.stats.as_ref().is_some_and(|s| s.lanes[0].types[0].ready == 1))
        .await;
    assert_eq!(world.platform.pools()[&fast].0, 0);
    let mut changes = world.fleet.changes();
    world.fleet.set_pool(spec("fast", "fast"));
    assert_eq!(scaled(&mut changes).await.pool, fast);
    world.fleet.remove_queue(world.queue.name());
    assert!(world.fleet.view(world.queue.name()).is_none());
    world.end().await;
}

#[tokio::test]
async fn a_pool_that_does_not_exist_yet_is_scaled_when_it_does() {
    let world = World::start(Duration::from_millis(100)).await;
    let mut late = spec("late", "slow");
    late.min = 2;
    let pool = late.pool.clone();
    world.fleet.set_pool(late);
    world.until("it is missed", |v| v.pools.get(&pool).is_some_and(|p| p.error.is_some())).await;
    let mut changes = world.fleet.changes();
    world.platform.set(&pool, 0);
    let event = scaled(&mut changes).await;
    assert_eq!((event.pool, event.to, event.reason), (pool, 2, Reason::Minimum));
    world.end().await;
}

#[tokio::test]
async fn jobs_of_lost_workers_come_back_although_no_worker_lives() {
    let world = World::start(Duration::from_millis(200)).await;
    let id = world.enqueue("mail").await;
    let lost = world.claim(&worker("one")).await;
    let ready = |v: &QueueView| {
        v.stats.as_ref().is_some_and(|s| (s.lanes[0].types[0].ready, s.lanes[0].types[0].running) == (1, 0))
    };
    world.until("it waits again", ready).await;
    let ids = [id];
    let job = world.queue.get(&ids, false).await.expect("read").remove(0).expect("there");
    assert_eq!((job.state, job.crashes, job.tries), (JobState::Ready, 1, 0));
    let error = job.history[0].error.clone().expect("the history says why");
    assert_eq!(error.code, "LeaseExpired");
    assert!(error.message.contains("worker one on n"), "{}", error.message);
    // The first worker comes back from a long pause: its word counts no more.
    let late = Settlement {
        id: lost.id,
        token: lost.token,
        key: None,
        outcome: Outcome::Success { result: Vec::new(), follow_ups: vec![] },
        policy_version: 1,
        note: None,
    };
    let settled = world.queue.settle(&worker("one"), &[late]).await.expect("answered");
    assert_eq!(settled, [lanekeeper_queue::types::Settled::Stale]);
    // The budget is two crashes.
    world.claim(&worker("two")).await;
    world.until("it is dead", |v| v.stats.as_ref().is_some_and(|s| s.dead == 1)).await;
    let job = world.queue.get(&ids, false).await.expect("read").remove(0).expect("there");
    assert_eq!(job.dead_reason.map(|r| r.name()), Some("CrashBudgetExhausted"));
    world.end().await;
}

#[tokio::test]
async fn a_job_whose_holder_lives_and_never_heard_of_it_comes_back_without_a_crash() {
    let world = World::start(Duration::from_millis(200)).await;
    let id = world.enqueue("mail").await;
    // The reply to this claim is lost: its worker goes on to renew what it knows of, which is nothing.
    let one = worker("one");
    world.claim(&one).await;
    let info = WorkerInfo {
        identity: one,
        lanes: vec!["fast".into()],
        slots: 1,
        busy: 0,
        draining: false,
        seen_ms: 0,
        started_ms: 0,
    };
    let beating = async {
        loop {
            world.queue.extend(&info, &[]).await.expect("it beats");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let ready = |v: &QueueView| {
        v.stats.as_ref().is_some_and(|s| (s.lanes[0].types[0].ready, s.lanes[0].types[0].running) == (1, 0))
    };
    tokio::select! {
        () = beating => {}
        _ = world.until("it waits again", ready) => {}
    }
    let job = world.queue.get(&[id], false).await.expect("read").remove(0).expect("there");
    assert_eq!((job.state, job.crashes, job.tries), (JobState::Ready, 0, 0));
    world.end().await;
}
