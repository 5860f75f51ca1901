//! The policy that cases begin with, and changes of it.

use std::collections::BTreeMap;

use lanekeeper_api::policy::{
    Backoff, Capacity, Circuit, DeadLetters, Debounce, ExecHandler, Handler, Jitter, JobTypePolicy, KeyPart,
    LanePolicy, OnConflict, OnDead, QueuePolicy, RateLimit, Retention, RetryPolicy, Source,
};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::groups::{GROUPED, change_key, new_key};

pub const LANES: [&str; 3] = ["fast", "slow", "spare"];
/// Types and the lanes they begin in.
pub const TYPES: [(&str, &str); 9] = [
    ("brief", "slow"),
    ("few", "slow"),
    ("keyed", "fast"),
    ("limited", "fast"),
    ("mail", "fast"),
    ("report", "slow"),
    ("reset", "fast"),
    ("tenant", "slow"),
    ("vendor", "fast"),
];
/// Types whose deaths bring jobs, and of which type.
pub const TELLS: [(&str, &str); 3] = [("limited", "keyed"), ("report", "mail"), ("tenant", "vendor")];
const LEASES_MS: [u64; 4] = [10_000, 60_000, 30_000, 7_001];

/// `gates`: how many of its lanes have some.
pub fn first(rng: &mut StdRng, gates: f64) -> QueuePolicy {
    let mut lanes: Vec<LanePolicy> = LANES[..2].iter().map(|name| lane(name)).collect();
    for lane in &mut lanes {
        if rng.random_bool(gates) {
            change_gates(rng, lane);
        }
    }
    let mut job_types: BTreeMap<String, JobTypePolicy> =
        TYPES.iter().map(|(name, lane)| ((*name).to_owned(), job_type(name, lane))).collect();
    for name in GROUPED {
        job_types.get_mut(name).expect("a type").concurrency_key =
            rng.random_bool(0.85).then(|| new_key(rng));
    }
    QueuePolicy {
        queue: "apps/saas".into(),
        source: Source { owner: "kubernetes:a".into(), uid: "u1".into(), created_ms: 1_000, generation: 1 },
        paused: false,
        closed: None,
        max_payload: 4_096,
        capacity: None,
        lease_ms: *LEASES_MS.choose(rng).expect("not empty"),
        lanes,
        job_types,
    }
}

fn lane(name: &str) -> LanePolicy {
    LanePolicy::new(name, if name == "fast" { 10_000 } else { 86_400_000 })
}

