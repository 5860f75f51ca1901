use std::collections::BTreeMap;

use lanekeeper_api::policy::{LanePolicy, QueuePolicy, Source};
use lanekeeper_queue::types::{ClosedGate, Gate, LaneStats, Stats, TypeStats, WorkerIdentity, WorkerInfo};

use crate::autoscale::sample::{Held, Mode};
use crate::autoscale::sampler::{PoolSpec, idle, sample};
use crate::platform::{Observed, PoolRef};

const NOW: u64 = 50_000;

fn policy() -> QueuePolicy {
    QueuePolicy {
        queue: "apps/test".into(),
        source: Source { owner: String::new(), uid: String::new(), created_ms: 0, generation: 0 },
        paused: false,
        closed: None,
        max_payload: 1,
        capacity: None,
        lease_ms: 15_000,
        lanes: vec![LanePolicy::new("fast", 10_000), LanePolicy::new("slow", 60_000)],
        job_types: BTreeMap::new(),
    }
}

fn pool(name: &str, lanes: &[&str]) -> PoolSpec {
    PoolSpec {
        pool: PoolRef::new("apps", name),
        queue: "apps/test".parse().expect("a name"),
        lanes: lanes.iter().map(ToString::to_string).collect(),
        mode: Mode::Auto,
        min: 0,
        max: 5,
        slots: 4,
        oldest_age_ms: None,
        depth_per_replica: None,
        idle_after_ms: 60_000,
    }
}

fn worker(pool: &str, name: &str, busy: u32, started_ms: u64, draining: bool) -> WorkerInfo {
    let identity =
        WorkerIdentity { name: name.into(), boot: name.into(), pool: pool.into(), node: "n".into() };
    WorkerInfo { identity, lanes: Vec::new(), slots: 4, busy, draining, seen_ms: NOW, started_ms }
}

fn stats(fast: TypeStats, workers: Vec<WorkerInfo>) -> Stats {
    let slow = TypeStats { name: "report".into(), ready: 9, running: 9, ..TypeStats::default() };
    let lane = |name: &str, t| LaneStats { name: name.into(), types: vec![t] };
    Stats { now_ms: NOW, lanes: vec![lane("fast", fast), lane("slow", slow)], workers, ..Stats::default() }
}

fn mail(ready: u64, running: u64) -> TypeStats {
    TypeStats {
        name: "mail".into(),
        ready,
        running,
        oldest_due_ms: (ready > 0).then_some(NOW - 3_000),
        attempts_total: 7,
        ..TypeStats::default()
    }
}

fn two_workers() -> Observed {
    Observed { replicas: 3, ready: 2, ..Observed::default() }
}

#[test]
fn only_the_pools_lanes_count() {
    let spec = pool("a", &["fast"]);
    let seen = sample(Some(&stats(mail(5, 3), Vec::new())), &spec, &[], &policy(), &two_workers(), 500);
    let load = seen.load.expect("figures were read");
    assert_eq!(load.types.len(), 1);
    let t = &load.types[0];
    assert_eq!((t.due, t.running, t.oldest_age_ms, t.arrived_total), (5, 3, 3_000, 15));
    assert_eq!(spec.scale_policy(&policy()).oldest_age_ms, 5_000, "half of the tightest promise");
}

#[test]
fn figures_that_could_not_be_read_are_no_load() {
    let seen = sample(None, &pool("a", &["fast"]), &[], &policy(), &two_workers(), 500);
    assert_eq!((seen.load, seen.replicas, seen.busy), (None, 3, 2));
}

#[test]
fn ready_is_who_is_there_and_has_been_heard() {
    let spec = pool("a", &["fast"]);
    let one = stats(mail(0, 0), vec![worker("a", "a-1", 0, 1, false)]);
    assert_eq!(sample(Some(&one), &spec, &[], &policy(), &two_workers(), 500).ready, 1);
    let dead_beats = (0..9).map(|i| worker("a", &format!("a-{i}"), 0, 1, false)).collect();
    let many = stats(mail(0, 0), dead_beats);
    assert_eq!(sample(Some(&many), &spec, &[], &policy(), &two_workers(), 500).ready, 2);
}

#[test]
fn running_jobs_are_busy_workers_before_their_heartbeats_say_so() {
    let spec = pool("a", &["fast"]);
    let silent = stats(mail(0, 9), vec![worker("a", "a-1", 0, 1, false)]);
    assert_eq!(sample(Some(&silent), &spec, &[], &policy(), &two_workers(), 500).busy, 3);
}

#[test]
fn jobs_of_a_draining_worker_keep_no_other() {
    let spec = pool("a", &["fast"]);
    let leaving = stats(mail(0, 4), vec![worker("a", "a-1", 4, 1, true), worker("a", "a-2", 0, 1, false)]);
    assert_eq!(sample(Some(&leaving), &spec, &[], &policy(), &two_workers(), 500).busy, 0);
}

