//! Random valid histories: clients that lose replies, die, stall and come too late, in front of a queue that is right.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::history::{Act, Ending, Event, Fate};
use super::super::{Effect, Fairness, FifoScope, KeyRules, Liveness, Rate, Rules, Run, TypeRules, digest};
use super::server::Server;
use crate::types::{JobState, Spends};

/// Longest time that a lost call takes to arrive, ms.
pub(super) const LATE_MS: u64 = 100;
pub(super) const FAR_MS: u64 = 1_000_000;

struct Sim {
    rng: StdRng,
    server: Server,
    events: Vec<Event>,
    effects: Vec<Effect>,
    clients: Vec<String>,
    /// Leases that clients know of: client, job, token, whether it was taken over.
    held: Vec<(String, String, u64, bool)>,
    /// Lost calls on their way: when they arrive, client, what.
    late: Vec<(u64, String, Act)>,
    /// Whether replies get lost.
    faults: bool,
    enqueued: usize,
    counted: u64,
}

/// Even seeds have fair lanes, odd ones rates and caps: a lane that is held back gets less than its share by right.
pub(super) fn rules(seed: u64) -> Rules {
    let limits = TypeRules { max_attempts: 3, crash_budget: 2 };
    let mut rules = Rules {
        late_ms: LATE_MS,
        types: ["a", "b", "c"].map(|name| (name.to_owned(), limits)).into(),
        fifo: Some(if seed.is_multiple_of(3) { FifoScope::Lane } else { FifoScope::Type }),
        keys: KeyRules { after_success_ms: 200, dead_hold: true },
        ..Rules::default()
    };
    if seed.is_multiple_of(2) {
        let weights = BTreeMap::from([("a".into(), 6.0), ("b".into(), 3.0), ("c".into(), 1.0)]);
        rules.fairness = Some(Fairness { weights, window: 20, epsilon: 0.15, most_wait: 16 });
    } else {
        rules.rates.insert("a".into(), Rate { limit: 5, per_ms: 100, burst: 2 });
        rules.caps.insert("b".into(), 3);
    }
    rules
}

/// A valid run and what it was promised.
pub(super) fn simulate(seed: u64) -> (Run, Rules) {
    let mut sim = Sim {
        rng: StdRng::seed_from_u64(seed),
        server: Server::new(rules(seed)),
        events: Vec::new(),
        effects: Vec::new(),
        clients: ["w0", "w1", "w2", "w3"].map(String::from).to_vec(),
        held: Vec::new(),
        late: Vec::new(),
        faults: false,
        enqueued: 0,
        counted: 0,
    };
    for at in 0..60 {
        sim.enqueue(
            0,
            if at % 10 < 5 {
                "a"
            } else if at % 10 < 8 {
                "b"
            } else {
                "c"
            },
        );
    }
    for _ in 0..40 {
        sim.tick(3);
        sim.claim();
    }
    sim.faults = true;
    for _ in 0..200 {
        sim.tick(12);
        sim.act();
    }
    sim.finish()
}

