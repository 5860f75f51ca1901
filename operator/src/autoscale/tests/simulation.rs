//! A small world: jobs arrive, workers start after a while and run them, the autoscaler looks every tick.
//!
//! Regression tests of behaviour, with wide bounds: what a user would call wrong, not a benchmark.

use std::collections::VecDeque;

use super::*;
use crate::autoscale::decide::{State, decide};

const STEP_MS: u64 = 100;

struct World {
    policy: ScalePolicy,
    tick_ms: u64,
    startup_ms: u64,
    service_ms: u64,
    now: u64,
    queue: VecDeque<u64>,
    /// Per worker: ready at, and the ends of its jobs.
    workers: Vec<(u64, Vec<u64>)>,
    arrived: u64,
    ended: u64,
    busy_ms: u64,
    state: State,
    replicas: Vec<u32>,
    worst_wait_ms: u64,
    late: u64,
    worker_ms: u64,
}

impl World {
    fn new(policy: ScalePolicy, startup_ms: u64, service_ms: u64) -> Self {
        Self {
            policy,
            tick_ms: 5_000,
            startup_ms,
            service_ms,
            now: 86_400_000,
            queue: VecDeque::new(),
            workers: Vec::new(),
            arrived: 0,
            ended: 0,
            busy_ms: 0,
            state: State::default(),
            replicas: vec![0],
            worst_wait_ms: 0,
            late: 0,
            worker_ms: 0,
        }
    }

    /// `rate` tells jobs per second at a second of the run.
    fn run(&mut self, seconds: u64, rate: impl Fn(f64) -> f64) {
        let (mut owed, start) = (0.0, self.now);
        for step in 0..seconds * 1_000 / STEP_MS {
            self.now = start + step * STEP_MS;
            owed += rate(step as f64 * STEP_MS as f64 / 1_000.0) * STEP_MS as f64 / 1_000.0;
            let woken = self.queue.is_empty() && owed >= 1.0;
            while owed >= 1.0 {
                owed -= 1.0;
                self.arrived += 1;
                self.queue.push_back(self.now);
            }
            self.work();
            if woken && self.workers.is_empty() || (step * STEP_MS).is_multiple_of(self.tick_ms) {
                self.look();
            }
        }
        self.now = start + seconds * 1_000;
    }

    fn work(&mut self) {
        let (now, service, target) = (self.now, self.service_ms, 2 * self.policy.oldest_age_ms);
        for (ready, jobs) in &mut self.workers {
            let before = jobs.len();
            jobs.retain(|end| *end > now);
            self.ended += (before - jobs.len()) as u64;
            self.busy_ms += (before - jobs.len()) as u64 * service;
            while *ready <= now && jobs.len() < self.policy.slots as usize {
                let Some(since) = self.queue.pop_front() else { break };
                self.worst_wait_ms = self.worst_wait_ms.max(now - since);
                self.late += u64::from(now - since > target);
                jobs.push(now + service);
            }
        }
        self.worker_ms += self.workers.len() as u64 * STEP_MS;
    }

    fn look(&mut self) {
        let running: u64 = self.workers.iter().map(|(_, jobs)| jobs.len() as u64).sum();
        let due = self.queue.len() as u64;
        let load = TypeLoad {
            name: "job".into(),
            due,
            oldest_age_ms: self.queue.front().map_or(0, |since| self.now - since),
            running,
            arrived_total: due + running + self.ended,
            ended_total: self.ended,
            busy_ms_total: self.busy_ms,
            ..TypeLoad::default()
        };
        let sample = Sample {
            load: Some(Load { held: None, types: vec![load] }),
            replicas: self.workers.len() as u32,
            ready: self.workers.iter().filter(|(ready, _)| *ready <= self.now).count() as u32,
            busy: self.workers.iter().filter(|(_, jobs)| !jobs.is_empty()).count() as u32,
            startup_ms: self.startup_ms,
        };
        let (decision, state) = decide(&self.policy, &sample, &self.state, self.now);
        self.state = state;
        let to = decision.replicas as usize;
        while self.workers.len() < to {
            self.workers.push((self.now + self.startup_ms, Vec::new()));
        }
        // The platform takes the idle ones first; the decision never asks for more than those.
        self.workers.sort_by_key(|(_, jobs)| std::cmp::Reverse(jobs.len()));
        assert!(
            self.workers.iter().skip(to).all(|(_, jobs)| jobs.is_empty()),
            "a busy worker was taken away"
        );
        self.workers.truncate(to);
        self.replicas.push(decision.replicas);
    }

