//! Pools.

use super::*;
use crate::explain;

#[test]
fn pools() {
    let pool = |world: &World| explain::pool("interactive", &world.scene());
    expect(&pool(&World::new()), Cause::Unknown, &["no pool interactive"]);
    expect(
        &pool(&World::new().pool(2, 1).worker(1)),
        Cause::PoolStarting,
        &["1 ready of 2 wanted (Backlog)"],
    );
    expect(&pool(&World::new().pool(2, 2).worker(10)), Cause::PoolAtMax, &["10 of 10 slots", "maxReplicas"]);
    expect(&pool(&World::new().pool(1, 1).worker(10)), Cause::SlotsBusy, &["1 due jobs"]);
    expect(&pool(&World::new().pool(0, 0)), Cause::PoolAtZero, &["0 wanted"]);
    expect(
        &pool(&World::new().pool(1, 0).pod(PodProblem::CrashLoop, "exit 1")),
        Cause::PodsFailing,
        &["exit 1"],
    );
    let mut world = World::new().pool(1, 1).worker(1);
    expect(&pool(&world), Cause::Working, &["1 of 10 slots"]);
    world.stats.paused = true;
    expect(&pool(&world), Cause::Paused, &["paused: false"]);
    world.stats.workers.clear();
    world.stats.lanes.clear();
    expect(&pool(&world), Cause::Idle, &["0 due jobs"]);
}
