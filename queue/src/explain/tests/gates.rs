//! Gates: pauses by hand, lanes that are held back, concurrency keys.

use super::*;
use crate::explain;
use crate::types::{ClosedGate, Gate, KeyStanding};
use lanekeeper_api::policy::{Circuit, RateLimit};

/// A world with workers that have room, and one closed gate.
fn closed(lane: Option<&str>, gate: Gate, until_ms: Option<u64>, since_ms: Option<u64>) -> World {
    let mut world = World::new().pool(1, 1).worker(3);
    world.stats.gates.push(ClosedGate {
        lane: lane.map(str::to_owned),
        gate,
        until_ms,
        since_ms,
        by: None,
        why: None,
    });
    world
}

fn paused(lane: Option<&str>) -> World {
    let mut world = closed(lane, Gate::Paused, None, Some(NOW - 300_000));
    world.stats.gates[0].by = Some("ada".into());
    world.stats.gates[0].why = Some("vendor is down".into());
    world.stats.paused = lane.is_none();
    world
}

#[test]
fn the_queue_paused_by_hand() {
    let mut world = paused(None);
    let words =
        ["Queue apps/saas was paused by ada 5 min ago: vendor is down.", "lanekeeper resume apps/saas`"];
    world.says(&job(JobState::Ready), 0, Cause::Paused, &words);
    expect(&explain::pool("interactive", &world.scene()), Cause::Paused, &["1 due jobs", "paused by ada"]);
    world.policy.paused = true;
    let words = ["Queue apps/saas is paused.", "`paused: false`", "It was paused by ada 5 min ago"];
    world.says(&job(JobState::Ready), 0, Cause::Paused, &words);
}

#[test]
fn a_lane_paused_by_hand() {
    let world = paused(Some("fast"));
    let words = ["Lane fast was paused by ada 5 min ago: vendor is down.", "resume apps/saas --lane fast`"];
    world.says(
        &job(JobState::Ready),
        3,
        Cause::Paused,
        &[&words[..], &["3 jobs of lane fast go first"]].concat(),
    );
    expect(&explain::lane("fast", None, &world.scene()), Cause::Paused, &words);
    expect(&explain::pool("interactive", &world.scene()), Cause::Paused, &words);
    // Another lane's pause says nothing of this one.
    paused(Some("slow")).says(&job(JobState::Ready), 0, Cause::Next, &["any moment"]);
}

#[test]
fn a_held_lane() {
    let world = closed(Some("fast"), Gate::Hold, Some(NOW + 30_000), Some(NOW - 120_000));
    let words = ["Lane fast is held for another 30 s, held for 2 min by now", "Retry-After"];
    world.says(&job(JobState::Ready), 0, Cause::LaneHeld, &words);
    expect(&explain::lane("fast", None, &world.scene()), Cause::LaneHeld, &words);
}

#[test]
fn an_open_circuit() {
    let mut world = closed(Some("fast"), Gate::Circuit, Some(NOW + 10_000), Some(NOW - 60_000));
    world.policy.lanes[0].circuit = Some(Circuit { failures: 5, probe_after_ms: 10_000 });
    let words =
        ["circuit of lane fast is open, open for 1 min by now", "5 attempts in a row failed", "in 10 s"];
    world.says(&job(JobState::Ready), 0, Cause::CircuitOpen, &words);
    world.stats.gates[0].until_ms = None;
    world.says(&job(JobState::Ready), 0, Cause::CircuitOpen, &["one job probes"]);
    world.stats.gates[0].until_ms = Some(NOW);
    world.says(&job(JobState::Ready), 0, Cause::CircuitOpen, &["the next job probes"]);
}

