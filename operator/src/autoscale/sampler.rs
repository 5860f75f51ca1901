//! From a queue's figures and a pool's workers to a sample: pure.

use lanekeeper_api::policy::QueuePolicy;
use lanekeeper_api::validate::PoolPlan;
use lanekeeper_api::worker_pool::ScalingMode;
use lanekeeper_queue::QueueName;
use lanekeeper_queue::types::{Gate, LaneStats, Stats, WorkerInfo};

use super::sample::{Held, Load, Mode, Sample, ScalePolicy, TypeLoad};
use crate::platform::{Observed, PoolRef};

/// Jobs that become due within this and a worker's start-up are due soon: the decision after the next would
/// be too late for them.
const LOOK_AHEAD_MS: u64 = 5_000;
/// Target age when no lane of the pool is in the policy (yet), ms.
const FALLBACK_AGE_MS: u64 = 30_000;

/// A pool as its loop needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSpec {
    /// Which pool.
    pub pool: PoolRef,
    /// Its queue.
    pub queue: QueueName,
    /// Lanes it takes from.
    pub lanes: Vec<String>,
    /// Who decides.
    pub mode: Mode,
    /// Fewest replicas.
    pub min: u32,
    /// Most replicas.
    pub max: u32,
    /// Slots per worker.
    pub slots: u32,
    /// Age the oldest due job should not reach; absent: half of the tightest promise.
    pub oldest_age_ms: Option<u64>,
    /// Due jobs that one replica should answer for.
    pub depth_per_replica: Option<u32>,
    /// Quiet time before the last replica goes.
    pub idle_after_ms: u64,
}

impl From<&PoolPlan> for PoolSpec {
    fn from(plan: &PoolPlan) -> Self {
        let name = plan.queue.split_once('/').map_or(plan.queue.as_str(), |(_, name)| name);
        Self {
            pool: PoolRef::new(&plan.namespace, &plan.name),
            queue: QueueName::new(&plan.namespace, name),
            lanes: plan.lanes.clone(),
            mode: match plan.scaling.mode {
                ScalingMode::Auto => Mode::Auto,
                ScalingMode::Manual => Mode::Manual(plan.replicas),
            },
            min: plan.scaling.min,
            max: plan.scaling.max,
            slots: plan.concurrency,
            oldest_age_ms: plan.scaling.oldest_age_ms,
            depth_per_replica: plan.scaling.depth_per_replica,
            idle_after_ms: plan.scaling.idle_after_ms,
        }
    }
}

impl PoolSpec {
    /// The scaling policy under a queue's policy, whose promises decide where the pool names no age.
    #[must_use]
    pub fn scale_policy(&self, policy: &QueuePolicy) -> ScalePolicy {
        let tightest = self.lanes.iter().filter_map(|l| policy.lane(l)).map(|l| l.start_within_ms).min();
        let half = tightest.map_or(FALLBACK_AGE_MS, |ms| ms / 2);
        ScalePolicy {
            mode: self.mode,
            min: self.min,
            max: self.max.max(self.min),
            slots: self.slots.max(1),
            oldest_age_ms: self.oldest_age_ms.unwrap_or(half).max(1),
            depth_per_replica: self.depth_per_replica,
            idle_after_ms: self.idle_after_ms,
        }
    }

    fn serves(&self, lane: &str) -> bool {
        self.lanes.iter().any(|l| l == lane)
    }
}

/// The workers of a pool that take jobs, by their heartbeats.
pub fn taking<'a>(stats: &'a Stats, pool: &'a PoolRef) -> impl Iterator<Item = &'a WorkerInfo> {
    stats.workers.iter().filter(move |w| w.identity.pool == pool.name && !w.draining)
}

/// One pool's sample. `pools` are all pools of the queue; `startup_ms` is what has been measured.
#[must_use]
pub fn sample(
    stats: Option<&Stats>,
    spec: &PoolSpec,
    pools: &[PoolSpec],
    policy: &QueuePolicy,
    observed: &Observed,
    startup_ms: u64,
) -> Sample {
    let Some(stats) = stats else {
        return Sample {
            load: None,
            replicas: observed.replicas,
            ready: observed.ready,
            busy: observed.ready,
            startup_ms,
        };
    };
    let load = load(stats, spec, pools, policy, startup_ms);
    let beating = u32::try_from(taking(stats, &spec.pool).count()).unwrap_or(u32::MAX);
    Sample {
        busy: busy(stats, spec, &load),
        load: Some(load),
        replicas: observed.replicas,
        // Ready is who can claim: the platform's word alone comes before the first heartbeat, and a dead
        // worker's last heartbeat outlives it.
        ready: observed.ready.min(beating),
        startup_ms,
    }
}