impl Sim {
    fn tick(&mut self, most: u64) {
        self.server.now_ms += self.rng.random_range(0..=most);
        let now_ms = self.server.now_ms;
        let (due, late): (Vec<_>, Vec<_>) = self.late.drain(..).partition(|(at_ms, ..)| *at_ms <= now_ms);
        self.late = late;
        for (_, client, act) in due {
            self.serve(&client, &act);
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn serve(&mut self, client: &str, asked: &Act) -> Option<Act> {
        let done = self.server.apply(client, asked);
        let success = matches!(done, Some(Act::Settle { ending: Ending::Success, .. }));
        self.counted += u64::from(success);
        done
    }

    /// Asks, and writes down what the client learns.
    fn call(&mut self, client: &str, asked: Act) -> Option<Act> {
        let lost = self.faults && self.chance(12);
        let (fate, act) = if lost {
            match self.rng.random_range(0..3) {
                0 => {}
                1 => drop(self.serve(client, &asked)),
                _ => {
                    let at_ms = self.server.now_ms + self.rng.random_range(0..=LATE_MS - 20);
                    self.late.push((at_ms, client.into(), asked.clone()));
                }
            }
            (Fate::Unknown, asked)
        } else {
            match self.serve(client, &asked) {
                Some(done) => (Fate::Ok, done),
                None => (Fate::Refused, asked),
            }
        };
        let event = Event { client: client.into(), at_ms: self.server.now_ms, fate, act };
        self.events.push(event.clone());
        (fate == Fate::Ok).then_some(event.act)
    }

    fn client(&mut self) -> String {
        let at = self.rng.random_range(0..self.clients.len());
        self.clients[at].clone()
    }

    fn enqueue(&mut self, delay_ms: u64, lane: &str) {
        self.enqueued += 1;
        let id = format!("j{}", self.enqueued);
        let key = self.chance(25).then(|| format!("k{}", self.rng.random_range(0..12)));
        let act = Act::Enqueue {
            job: Some(id.clone()),
            job_type: lane.into(),
            lane: lane.into(),
            priority: if self.chance(80) { 5 } else { 1 },
            key,
            payload: Some(digest(id.as_bytes())),
            due_ms: self.server.now_ms + delay_ms,
            seq: 0,
        };
        let before = self.events.len();
        if self.call("app", act.clone()).is_some() {
            return;
        }
        if self.chance(30) {
            // The id was the queue's to choose: nobody knows it.
            if let Act::Enqueue { job, .. } = &mut self.events[before].act {
                *job = None;
            }
        } else if self.events[before].fate == Fate::Unknown {
            self.tick(30);
            self.call("app", act);
        }
    }

    fn claim(&mut self) {
        let client = self.client();
        let before = self.events.len();
        if let Some(Act::Grant { job, token, .. }) = self.call(&client, Act::Claim) {
            self.held.push((client, job, token, false));
        } else if self.events[before].fate == Fate::Refused {
            self.events.truncate(before);
        }
    }

    fn sweep(&mut self) {
        let client = self.client();
        if let Some(act) = self.server.sweep(&client) {
            let at_ms = self.server.now_ms;
            // A sweep whose reply is lost may have taken something over all the same.
            if self.faults && self.chance(12) {
                self.events.push(Event { client, at_ms, fate: Fate::Unknown, act: Act::Claim });
            } else {
                if let Act::Takeover { job, token, .. } = &act {
                    self.held.push((client.clone(), job.clone(), *token, true));
                }
                self.events.push(Event { client, at_ms, fate: Fate::Ok, act });
            }
        }
    }

    fn settle(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.held.len());
        let (client, job, token, taken) = self.held.swap_remove(at);
        let (tries, crashes) = self.server.job(&job).map_or((0, 0), |job| (job.tries, job.crashes));
        let ending = match self.rng.random_range(0..10) {
            _ if taken && crashes + 1 >= 2 => Ending::Dead(Spends::Crash),
            _ if taken => Ending::Retry(Spends::Crash),
            0 | 1 if tries + 1 >= 3 => Ending::Dead(Spends::Try),
            0 | 1 => Ending::Retry(Spends::Try),
            2 if self.faults => Ending::Release,
            3 if self.faults => Ending::Snooze,
            4 if self.faults => Ending::Dead(Spends::Nothing),
            _ => Ending::Success,
        };
        if ending == Ending::Success {
            self.effects.push(Effect { job: job.clone(), token, success: true });
        }
        let before = self.events.len();
        self.call(&client, Act::Settle { job: job.clone(), token, ending });
        if self.events[before].fate == Fate::Unknown && self.chance(50) {
            self.held.push((client, job, token, taken));
        }
    }

    fn extend(&mut self) {
        if let Some((client, job, token, _)) = self.held.first().cloned() {
            self.call(&client, Act::Extend { job, token, expires_ms: None });
        }
    }

    fn act(&mut self) {
        match self.rng.random_range(0..100) {
            0..15 => {
                let delay_ms = if self.chance(20) { self.rng.random_range(1..200) } else { 0 };
                let lane = ["a", "b", "c"][self.rng.random_range(0..3)];
                self.enqueue(delay_ms, lane);
            }
            15..45 => self.claim(),
            45..78 => self.settle(),
            78..85 => self.extend(),
            85..93 => self.sweep(),
            93..95 => {
                // A client dies with what it holds.
                let at = self.rng.random_range(0..self.clients.len());
                let dead = std::mem::replace(&mut self.clients[at], format!("w{}", self.events.len()));
                self.held.retain(|(client, ..)| *client != dead);
            }
            _ => self.by_hand(),
        }
    }

    fn by_hand(&mut self) {
        let at = self.rng.random_range(0..self.server.jobs.len());
        let dead = |job: &&super::server::Job| job.state == JobState::Dead;
        let corpse = self.server.jobs.iter().find(dead).map(|job| job.id.clone());
        let audit = Some("ops: looked at it".to_owned());
        let act = match (self.rng.random_range(0..3), corpse) {
            (0, Some(job)) => Act::Replay { job, audit },
            (1, Some(job)) => Act::Remove { job, audit },
            _ => Act::Cancel { job: self.server.jobs[at].id.clone(), running: None },
        };
        self.call("ops", act);
    }

    /// No more faults: everything that is due ends.
    fn finish(mut self) -> (Run, Rules) {
        self.faults = false;
        for lane in ["a", "b", "c"] {
            self.enqueue(FAR_MS, lane);
        }
        let healed_ms = self.server.now_ms;
        let live = |job: &super::server::Job| matches!(job.state, JobState::Ready | JobState::Running);
        let soon = healed_ms + FAR_MS / 2;
        while self.server.jobs.iter().any(|job| live(job) && job.due_ms < soon) || !self.late.is_empty() {
            self.tick(12);
            self.claim();
            self.sweep();
            self.settle();
            self.settle();
        }
        let mut rules = self.server.rules.clone();
        let bound_ms = self.server.now_ms - healed_ms + 200;
        rules.liveness = Some(Liveness { healed_ms, bound_ms });
        self.server.now_ms += 300;
        let mut dump = self.server.dump(|_| self.rng.random_range(0..100) < 20);
        dump.succeeded_total = Some(self.counted);
        (Run { events: self.events, effects: Some(self.effects), dump }, rules)
    }
}
