use super::*;
use crate::autoscale::decide::{Decision, LimitedBy, State, decide};
use crate::autoscale::reason::Reason;
use crate::autoscale::sample::Held;

const START: u64 = 1_000_000;

fn first(policy: &ScalePolicy, sample: &Sample) -> Decision {
    decide(policy, sample, &State::default(), START).0
}

/// Feeds the same sample every `step_ms`, following the decisions, and answers what was decided each time.
fn follow(policy: &ScalePolicy, mut sample: Sample, times: u64, step_ms: u64) -> Vec<Decision> {
    let mut state = State::default();
    let mut made = Vec::new();
    for i in 0..times {
        let (decision, next) = decide(policy, &sample, &state, START + i * step_ms);
        sample.replicas = decision.replicas;
        sample.ready = decision.replicas;
        state = next;
        made.push(decision);
    }
    made
}

#[test]
fn one_job_starts_one_worker_from_zero() {
    let decision = first(&policy(), &sample(vec![waiting(1, 0)], 0, 0));
    assert_eq!((decision.replicas, decision.reason), (1, Reason::Backlog));
}

#[test]
fn nothing_to_do_starts_nothing() {
    let decision = first(&policy(), &sample(vec![waiting(0, 0)], 0, 0));
    assert_eq!((decision.replicas, decision.reason), (0, Reason::Idle));
}

#[test]
fn a_burst_goes_straight_to_the_need_and_stops_at_the_maximum() {
    let decision = first(&policy(), &sample(vec![waiting(100_000, 0)], 0, 0));
    assert_eq!((decision.replicas, decision.limited_by), (20, Some(LimitedBy::MaxReplicas)));
    assert!(decision.message.contains("maxReplicas is 20"), "{}", decision.message);
}

#[test]
fn long_jobs_get_a_slot_each() {
    let mut reports = waiting(7, 0);
    reports.ended_total = 100;
    reports.busy_ms_total = 100 * 300_000;
    let decision = first(&ScalePolicy { slots: 1, ..policy() }, &sample(vec![reports], 0, 0));
    assert_eq!(decision.replicas, 7);
}

#[test]
fn per_worker_limits_make_the_slots_of_a_worker_fewer() {
    let mut images = waiting(40, 0);
    images.ended_total = 100;
    images.busy_ms_total = 100 * 60_000;
    let without = first(&policy(), &sample(vec![images.clone()], 0, 0));
    images.per_worker = Some(2);
    let with = first(&policy(), &sample(vec![images], 0, 0));
    assert_eq!(without.replicas, 4);
    assert!(with.replicas >= 18, "{}", with.replicas);
}

#[test]
fn a_failed_source_freezes_and_is_never_read_as_zero() {
    let mut blind = sample(vec![], 7, 0);
    blind.load = None;
    let made = follow(&policy(), blind, 500, 5_000);
    assert!(made.iter().all(|d| d.replicas == 7 && d.reason == Reason::RedisUnreachable));
}

#[test]
fn after_an_outage_nothing_goes_before_a_whole_window() {
    let mut state = State::default();
    let mut look = sample(vec![waiting(0, 0)], 5, 0);
    look.load = None;
    for i in 0..100 {
        state = decide(&policy(), &look, &state, START + i * 5_000).1;
    }
    let back = START + 500_000;
    look = sample(vec![waiting(0, 0)], 5, 0);
    for i in 0..24 {
        let (decision, next) = decide(&policy(), &look, &state, back + i * 5_000);
        assert_eq!(decision.replicas, 5, "after {} s", i * 5);
        state = next;
    }
    let (decision, _) = decide(&policy(), &look, &state, back + 125_000);
    assert!(decision.replicas < 5);
}

#[test]
fn a_restarted_operator_takes_no_worker_away_before_a_whole_window() {
    let made = follow(&policy(), sample(vec![waiting(0, 0)], 6, 0), 24, 5_000);
    assert!(made.iter().all(|d| d.replicas == 6));
}

#[test]
fn idle_workers_go_in_steps_and_the_last_after_idle_after() {
    let made = follow(&policy(), sample(vec![waiting(0, 0)], 8, 0), 60, 5_000);
    let mut steps: Vec<u32> = made.iter().map(|d| d.replicas).collect();
    steps.dedup();
    assert_eq!(steps, [8, 4, 2, 1, 0]);
    let zero_at = made.iter().position(|d| d.replicas == 0).expect("it goes to zero") as u64 * 5;
    assert!((120..=180).contains(&zero_at), "at zero after {zero_at} s");
}

#[test]
fn busy_workers_stay() {
    let mut running = waiting(0, 0);
    running.running = 3;
    let made = follow(&ScalePolicy { slots: 1, ..policy() }, sample(vec![running], 6, 3), 200, 5_000);
    assert!(made.iter().all(|d| d.replicas >= 3));
    assert_eq!(made.last().map(|d| d.replicas), Some(3));
}

#[test]
fn bursts_that_drain_between_two_looks_keep_the_last_replica() {
    let mut state = State::default();
    for i in 0..100_u64 {
        let mut done = waiting(0, 0);
        done.ended_total = i * 6;
        done.arrived_total = i * 6;
        done.busy_ms_total = i * 60;
        let (decision, next) = decide(&policy(), &sample(vec![done], 1, 0), &state, START + i * 30_000);
        assert_eq!(decision.replicas, 1, "after {} s", i * 30);
        state = next;
    }
}

