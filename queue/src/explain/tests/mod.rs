//! One test per cause.

use std::collections::BTreeMap;

use super::*;
use crate::types::{
    Attempt, AttemptError, DeadReason, ErrorClass, Job, JobState, LaneStats, Lease, Position, WorkerIdentity,
};
use lanekeeper_api::policy::{LanePolicy, Source};

const NOW: u64 = 1_000_000_000;

/// A queue with one waiting job in lane `fast` and no workers.
struct World {
    policy: QueuePolicy,
    stats: Stats,
    pools: Option<Vec<PoolView>>,
}

impl World {
    fn new() -> Self {
        let policy = QueuePolicy {
            queue: "apps/saas".into(),
            source: Source { owner: "cli".into(), uid: "local".into(), created_ms: 1, generation: 1 },
            paused: false,
            closed: None,
            max_payload: 1,
            lease_ms: 15_000,
            lanes: vec![LanePolicy::new("fast", 10_000)],
            job_types: BTreeMap::new(),
        };
        let mail = TypeStats {
            name: "mail".into(),
            ready: 1,
            oldest_due_ms: Some(NOW - 5_000),
            ..TypeStats::default()
        };
        let stats = Stats {
            now_ms: NOW,
            lanes: vec![LaneStats { name: "fast".into(), types: vec![mail] }],
            ..Stats::default()
        };
        Self { policy, stats, pools: Some(vec![]) }
    }

    fn pool(mut self, desired: u32, ready: u32) -> Self {
        self.pools.get_or_insert_default().push(PoolView {
            name: "interactive".into(),
            lanes: vec!["fast".into()],
            desired,
            replicas: ready,
            ready,
            max: 2,
            reason: "Backlog".into(),
            pods: vec![],
        });
        self
    }

    fn pod(mut self, problem: PodProblem, message: &str) -> Self {
        let pool = self.pools.as_mut().and_then(|pools| pools.last_mut()).expect("a pool");
        pool.pods.push(PodView {
            name: "interactive-x".into(),
            problem: Some(problem),
            message: message.into(),
        });
        self
    }

    fn worker(mut self, busy: u32) -> Self {
        self.stats.workers.push(WorkerInfo {
            identity: WorkerIdentity {
                name: "w".into(),
                boot: "b".into(),
                pool: "interactive".into(),
                node: "n1".into(),
            },
            lanes: vec!["fast".into()],
            slots: 10,
            busy,
            draining: false,
            seen_ms: NOW,
            started_ms: NOW,
        });
        self
    }

    fn scene(&self) -> Scene<'_> {
        Scene { policy: &self.policy, stats: &self.stats, pools: self.pools.as_deref() }
    }

    /// Explains the job; all of the words have to be in the answer.
    fn says(&self, job: &Job, ahead: u64, cause: Cause, words: &[&str]) {
        let place = Some(Position { ahead, waiting: 9 }).filter(|_| job.state == JobState::Ready);
        expect(&super::job(&job.id, Some(job), place, &self.scene()), cause, words);
    }
}

