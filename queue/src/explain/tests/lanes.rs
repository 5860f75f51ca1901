//! Lanes.

use super::*;
use crate::explain;

#[test]
fn lanes() {
    let lane = |world: &World| explain::lane("fast", &world.scene());
    expect(&explain::lane("x", &World::new().scene()), Cause::Unknown, &["no lane x", "fast"]);
    expect(
        &lane(&World::new()),
        Cause::NoPool,
        &["1 job of lane fast wait", "5 s", "promised: 10 s", "No WorkerPool"],
    );
    expect(&lane(&World::new().pool(1, 1).worker(1)), Cause::Working, &["oldest for 5 s"]);
    let mut world = World::new().pool(1, 1).worker(1);
    world.stats.lanes[0].types[0].oldest_due_ms = Some(NOW - 20_000);
    expect(&lane(&world), Cause::Late, &["perWorker"]);
    world.stats.lanes[0].types[0].ready = 0;
    expect(&lane(&world), Cause::Idle, &["Nothing waits"]);
    world.stats.lanes[0].types[0].running = 2;
    expect(&lane(&world), Cause::Working, &["2 jobs run"]);
}

#[test]
fn the_slot_that_is_kept_for_critical_lanes_is_not_free_for_others() {
    let lane = |world: &World, name: &str| explain::lane(name, &world.scene());
    let with_critical = |busy: u32| {
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
    };
    let world = with_critical(9);
    expect(
        &lane(&world, "fast"),
        Cause::SlotsBusy,
        &["All 9 slots", "beside one that is kept for critical lanes"],
    );
    expect(&lane(&world, "resets"), Cause::Working, &[]);
    expect(&lane(&with_critical(8), "fast"), Cause::Working, &[]);
    // Without a pool in sight the answer is the same.
    let mut world = with_critical(9);
    world.pools = None;
    expect(&lane(&world, "fast"), Cause::SlotsBusy, &["kept for critical lanes"]);
    // The busy one may be that of the critical job.
    let mut world = with_critical(9);
    world.stats.lanes[1].types[0].running = 1;
    expect(&lane(&world, "fast"), Cause::Working, &[]);
    // A worker of one slot keeps none.
    let mut world = with_critical(0);
    world.stats.workers[0].slots = 1;
    expect(&lane(&world, "fast"), Cause::Working, &[]);
}
