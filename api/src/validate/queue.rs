//! `JobQueue`: from what people wrote to the policy that lands in Redis.

use std::collections::BTreeMap;

use super::policy::{Layer, resolve_completed, resolve_dead, resolve_retry};
use super::problem::{Problem, Problems};
use super::{endings, gates, handler, key, name, reason, similar};
use crate::job_queue::{
    CapacitySpec, DEFAULT_KEY_FOR, JobQueue, JobTypeSpec, LaneSpec, MAX_JOB_TYPES, MAX_LANES, RedisSpec,
};
use crate::policy::{Capacity, JobTypePolicy, LanePolicy, OnConflict, QueuePolicy, Source};

/// Largest payload, in bytes: one enqueue call carries at most that much.
pub const MAX_PAYLOAD: u64 = 1 << 20;
/// Least bound on bytes: a payload of the largest size must fit in.
const MIN_CAPACITY_BYTES: u64 = 1 << 20;
/// Shortest lease, ms.
const MIN_LEASE_MS: u64 = 1_000;
/// Longest lease, ms.
const MAX_LEASE_MS: u64 = 600_000;

/// Checks a queue and merges defaults, lanes and job types into its policy. Everything the schema and its CEL rules
/// refuse is refused here as well: the local mode has no API server.
///
/// # Errors
/// All problems, in the order of the fields.
pub fn job_queue(queue: &JobQueue, source: Source) -> Result<QueuePolicy, Vec<Problem>> {
    let mut problems = Problems::default();
    let spec = &queue.spec;
    name::object(&mut problems, "metadata.name", queue.metadata.name.as_deref().unwrap_or_default());
    if let Some(redis) = &spec.redis {
        check_redis(&mut problems, redis);
    }
    check_figures(&mut problems, queue);
    Layer::from(&spec.defaults).check(&mut problems, "spec.defaults");
    check_lanes(&mut problems, &spec.lanes);
    check_job_types(&mut problems, queue);
    if !problems.is_empty() {
        return Err(problems.into_inner());
    }
    let job_types = spec.job_types.iter().filter_map(|job_type| resolve(queue, job_type)).collect();
    Ok(QueuePolicy {
        queue: queue.queue_name(),
        source,
        paused: spec.paused,
        closed: None,
        max_payload: spec.max_payload.as_bytes(),
        capacity: spec.capacity.map(|capacity| Capacity {
            jobs: capacity.jobs,
            bytes: capacity.bytes.map(|bytes| bytes.as_bytes()),
        }),
        lease_ms: spec.lease.as_millis(),
        lanes: spec
            .lanes
            .iter()
            .map(|lane| LanePolicy {
                name: lane.name.clone(),
                start_within_ms: lane.start_within.as_millis(),
                critical: lane.critical,
                concurrency: lane.concurrency,
                rate_limit: lane.rate_limit.as_ref().map(gates::resolve_rate),
                circuit: lane.circuit.as_ref().map(gates::resolve_circuit),
            })
            .collect(),
        job_types,
    })
}

/// The policy fields that hold for a job type: its own over its lane's over the defaults.
pub(crate) fn layers<'a>(queue: &'a JobQueue, job_type: &'a JobTypeSpec) -> Layer<'a> {
    let lane = queue.spec.lanes.iter().find(|lane| lane.name == job_type.lane);
    let lane = lane.map(Layer::from).unwrap_or_default();
    Layer::from(job_type).over(lane).over(Layer::from(&queue.spec.defaults))
}

/// `None` only where a check has complained.
fn resolve(queue: &JobQueue, job_type: &JobTypeSpec) -> Option<(String, JobTypePolicy)> {
    let layer = layers(queue, job_type);
    let mut policy = JobTypePolicy {
        lane: job_type.lane.clone(),
        owner: job_type.owner.clone(),
        priority: job_type.priority,
        key: job_type.key.as_deref().map(key::parse_key).transpose().ok()?,
        key_for_ms: job_type.key_for.unwrap_or(DEFAULT_KEY_FOR).as_millis(),
        on_conflict: OnConflict::default(),
        debounce: None,
        on_dead: None,
        concurrency_key: match &job_type.concurrency_key {
            Some(spec) => Some(gates::resolve_key(spec)?),
            None => None,
        },
        per_worker: job_type.per_worker,
        timeout_ms: layer.timeout?.as_millis(),
        retry: resolve_retry(layer.retry?),
        give_up_after_ms: layer.give_up_after?.as_millis(),
        crash_budget: layer.crash_budget?,
        completed: resolve_completed(layer.completed?),
        dead: resolve_dead(layer.dead?),
        handler: handler::resolve(layer.handler?)?,
    };
    endings::resolve(&mut policy, job_type);
    Some((job_type.name.clone(), policy))
}

fn check_redis(problems: &mut Problems, redis: &RedisSpec) {
    let references = [
        ("spec.redis.adminSecretRef", &redis.admin_secret_ref),
        ("spec.redis.workerSecretRef", &redis.worker_secret_ref),
        ("spec.redis.caSecretRef", &redis.ca_secret_ref),
    ];
    for (field, reference) in references {
        if let Some(reference) = reference {
            handler::check_secret(problems, field, reference);
            if redis.admin_secret_ref.is_none() {
                let message = "belongs to a Redis of your own: set spec.redis.adminSecretRef too";
                problems.add(reason::REDIS_REFERENCE, field, &reference.name, message);
            }
        }
    }
}

