//! The generator: random operations, most of them meaningful in the state at hand.

use lanekeeper_api::policy::QueuePolicy;
use lanekeeper_queue::testing::model::{Model, Op, Word};
use lanekeeper_queue::types::{Find, Held, Holds, JobState, Outcome, Settlement, WorkerIdentity, WorkerInfo};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::bench::EARLIEST_US;
use crate::policies::{self, TYPES};
use crate::settlements::{held, note, settlements};

/// Shortest pause: longer than an enqueue of a full batch takes ids for, as in a real server.
const LEAST_PAUSE_US: u64 = 250;

/// Longest jump to a moment.
const FAR_MS: u64 = 200_000_000;

/// How time goes for a while.
#[derive(Clone, Copy)]
enum Pace {
    /// Many calls in a millisecond and a few.
    Fast,
    /// Some calls in a lease: those nobody renews run out.
    Steady,
    /// Gaps of hours.
    Slow,
}

pub struct Generator {
    pub rng: StdRng,
    pace: Pace,
    left: u32,
    length: usize,
    pub mood: Mood,
    /// Whether the next operation is damage, right after a sweep.
    hurts: bool,
    /// The share of claims that say something of an offer.
    pub offers: f64,
}

/// What is special about a case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Plain,
    /// A few jobs that are tried again and again.
    Few,
    /// The clock goes back now and then.
    Unsteady,
    /// Most jobs have concurrency keys.
    Keys,
    /// Keys and entries of Redis are lost, and sweeps mend what they can.
    Hurt,
    /// Workers have room, and say so.
    Room,
}

impl Generator {
    pub fn new(seed: u64, case: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ case.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let length = *[60, 150, 300, 600].choose(&mut rng).expect("not empty");
        let mood = match rng.random_range(0..14) {
            0..4 => Mood::Plain,
            4 => Mood::Hurt,
            5..7 => Mood::Few,
            7..9 => Mood::Keys,
            9 => Mood::Unsteady,
            _ => Mood::Room,
        };
        let offers =
            if mood == Mood::Room { 0.95 } else { *[0.0, 0.3, 0.9].choose(&mut rng).expect("not empty") };
        Self { rng, pace: Pace::Fast, left: 10, length, mood, hurts: false, offers }
    }

    /// How many operations the case has.
    pub fn length(&self) -> usize {
        self.length
    }

    pub fn chance(&mut self, p: f64) -> bool {
        self.rng.random_bool(p)
    }

    /// When the next operation happens, µs: at least `least_us` after the last, unless the clock goes back.
    pub fn next_us(&mut self, model: &Model, at_us: u64) -> u64 {
        if self.mood == Mood::Unsteady && self.chance(0.02) {
            // At least to another millisecond: the model knows of no shorter time.
            let back = [1_000, 2_000, 3_000_000, 40_000_000, 7_200_000_000];
            let back_us = back.choose(&mut self.rng).map_or(0, |most| self.rng.random_range(1_000..=*most));
            return at_us.saturating_sub(back_us).max(EARLIEST_US);
        }
        at_us + if self.hurts { LEAST_PAUSE_US } else { self.pause_us(model, at_us) }
    }

    /// Time until the next operation, µs.
    fn pause_us(&mut self, model: &Model, at_us: u64) -> u64 {
        if self.left == 0 {
            self.left = self.rng.random_range(5..40);
            self.pace = match self.rng.random_range(0..20) {
                0..9 => Pace::Fast,
                9..19 => Pace::Steady,
                _ => Pace::Slow,
            };
        }
        self.left -= 1;
        let rng = &mut self.rng;
        if rng.random_bool(0.12) {
            let now_ms = at_us / 1_000;
            let next: Vec<u64> = model
                .moments(now_ms)
                .into_iter()
                .filter(|at| (now_ms + 2..now_ms + FAR_MS).contains(at))
                .collect();
            // The last millisecond before, the very one, the first after.
            if let Some(moment) = next.choose(rng) {
                let to_us = (moment - 1 + rng.random_range(0..3)) * 1_000 + rng.random_range(0..1_000);
                return to_us.saturating_sub(at_us).max(LEAST_PAUSE_US);
            }
        }
        let lease_us = model.present_policy().map_or(10_000, |policy| policy.lease_ms) * 1_000;
        match self.pace {
            Pace::Fast => rng.random_range(LEAST_PAUSE_US..2_000),
            Pace::Steady if rng.random_bool(0.5) => rng.random_range(LEAST_PAUSE_US..50_000),
            Pace::Steady => rng.random_range(lease_us / 10..lease_us * 45 / 100),
            Pace::Slow if rng.random_bool(0.6) => rng.random_range(LEAST_PAUSE_US..50_000),
            Pace::Slow => rng.random_range(lease_us / 3..7_200_000_000),
        }
    }