fn load(stats: &Stats, spec: &PoolSpec, pools: &[PoolSpec], policy: &QueuePolicy, startup_ms: u64) -> Load {
    let held = match (&stats.closed, stats.paused) {
        (Some(_), _) => Some(Held::Closed),
        (None, true) => Some(Held::Paused),
        (None, false) => None,
    };
    let (own, all) = running_share(stats, spec, pools);
    let soon_by = stats.now_ms + startup_ms + LOOK_AHEAD_MS;
    let lanes = stats.lanes.iter().filter(|lane| spec.serves(&lane.name));
    let types = lanes
        .flat_map(|lane| {
            let holds = holds(stats, &lane.name);
            lane.types.iter().map(move |t| (holds, t))
        })
        .map(|(holds, t)| TypeLoad {
            name: t.name.clone(),
            due: t.ready,
            oldest_age_ms: t.oldest_due_ms.map_or(0, |due| stats.now_ms.saturating_sub(due)),
            // How many of them is not counted; one worker is started ahead, the rest follows when they are due.
            soon: u64::from(match holds {
                Holds::Nothing => t.next_due_ms.is_some_and(|due| due <= soon_by),
                Holds::Until(opens) => t.ready > 0 && opens <= soon_by,
                Holds::Open => false,
            }),
            held: holds != Holds::Nothing,
            running: if all == 0 { 0 } else { (t.running * own).div_ceil(all) },
            per_worker: policy.job_types.get(&t.name).and_then(|p| p.per_worker),
            arrived_total: t.ready + t.running + t.attempts_total,
            ended_total: t.attempts_total,
            busy_ms_total: t.busy_ms_total,
        })
        .collect();
    Load { held, types }
}

/// Until when a lane is held back by what more workers do not help against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Nothing,
    Until(u64),
    /// Until a person resumes, or a probe that runs has succeeded.
    Open,
}

/// Gates of concurrency and rate are left out: they only say that enough of the lane runs at this moment.
fn holds(stats: &Stats, lane: &str) -> Holds {
    let closed = stats.gates.iter().filter(|gate| gate.lane.as_deref() == Some(lane));
    let mut held = Holds::Nothing;
    for gate in closed {
        held = match (gate.gate, gate.until_ms, held) {
            (Gate::Concurrency | Gate::Rate, _, held) => held,
            (Gate::Paused, ..) | (_, None, _) | (.., Holds::Open) => Holds::Open,
            (Gate::Hold | Gate::Circuit, Some(until), Holds::Until(other)) => Holds::Until(until.max(other)),
            (Gate::Hold | Gate::Circuit, Some(until), Holds::Nothing) => Holds::Until(until),
        };
    }
    held
}

fn running(lanes: &[LaneStats], serves: impl Fn(&str) -> bool) -> u64 {
    lanes.iter().filter(|l| serves(&l.name)).flat_map(|l| &l.types).map(|t| t.running).sum()
}

/// The pool's part of the jobs running in its lanes, and all of these.
///
/// The queue does not say who runs a job. Where no other pool shares a lane the answer is "all"; else
/// heartbeats divide them, and what no live worker claims counts for every pool (it needs a worker again).
fn running_share(stats: &Stats, spec: &PoolSpec, pools: &[PoolSpec]) -> (u64, u64) {
    let all = running(&stats.lanes, |lane| spec.serves(lane));
    let shares = |other: &PoolSpec| other.pool != spec.pool && other.lanes.iter().any(|l| spec.serves(l));
    if !pools.iter().any(shares) {
        return (all, all);
    }
    let busy = |of: &dyn Fn(&str) -> bool| -> u64 {
        stats.workers.iter().filter(|w| of(&w.identity.pool)).map(|w| u64::from(w.busy)).sum()
    };
    let mine = busy(&|pool| pool == spec.pool.name);
    let theirs = busy(&|pool| pools.iter().any(|p| shares(p) && p.pool.name == pool));
    (all.saturating_sub(theirs).max(mine).min(all), all)
}

/// Workers that run something: by their heartbeats, and at least as many as the running jobs fill, for
/// heartbeats lag behind claims.
fn busy(stats: &Stats, spec: &PoolSpec, load: &Load) -> u32 {
    let beating = taking(stats, &spec.pool).filter(|w| w.busy > 0).count() as u64;
    let leaving: u64 = stats
        .workers
        .iter()
        .filter(|w| w.identity.pool == spec.pool.name && w.draining)
        .map(|w| u64::from(w.busy))
        .sum();
    let running: u64 = load.types.iter().map(|t| t.running).sum();
    let filled = running.saturating_sub(leaving).div_ceil(u64::from(spec.slots.max(1)));
    u32::try_from(beating.max(filled)).unwrap_or(u32::MAX)
}

/// Names of the pool's workers that were idle at their last heartbeat, the youngest first: the first to go.
#[must_use]
pub fn idle(stats: &Stats, pool: &PoolRef) -> Vec<String> {
    let mut idle: Vec<_> = taking(stats, pool).filter(|w| w.busy == 0).collect();
    idle.sort_by(|a, b| b.started_ms.cmp(&a.started_ms).then_with(|| a.identity.name.cmp(&b.identity.name)));
    idle.into_iter().map(|w| w.identity.name.clone()).collect()
}

/// Slots in use in the pool, by heartbeats.
#[must_use]
pub fn busy_slots(stats: &Stats, pool: &PoolRef) -> u32 {
    stats.workers.iter().filter(|w| w.identity.pool == pool.name).map(|w| w.busy).sum()
}

/// Age of the oldest due job in the pool's lanes.
#[must_use]
pub fn oldest_age_ms(stats: &Stats, spec: &PoolSpec) -> Option<u64> {
    let lanes = stats.lanes.iter().filter(|lane| spec.serves(&lane.name));
    let oldest = lanes.flat_map(|lane| &lane.types).filter_map(|t| t.oldest_due_ms).min()?;
    Some(stats.now_ms.saturating_sub(oldest))
}