    fn most(&self) -> u32 {
        self.replicas.iter().copied().max().unwrap_or(0)
    }

    /// How often a rise turned into a fall or a fall into a rise.
    fn reversals(&self) -> usize {
        let mut moves: Vec<bool> =
            self.replicas.windows(2).filter(|w| w[0] != w[1]).map(|w| w[1] > w[0]).collect();
        moves.dedup();
        moves.len().saturating_sub(1)
    }
}

#[test]
fn a_burst_from_zero_is_drained_and_the_workers_go() {
    let mut world = World::new(policy(), 2_000, 50);
    world.run(1, |_| 1_000.0);
    world.run(600, |_| 0.0);
    assert_eq!(world.ended, 1_000);
    assert!(world.worst_wait_ms < 10_000, "waited {} ms", world.worst_wait_ms);
    assert_eq!(world.workers.len(), 0);
    assert_eq!(world.reversals(), 1, "{:?}", world.replicas);
}

#[test]
fn a_constant_load_settles() {
    for (rate, service) in [(1.0, 200), (20.0, 200), (50.0, 1_000), (0.2, 20_000), (3.0, 5_000)] {
        let mut world = World::new(policy(), 5_000, service);
        world.run(3_600, |_| rate);
        assert!(world.reversals() <= 2, "{rate}/s of {service} ms: {:?}", world.replicas);
        let last = &world.replicas[world.replicas.len() - 400..];
        assert!(last.iter().all(|n| *n == last[0]), "{rate}/s of {service} ms: {last:?}");
        let offered = rate * service as f64 / 1_000.0 / 10.0;
        assert!(f64::from(last[0]) <= offered * 2.0 + 2.0, "{rate}/s of {service} ms: {}", last[0]);
    }
}

#[test]
fn a_step_keeps_the_promise_and_comes_back() {
    let mut world = World::new(policy(), 2_000, 2_000);
    world.run(600, |_| 2.0);
    world.run(600, |_| 20.0);
    world.run(900, |_| 2.0);
    assert!(world.late <= world.arrived / 50, "{} of {} late", world.late, world.arrived);
    assert!(world.workers.len() <= 2, "{}", world.workers.len());
}

#[test]
fn a_slow_wave_is_followed_without_flapping() {
    let mut world = World::new(policy(), 5_000, 1_000);
    world.run(7_200, |s| 30.0 + 25.0 * (s / 1_200.0 * std::f64::consts::TAU).sin());
    assert!(world.late <= world.arrived / 50, "{} of {} late", world.late, world.arrived);
    assert!(world.reversals() <= 24, "{} reversals", world.reversals());
}

#[test]
fn long_jobs_run_to_their_end_and_get_a_worker_each() {
    let long = ScalePolicy { slots: 1, oldest_age_ms: 30_000, max: 12, ..policy() };
    let mut world = World::new(long, 10_000, 480_000);
    world.run(60, |_| 0.1);
    world.run(3_000, |_| 0.0);
    assert_eq!(world.ended, 6);
    assert!((4..=9).contains(&world.most()), "{}", world.most());
    assert_eq!(world.workers.len(), 0);
}

#[test]
fn a_few_short_jobs_now_and_then_keep_one_worker_warm() {
    let mut world = World::new(policy(), 5_000, 100);
    world.run(1_800, |s| if s % 30.0 < 0.1 { 60.0 } else { 0.0 });
    assert_eq!(world.most(), 1, "{:?}", world.replicas);
    assert_eq!(world.reversals(), 0);
}

#[test]
fn a_service_time_far_from_the_first_guess_is_learned() {
    let mut world = World::new(ScalePolicy { max: 100, ..policy() }, 2_000, 100_000);
    world.run(1_200, |_| 2.0);
    // 200 slots are busy in the steady state: 20 workers, and a margin for chance.
    assert!((20..=26).contains(world.replicas.last().expect("it looked")), "{:?}", world.replicas.last());
}
