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
