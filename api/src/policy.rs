//! The resolved policy: what a `JobQueue` means once defaults, lane and job type have been merged.
//!
//! This is the JSON document that lands in Redis and that workers, the Lua library and `explain` read.
//! Every duration is in milliseconds, every size in bytes. Readers ignore fields they do not know, so a
//! newer operator may add some.

mod endings;
mod gates;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use endings::{DeadLetters, Debounce, OnConflict, OnDead};
pub use gates::{Circuit, ConcurrencyKey, LimitBy, OnThrottle, RateLimit};

/// Longest hold where the handler names none, ms.
pub const DEFAULT_MAX_HOLD_MS: u64 = 900_000;

/// The policy of one queue, complete and free of defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueuePolicy {
    /// `namespace/name`.
    pub queue: String,
    /// Who manages the policy.
    pub source: Source,
    /// A paused queue accepts jobs and starts none.
    pub paused: bool,
    /// Why workers must start nothing although nobody paused the queue (`RedisUnsafe`), if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// Largest payload accepted, in bytes.
    pub max_payload: u64,
    /// How much the queue holds before it refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// How long a lease lasts without renewal.
    pub lease_ms: u64,
    /// Lanes in declared order.
    pub lanes: Vec<LanePolicy>,
    /// Job types by name.
    pub job_types: BTreeMap<String, JobTypePolicy>,
}

/// How much a queue holds before it refuses new jobs. Both bounds count every job whose record stands: waiting, running, dead
/// and completed; completed ones make way before anything is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Most jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u64>,
    /// Most bytes of their records, as estimated from what comes and from samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Which manifest a policy came from; decides whether a write is newer, older or foreign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Stable identity of the writer: `kubernetes:<uid of kube-system>` or `cli`.
    pub owner: String,
    /// Identity of the object within the owner: the JobQueue's uid, or `local`.
    pub uid: String,
    /// When that object was created, ms since the epoch: a recreated object supersedes the older one.
    pub created_ms: u64,
    /// `metadata.generation` of the object.
    pub generation: i64,
}

/// One lane: a class of jobs with one latency promise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LanePolicy {
    /// Name, unique in the queue.
    pub name: String,
    /// The promise: the oldest due job starts within this.
    pub start_within_ms: u64,
    /// Its jobs go before those of other lanes, and every worker that serves it keeps a slot free of other work.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub critical: bool,
    /// Most jobs of the lane running at once, over all workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How fast its jobs may start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// When it stops by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit: Option<Circuit>,
}

/// One job type with every policy field resolved (job type over lane over defaults).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobTypePolicy {
    /// The lane its jobs stand in.
    pub lane: String,
    /// The team to ask, as declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// 0..=9, lower first.
    pub priority: u8,
    /// Idempotency key template, parsed; absent: no key unless the caller passes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Vec<KeyPart>>,
    /// How long after success the key still answers `duplicate`.
    pub key_for_ms: u64,
    /// What becomes of a job whose idempotency key has an owner already.
    #[serde(default, skip_serializing_if = "OnConflict::is_existing")]
    pub on_conflict: OnConflict,
    /// Jobs of one key that come close together become one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debounce: Option<Debounce>,
    /// The job that a death brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_dead: Option<OnDead>,
    /// Bounds for all jobs that share a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<ConcurrencyKey>,
    /// Most running at once in one worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_worker: Option<u32>,
    /// Longest one attempt may run.
    pub timeout_ms: u64,
    /// When a failed attempt is tried again.
    pub retry: RetryPolicy,
    /// Age, since the job first became due, after which no further attempt is scheduled, whatever the tries.
    pub give_up_after_ms: u64,
    /// Attempts that may be lost to crashes of the worker before the job is dead.
    pub crash_budget: u32,
    /// How long finished jobs stay readable.
    pub completed: Retention,
    /// What becomes of its dead letters.
    #[serde(default, skip_serializing_if = "DeadLetters::is_default")]
    pub dead: DeadLetters,
    /// What runs the job.
    pub handler: Handler,
}

/// A piece of an idempotency key template such as `email:{user.id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyPart {
    /// Literal text.
    Text(String),
    /// A path into the JSON payload, split at the dots.
    Path(Vec<String>),
}

/// Retries after the first try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// Tries after the first.
    pub limit: u32,
    /// Time between tries, before jitter.
    pub backoff: Backoff,
    /// How the delay is spread.
    pub jitter: Jitter,
}

