//! What goes in and out of a queue.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// State of a job as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Not due yet: delayed, or waiting for a retry.
    Scheduled,
    /// Due; some worker may start it.
    Ready,
    /// A worker holds a lease.
    Running,
    /// Done.
    Succeeded,
    /// Will not be tried again until a person or a replay says so.
    Dead,
    /// Called off before it finished.
    Cancelled,
}

impl JobState {
    /// The name as stored and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Scheduled, Self::Ready, Self::Running, Self::Succeeded, Self::Dead, Self::Cancelled]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// One job to enqueue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewJob {
    /// Opaque bytes, returned byte-identical to the handler.
    pub payload: Vec<u8>,
    /// The options, serialised to JSON for `lk_enqueue`.
    pub options: EnqueueOptions,
}

/// Options of `lk_enqueue`, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnqueueOptions {
    /// Job type.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Caller's id: used again it answers `duplicate` while that job's record stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Idempotency key, instead of the one rendered from the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// 0..=9, lower first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Start no earlier than this many ms from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<u64>,
    /// Start no earlier than this, ms since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<u64>,
    /// Strings carried to the handler; `traceparent` is one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
}

/// What became of one enqueue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub enum Enqueued {
    /// Accepted and due, or accepted for later (`state` = scheduled).
    #[serde(rename_all = "camelCase")]
    Accepted {
        /// Its id.
        id: String,
        /// `ready` or `scheduled`.
        state: JobState,
    },
    /// The key or id is taken; nothing was stored.
    #[serde(rename_all = "camelCase")]
    Duplicate {
        /// The owner's id.
        id: String,
        /// The owner's state.
        state: JobState,
    },
    /// Refused; nothing was stored.
    #[serde(rename_all = "camelCase")]
    Rejected {
        /// `unknown-type`, `payload-too-large`, `invalid-options`, `key-field`, `queue-full`, `closed`, …
        reason: String,
        /// One sentence for people.
        message: String,
    },
}

/// Who is working; sent with every claim and heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerIdentity {
    /// Unique among live workers: the pod's or process's name.
    pub name: String,
    /// Random per process start; settling matches it.
    pub boot: String,
    /// WorkerPool it belongs to, empty when run by hand.
    pub pool: String,
    /// Node or host.
    pub node: String,
}

/// A worker as its last heartbeat showed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerInfo {
    /// Who.
    pub identity: WorkerIdentity,
    /// Lanes it takes from, in order.
    pub lanes: Vec<String>,
    /// Slots in all.
    pub slots: u32,
    /// Slots in use.
    pub busy: u32,
    /// It takes no more jobs.
    pub draining: bool,
    /// Server time of the last heartbeat, ms.
    pub seen_ms: u64,
    /// Server time of the first heartbeat of this boot, ms.
    pub started_ms: u64,
}

/// Ask for jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Most jobs to hand out.
    pub slots: u32,
    /// Lanes in strict order.
    pub lanes: Vec<String>,
    /// Most jobs of a type this worker can still take (`perWorker` less those running); absent: no bound.
    pub type_limits: BTreeMap<String, u32>,
}

/// One leased job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Job id.
    pub id: String,
    /// Fencing token of this lease.
    pub token: u64,
    /// Job type.
    pub job_type: String,
    /// Lane it came from.
    pub lane: String,
    /// Byte-identical to what was enqueued.
    pub payload: Vec<u8>,
    /// 1 for the first attempt; counts every start, spent or not.
    pub attempt: u32,
    /// Tries already spent by failures.
    pub tries: u32,
    /// Attempts already lost to crashes.
    pub crashes: u32,
    /// Server time of the enqueue, or of the last replay, ms: from here `giveUpAfter` counts.
    pub enqueued_ms: u64,
    /// Server time at which it became due, ms.
    pub due_ms: u64,
    /// Server time of the claim, ms.
    pub claimed_ms: u64,
    /// Idempotency key, if any.
    pub key: Option<String>,
    /// Strings given at enqueue.
    pub meta: BTreeMap<String, String>,
}

/// Answer to a claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimReply {
    /// Server time, ms.
    pub now_ms: u64,
    /// Policy version the claim ran under; a worker that has another reloads.
    pub policy_version: u64,
    /// Leased jobs, in the order they should start.
    pub jobs: Vec<Claimed>,
    /// When the next scheduled job of the queue becomes due, server time ms; only when jobs are fewer than slots.
    pub next_due_ms: Option<u64>,
    /// Why nothing is handed out although jobs may wait: `paused` or `closed`.
    pub held: Option<String>,
}

/// A worker's word on an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    /// Job id.
    pub id: String,
    /// Lease token.
    pub token: u64,
    /// How it ends.
    pub outcome: Outcome,
    /// Policy version that decided.
    pub policy_version: u64,
}