    /// The next operation.
    pub fn op(&mut self, model: &Model, now_ms: u64) -> Op {
        let Some(policy) = model.present_policy() else {
            return if self.chance(0.8) {
                Op::Configure { policy: Box::new(self.first_policy()), adopt: false }
            } else {
                self.any(model, now_ms)
            };
        };
        if std::mem::take(&mut self.hurts) && model.is_calm(now_ms * 1_000) {
            return self.damage(model);
        }
        if self.mood == Mood::Hurt && self.chance(0.06) {
            self.hurts = true;
            return Op::Sweep { sweeper: self.worker(), limit: 200 };
        }
        if (policy.paused || policy.closed.is_some()) && self.chance(0.1) {
            return self.configure(model);
        }
        if model.pauses() && self.chance(0.1) {
            return self.toggle(model);
        }
        self.any(model, now_ms)
    }

    fn any(&mut self, model: &Model, now_ms: u64) -> Op {
        if let Some(op) = self.of_room(model, now_ms) {
            return op;
        }
        match self.rng.random_range(0..1_000) {
            0..210 => self.enqueue(model, now_ms),
            210..450 => self.work(model),
            450..530 => self.settle(model),
            530..620 => self.extend(model),
            620..720 => self.sweep(model),
            720..770 => {
                let states = [JobState::Ready, JobState::Scheduled, JobState::Running];
                Op::Cancel { ids: self.ids(model, now_ms, &states), by: self.by() }
            }
            770..800 => Op::Replay {
                ids: self.ids(model, now_ms, &[JobState::Dead, JobState::Discarded]),
                word: Word { meant: self.meant(now_ms), ..self.word() },
            },
            800..840 => self.review(model, now_ms),
            840..885 => self.configure(model),
            885..905 => Op::Get { ids: self.ids(model, now_ms, &[]), with_payload: self.chance(0.7) },
            905..940 => Op::Find(self.find(model)),
            940..952 => Op::Position(self.ids(model, now_ms, &[JobState::Ready]).swap_remove(0)),
            952..960 => Op::Standing(self.ids(model, now_ms, &[JobState::Ready]).swap_remove(0)),
            960..975 => {
                let filter = self.filter(model, now_ms);
                if self.chance(0.3) {
                    Op::DeadGroups(filter)
                } else {
                    Op::DeadList { filter, limit: self.page() }
                }
            }
            975..980 => Op::Stats,
            980..985 => Op::LeasesOf(self.holder(model)),
            985..988 => Op::Leave(self.worker()),
            988..990 => Op::PassOn(self.lanes()),
            990..993 => Op::Policy,
            993..998 => self.toggle(model),
            _ if self.chance(0.5) => Op::Destroy,
            _ => Op::Stats,
        }
    }

    fn first_policy(&mut self) -> QueuePolicy {
        let gates = if self.mood == Mood::Room { 0.1 } else { 0.4 };
        policies::first(&mut self.rng, gates)
    }

    /// A pause, or its end.
    pub fn toggle(&mut self, model: &Model) -> Op {
        let lanes: Vec<String> = model
            .present_policy()
            .map(|policy| policy.lanes.iter().map(|lane| lane.name.clone()).collect())
            .unwrap_or_default();
        let lanes: Vec<String> = lanes.into_iter().filter(|_| self.chance(0.4)).collect();
        if self.chance(0.35) {
            let why = if self.chance(0.1) { "ü".repeat(600) } else { "a deploy".to_owned() };
            return Op::Pause { lanes, by: self.by(), why };
        }
        Op::Resume(lanes)
    }

    pub fn worker(&mut self) -> WorkerIdentity {
        // More than an enqueue looks at for one that has room.
        let most = if self.mood == Mood::Room { 7 } else { 4 };
        let n = self.rng.random_range(0..most);
        // The same name after a restart.
        let boot = if self.chance(0.05) { "again" } else { "boot" };
        WorkerIdentity {
            name: format!("w{n}"),
            boot: format!("{boot}-{n}"),
            pool: "pool".into(),
            node: format!("node-{}", n % 2),
        }
    }

    /// Somebody who holds a lease, where anybody does.
    pub fn holder(&mut self, model: &Model) -> WorkerIdentity {
        let holders: Vec<&WorkerIdentity> = model.leases().map(|(_, _, holder)| holder).collect();
        match holders.choose(&mut self.rng) {
            Some(holder) if self.rng.random_bool(0.85) => (*holder).clone(),
            _ => self.worker(),
        }
    }

    fn by(&mut self) -> String {
        if self.chance(0.1) { "é".repeat(65) } else { "anna".to_owned() }
    }

    fn page(&mut self) -> u32 {
        *[1, 2, 7, 200].choose(&mut self.rng).expect("not empty")
    }

    pub fn batch(&mut self) -> usize {
        if self.chance(0.6) { self.rng.random_range(1..=3) } else { self.rng.random_range(1..=20) }
    }