fn job_type(name: &str, lane: &str) -> JobTypePolicy {
    let path = |path: &str| KeyPart::Path(path.split('.').map(str::to_owned).collect());
    let (keep, for_ms) = match name {
        "brief" => (0, 60_000),
        "few" => (3, 20_000),
        _ => (20, 3_600_000),
    };
    JobTypePolicy {
        priority: if name == "reset" { 1 } else { 5 },
        key: (name == "keyed").then(|| vec![KeyPart::Text("e:".into()), path("user.id"), path("event")]),
        key_for_ms: match name {
            "few" => 5_000,
            "report" => 0,
            _ => 120_000,
        },
        per_worker: (name == "limited").then_some(2),
        on_conflict: match name {
            "brief" => OnConflict::Replace,
            "limited" => OnConflict::Reject,
            _ => OnConflict::Existing,
        },
        on_dead: TELLS.iter().find(|(of, _)| *of == name).map(|(_, news)| OnDead { r#type: (*news).into() }),
        timeout_ms: 10_000,
        retry: RetryPolicy { limit: 3, backoff: Backoff::Schedule(vec![1_000]), jitter: Jitter::None },
        completed: Retention { keep, for_ms },
        dead: DeadLetters {
            keep_reviewed_for_ms: match name {
                "few" => Some(20_000),
                "mail" => Some(3_600_000),
                _ => None,
            },
        },
        ..JobTypePolicy::new(lane, Handler::Exec(ExecHandler::of(&["/bin/true"])))
    }
}

/// A write of a policy: mostly the next generation of the present one, changed.
pub fn next(rng: &mut StdRng, present: &QueuePolicy) -> (QueuePolicy, bool) {
    let mut policy = present.clone();
    let held = policy.paused || policy.closed.is_some();
    if held && rng.random_bool(0.7) {
        (policy.paused, policy.closed) = (false, None);
    } else {
        for _ in 0..rng.random_range(1..=3) {
            change(rng, &mut policy);
        }
    }
    let source = &mut policy.source;
    let adopt = rng.random_bool(0.03);
    match rng.random_range(0..100) {
        // The same object and generation with other contents.
        0..6 => {}
        6..14 => source.generation -= 1,
        14..22 => return (present.clone(), adopt),
        22..28 => source.owner = ["cli", "kubernetes:b"].choose(rng).copied().unwrap_or_default().into(),
        28..36 => {
            source.uid = ["u1", "u2", "u3"].choose(rng).copied().unwrap_or_default().into();
            source.created_ms = (source.created_ms + rng.random_range(0..3)).saturating_sub(1);
            source.generation = 1;
        }
        36..38 => {
            source.owner = "cli".into();
            return (policy, true);
        }
        _ => source.generation += 1,
    }
    (policy, adopt)
}

fn change(rng: &mut StdRng, policy: &mut QueuePolicy) {
    let (name, home) = *TYPES.choose(rng).expect("not empty");
    let there = policy.job_types.get_mut(name);
    match (rng.random_range(0..19), there) {
        (0, Some(_)) if rng.random_bool(0.4) => drop(policy.job_types.remove(name)),
        (0..=5, None) => {
            let lane_there = policy.lanes.iter().any(|lane| lane.name == home);
            let to = if lane_there { home } else { policy.lanes[0].name.as_str() };
            let spec = job_type(name, to);
            policy.job_types.insert(name.to_owned(), spec);
        }
        (1, Some(spec)) => spec.lane = policy.lanes.choose(rng).expect("not empty").name.clone(),
        (2, Some(spec)) => spec.priority = rng.random_range(0..=9),
        (3, Some(spec)) => {
            spec.completed.keep = *[0, 1, 3, 20].choose(rng).expect("not empty");
            spec.completed.for_ms = *[0, 1, 20_000, 3_600_000].choose(rng).expect("not empty");
        }
        (4, Some(spec)) => spec.key_for_ms = *[0, 1, 5_000, 120_000].choose(rng).expect("not empty"),
        (6 | 7, _) => policy.lease_ms = *LEASES_MS.choose(rng).expect("not empty"),
        (8, _) if rng.random_bool(0.4) => policy.paused = true,
        (9, _) if rng.random_bool(0.4) => policy.closed = Some("RedisUnsafe".into()),
        (10, _) if rng.random_bool(0.5) => policy.max_payload = *[100, 4_096].choose(rng).expect("not empty"),
        (10, _) => {
            let jobs = *[None, Some(1), Some(10), Some(60)].choose(rng).expect("not empty");
            policy.capacity = jobs.map(|jobs| Capacity { jobs: Some(jobs), bytes: None });
        }
        (11, _) => change_lanes(rng, policy),
        (12 | 13, _) => {
            let at = rng.random_range(0..policy.lanes.len());
            change_gates(rng, &mut policy.lanes[at]);
        }
        (14, Some(spec)) => {
            spec.on_conflict = *[OnConflict::Existing, OnConflict::Replace, OnConflict::Reject]
                .choose(rng)
                .expect("not empty");
            spec.debounce = None;
        }
        (15, Some(spec)) => {
            spec.on_conflict = OnConflict::Replace;
            spec.debounce = Some(Debounce { wait_ms: rng.random_range(1..5_000), most_ms: 20_000 });
        }
        (16 | 17, _) => {
            let name = if GROUPED.contains(&name) || rng.random_bool(0.1) { name } else { "vendor" };
            if let Some(spec) = policy.job_types.get_mut(name) {
                change_key(rng, spec);
            }
        }
        (18, Some(spec)) => {
            let times = [None, Some(0), Some(1), Some(20_000), Some(3_600_000)];
            spec.dead.keep_reviewed_for_ms = *times.choose(rng).expect("not empty");
        }
        _ => {}
    }
}

/// Another limit, or none.
fn change_gates(rng: &mut StdRng, lane: &mut LanePolicy) {
    match rng.random_range(0..6) {
        0 => lane.concurrency = Some(rng.random_range(1..=5)),
        1 => {
            let burst = rng.random_bool(0.5).then(|| rng.random_range(1..=4));
            let per_ms = *[1, 50, 1_000, 60_000].choose(rng).expect("not empty");
            lane.rate_limit = Some(RateLimit { limit: rng.random_range(1..=30), per_ms, burst, by: None });
        }
        2 => {
            let probe_after_ms = *[1, 3_000, 400_000].choose(rng).expect("not empty");
            lane.circuit = Some(Circuit { failures: rng.random_range(1..=4), probe_after_ms });
        }
        3 => lane.concurrency = None,
        4 => lane.rate_limit = None,
        _ => lane.circuit = None,
    }
}

/// A lane more, or one less and its types in another, or another order.
fn change_lanes(rng: &mut StdRng, policy: &mut QueuePolicy) {
    let name = *LANES.choose(rng).expect("not empty");
    let at = policy.lanes.iter().position(|lane| lane.name == name);
    match at {
        None => policy.lanes.push(lane(name)),
        Some(at) if policy.lanes.len() > 1 => {
            policy.lanes.remove(at);
            let other = policy.lanes[0].name.clone();
            let move_over = rng.random_bool(0.5);
            policy.job_types.retain(|_, spec| spec.lane != name || move_over);
            for spec in policy.job_types.values_mut().filter(|spec| spec.lane == name) {
                spec.lane.clone_from(&other);
            }
        }
        Some(_) => {}
    }
}
