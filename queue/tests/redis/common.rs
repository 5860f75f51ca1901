//! What the tests of this folder share: policies, workers, short ways to call.
#![allow(unreachable_pub, reason = "a module of one test binary")]

use std::collections::BTreeMap;

use lanekeeper_api::policy::{
    Backoff, ExecHandler, Handler, Jitter, JobTypePolicy, LanePolicy, QueuePolicy, RetryPolicy, Source,
};
use lanekeeper_queue::testing::{TestRedis, clock};
use lanekeeper_queue::types::{
    AttemptError, ClaimReply, ClaimRequest, Claimed, EnqueueOptions, Enqueued, ErrorClass, HeartbeatReply,
    Held, Job, JobState, NewJob, Note, Outcome, Settled, Settlement, Spends, WorkerIdentity, WorkerInfo,
};
use lanekeeper_queue::{Queue, Result, library_source};

/// A lease that no test outlives by accident.
pub const LEASE_MS: u64 = 60_000;

/// Where clocks that stand still do so.
pub const NOON_MS: u64 = 1_700_000_000_000;

/// A server with one queue: lanes `fast` (types `mail`, `reset`, `limited`) and `slow` (`report`).
pub struct Bed {
    pub redis: TestRedis,
    pub queue: Queue,
    pub policy: QueuePolicy,
}