fn expect(found: &Explanation, cause: Cause, words: &[&str]) {
    assert_eq!(found.cause, cause, "{found:?}");
    let text =
        format!("{} {} {}", found.sentence, found.advice.clone().unwrap_or_default(), found.also.join(" "));
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

fn job(state: JobState) -> Job {
    Job {
        id: "J1".into(),
        job_type: "mail".into(),
        lane: Some("fast".into()),
        state,
        priority: 5,
        enqueued_ms: NOW - 60_000,
        due_ms: NOW - 5_000,
        finished_ms: None,
        tries: 0,
        crashes: 0,
        attempts: 0,
        key: None,
        meta: BTreeMap::new(),
        lease: None,
        dead_reason: None,
        history: vec![],
        history_dropped: 0,
        payload_bytes: 0,
        result: None,
        payload: None,
    }
}

fn attempt(outcome: &str, message: &str) -> Attempt {
    Attempt {
        number: 1,
        started_ms: NOW,
        ended_ms: NOW,
        worker: "w".into(),
        node: "n1".into(),
        token: 1,
        policy_version: 1,
        outcome: outcome.into(),
        error: Some(AttemptError {
            class: ErrorClass::Transient,
            code: "HttpStatus".into(),
            message: message.into(),
        }),
    }
}

#[test]
fn unknown_job() {
    let world = World::new();
    expect(
        &super::job("J9", None, None, &world.scene()),
        Cause::Unknown,
        &["no record of job J9", "completed"],
    );
}

#[test]
fn not_due() {
    let mut later = job(JobState::Scheduled);
    later.due_ms = NOW + 90_000;
    World::new().says(&later, 0, Cause::NotDue, &["1 min 30 s"]);
}

#[test]
fn retry_scheduled() {
    let mut failed = job(JobState::Scheduled);
    failed.due_ms = NOW + 300_000;
    failed.tries = 2;
    failed.history = vec![attempt("retry", "503 from http://mailer")];
    World::new().says(
        &failed,
        0,
        Cause::RetryScheduled,
        &["failed 2 times", "5 min", "HttpStatus: 503 from"],
    );
}

#[test]
fn held() {
    let mut held = job(JobState::Scheduled);
    held.due_ms = NOW + 30_000;
    held.history = vec![attempt("snooze", "Retry-After: 30")];
    World::new().says(&held, 0, Cause::Held, &["30 s", "costs it no try", "Retry-After"]);
}

#[test]
fn paused() {
    let mut world = World::new().pool(1, 1).worker(0);
    world.stats.paused = true;
    world.says(
        &job(JobState::Ready),
        0,
        Cause::Paused,
        &["due for 5 s", "apps/saas is paused", "paused: false"],
    );
}

#[test]
fn closed() {
    let mut world = World::new();
    world.stats.closed = Some("RedisUnsafe".into());
    world.says(&job(JobState::Ready), 0, Cause::Closed, &["RedisUnsafe"]);
}

#[test]
fn unknown_type() {
    let mut orphan = job(JobState::Ready);
    orphan.lane = None;
    World::new().says(&orphan, 0, Cause::UnknownType, &["no job type mail"]);
}

#[test]
fn no_pool() {
    World::new().says(&job(JobState::Ready), 0, Cause::NoPool, &["No WorkerPool serves lane fast", "lanes:"]);
}

#[test]
fn no_worker_is_all_that_redis_alone_can_tell() {
    let mut world = World::new();
    world.pools = None;
    world.says(&job(JobState::Ready), 0, Cause::NoWorker, &["No live worker"]);
    let mut world = World::new().worker(10);
    world.pools = None;
    world.says(&job(JobState::Ready), 0, Cause::SlotsBusy, &["All 10 slots"]);
}

#[test]
fn pool_at_zero() {
    World::new().pool(0, 0).says(
        &job(JobState::Ready),
        0,
        Cause::PoolAtZero,
        &["interactive has no replicas"],
    );
    let mut world = World::new().pool(0, 0);
    world.pools.as_mut().unwrap()[0].max = 0;
    world.says(&job(JobState::Ready), 0, Cause::PoolAtZero, &["maxReplicas"]);
}

#[test]
fn pool_starting() {
    World::new().pool(2, 0).says(&job(JobState::Ready), 0, Cause::PoolStarting, &["starting 2 replicas"]);
}

#[test]
fn pods_unschedulable() {
    let world = World::new().pool(1, 0).pod(PodProblem::Unschedulable, "0/3 nodes: insufficient memory");
    world.says(
        &job(JobState::Ready),
        0,
        Cause::PodsUnschedulable,
        &["no node takes", "insufficient memory", "requests"],
    );
}

#[test]
fn pods_failing() {
    for problem in [PodProblem::ImagePull, PodProblem::CrashLoop, PodProblem::Config, PodProblem::Other] {
        let world = World::new().pool(1, 0).pod(problem, "the message");
        world.says(&job(JobState::Ready), 0, Cause::PodsFailing, &["pod interactive-x", "the message"]);
    }
}

#[test]
fn pool_at_max_with_all_slots_busy() {
    let world = World::new().pool(2, 2).worker(10).worker(10);
    world.says(
        &job(JobState::Ready),
        3,
        Cause::PoolAtMax,
        &["All 20 slots", "maximum of 2", "3 jobs of lane fast go first"],
    );
}

#[test]
fn slots_busy_while_the_pool_may_grow() {
    World::new().pool(1, 1).worker(10).says(&job(JobState::Ready), 0, Cause::SlotsBusy, &["may still grow"]);
}

#[test]
fn behind_others() {
    let world = World::new().pool(1, 1).worker(3);
    world.says(
        &job(JobState::Ready),
        7,
        Cause::BehindOthers,
        &["7 jobs of lane fast go first, of 9 waiting"],
    );
    world.says(&job(JobState::Ready), 1, Cause::BehindOthers, &["1 job of lane fast goes first"]);
}

#[test]
fn next() {
    World::new().pool(1, 1).worker(3).says(&job(JobState::Ready), 0, Cause::Next, &["any moment"]);
}

fn leased(expires_ms: u64) -> Job {
    let mut running = job(JobState::Running);
    running.lease = Some(Lease {
        worker: "interactive-x".into(),
        pool: "interactive".into(),
        node: "n1".into(),
        token: 1,
        since_ms: NOW - 20_000,
        expires_ms,
    });
    running
}

#[test]
fn leased_to_a_worker() {
    let words = ["interactive-x on n1", "for 20 s", "another 9 s"];
    World::new().says(&leased(NOW + 9_000), 0, Cause::Leased, &words);
}

#[test]
fn lease_expired() {
    World::new().says(
        &leased(NOW - 3_000),
        0,
        Cause::LeaseExpired,
        &["stopped renewing", "3 s ago", "sweep"],
    );
}

#[test]
fn dead() {
    let mut dead = job(JobState::Dead);
    dead.finished_ms = Some(NOW - 3_600_000);
    dead.tries = 4;
    dead.crashes = 3;
    dead.history = vec![attempt("dead", "422 no such user.\nbody"), attempt("replay", "")];
    let reasons = [
        (DeadReason::PermanentError, "another try cannot help"),
        (DeadReason::TriesExhausted, "all its 4 tries failed"),
        (DeadReason::CrashBudgetExhausted, "3 attempts were lost"),
        (DeadReason::GaveUp, "giveUpAfter"),
    ];
    for (reason, words) in reasons {
        dead.dead_reason = Some(reason);
        World::new().says(
            &dead,
            0,
            Cause::Dead,
            &["dead for 1 h", words, "HttpStatus: 422 no such user.", "replay"],
        );
    }
}

#[test]
fn succeeded_and_cancelled() {
    let mut done = job(JobState::Succeeded);
    done.finished_ms = Some(NOW - 1_000);
    done.attempts = 1;
    World::new().says(&done, 0, Cause::Succeeded, &["succeeded 1 s ago, after 1 attempt"]);
    done.state = JobState::Cancelled;
    World::new().says(&done, 0, Cause::Cancelled, &["cancelled 1 s ago"]);
}

#[test]
fn lanes() {
    let lane = |world: &World| super::lane("fast", &world.scene());
    expect(&super::lane("x", &World::new().scene()), Cause::Unknown, &["no lane x", "fast"]);
    expect(
        &lane(&World::new()),
        Cause::NoPool,
        &["1 job of lane fast wait", "5 s", "promised: 10 s", "No WorkerPool"],
    );
    expect(&lane(&World::new().pool(1, 1).worker(1)), Cause::Working, &["oldest for 5 s"]);
    let mut world = World::new().pool(1, 1).worker(1);
    world.stats.lanes[0].types[0].oldest_due_ms = Some(NOW - 20_000);
    expect(&lane(&world), Cause::Late, &["perWorker"]);
    world.stats.lanes[0].types[0].ready = 0;
    expect(&lane(&world), Cause::Idle, &["Nothing waits"]);
    world.stats.lanes[0].types[0].running = 2;
    expect(&lane(&world), Cause::Working, &["2 jobs run"]);
}

#[test]
fn pools() {
    let pool = |world: &World| super::pool("interactive", &world.scene());
    expect(&pool(&World::new()), Cause::Unknown, &["no pool interactive"]);
    expect(
        &pool(&World::new().pool(2, 1).worker(1)),
        Cause::PoolStarting,
        &["1 ready of 2 wanted (Backlog)"],
    );
    expect(&pool(&World::new().pool(2, 2).worker(10)), Cause::PoolAtMax, &["10 of 10 slots", "maxReplicas"]);
    expect(&pool(&World::new().pool(1, 1).worker(10)), Cause::SlotsBusy, &["1 due jobs"]);
    expect(&pool(&World::new().pool(0, 0)), Cause::PoolAtZero, &["0 wanted"]);
    expect(
        &pool(&World::new().pool(1, 0).pod(PodProblem::CrashLoop, "exit 1")),
        Cause::PodsFailing,
        &["exit 1"],
    );
    let mut world = World::new().pool(1, 1).worker(1);
    expect(&pool(&world), Cause::Working, &["1 of 10 slots"]);
    world.stats.paused = true;
    expect(&pool(&world), Cause::Paused, &["paused: false"]);
    world.stats.workers.clear();
    world.stats.lanes.clear();
    expect(&pool(&world), Cause::Idle, &["0 due jobs"]);
}