/// Time between tries, before jitter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Backoff {
    /// `min(first * factor^n, max)` before retry `n` (counted from 0).
    #[serde(rename_all = "camelCase")]
    Exponential {
        /// Delay before the first retry.
        first_ms: u64,
        /// Growth per retry, at least 1.
        factor: f64,
        /// Upper bound.
        max_ms: u64,
    },
    /// One delay per retry; beyond the list the last repeats.
    Schedule(Vec<u64>),
}

/// How a delay is spread so that jobs that failed together do not return together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Jitter {
    /// The delay as it is.
    None,
    /// Uniform in `0..=delay`.
    Full,
    /// Uniform in `delay * (1 ± percent/100)`; 1..=100.
    Percent(u8),
}

/// How long finished jobs stay readable: whichever bound is met first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Most records kept per job type.
    pub keep: u64,
    /// Longest time a record is kept.
    pub for_ms: u64,
}

/// What runs a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Handler {
    /// POST to a URL.
    Http(HttpHandler),
    /// Start a program.
    Exec(ExecHandler),
}

/// POST the payload to a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpHandler {
    /// `http://` or `https://`.
    pub url: String,
    /// Extra request headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Secret for Standard Webhooks signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<SecretKey>,
    /// What a `Retry-After` holds back.
    #[serde(default, skip_serializing_if = "OnThrottle::is_job")]
    pub on_throttle: OnThrottle,
    /// Longest a `Retry-After` may hold anything.
    #[serde(default = "default_max_hold", skip_serializing_if = "is_default_max_hold")]
    pub max_hold_ms: u64,
}

fn default_max_hold() -> u64 {
    DEFAULT_MAX_HOLD_MS
}

fn is_default_max_hold(ms: &u64) -> bool {
    *ms == DEFAULT_MAX_HOLD_MS
}

/// A key of a Secret in the queue's namespace; workers read it from `<secrets dir>/<name>/<key>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// Name of the Secret.
    pub name: String,
    /// Key within it.
    pub key: String,
}

/// Start a program without a shell, payload on standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecHandler {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment added to `LANEKEEPER_*`; nothing else is inherited but `PATH`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Exit codes that mean a permanent failure, besides 65.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permanent_exit_codes: Vec<i32>,
}

impl LanePolicy {
    /// A lane without gates.
    #[must_use]
    pub fn new(name: impl Into<String>, start_within_ms: u64) -> Self {
        Self { name: name.into(), start_within_ms, ..Self::default() }
    }
}

impl JobTypePolicy {
    /// A job type of which a manifest says nothing but its lane and its handler.
    #[must_use]
    pub fn new(lane: impl Into<String>, handler: Handler) -> Self {
        const DAY_MS: u64 = 86_400_000;
        Self {
            lane: lane.into(),
            owner: None,
            priority: 5,
            key: None,
            key_for_ms: DAY_MS,
            on_conflict: OnConflict::default(),
            debounce: None,
            on_dead: None,
            concurrency_key: None,
            per_worker: None,
            timeout_ms: 300_000,
            retry: RetryPolicy {
                limit: 10,
                backoff: Backoff::Exponential { first_ms: 5_000, factor: 2.0, max_ms: 3_600_000 },
                jitter: Jitter::Full,
            },
            give_up_after_ms: 7 * DAY_MS,
            crash_budget: 3,
            completed: Retention { keep: 1_000, for_ms: DAY_MS },
            dead: DeadLetters::default(),
            handler,
        }
    }
}

impl ExecHandler {
    /// A program with nothing else set.
    #[must_use]
    pub fn of(command: &[&str]) -> Self {
        Self {
            command: command.iter().map(|&part| part.to_owned()).collect(),
            env: BTreeMap::new(),
            permanent_exit_codes: Vec::new(),
        }
    }
}

impl HttpHandler {
    /// A handler of a URL with nothing else set.
    #[must_use]
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            headers: BTreeMap::new(),
            signing: None,
            on_throttle: OnThrottle::Job,
            max_hold_ms: DEFAULT_MAX_HOLD_MS,
        }
    }
}

impl QueuePolicy {
    /// The lane of that name.
    #[must_use]
    pub fn lane(&self, name: &str) -> Option<&LanePolicy> {
        self.lanes.iter().find(|lane| lane.name == name)
    }

    /// The job types of a lane, by name.
    pub fn types_in<'a>(&'a self, lane: &'a str) -> impl Iterator<Item = (&'a str, &'a JobTypePolicy)> {
        self.job_types.iter().filter(move |(_, t)| t.lane == lane).map(|(name, t)| (name.as_str(), t))
    }
}
