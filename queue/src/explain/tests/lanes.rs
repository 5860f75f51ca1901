//! Lanes.

use super::jobs::bounded;
use super::*;
use crate::explain;
use crate::types::KeyStanding;

#[test]
fn lanes() {
    let lane = |world: &World| explain::lane("fast", None, &world.scene());
    expect(&explain::lane("x", None, &World::new().scene()), Cause::Unknown, &["no lane x", "fast"]);
    expect(
        &lane(&World::new()),
        Cause::NoPool,
        &["1 job of lane fast wait", "5 s", "promised: 10 s", "No WorkerPool"],
    );
    let mut world = World::new().pool(1, 1).worker(0);
    world.stats.lanes[0].types[0].oldest_due_ms = Some(NOW - 1_000);
    expect(&lane(&world), Cause::Working, &["oldest for 1 s"]);
    world.stats.lanes[0].types[0].oldest_due_ms = Some(NOW - 20_000);
    expect(&lane(&world), Cause::Late, &["perWorker"]);
    world.stats.lanes[0].types[0].ready = 0;
    expect(&lane(&world), Cause::Idle, &["Nothing waits"]);
    world.stats.lanes[0].types[0].running = 2;
    expect(&lane(&world), Cause::Working, &["2 jobs run"]);
}

#[test]
fn types_that_no_lane_claims() {
    let mut world = World::new();
    assert_eq!(explain::orphans("mail", &world.scene()), None, "a lane has it");
    world.stats.lanes[0].name = String::new();
    let words = ["1 job of type mail waits", "5 s", "0 dead letters", "no such job type"];
    expect(&explain::orphans("mail", &world.scene()).unwrap(), Cause::UnknownType, &words);
    world.stats.lanes[0].types[0].ready = 0;
    assert_eq!(explain::orphans("mail", &world.scene()), None, "nothing of it is left");
    world.stats.lanes[0].types[0].dead = 2;
    let words = ["0 jobs of type mail wait", "2 dead letters"];
    expect(&explain::orphans("mail", &world.scene()).unwrap(), Cause::UnknownType, &words);
}

/// A world in which a critical lane with a due job shares pool and worker with the other one.
pub(super) fn with_critical(busy: u32) -> World {
    let mut world = World::new().pool(1, 1).worker(busy);
    let mut critical = LanePolicy::new("resets", 10_000);
    critical.critical = true;
    world.policy.lanes.push(critical);
    let resets =
        TypeStats { name: "reset".into(), ready: 1, oldest_due_ms: Some(NOW), ..TypeStats::default() };
    world.stats.lanes.push(LaneStats { name: "resets".into(), types: vec![resets] });
    world.stats.workers[0].lanes.push("resets".into());
    world.pools.as_mut().unwrap()[0].lanes.push("resets".into());
    world
}

#[test]
fn the_slot_that_is_kept_for_critical_lanes_is_not_free_for_others() {
    let lane = |world: &World, name: &str| explain::lane(name, None, &world.scene());
    let world = with_critical(9);
    expect(
        &lane(&world, "fast"),
        Cause::SlotsBusy,
        &["All 9 slots", "beside one that is kept for critical lanes"],
    );
    expect(&lane(&world, "resets"), Cause::Working, &[]);
    expect(&lane(&with_critical(8), "fast"), Cause::JobsHeld, &["free slots"]);
    // Without a pool in sight the answer is the same.
    let mut world = with_critical(9);
    world.pools = None;
    expect(&lane(&world, "fast"), Cause::SlotsBusy, &["kept for critical lanes"]);
    // The busy one may be that of the critical job.
    let mut world = with_critical(9);
    world.stats.lanes[1].types[0].running = 1;
    expect(&lane(&world, "fast"), Cause::JobsHeld, &["free slots"]);
    // A worker of one slot keeps none.
    let mut world = with_critical(0);
    world.stats.workers[0].slots = 1;
    expect(&lane(&world, "fast"), Cause::JobsHeld, &["free slots"]);
}

/// Where what waits a second beside free slots is held, `Working` would be a lie.
#[test]
fn jobs_that_wait_beside_free_slots_are_held_by_bounds_of_their_own() {
    let mut world = World::new().pool(1, 1).worker(0);
    let held = "held by their concurrency keys or by `perWorker`";
    let lane = |world: &World, place: &Place| {
        explain::lane("fast", Some((&job(JobState::Ready), place)), &world.scene())
    };
    let free = Place { position: Some(Position { ahead: 0, waiting: 4 }), key: None };
    expect(&lane(&world, &free), Cause::JobsHeld, &["0 running", held, "`lanekeeper why J1`"]);
    let key = KeyStanding {
        key: "customer:7".into(),
        running: 0,
        limit: None,
        held_until_ms: None,
        rate_opens_ms: Some(NOW + 250),
        ahead: 0,
    };
    let spent = Place { key: Some(key.clone()), ..free.clone() };
    let words =
        ["1 job of lane fast waits", "First in line is job J1: The rate of its key customer:7 is spent"];
    expect(&lane(&world, &spent), Cause::KeyRateSpent, &words);
    let full = Place { key: Some(KeyStanding { limit: Some(0), ..key }), ..free.clone() };
    expect(&lane(&world, &full), Cause::KeyAtLimit, &["Its key customer:7 is at its limit", "same way"]);
    // Beyond the promise the answer for the job is the same, and without one the lane is late.
    world.stats.lanes[0].types[0].oldest_due_ms = Some(NOW - 20_000);
    expect(&lane(&world, &spent), Cause::KeyRateSpent, &words);
    expect(&lane(&world, &free), Cause::Late, &[held, "`lanekeeper why J1`"]);
}

#[test]
fn a_lane_whose_types_are_at_their_per_worker_bounds() {
    let world = bounded(1, 2);
    let lane = |world: &World| explain::lane("fast", None, &world.scene());
    let words = ["perWorker of 1: 2 jobs of it running in 2 workers", "spec.jobTypes[].perWorker"];
    expect(&lane(&world), Cause::TypeAtPerWorker, &words);
    // Where another type of the lane may go, jobs are held and not all of them.
    let mut other = world;
    let due = TypeStats { name: "sms".into(), ready: 1, oldest_due_ms: Some(NOW), ..TypeStats::default() };
    other.stats.lanes[0].types.push(due);
    expect(&lane(&other), Cause::JobsHeld, &["perWorker"]);
}

/// Heartbeats are older than the other figures, and the two must not contradict each other.
#[test]
fn slots_in_which_nothing_runs_are_not_busy() {
    let mut world = World::new().pool(1, 1).worker(10);
    let lane = |world: &World| explain::lane("fast", None, &world.scene());
    expect(&lane(&world), Cause::SlotsBusy, &["10 running", "All 10 slots"]);
    world.stats.lanes[0].types[0].running = 0;
    let found = lane(&world);
    expect(&found, Cause::JobsHeld, &["0 running"]);
    assert!(!found.sentence.contains("busy"), "{found:?}");
    let found = explain::pool("interactive", &world.scene());
    expect(&found, Cause::Working, &["0 of 10 slots are busy"]);
    world.stats.workers[0].draining = true;
    expect(&lane(&world), Cause::SlotsBusy, &["No slot of the 1 worker of lane fast is open"]);
    world.stats.workers[0].draining = false;
    // Jobs of types that left the policy are in slots as well.
    let left = TypeStats { name: "old".into(), running: 10, ..TypeStats::default() };
    world.stats.lanes.push(LaneStats { name: String::new(), types: vec![left] });
    expect(&lane(&world), Cause::SlotsBusy, &["All 10 slots"]);
}
