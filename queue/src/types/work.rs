//! The worker's side: claims, heartbeats, sweeps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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

/// Which of the lanes of a claim goes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClaimOrder {
    /// As listed.
    #[default]
    Listed,
    /// Critical lanes as listed, then the lane whose next job has the least time left of what the lane promises, or is
    /// furthest beyond it.
    Deadline,
}

/// Ask for jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Most jobs to hand out.
    pub slots: u32,
    /// Lanes to take from; see `order`.
    pub lanes: Vec<String>,
    /// Which of the lanes goes first.
    pub order: ClaimOrder,
    /// Most jobs of each lane in the first pass over them, in the order of `lanes`; what is left of `slots` is then given
    /// out in the listed order without these bounds. Empty: no such bound.
    pub shares: Vec<u32>,
    /// Most jobs of a type this worker can still take (`perWorker` less those running); absent: no bound.
    pub type_limits: BTreeMap<String, u32>,
    /// What is to become of the room that is left; absent: nothing.
    pub offer: Option<Offer>,
}

/// What a claim says of jobs that come after it. A worker that offers the room it has left, and has subscribed to its calls
/// (`crate::hear`), is handed such jobs by the call that enqueues them, as if it had claimed at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Whether room is offered; otherwise an earlier offer ends.
    pub stands: bool,
    /// Which of this worker's subscriptions it is; the count of what was heard begins anew with each.
    pub epoch: u64,
    /// How many jobs of this epoch were heard of. What was handed out unheard takes up slots of the claim.
    pub heard: u64,
}

/// Jobs that were handed to a worker on its offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedOver {
    /// The epoch of the offer.
    pub epoch: u64,
    /// What a claim would have been answered.
    pub claim: ClaimReply,
    /// How many jobs that were, those with unreadable records among them.
    pub count: usize,
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
    /// Server time of the enqueue, of the due time asked for with it, or of the last replay, ms: from here `giveUpAfter`
    /// counts.
    pub enqueued_ms: u64,
    /// Server time at which it became due, ms.
    pub due_ms: u64,
    /// Server time of the claim, ms.
    pub claimed_ms: u64,
    /// Idempotency key, if any.
    pub key: Option<String>,
    /// Strings given at enqueue.
    pub meta: BTreeMap<String, String>,
    /// What an earlier attempt left for this one. None of a job that a sweep took over.
    pub checkpoint: Option<Vec<u8>>,
}

impl Claimed {
    /// Whether an attempt ended before this one, since the enqueue or the last replay: failed, put off or lost. One that was
    /// handed back does not count. Tries and crashes tell of the first and the last; a job that was put off, and nothing
    /// else, is due later than it came.
    #[must_use]
    pub fn is_further_try(&self) -> bool {
        self.tries > 0 || self.crashes > 0 || self.due_ms > self.enqueued_ms
    }
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
    /// Whether the lanes asked may have more: without that there is nothing to claim before a wake token or `next_due_ms`.
    pub waits: bool,
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
    /// Of a worker that offered room: the epoch of its offer, and how many jobs were handed to it in that.
    pub handed: Option<(u64, u64)>,
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