impl Bed {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut QueuePolicy)) -> Self {
        Self::on(TestRedis::start().await.unwrap(), change).await
    }

    pub async fn on(redis: TestRedis, change: impl FnOnce(&mut QueuePolicy)) -> Self {
        let queue = redis.queue("apps/saas").await.unwrap();
        Self::of(redis, queue, change).await
    }

    /// A bed whose clock stands still, at `NOON_MS`, until `at` sets it.
    pub async fn still(change: impl FnOnce(&mut QueuePolicy)) -> Self {
        let redis = TestRedis::start().await.unwrap();
        let queue = redis.queue("apps/saas").await.unwrap();
        let source = std::env::var("LANEKEEPER_LIBRARY_FILE")
            .map_or_else(|_| library_source().to_owned(), |file| std::fs::read_to_string(file).unwrap());
        let conn = &mut queue.connection();
        clock::load(conn, &clock::with_test_clock(&source).unwrap()).await.unwrap();
        clock::set(conn, NOON_MS * 1_000).await.unwrap();
        Self::of(redis, queue, change).await
    }

    /// Sets the clock of a bed that was made with `still`: ms after `NOON_MS`.
    pub async fn at(&self, ms: u64) {
        clock::set(&mut self.queue.connection(), (NOON_MS + ms) * 1_000).await.unwrap();
    }

    async fn of(redis: TestRedis, queue: Queue, change: impl FnOnce(&mut QueuePolicy)) -> Self {
        let mut policy = policy();
        change(&mut policy);
        queue.configure(&policy, false).await.unwrap();
        Self { redis, queue, policy }
    }

    /// Writes the policy anew under the next generation.
    pub async fn change(&mut self, change: impl FnOnce(&mut QueuePolicy)) {
        change(&mut self.policy);
        self.policy.source.generation += 1;
        self.queue.configure(&self.policy, false).await.unwrap();
    }

    pub async fn put(&self, job: NewJob) -> Enqueued {
        self.queue.enqueue(&[job]).await.unwrap().remove(0)
    }

    /// Enqueues a job that must be accepted; its id.
    pub async fn accept(&self, job: NewJob) -> String {
        match self.put(job).await {
            Enqueued::Accepted { id, .. } => id,
            other => panic!("not accepted: {other:?}"),
        }
    }

    pub async fn claim(&self, worker: &WorkerIdentity, lanes: &[&str], slots: u32) -> Vec<Claimed> {
        self.claim_reply(worker, &want(lanes, slots)).await.jobs
    }

    pub async fn claim_reply(&self, worker: &WorkerIdentity, want: &ClaimRequest) -> ClaimReply {
        self.queue.settle_and_claim(worker, &[], want).await.unwrap().1
    }

    /// Enqueues a job and claims it.
    pub async fn running(&self, worker: &WorkerIdentity, job: NewJob) -> Claimed {
        let id = self.accept(job).await;
        let mut jobs = self.claim(worker, &["fast", "slow"], 1).await;
        assert_eq!(jobs.len(), 1);
        assert_eq!(jobs[0].id, id);
        jobs.remove(0)
    }

    pub async fn settle(&self, worker: &WorkerIdentity, job: &Claimed, outcome: Outcome) -> Settled {
        self.queue.settle(worker, &[settlement(job, outcome)]).await.unwrap().remove(0)
    }

    pub async fn beat(&self, worker: &WorkerIdentity, jobs: &[&Claimed]) -> HeartbeatReply {
        let held: Vec<Held> = jobs.iter().map(|job| Held { id: job.id.clone(), token: job.token }).collect();
        self.queue.extend(&info(worker), &held).await.unwrap()
    }

    /// A heartbeat for one job that tells something of it.
    pub async fn tell(&self, worker: &WorkerIdentity, job: &Claimed, note: Note) -> HeartbeatReply {
        let held = [Held { id: job.id.clone(), token: job.token }];
        self.queue.extend_telling(&info(worker), &held, &[(0, note)]).await.unwrap()
    }

    pub async fn job(&self, id: &str) -> Job {
        self.maybe_job(id).await.expect("the job's record stands")
    }

    pub async fn maybe_job(&self, id: &str) -> Option<Job> {
        self.queue.get(&[id.to_owned()], true).await.unwrap().remove(0)
    }

    pub async fn state(&self, id: &str) -> JobState {
        self.job(id).await.state
    }

    /// A raw command on the server.
    pub async fn raw<T: redis::FromRedisValue>(&self, command: &[&str]) -> redis::RedisResult<T> {
        let mut cmd = redis::cmd(command[0]);
        cmd.arg(&command[1..]);
        cmd.query_async(&mut self.queue.connection()).await
    }

    /// A raw write whose answer does not matter.
    pub async fn poke(&self, command: &[&str]) {
        let _: redis::Value = self.raw(command).await.unwrap();
    }

    pub fn key(&self, suffix: &str) -> String {
        format!("{}:{suffix}", self.queue.name().root())
    }

    /// Makes a lease look expired, as time would.
    pub async fn expire(&self, id: &str) {
        self.poke(&["ZADD", &self.key("r"), "1", id]).await;
    }

    /// Forgets that the server was ever silent, so that sweeps do expire.
    pub async fn calm(&self) {
        self.poke(&["HSET", &self.key("m"), "o", "0"]).await;
    }

    /// Waits until the server's clock shows another millisecond.
    pub async fn tick(&self) {
        let now = || async { self.queue.stats().await.unwrap().now_ms };
        let before = now().await;
        while now().await == before {}
    }

    /// A job that died of a permanent error; its id.
    pub async fn dead(&self, job: NewJob) -> String {
        let worker = worker("w-dead");
        let job = self.running(&worker, job).await;
        assert_eq!(self.settle(&worker, &job, dead("broken")).await, Settled::Done);
        job.id
    }
}

pub fn policy() -> QueuePolicy {
    let types = [("mail", "fast"), ("reset", "fast"), ("limited", "fast"), ("report", "slow")];
    let mut job_types: BTreeMap<String, JobTypePolicy> =
        types.iter().map(|(name, lane)| ((*name).to_owned(), job_type(lane))).collect();
    job_types.get_mut("reset").unwrap().priority = 1;
    job_types.get_mut("limited").unwrap().per_worker = Some(2);
    QueuePolicy {
        queue: "apps/saas".into(),
        source: Source { owner: "kubernetes:a".into(), uid: "u1".into(), created_ms: 1_000, generation: 1 },
        paused: false,
        closed: None,
        max_payload: 256 * 1024,
        capacity: None,
        lease_ms: LEASE_MS,
        lanes: vec![LanePolicy::new("fast", 10_000), LanePolicy::new("slow", 10_000)],
        job_types,
    }
}