/// How an attempt ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done; the answer is kept with the record.
    Success {
        /// Handler's answer, at most 64 KiB.
        result: Vec<u8>,
    },
    /// Failed, to be tried again after `delay_ms`.
    Retry {
        /// From now, ms.
        delay_ms: u64,
        /// What it costs.
        spends: Spends,
        /// What went wrong.
        error: AttemptError,
    },
    /// Failed for good: to the dead letters.
    Dead {
        /// Which bound or verdict ended it.
        reason: DeadReason,
        /// What went wrong last.
        error: AttemptError,
        /// What the last attempt cost.
        spends: Spends,
    },
    /// Handed back unfinished (drain, unknown type, a cancellation); ready at once in its old place, costs nothing.
    Release {
        /// Why, for the history.
        why: String,
    },
    /// Held for a while (`Retry-After`); costs nothing.
    Snooze {
        /// From now, ms.
        delay_ms: u64,
        /// Why, for the history.
        why: String,
    },
}

/// What an attempt costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spends {
    /// One of the tries.
    Try,
    /// One of the crash budget.
    Crash,
    /// Neither.
    Nothing,
}

/// What went wrong in an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptError {
    /// Class of the failure.
    pub class: ErrorClass,
    /// A named constant: `HttpStatus`, `Timeout`, `ExitCode`, `LeaseExpired`, …
    pub code: String,
    /// One or more sentences, at most 64 KiB.
    pub message: String,
}

/// Class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorClass {
    /// Worth another try.
    Transient,
    /// Another try cannot help.
    Permanent,
    /// The work may or may not have happened (time-out after sending, crash).
    Ambiguous,
}

impl ErrorClass {
    /// The name as stored and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// Which bound or verdict ended a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeadReason {
    /// The handler said so.
    PermanentError,
    /// No try is left.
    TriesExhausted,
    /// Too many attempts were lost to crashes.
    CrashBudgetExhausted,
    /// `giveUpAfter` has passed, or would have before the next try.
    GaveUp,
}

impl DeadReason {
    /// The name as stored and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PermanentError => "PermanentError",
            Self::TriesExhausted => "TriesExhausted",
            Self::CrashBudgetExhausted => "CrashBudgetExhausted",
            Self::GaveUp => "GaveUp",
        }
    }

    /// The reason of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::PermanentError, Self::TriesExhausted, Self::CrashBudgetExhausted, Self::GaveUp]
            .into_iter()
            .find(|reason| reason.name() == name)
    }
}

/// Result of one settlement, in request order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Recorded.
    Done,
    /// The lease is another's or gone; nothing changed.
    Stale,
}

/// A lease to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Job id.
    pub id: String,
    /// Lease token.
    pub token: u64,
}

/// Answer to a heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// Server time, ms.
    pub now_ms: u64,
    /// Policy version in Redis.
    pub policy_version: u64,
    /// Leases that are no longer this worker's: stop these handlers.
    pub lost: Vec<String>,
    /// Jobs whose cancellation was asked for: stop these handlers and settle with `Release`, which is recorded as
    /// `cancel` and ends the job; a success that came first still counts.
    pub cancelled: Vec<String>,
}

/// A lease that expired, taken over by the sweeper, who decides and settles under `token`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The job, with the takeover token.
    pub job: Claimed,
    /// The worker that lost it.
    pub lost_by: WorkerIdentity,
}

/// Answer to a sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SweepReply {
    /// Server time, ms.
    pub now_ms: u64,
    /// Policy version in Redis.
    pub policy_version: u64,
    /// Leases taken over; settle each.
    pub expired: Vec<Expired>,
    /// Leases re-armed because an outage, not their workers, let them lapse.
    pub rearmed: u64,
    /// Scheduled jobs that became ready in this call.
    pub promoted: u64,
    /// Finished records removed by retention.
    pub trimmed: u64,
    /// More of the same is waiting: call again.
    pub more: bool,
}

/// Answer to `configure`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub enum Configured {
    /// Written.
    #[serde(rename_all = "camelCase")]
    Applied {
        /// The new policy version.
        version: u64,
    },
    /// The same was there.
    #[serde(rename_all = "camelCase")]
    Unchanged {
        /// The policy version.
        version: u64,
    },
    /// A newer one was there; nothing was written.
    #[serde(rename_all = "camelCase")]
    Stale {
        /// Generation that is there.
        generation: i64,
    },
    /// Someone else manages this queue; nothing was written. `lanekeeper adopt` takes it over.
    #[serde(rename_all = "camelCase")]
    Foreign {
        /// That owner.
        owner: String,
    },
}