#[test]
fn a_closed_lane_in_which_nothing_waits_says_both() {
    let idle = |gate| {
        let mut world = closed(Some("fast"), gate, Some(NOW + 10_000), Some(NOW - 60_000));
        world.stats.lanes[0].types[0].ready = 0;
        world.stats.lanes[0].types[0].running = 0;
        world
    };
    let shut = |gate| explain::lane("fast", None, &idle(gate).scene());
    let words =
        ["Nothing waits", "What comes now would wait. The circuit of lane fast is open", "lanekeeper get"];
    expect(&shut(Gate::Circuit), Cause::Idle, &words);
    expect(&shut(Gate::Hold), Cause::Idle, &["Nothing waits", "Lane fast is held for another 10 s"]);
    expect(&shut(Gate::Paused), Cause::Idle, &["Lane fast was paused", "resume apps/saas --lane fast"]);
    // The rate of what has just gone says nothing of what comes.
    assert_eq!(shut(Gate::Rate).also, Vec::<String>::new());
    let mut full = idle(Gate::Rate);
    full.stats.full = true;
    expect(&explain::lane("fast", None, &full.scene()), Cause::Idle, &["full by its spec.capacity"]);
}

#[test]
fn a_lane_at_its_concurrency() {
    let mut world = closed(Some("fast"), Gate::Concurrency, None, None);
    world.policy.lanes[0].concurrency = Some(3);
    world.stats.lanes[0].types[0].running = 3;
    let words = ["Lane fast is at its concurrency of 3: 3 jobs running.", "Raise the lane's `concurrency`"];
    world.says(&job(JobState::Ready), 0, Cause::LaneAtConcurrency, &words);
}

#[test]
fn a_lane_whose_rate_is_spent() {
    let mut world = closed(Some("fast"), Gate::Rate, Some(NOW + 120), None);
    world.policy.lanes[0].rate_limit = Some(RateLimit { limit: 500, per_ms: 60_000, burst: None, by: None });
    let words = ["The rate of lane fast of 500 per 1 min is spent; the next job may start in 120 ms."];
    world.says(&job(JobState::Ready), 0, Cause::LaneRateSpent, &words);
}

fn standing() -> KeyStanding {
    KeyStanding {
        key: "customer:7".into(),
        running: 2,
        limit: Some(10),
        held_until_ms: None,
        rate_opens_ms: None,
        ahead: 0,
    }
}

fn of_key(world: &World, key: KeyStanding, ahead: u64) -> Explanation {
    let place = Place { position: Some(Position { ahead, waiting: 9 }), key: Some(key) };
    explain::job("J1", Some(&job(JobState::Ready)), &place, &world.scene())
}

#[test]
fn a_key_at_its_limit() {
    let world = World::new().pool(1, 1).worker(3);
    let full = KeyStanding { running: 10, ahead: 4, ..standing() };
    let words =
        ["Its key customer:7 is at its limit of 10: 10 jobs", "4 jobs of its key customer:7 go first"];
    expect(&of_key(&world, full.clone(), 2), Cause::KeyAtLimit, &words);
    // Even where no worker is there: none would take it.
    expect(&of_key(&World::new(), full.clone(), 2), Cause::KeyAtLimit, &words);
    // A lane that is paused matters more, and the key is said as well.
    expect(&of_key(&paused(Some("fast")), full, 2), Cause::Paused, &["by ada", "at its limit of 10"]);
}

#[test]
fn a_held_key() {
    let held = KeyStanding { held_until_ms: Some(NOW + 30_000), running: 10, ..standing() };
    let world = World::new().pool(1, 1).worker(3);
    expect(&of_key(&world, held, 0), Cause::KeyHeld, &["Its key customer:7 is held for another 30 s"]);
}

#[test]
fn a_key_whose_rate_is_spent() {
    let spent = KeyStanding { rate_opens_ms: Some(NOW + 250), ..standing() };
    let world = World::new().pool(1, 1).worker(3);
    let words = ["The rate of its key customer:7 is spent; the next job may start in 250 ms."];
    expect(&of_key(&world, spent, 0), Cause::KeyRateSpent, &words);
}

#[test]
fn a_key_with_room_holds_nothing_back() {
    let world = World::new().pool(1, 1).worker(3);
    expect(&of_key(&world, standing(), 0), Cause::Next, &["any moment"]);
    let behind = KeyStanding { ahead: 1, ..standing() };
    expect(
        &of_key(&world, behind, 3),
        Cause::BehindOthers,
        &["3 jobs of lane", "1 job of its key customer:7 goes first"],
    );
}