pub fn job_type(lane: &str) -> JobTypePolicy {
    JobTypePolicy {
        timeout_ms: 10_000,
        retry: RetryPolicy { limit: 3, backoff: Backoff::Schedule(vec![1_000]), jitter: Jitter::None },
        ..JobTypePolicy::new(lane, Handler::Exec(ExecHandler::of(&["/bin/true"])))
    }
}

pub fn job(job_type: &str, payload: impl AsRef<[u8]>) -> NewJob {
    NewJob {
        payload: payload.as_ref().to_vec(),
        options: EnqueueOptions { job_type: job_type.into(), ..Default::default() },
    }
}

pub fn with(mut job: NewJob, change: impl FnOnce(&mut EnqueueOptions)) -> NewJob {
    change(&mut job.options);
    job
}

pub fn worker(name: &str) -> WorkerIdentity {
    WorkerIdentity {
        name: name.into(),
        boot: format!("boot-{name}"),
        pool: "pool".into(),
        node: "node".into(),
    }
}

pub fn info(worker: &WorkerIdentity) -> WorkerInfo {
    WorkerInfo {
        identity: worker.clone(),
        lanes: vec!["fast".into()],
        slots: 10,
        busy: 1,
        draining: false,
        seen_ms: 0,
        started_ms: 0,
    }
}

pub fn want(lanes: &[&str], slots: u32) -> ClaimRequest {
    ClaimRequest { slots, lanes: lanes.iter().map(ToString::to_string).collect(), ..ClaimRequest::default() }
}

pub fn settlement(job: &Claimed, outcome: Outcome) -> Settlement {
    Settlement {
        id: job.id.clone(),
        token: job.token,
        outcome,
        policy_version: 7,
        key: job.key.clone(),
        note: None,
    }
}

pub fn success() -> Outcome {
    Outcome::Success { result: b"{\"ok\":true}".to_vec(), follow_ups: vec![] }
}

pub fn error(message: &str) -> AttemptError {
    AttemptError { class: ErrorClass::Transient, code: "Test".into(), message: message.into() }
}

pub fn retry(delay_ms: u64) -> Outcome {
    Outcome::Retry { delay_ms, spends: Spends::Try, error: error("again") }
}

pub fn dead(message: &str) -> Outcome {
    Outcome::Dead {
        reason: lanekeeper_queue::types::DeadReason::PermanentError,
        error: error(message),
        spends: Spends::Try,
    }
}

pub fn ids(jobs: &[Claimed]) -> Vec<&str> {
    jobs.iter().map(|job| job.id.as_str()).collect()
}

/// The payloads of jobs.
pub fn sent(jobs: &[Claimed]) -> Vec<String> {
    jobs.iter().map(|job| String::from_utf8_lossy(&job.payload).into_owned()).collect()
}

/// What a result is not: for asserts on errors.
pub fn refusal<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.expect_err("refused").to_string()
}

/// A call of a function with arguments that may be any bytes.
pub async fn fcall<T: redis::FromRedisValue>(
    bed: &Bed,
    function: &str,
    arguments: &[&[u8]],
) -> redis::RedisResult<T> {
    let mut call = redis::cmd("FCALL");
    call.arg(function).arg(1).arg(bed.queue.name().root()).arg(arguments);
    call.query_async(&mut bed.queue.connection()).await
}

/// A worker's identity as it goes into calls.
pub fn identity(worker: &WorkerIdentity) -> Vec<u8> {
    rmp_serde::to_vec(&(&worker.boot, &worker.name, &worker.pool, &worker.node)).unwrap()
}

/// The library as a program of another version has it.
pub fn under_number(version: i64) -> String {
    let number = |version: i64| format!("LIBRARY_FINGERPRINT = {version}, '");
    let mine = number(lanekeeper_queue::LIBRARY_VERSION);
    assert!(lanekeeper_queue::library_source().contains(&mine));
    lanekeeper_queue::library_source().replacen(&mine, &number(version), 1)
}
