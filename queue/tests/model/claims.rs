//! The generator's claims, and what they say of offers.

use std::collections::BTreeMap;

use lanekeeper_queue::testing::model::{Model, Op};
use lanekeeper_queue::types::{ClaimRequest, Offer, WorkerIdentity};
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::ops::{Generator, Mood};
use crate::policies::{LANES, TYPES};
use crate::settlements::held;

impl Generator {
    pub fn work(&mut self, model: &Model) -> Op {
        let worker = if self.chance(0.5) { self.holder(model) } else { self.worker() };
        let offer = self.chance(self.offers).then(|| self.offer(model, &worker));
        if offer.is_some() && !model.listens(&worker.boot) && self.chance(0.7) {
            return Op::Subscribe(worker);
        }
        let most = if self.chance(0.3) { 0 } else { self.batch() };
        let lost = held(&mut self.rng, model, &worker, most);
        let want = ClaimRequest { offer, ..self.want() };
        Op::Work { done: self.settlements(model, lost), want, worker }
    }

    /// Where workers have room: more of what makes offers and brings jobs, and now and then somebody who does not listen any
    /// more.
    pub fn of_room(&mut self, model: &Model, now_ms: u64) -> Option<Op> {
        if self.offers > 0.0 && self.chance(0.005) {
            return Some(Op::Unsubscribe(self.worker()));
        }
        if self.mood != Mood::Room || self.chance(0.5) {
            return None;
        }
        Some(match self.rng.random_range(0..40) {
            0..20 => self.enqueue(model, now_ms),
            20..32 => self.work(model),
            32..39 => self.extend(model),
            _ => self.toggle(model),
        })
    }

    /// What a worker says. It has mostly heard of all that it was handed.
    fn offer(&mut self, model: &Model, worker: &WorkerIdentity) -> Offer {
        let (epoch, handed) = model.handed_to(&worker.boot).unwrap_or((1, 0));
        let rng = &mut self.rng;
        let (epoch, heard) = match rng.random_range(0..100) {
            0..72 => (epoch, handed),
            // Messages that are lost, or on their way.
            72..86 => (epoch, handed - rng.random_range(0..=handed.min(5))),
            // It subscribed anew.
            86..94 => (epoch + 1, 0),
            // The server has forgotten some of it.
            94..97 => (epoch, handed + rng.random_range(1..=3)),
            _ => (rng.random_range(0..3), rng.random_range(0..30)),
        };
        Offer { stands: rng.random_bool(0.92), epoch, heard }
    }

    pub fn lanes(&mut self) -> Vec<String> {
        let mut lanes: Vec<String> = LANES.iter().map(|lane| (*lane).to_owned()).collect();
        lanes.push("nope".to_owned());
        if self.chance(0.1) {
            lanes.push("fast".to_owned());
        }
        lanes.shuffle(&mut self.rng);
        if self.mood != Mood::Room || self.chance(0.4) {
            lanes.truncate(self.rng.random_range(1..=5));
        }
        lanes
    }

    fn want(&mut self) -> ClaimRequest {
        let slots = match self.rng.random_range(0..20) {
            0 => 0,
            1 => 200,
            2..8 => self.rng.random_range(1..=20),
            8..18 if self.mood == Mood::Room => self.rng.random_range(10..=40),
            _ => self.rng.random_range(1..=4),
        };
        let mut type_limits = BTreeMap::new();
        if self.chance(0.5) {
            type_limits.insert("limited".to_owned(), self.rng.random_range(0..=2));
        }
        if self.chance(if self.mood == Mood::Room { 0.5 } else { 0.1 }) {
            let (name, _) = *TYPES.choose(&mut self.rng).expect("not empty");
            type_limits.insert(name.to_owned(), self.rng.random_range(0..=5));
        }
        ClaimRequest { slots, lanes: self.lanes(), type_limits, ..ClaimRequest::default() }
    }
}