fn check_figures(problems: &mut Problems, queue: &JobQueue) {
    let payload = queue.spec.max_payload;
    if !(1..=MAX_PAYLOAD).contains(&payload.as_bytes()) {
        problems.add(reason::INVALID_VALUE, "spec.maxPayload", payload, "must be from 1 byte to 1Mi");
    }
    if let Some(capacity) = queue.spec.capacity {
        if capacity == CapacitySpec::default() {
            problems.add(reason::INVALID_VALUE, "spec.capacity", "{}", "set jobs, bytes or both");
        }
        if let Some(bytes) = capacity.bytes.filter(|bytes| bytes.as_bytes() < MIN_CAPACITY_BYTES) {
            problems.add(reason::INVALID_VALUE, "spec.capacity.bytes", bytes, "must be at least 1Mi");
        }
    }
    let lease = queue.spec.lease;
    if !(MIN_LEASE_MS..=MAX_LEASE_MS).contains(&lease.as_millis()) {
        problems.add(reason::INVALID_VALUE, "spec.lease", lease, "a lease lasts from 1s to 10m");
    }
}

fn check_lanes(problems: &mut Problems, lanes: &[LaneSpec]) {
    if lanes.is_empty() {
        problems.add(reason::MISSING, "spec.lanes", "", "a queue needs at least one lane");
    }
    problems.at_most("spec.lanes", lanes.len(), MAX_LANES);
    for (index, lane) in lanes.iter().enumerate() {
        let field = format!("spec.lanes[{index}]");
        name::label(problems, &format!("{field}.name"), &lane.name);
        problems.positive(&format!("{field}.startWithin"), lane.start_within);
        gates::check_lane(problems, &field, lane);
        Layer::from(lane).check(problems, &field);
    }
    let names = lanes.iter().map(|lane| lane.name.as_str());
    problems.unique(names, |index| format!("spec.lanes[{index}].name"), "lane");
}

fn check_job_types(problems: &mut Problems, queue: &JobQueue) {
    let job_types = &queue.spec.job_types;
    problems.at_most("spec.jobTypes", job_types.len(), MAX_JOB_TYPES);
    for (index, job_type) in job_types.iter().enumerate() {
        check_job_type(problems, &format!("spec.jobTypes[{index}]"), queue, job_type);
    }
    let names = job_types.iter().map(|job_type| job_type.name.as_str());
    problems.unique(names, |index| format!("spec.jobTypes[{index}].name"), "job type");
}

fn check_job_type(problems: &mut Problems, field: &str, queue: &JobQueue, job_type: &JobTypeSpec) {
    name::label_value(problems, &format!("{field}.name"), &job_type.name);
    if let Some(owner) = &job_type.owner {
        name::label_value(problems, &format!("{field}.owner"), owner);
    }
    let lanes: BTreeMap<&str, &LaneSpec> = queue.spec.lanes.iter().map(|l| (l.name.as_str(), l)).collect();
    let known = lanes.contains_key(job_type.lane.as_str());
    if !known {
        let hint = similar::hint(&job_type.lane, lanes.keys().copied());
        let message = format!("no lane of this queue has this name{hint}: correct the name or add the lane");
        problems.add(reason::UNKNOWN_LANE, format!("{field}.lane"), &job_type.lane, message);
    }
    problems.range(&format!("{field}.priority"), i64::from(job_type.priority), 0, 9);
    if let Some(Err(error)) = job_type.key.as_deref().map(key::parse_key) {
        let template = job_type.key.as_deref().unwrap_or_default();
        problems.add(reason::KEY_TEMPLATE, format!("{field}.key"), template, error.to_string());
    }
    if let Some(most) = job_type.per_worker {
        problems.range(&format!("{field}.perWorker"), i64::from(most), 1, 1000);
    }
    endings::check(problems, field, job_type, &queue.spec.job_types);
    let concurrency_key = format!("{field}.concurrencyKey");
    if let Some(spec) = &job_type.concurrency_key {
        gates::check_key(problems, &concurrency_key, spec);
    }
    Layer::from(job_type).check(problems, field);
    // With an unknown lane nobody can say: the lane may be the one with the handler.
    let handler = layers(queue, job_type).handler;
    if known && job_type.concurrency_key.is_none() && handler.is_some_and(gates::holds_keys) {
        let message = "the handler of this job type has onThrottle: Key, and there is no key to hold: set concurrencyKey \
                       here, or onThrottle to Job or Lane";
        problems.add(reason::MISSING_CONCURRENCY_KEY, concurrency_key, "", message);
    }
    if known && handler.is_none() {
        let message = format!(
            "nothing runs this job type: set handler here, on the lane {:?} or in spec.defaults",
            job_type.lane
        );
        problems.add(reason::MISSING_HANDLER, format!("{field}.handler"), "", message);
    }
}
