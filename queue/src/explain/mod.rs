//! `explain`: the one source of "why is it stuck?", for the CLI, conditions, alerts and the dashboard.
//!
//! Pure: views of job, queue and pools in, one cause with words out. Whoever calls gathers the views and says in
//! [`Scene::pools`] whether it could see pools at all, so that "no pool" is never said out of ignorance.

mod gates;
mod job;
mod lane;
mod orphans;
mod per_worker;
mod pool;
mod slots;
#[cfg(test)]
mod tests;
mod words;

use serde::{Deserialize, Serialize};

use crate::types::{Stats, TypeStats, WorkerInfo};
use lanekeeper_api::policy::QueuePolicy;

pub use job::{Place, job};
pub use lane::lane;
pub use orphans::orphans;
pub use pool::pool;
pub use words::duration;

/// Why something is as it is. Names are stable: programs match them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cause {
    /// No record of this id, or no such lane or pool.
    Unknown,
    /// Its job type is not in the policy (any more).
    UnknownType,
    /// Enqueued for later.
    NotDue,
    /// Waits for its next try.
    RetryScheduled,
    /// A handler asked to hold it (`Retry-After`).
    Held,
    /// The queue or the lane is paused.
    Paused,
    /// The queue is closed to workers.
    Closed,
    /// What the lane's jobs depend on asked for patience for all of them (`Retry-After`).
    LaneHeld,
    /// Too many failures in a row: the lane waits for a probe.
    CircuitOpen,
    /// As many jobs of the lane run as may.
    LaneAtConcurrency,
    /// The lane's rate is spent for now.
    LaneRateSpent,
    /// As many jobs of its concurrency key run as may.
    KeyAtLimit,
    /// What its concurrency key depends on asked for patience (`Retry-After`).
    KeyHeld,
    /// The rate of its concurrency key is spent for now.
    KeyRateSpent,
    /// As many jobs of its type run as `perWorker` lets its workers run.
    TypeAtPerWorker,
    /// No pool serves its lane.
    NoPool,
    /// Its pools have no replicas and none is wanted.
    PoolAtZero,
    /// Its pools are starting.
    PoolStarting,
    /// Pods of its pools find no node.
    PodsUnschedulable,
    /// Pods of its pools do not come up.
    PodsFailing,
    /// Its pools are at their maximum and every slot is busy.
    PoolAtMax,
    /// Every slot is busy and more replicas may still come.
    SlotsBusy,
    /// No live worker takes its lane.
    NoWorker,
    /// Others stand before it.
    BehindOthers,
    /// First in line: a worker takes it any moment.
    Next,
    /// A worker runs it.
    Leased,
    /// A worker runs it, or did: its lease has run out.
    LeaseExpired,
    /// In the dead letters.
    Dead,
    /// Done.
    Succeeded,
    /// Called off.
    Cancelled,
    /// Nothing waits.
    Idle,
    /// Work flows.
    Working,
    /// Jobs of the lane wait although its workers have free slots: bounds of their own hold them.
    JobsHeld,
    /// Jobs wait longer than the lane promises.
    Late,
}

/// A cause in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The one cause that matters now.
    pub cause: Cause,
    /// What it is about: a job id, lane or pool.
    pub subject: String,
    /// What is the case, in one or two sentences.
    pub sentence: String,
    /// What to do about it, where anything is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// More of the same that is true as well, such as failing pods beside a full pool.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
}

/// What a question is answered from: one queue at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The stored policy.
    pub policy: &'a QueuePolicy,
    /// Figures; their time is "now".
    pub stats: &'a Stats,
    /// The queue's pools; none where only Redis is at hand and pools cannot be seen.
    pub pools: Option<&'a [PoolView]>,
}

/// A WorkerPool as the platform shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolView {
    /// Name.
    pub name: String,
    /// Lanes it serves, in order.
    pub lanes: Vec<String>,
    /// Replicas the scaler wants.
    pub desired: u32,
    /// Replicas there are.
    pub replicas: u32,
    /// Replicas that are ready.
    pub ready: u32,
    /// `maxReplicas`, or `replicas` where scaling is manual.
    pub max: u32,
    /// Why the scaler wants what it wants.
    pub reason: String,
    /// Pods that have a problem; healthy ones may be left out.
    pub pods: Vec<PodView>,
}

/// A pod, or worker process, of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodView {
    /// Name.
    pub name: String,
    /// What keeps it from working, if anything.
    pub problem: Option<PodProblem>,
    /// The platform's own words.
    pub message: String,
}

/// What keeps a pod from working.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodProblem {
    /// No node takes it.
    Unschedulable,
    /// Its image cannot be pulled.
    ImagePull,
    /// It starts and ends again and again.
    CrashLoop,
    /// It cannot be made: a Secret, a volume or a right is missing.
    Config,
    /// Anything else.
    Other,
}

impl Explanation {
    fn new(cause: Cause, subject: &str, sentence: impl Into<String>) -> Self {
        Self { cause, subject: subject.to_owned(), sentence: sentence.into(), advice: None, also: Vec::new() }
    }

    fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

impl<'a> Scene<'a> {
    fn pools_of(&self, lane: &str) -> Option<Vec<&'a PoolView>> {
        Some(self.pools?.iter().filter(|pool| pool.lanes.iter().any(|served| served == lane)).collect())
    }

    fn workers_of(&self, lane: &str) -> Vec<&'a WorkerInfo> {
        self.stats.workers.iter().filter(|worker| worker.lanes.iter().any(|taken| taken == lane)).collect()
    }

    fn types_in(&self, lane: &str) -> impl Iterator<Item = &'a TypeStats> {
        let lane = lane.to_owned();
        self.stats.lanes.iter().filter(move |stats| stats.name == lane).flat_map(|stats| &stats.types)
    }
}