#[test]
fn pools_that_share_a_lane_divide_its_running_jobs_by_heartbeats() {
    let pools = [pool("a", &["fast"]), pool("b", &["fast", "slow"])];
    let both = stats(mail(0, 6), vec![worker("a", "a-1", 4, 1, false), worker("b", "b-1", 2, 1, false)]);
    let running = |spec: &PoolSpec| {
        let seen = sample(Some(&both), spec, &pools, &policy(), &two_workers(), 500);
        seen.load.expect("figures were read").types[0].running
    };
    assert_eq!(running(&pools[0]), 4);
    // Of its lanes' 15 running jobs the other pool answers for 4.
    assert_eq!(running(&pools[1]), 5);
}

#[test]
fn a_type_that_becomes_due_within_the_start_up_time_is_soon() {
    let spec = pool("a", &["fast"]);
    for (due_in, soon) in [(5_400, 1), (5_600, 0)] {
        let scheduled = TypeStats { next_due_ms: Some(NOW + due_in), ..mail(0, 0) };
        let seen = sample(Some(&stats(scheduled, Vec::new())), &spec, &[], &policy(), &two_workers(), 500);
        assert_eq!(seen.load.expect("figures were read").types[0].soon, soon, "in {due_in} ms");
    }
}

#[test]
fn closed_outranks_paused() {
    let mut held = stats(mail(1, 0), Vec::new());
    held.paused = true;
    let of = |s: &Stats| {
        let seen = sample(Some(s), &pool("a", &["fast"]), &[], &policy(), &two_workers(), 500);
        seen.load.expect("figures were read").held
    };
    assert_eq!(of(&held), Some(Held::Paused));
    held.closed = Some("RedisUnsafe".into());
    assert_eq!(of(&held), Some(Held::Closed));
}

#[test]
fn idle_workers_go_youngest_first_and_never_those_that_leave_already() {
    let seen = stats(
        mail(0, 1),
        vec![
            worker("a", "old", 0, 10, false),
            worker("a", "busy", 1, 30, false),
            worker("a", "young", 0, 20, false),
            worker("a", "leaving", 0, 40, true),
            worker("b", "other", 0, 50, false),
        ],
    );
    assert_eq!(idle(&seen, &PoolRef::new("apps", "a")), ["young", "old"]);
}

/// Stats with `ready` due jobs and two running in a lane that these gates hold back.
fn gated(ready: u64, gates: &[(&str, Gate, Option<u64>)]) -> Stats {
    let gate = |&(lane, gate, until_ms): &(&str, Gate, Option<u64>)| ClosedGate {
        lane: Some(lane.into()),
        gate,
        until_ms,
        since_ms: None,
        by: None,
        why: None,
    };
    Stats { gates: gates.iter().map(gate).collect(), ..stats(mail(ready, 2), Vec::new()) }
}

#[test]
fn lanes_that_more_workers_do_not_help_are_left_out_and_their_running_jobs_count() {
    let far = Some(NOW + 60_000);
    for (gates, held) in [
        (&[("fast", Gate::Paused, None)][..], true),
        (&[("fast", Gate::Hold, far)], true),
        (&[("fast", Gate::Circuit, far)], true),
        (&[("fast", Gate::Circuit, None)], true),
        (&[("fast", Gate::Concurrency, None), ("fast", Gate::Rate, far)], false),
        (&[("slow", Gate::Paused, None)], false),
        (&[], false),
    ] {
        let seen = sample(Some(&gated(5, gates)), &pool("a", &["fast"]), &[], &policy(), &two_workers(), 500);
        let load = seen.load.expect("figures were read");
        let t = &load.types[0];
        assert_eq!((load.held, t.held, t.due, t.running, t.soon), (None, held, 5, 2, 0), "{gates:?}");
    }
}

#[test]
fn a_lane_that_opens_within_the_start_up_time_is_soon() {
    let soon = |ready, gates: &[(&str, Gate, Option<u64>)]| {
        let seen =
            sample(Some(&gated(ready, gates)), &pool("a", &["fast"]), &[], &policy(), &two_workers(), 500);
        seen.load.expect("figures were read").types[0].soon
    };
    let (near, far) = (Some(NOW + 5_400), Some(NOW + 5_600));
    assert_eq!(soon(5, &[("fast", Gate::Hold, near)]), 1);
    assert_eq!(soon(5, &[("fast", Gate::Circuit, near)]), 1, "someone has to probe");
    assert_eq!(soon(5, &[("fast", Gate::Circuit, Some(NOW))]), 1, "also when nobody was there in time");
    assert_eq!(soon(5, &[("fast", Gate::Hold, far)]), 0);
    assert_eq!(soon(0, &[("fast", Gate::Hold, near)]), 0, "nothing waits for it");
    assert_eq!(
        soon(5, &[("fast", Gate::Hold, near), ("fast", Gate::Circuit, far)]),
        0,
        "the later one counts"
    );
    assert_eq!(soon(5, &[("fast", Gate::Paused, None), ("fast", Gate::Hold, near)]), 0);
}
