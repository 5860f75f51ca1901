//! `WorkerPool`: from what people wrote to plain figures.

use super::problem::{Problem, Problems};
use super::{name, reason, similar, template};
use crate::duration::Duration;
use crate::policy::QueuePolicy;
use crate::worker_pool::{LaneOrder, Scaling, ScalingMode, WorkerPool};

/// Most workers of a pool.
const MAX_REPLICAS: i64 = 1000;
/// Largest weight of a lane.
const MAX_WEIGHT: i64 = 100;
/// Most lanes of a pool.
const MAX_LANES: usize = 64;
/// Longest drain where none is written: a node that must go cannot wait for a day-long job.
pub const MAX_DEFAULT_DRAIN_MS: u64 = 15 * 60 * 1000;

/// A checked pool in plain figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolPlan {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `namespace/name` of the queue.
    pub queue: String,
    /// Lanes as written.
    pub lanes: Vec<String>,
    /// Which lane goes first.
    pub order: LaneOrder,
    /// Weights of the lanes, in their order; 1 each unless the order is [`LaneOrder::Weighted`].
    pub weights: Vec<u32>,
    /// Slots per worker.
    pub concurrency: u32,
    /// How the number of workers is found.
    pub scaling: ScalingPlan,
    /// Workers in [`ScalingMode::Manual`]; 0 in `Auto`.
    pub replicas: u32,
    /// Time for running jobs when a worker must go, as written; see [`PoolPlan::drain_timeout_ms`].
    pub drain_timeout_ms: Option<u64>,
}

/// How the number of workers is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScalingPlan {
    /// Who decides.
    pub mode: ScalingMode,
    /// Fewest workers.
    pub min: u32,
    /// Most workers.
    pub max: u32,
    /// Age aimed at, as written; see [`PoolPlan::oldest_age_ms`].
    pub oldest_age_ms: Option<u64>,
    /// Due jobs per worker aimed at.
    pub depth_per_replica: Option<u32>,
    /// Quiet time before the last worker goes.
    pub idle_after_ms: u64,
}

impl PoolPlan {
    /// The lanes as workers read them in `LANEKEEPER_LANES`: names in order, each with `:weight` unless that is 1.
    #[must_use]
    pub fn worker_lanes(&self) -> String {
        let weights = self.weights.iter().copied().chain(std::iter::repeat(1));
        let lanes = self.lanes.iter().zip(weights).map(|(lane, weight)| match weight {
            1 => lane.clone(),
            weight => format!("{lane}:{weight}"),
        });
        lanes.collect::<Vec<_>>().join(",")
    }

    /// The age scaling aims at: as written, else half of the tightest promise among the lanes.
    #[must_use]
    pub fn oldest_age_ms(&self, queue: &QueuePolicy) -> u64 {
        self.scaling.oldest_age_ms.unwrap_or_else(|| {
            let promises = self.lanes.iter().filter_map(|lane| queue.lane(lane)).map(|l| l.start_within_ms);
            (promises.min().unwrap_or(60_000) / 2).max(1)
        })
    }

    /// The time running jobs get: as written, else the longest timeout in the lanes, capped.
    #[must_use]
    pub fn drain_timeout_ms(&self, queue: &QueuePolicy) -> u64 {
        let longest = || self.longest_timeout_ms(queue).unwrap_or(60_000).min(MAX_DEFAULT_DRAIN_MS);
        self.drain_timeout_ms.unwrap_or_else(longest)
    }

    fn longest_timeout_ms(&self, queue: &QueuePolicy) -> Option<u64> {
        let types = self.lanes.iter().flat_map(|lane| queue.types_in(lane));
        types.map(|(_, job_type)| job_type.timeout_ms).max()
    }
}

/// Checks a pool by itself; see [`pool_against`] for its queue.
///
/// # Errors
/// All problems, in the order of the fields.
pub fn worker_pool(pool: &WorkerPool) -> Result<PoolPlan, Vec<Problem>> {
    let mut problems = Problems::default();
    let spec = &pool.spec;
    let pool_name = pool.metadata.name.clone().unwrap_or_default();
    name::object(&mut problems, "metadata.name", &pool_name);
    name::object(&mut problems, "spec.queue", &spec.queue);
    check_lanes(&mut problems, pool);
    problems.range("spec.concurrency", i64::from(spec.concurrency), 1, 1000);
    check_scaling(&mut problems, &spec.scaling);
    check_replicas(&mut problems, pool);
    if let Some(drain) = spec.drain_timeout {
        problems.positive("spec.drainTimeout", drain);
    }
    template::check(&mut problems, &spec.template);
    problems.done(PoolPlan {
        namespace: pool.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        name: pool_name,
        queue: pool.queue_name(),
        lanes: spec.lanes.iter().map(|lane| lane.name.clone()).collect(),
        order: spec.order,
        weights: spec.lanes.iter().map(|lane| lane.weight).collect(),
        concurrency: spec.concurrency,
        scaling: ScalingPlan {
            mode: spec.scaling.mode,
            min: figure(spec.scaling.min_replicas),
            max: figure(spec.scaling.max_replicas),
            oldest_age_ms: spec.scaling.oldest_age.map(Duration::as_millis),
            depth_per_replica: spec.scaling.depth_per_replica,
            idle_after_ms: spec.scaling.idle_after.as_millis(),
        },
        replicas: spec.replicas.map_or(0, figure),
        drain_timeout_ms: spec.drain_timeout.map(Duration::as_millis),
    })
}

