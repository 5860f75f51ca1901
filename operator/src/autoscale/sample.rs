//! What a decision reads: the pool's scaling policy and one sample of its queue and its workers.

/// How a pool may be scaled, resolved from its `WorkerPool` and its queue's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePolicy {
    /// Who decides.
    pub mode: Mode,
    /// Fewest replicas.
    pub min: u32,
    /// Most replicas.
    pub max: u32,
    /// Slots in one worker.
    pub slots: u32,
    /// Age the oldest due job should not reach.
    pub oldest_age_ms: u64,
    /// Due jobs that one replica should answer for, if the pool says so.
    pub depth_per_replica: Option<u32>,
    /// Quiet time before the last replica goes.
    pub idle_after_ms: u64,
}

/// Who decides on replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The autoscaler.
    Auto,
    /// A person: this many.
    Manual(u32),
}

/// One look at a pool's queue and workers.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What waits and runs; `None` when Redis could not be read. Never an empty load in its place:
    /// a source that failed must not look like a queue that is empty.
    pub load: Option<Load>,
    /// Workers asked for.
    pub replicas: u32,
    /// Workers that can take jobs.
    pub ready: u32,
    /// Workers of the pool that run at least one job.
    pub busy: u32,
    /// How long a new worker takes to its first claim.
    pub startup_ms: u64,
}

/// What waits and runs in a pool's lanes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Load {
    /// Why no waiting job may start (paused, closed), if so.
    pub held: Option<Held>,
    /// By job type.
    pub types: Vec<TypeLoad>,
}

/// Why a whole queue starts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Its policy pauses it.
    Paused,
    /// Its Redis is not safe, or its policy cannot be used.
    Closed,
}

/// Figures of one job type.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TypeLoad {
    /// Job type.
    pub name: String,
    /// Due and waiting.
    pub due: u64,
    /// Age of the oldest due job.
    pub oldest_age_ms: u64,
    /// Jobs known to become due before a worker started now could claim.
    pub soon: u64,
    /// Running in this pool.
    pub running: u64,
    /// Its lane is held back (paused, `Retry-After`, open circuit): its due jobs need no workers, whatever its rate.
    pub held: bool,
    /// Most that one worker runs at once.
    pub per_worker: Option<u32>,
    /// Jobs that became due so far: waiting, running and ended ones. Rises with every arrival, whether it was
    /// enqueued, scheduled or retried; cancelling lowers it.
    pub arrived_total: u64,
    /// Attempts ended so far (monotonic).
    pub ended_total: u64,
    /// Their durations, summed (monotonic).
    pub busy_ms_total: u64,
}