    /// Ids of jobs in one of the states (or any), some of jobs elsewhere, some unknown, some twice. At least one.
    pub fn ids(&mut self, model: &Model, now_ms: u64, states: &[JobState]) -> Vec<String> {
        let state = states.choose(&mut self.rng).copied();
        let here = model.jobs_in(state, now_ms);
        let all: Vec<&String> = model.known_ids().collect();
        let rng = &mut self.rng;
        let count = if rng.random_bool(0.8) { rng.random_range(1..=2) } else { rng.random_range(1..=20) };
        let mut ids: Vec<String> = Vec::new();
        for _ in 0..count {
            let id = if rng.random_bool(0.9) { here.choose(rng) } else { all.choose(rng).copied() };
            ids.push(id.cloned().unwrap_or_else(|| "unknown".to_owned()));
        }
        ids
    }

    pub fn settlements(&mut self, model: &Model, held: Vec<Held>) -> Vec<Settlement> {
        let mut words = settlements(&mut self.rng, held, self.mood == Mood::Few);
        for word in &mut words {
            if self.mood == Mood::Keys && self.chance(0.1) {
                let delay_ms = self.rng.random_range(0..60_000);
                word.outcome = Outcome::Snooze { delay_ms, why: String::new(), holds: Holds::Key };
            }
            if let Outcome::Success { follow_ups, .. } = &mut word.outcome
                && self.chance(0.15)
            {
                *follow_ups = self.follow_ups(model);
            }
        }
        words
    }

    fn settle(&mut self, model: &Model) -> Op {
        let worker = self.holder(model);
        let most = self.batch();
        let mut done = Vec::new();
        while done.is_empty() {
            let chosen = held(&mut self.rng, model, &worker, most);
            done = self.settlements(model, chosen);
            if done.is_empty() && model.known_ids().next().is_none() {
                return Op::Stats;
            }
        }
        // Right token, wrong boot.
        let worker = if self.chance(0.05) { self.worker() } else { worker };
        Op::Settle { worker, done }
    }

    pub fn extend(&mut self, model: &Model) -> Op {
        // Of whom nobody hears, the offers are forgotten.
        let any = self.mood == Mood::Room && self.chance(0.6);
        let identity = if any { self.worker() } else { self.holder(model) };
        let most = if self.chance(0.7) { 200 } else { self.batch() };
        let held = held(&mut self.rng, model, &identity, most);
        let info = WorkerInfo {
            identity,
            lanes: self.lanes(),
            slots: 10,
            busy: u32::try_from(held.len()).unwrap_or(0),
            draining: self.chance(0.1),
            seen_ms: 0,
            started_ms: 0,
        };
        let mut notes = Vec::new();
        for at in 0..held.len() {
            notes.extend(self.chance(0.2).then(|| (at, note(&mut self.rng))));
        }
        Op::Extend { worker: Box::new(info), held, notes }
    }

    fn sweep(&mut self, _: &Model) -> Op {
        let operator = WorkerIdentity {
            name: "operator".into(),
            boot: "boot-operator".into(),
            pool: String::new(),
            node: String::new(),
        };
        let sweeper = if self.chance(0.5) { operator } else { self.worker() };
        let limit = if self.chance(0.15) { self.rng.random_range(0..6) } else { 200 };
        Op::Sweep { sweeper, limit }
    }

    fn configure(&mut self, model: &Model) -> Op {
        let (policy, adopt) = match model.present_policy() {
            Some(present) => policies::next(&mut self.rng, present),
            None => (self.first_policy(), false),
        };
        Op::Configure { policy: Box::new(policy), adopt }
    }

    fn find(&mut self, model: &Model) -> Find {
        let states = [
            JobState::Scheduled,
            JobState::Ready,
            JobState::Running,
            JobState::Succeeded,
            JobState::Dead,
            JobState::Cancelled,
            JobState::Discarded,
        ];
        let (name, _) = *TYPES.choose(&mut self.rng).expect("not empty");
        let keys: Vec<&String> = model.keys().into_iter().collect();
        let key = match self.rng.random_range(0..10) {
            0..4 => keys.choose(&mut self.rng).map(|key| (*key).clone()),
            4 => Some(self.key()),
            _ => None,
        };
        Find {
            key,
            state: self.chance(0.5).then(|| *states.choose(&mut self.rng).expect("not empty")),
            job_type: self.chance(0.4).then(|| name.to_owned()),
            limit: self.page(),
            cursor: None,
        }
    }

    pub fn key(&mut self) -> String {
        match self.rng.random_range(0..12) {
            0 => format!("e:{}", ["7created", "a%3Ab1"].choose(&mut self.rng).expect("not empty")),
            1 => "é\u{0} k".to_owned(),
            n => format!("k{n}"),
        }
    }
}