/// Checks a pool against the queue it names.
///
/// # Errors
/// Every lane that the queue does not have, or that the queue is another one.
pub fn pool_against(plan: &PoolPlan, queue: &QueuePolicy) -> Result<(), Vec<Problem>> {
    let mut problems = Problems::default();
    if plan.queue != queue.queue {
        let message = format!("the pool is checked against the queue {:?}", queue.queue);
        problems.add(reason::UNKNOWN_QUEUE, "spec.queue", &plan.queue, message);
        return problems.done(());
    }
    for (index, lane) in plan.lanes.iter().enumerate() {
        if queue.lane(lane).is_none() {
            let hint = similar::hint(lane, queue.lanes.iter().map(|lane| lane.name.as_str()));
            let message = format!("the queue {:?} has no lane of this name{hint}", queue.queue);
            problems.add(reason::UNKNOWN_LANE, format!("spec.lanes[{index}].name"), lane, message);
        }
    }
    problems.done(())
}

/// What works but is unwise in a pool, given its queue.
#[must_use]
pub fn pool_warnings(plan: &PoolPlan, queue: &QueuePolicy) -> Vec<Problem> {
    let mut problems = Problems::default();
    if let (Some(drain), Some(longest)) = (plan.drain_timeout_ms, plan.longest_timeout_ms(queue))
        && drain < longest
    {
        let message = format!(
            "is shorter than the longest timeout in the pool's lanes ({}): a job that needs longer is handed back \
             and starts again",
            Duration::from_millis(longest)
        );
        let drain = Duration::from_millis(drain);
        problems.add(reason::DRAINS_EARLY, "spec.drainTimeout", drain, message);
    }
    let is_critical = |lane: &&String| queue.lane(lane).is_some_and(|lane| lane.critical);
    if let Some(critical) = plan.lanes.iter().find(is_critical)
        && plan.concurrency == 1
        && !plan.lanes.iter().all(|lane| is_critical(&lane))
    {
        let message = format!(
            "leaves no slot to keep free for the critical lane {critical:?}, which then waits for jobs of other lanes: \
             set it to 2 or more, or give the lane a pool of its own"
        );
        problems.add(reason::NO_SLOT_TO_KEEP, "spec.concurrency", plan.concurrency, message);
    }
    problems.into_inner()
}

fn check_lanes(problems: &mut Problems, pool: &WorkerPool) {
    let lanes = &pool.spec.lanes;
    if lanes.is_empty() {
        problems.add(reason::MISSING, "spec.lanes", "", "a pool needs at least one lane");
    }
    problems.at_most("spec.lanes", lanes.len(), MAX_LANES);
    for (index, lane) in lanes.iter().enumerate() {
        name::label(problems, &format!("spec.lanes[{index}].name"), &lane.name);
        let field = format!("spec.lanes[{index}].weight");
        problems.range(&field, i64::from(lane.weight), 1, MAX_WEIGHT);
        if lane.weight != 1 && pool.spec.order != LaneOrder::Weighted {
            let message = format!(
                "counts only with order Weighted, and the order of this pool is {}: set spec.order to Weighted, or \
                 remove the weight",
                pool.spec.order.as_str()
            );
            problems.add(reason::WEIGHT_NOT_WEIGHTED, field, lane.weight, message);
        }
    }
    let names = lanes.iter().map(|lane| lane.name.as_str());
    problems.unique(names, |index| format!("spec.lanes[{index}].name"), "lane of this pool");
}

fn check_scaling(problems: &mut Problems, scaling: &Scaling) {
    problems.range("spec.scaling.minReplicas", i64::from(scaling.min_replicas), 0, MAX_REPLICAS);
    problems.range("spec.scaling.maxReplicas", i64::from(scaling.max_replicas), 1, MAX_REPLICAS);
    if scaling.min_replicas > scaling.max_replicas {
        let message =
            format!("is above maxReplicas ({}): lower it or raise maxReplicas", scaling.max_replicas);
        let field = "spec.scaling.minReplicas";
        problems.add(reason::MIN_ABOVE_MAX, field, scaling.min_replicas, message);
    }
    if let Some(age) = scaling.oldest_age {
        problems.positive("spec.scaling.oldestAge", age);
    }
    if let Some(depth) = scaling.depth_per_replica {
        problems.range("spec.scaling.depthPerReplica", i64::from(depth), 1, 1_000_000);
    }
}

fn check_replicas(problems: &mut Problems, pool: &WorkerPool) {
    let Some(replicas) = pool.spec.replicas else { return };
    problems.range("spec.replicas", i64::from(replicas), 0, MAX_REPLICAS);
    if pool.spec.scaling.mode != ScalingMode::Manual {
        let message = "counts only with scaling.mode Manual: set that mode, or remove replicas and set \
                       scaling.minReplicas and maxReplicas";
        problems.add(reason::REPLICAS_NOT_MANUAL, "spec.replicas", replicas, message);
    }
}

/// Bounded by the checks before it is used.
fn figure(replicas: i32) -> u32 {
    u32::try_from(replicas).unwrap_or(0)
}