#[test]
fn a_paused_queue_needs_no_workers_for_waiting_jobs() {
    let mut paused = sample(vec![waiting(500, 60_000)], 0, 0);
    if let Some(load) = &mut paused.load {
        load.held = Some(Held::Paused);
    }
    let decision = first(&policy(), &paused);
    assert_eq!((decision.replicas, decision.reason), (0, Reason::Paused));
}

#[test]
fn a_paused_queue_keeps_the_workers_of_running_jobs() {
    let mut running = waiting(500, 60_000);
    running.running = 15;
    let mut paused = sample(vec![running], 2, 2);
    if let Some(load) = &mut paused.load {
        load.held = Some(Held::Closed);
    }
    let made = follow(&policy(), paused, 200, 5_000);
    assert!(made.iter().all(|d| d.replicas == 2), "{made:?}");
}

#[test]
fn a_job_due_within_the_start_up_time_starts_a_worker() {
    let mut soon = waiting(0, 0);
    soon.soon = 1;
    let decision = first(&policy(), &sample(vec![soon], 0, 0));
    assert_eq!((decision.replicas, decision.reason), (1, Reason::Scheduled));
}

#[test]
fn manual_follows_the_person_even_without_redis() {
    let manual = ScalePolicy { mode: Mode::Manual(4), ..policy() };
    let mut look = sample(vec![waiting(1_000, 0)], 1, 0);
    assert_eq!(first(&manual, &look).replicas, 4);
    look.load = None;
    assert_eq!(first(&manual, &look).replicas, 4);
}

#[test]
fn depth_per_replica_is_a_second_target() {
    let mut quick = waiting(1_000, 0);
    quick.ended_total = 1_000;
    quick.busy_ms_total = 1_000;
    let age_only = first(&policy(), &sample(vec![quick.clone()], 0, 0));
    let depth = first(&ScalePolicy { depth_per_replica: Some(100), ..policy() }, &sample(vec![quick], 0, 0));
    assert_eq!(age_only.replicas, 1);
    assert_eq!((depth.replicas, depth.reason), (10, Reason::Depth));
}

#[test]
fn a_minimum_is_kept_and_named() {
    let decision = first(&ScalePolicy { min: 2, ..policy() }, &sample(vec![waiting(0, 0)], 0, 0));
    assert_eq!((decision.replicas, decision.reason), (2, Reason::Minimum));
    assert_eq!(decision.limited_by, Some(LimitedBy::MinReplicas));
}

#[test]
fn a_lowered_maximum_does_not_wait_but_spares_the_busy() {
    let lower = ScalePolicy { max: 2, ..policy() };
    assert_eq!(first(&lower, &sample(vec![waiting(900, 9_000)], 8, 0)).replicas, 2);
    let decision = first(&lower, &sample(vec![waiting(900, 9_000)], 8, 5));
    assert_eq!((decision.replicas, decision.limited_by), (5, Some(LimitedBy::BusyWorkers)));
}

#[test]
fn late_jobs_ask_for_more_than_fresh_ones() {
    let known = |age| {
        let mut t = waiting(300, age);
        t.ended_total = 1_000;
        t.busy_ms_total = 1_000 * 800;
        first(&policy(), &sample(vec![t], 2, 0)).replicas
    };
    assert!(known(4_900) > known(0), "{} > {}", known(4_900), known(0));
}

#[test]
fn due_jobs_of_a_held_lane_ask_for_no_worker_and_those_of_others_do() {
    let held = TypeLoad { held: true, ..waiting(100_000, 60_000) };
    let alone = first(&policy(), &sample(vec![held.clone()], 0, 0));
    assert_eq!((alone.replicas, alone.reason), (0, Reason::HeldBack));
    assert!(alone.message.contains("more workers do not help"), "{}", alone.message);
    let by_depth = ScalePolicy { depth_per_replica: Some(10), ..policy() };
    assert_eq!(first(&by_depth, &sample(vec![held.clone()], 0, 0)).replicas, 0, "nor does its depth");
    let other = TypeLoad { name: "report".into(), ..waiting(1, 0) };
    let both = first(&policy(), &sample(vec![held.clone(), other], 0, 0));
    assert_eq!((both.replicas, both.reason), (1, Reason::Backlog));
    let opens_soon = TypeLoad { soon: 1, ..held.clone() };
    let started_ahead = first(&policy(), &sample(vec![opens_soon], 0, 0));
    assert_eq!((started_ahead.replicas, started_ahead.reason), (1, Reason::Scheduled));
    let running = TypeLoad { running: 4, arrived_total: 100_004, ..held };
    let decision = first(&policy(), &sample(vec![running], 1, 1));
    assert_eq!((decision.replicas, decision.reason), (1, Reason::Running));
}

/// However fast jobs come: while their lane is held, none of them can be taken.
#[test]
fn the_rate_of_a_held_lane_asks_for_nothing() {
    let at = |i: u64| TypeLoad {
        held: true,
        ended_total: 1_000,
        busy_ms_total: 1_000_000,
        arrived_total: 1_000 + i * 5_000,
        ..waiting(i * 5_000, i * 5_000)
    };
    let mut state = State::default();
    for i in 0..20 {
        let (decision, next) = decide(&policy(), &sample(vec![at(i)], 0, 0), &state, START + i * 5_000);
        assert_eq!(decision.replicas, 0, "{decision:?}");
        state = next;
    }
}