/// One finished or interrupted attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// Start, server time ms.
    pub started_ms: u64,
    /// End, server time ms.
    pub ended_ms: u64,
    /// Worker's name.
    pub worker: String,
    /// Node or host.
    pub node: String,
    /// Lease token.
    pub token: u64,
    /// Policy version that decided the outcome.
    pub policy_version: u64,
    /// `success`, `retry`, `dead`, `release`, `snooze`, `cancel`; `replay` marks that a person (`worker`) replayed the dead
    /// job, which is no attempt and does not count as one.
    pub outcome: String,
    /// What went wrong, or why it was handed back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<AttemptError>,
}

/// A job as `lk_get` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Id.
    pub id: String,
    /// Job type.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Lane by the present policy; absent when the type is no longer in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// State.
    pub state: JobState,
    /// 0..=9.
    pub priority: u8,
    /// Enqueued, server time ms.
    pub enqueued_ms: u64,
    /// Due since or due at, server time ms.
    pub due_ms: u64,
    /// End, server time ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_ms: Option<u64>,
    /// Tries spent.
    pub tries: u32,
    /// Attempts lost to crashes.
    pub crashes: u32,
    /// Starts in all.
    pub attempts: u32,
    /// Idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Strings given at enqueue.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// Present lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// Why it is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_reason: Option<DeadReason>,
    /// Finished attempts, oldest first; the middle of a very long history is dropped and counted.
    pub history: Vec<Attempt>,
    /// How many attempts the history left out.
    #[serde(default)]
    pub history_dropped: u32,
    /// Size of the payload in bytes.
    pub payload_bytes: u64,
    /// The handler's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The payload; `lk_get` returns it only when asked.
    #[serde(skip)]
    pub payload: Option<Vec<u8>>,
}

/// A lease as seen from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// Worker's name.
    pub worker: String,
    /// Its pool.
    pub pool: String,
    /// Its node.
    pub node: String,
    /// Fencing token.
    pub token: u64,
    /// Start of the attempt, server time ms.
    pub since_ms: u64,
    /// Expiry, server time ms.
    pub expires_ms: u64,
}

/// Figures of one queue at one moment. Rates come from the monotonic counters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Server time, ms.
    pub now_ms: u64,
    /// Policy version.
    pub policy_version: u64,
    /// Paused by the policy.
    pub paused: bool,
    /// Why workers start nothing although nobody paused the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// Dead letters in all.
    pub dead: u64,
    /// When the next scheduled job becomes due, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due_ms: Option<u64>,
    /// By lane, in policy order; types that no lane claims stand under the lane `""`.
    pub lanes: Vec<LaneStats>,
    /// Index entries met so far whose record was missing or damaged; they were dropped.
    #[serde(default)]
    pub damaged: u64,
    /// Live workers (heartbeat within three leases).
    pub workers: Vec<WorkerInfo>,
}

/// Figures of one lane.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneStats {
    /// Lane.
    pub name: String,
    /// By job type.
    pub types: Vec<TypeStats>,
}

/// Figures of one job type. Counters only rise while the queue exists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TypeStats {
    /// Job type.
    pub name: String,
    /// Due and waiting (due scheduled jobs included even if not yet promoted).
    pub ready: u64,
    /// Not due yet.
    pub scheduled: u64,
    /// Leased.
    pub running: u64,
    /// Dead letters.
    pub dead: u64,
    /// When the oldest due job became due, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_due_ms: Option<u64>,
    /// When its next scheduled job becomes due, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due_ms: Option<u64>,
    /// Jobs accepted.
    pub enqueued_total: u64,
    /// Jobs succeeded.
    pub succeeded_total: u64,
    /// Attempts that failed (retry or dead).
    pub failed_total: u64,
    /// Jobs that died.
    pub died_total: u64,
    /// Jobs cancelled.
    pub cancelled_total: u64,
    /// Attempts ended, however.
    pub attempts_total: u64,
    /// Sum of the durations of ended attempts, ms.
    pub busy_ms_total: u64,
}

/// Page of a dead-letter list or a find.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// Jobs, payloads left out.
    pub jobs: Vec<Job>,
    /// Pass back for the next page.
    pub cursor: Option<String>,
}

/// Which jobs to find.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Find {
    /// By idempotency key.
    pub key: Option<String>,
    /// By state.
    pub state: Option<JobState>,
    /// By job type.
    pub job_type: Option<String>,
    /// Most jobs on the page.
    pub limit: u32,
    /// From an earlier page.
    pub cursor: Option<String>,
}

/// Result of cancel, replay or delete of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Acted {
    /// Job id.
    pub id: String,
    /// `cancelled`, `cancelling` (running: its worker stops it), `replayed`, `deleted`, `not-found`,
    /// `wrong-state`, `key-conflict`.
    pub outcome: String,
    /// State afterwards, or the state that stood in the way.
    pub state: Option<JobState>,
}

/// Where a ready job stands in its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Jobs of the lane that go first.
    pub ahead: u64,
    /// Jobs of the lane that wait in all.
    pub waiting: u64,
}
