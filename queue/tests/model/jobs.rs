//! The generator's enqueues: jobs that are accepted, duplicates, and all that is refused.

use std::collections::BTreeMap;

use lanekeeper_queue::testing::model::{Model, Op};
use lanekeeper_queue::types::{EnqueueOptions, NewJob};
use rand::Rng;
use rand::seq::IndexedRandom;

use crate::bench::EARLIEST_US;
use crate::groups::{self, GROUPED};
use crate::ops::{Generator, Mood};
use crate::policies::{TELLS, TYPES};

/// Types without a key of any kind.
const PLAIN: [&str; 4] = ["limited", "mail", "report", "reset"];
/// Above it, fewer jobs come in.
const MANY_JOBS: usize = 250;
/// The same where every job is looked at again and again.
const MANY_TO_MEND: usize = 40;

impl Generator {
    pub fn enqueue(&mut self, model: &Model, now_ms: u64) -> Op {
        let jobs = model.jobs_in(None, now_ms).len();
        if self.mood == Mood::Few && jobs > 1 {
            return self.work(model);
        }
        let many = if self.mood == Mood::Hurt { MANY_TO_MEND } else { MANY_JOBS };
        let room = self.mood == Mood::Room;
        if room && self.chance(0.08) {
            return self.enqueue_alike();
        }
        let count = if jobs > many {
            1
        } else if room && self.chance(0.9) {
            self.rng.random_range(1..=3)
        } else {
            self.batch()
        };
        Op::Enqueue((0..count).map(|_| self.job(model, now_ms)).collect())
    }

    /// As many jobs of a type as are just handed over, or just not.
    fn enqueue_alike(&mut self) -> Op {
        let name = PLAIN.choose(&mut self.rng).expect("not empty");
        let options = EnqueueOptions { job_type: (*name).to_owned(), ..EnqueueOptions::default() };
        let count = self.rng.random_range(6..=10);
        let job = |_| NewJob { payload: self.payload(name), options: options.clone() };
        Op::Enqueue((0..count).map(job).collect())
    }

    /// Jobs that an answer asks for. They have ids, for the reply does not tell those that the library would make.
    pub fn follow_ups(&mut self, model: &Model) -> Vec<NewJob> {
        let now_ms = EARLIEST_US / 1_000;
        (0..self.rng.random_range(1..=3))
            .map(|_| {
                let mut job = self.job(model, now_ms);
                job.options.id.get_or_insert_with(|| format!("next-{}", self.rng.random_range(0..400)));
                job
            })
            .collect()
    }

    fn job(&mut self, model: &Model, now_ms: u64) -> NewJob {
        let (mut name, _) = *TYPES.choose(&mut self.rng).expect("not empty");
        if matches!(self.mood, Mood::Keys | Mood::Hurt) && self.chance(0.6) {
            name = GROUPED.choose(&mut self.rng).expect("not empty");
        }
        if self.mood == Mood::Room && self.chance(0.6) {
            name = PLAIN.choose(&mut self.rng).expect("not empty");
        }
        let name = if self.chance(0.02) { "unknown" } else { name };
        let mut options = EnqueueOptions { job_type: name.to_owned(), ..EnqueueOptions::default() };
        if self.chance(0.15) {
            options.id = Some(match self.rng.random_range(0..10) {
                0 => self.ids(model, now_ms, &[]).swap_remove(0),
                // Deaths of these are told of under a hash of the id.
                1 if TELLS.iter().all(|(of, _)| *of != name) => "x".repeat(128),
                n => format!("job-{}", n * 10 + self.rng.random_range(0..10)),
            });
        }
        if self.chance(0.15) {
            options.key = Some(self.key());
        }
        if self.chance(0.3) {
            options.priority = Some(self.rng.random_range(0..=9));
        }
        match self.rng.random_range(0..20) {
            0..3 => options.delay = Some(self.rng.random_range(0..20)),
            3 => options.delay = Some(self.rng.random_range(0..100_000)),
            4 => options.run_at = Some(now_ms + self.rng.random_range(0..200)),
            5 => options.run_at = Some(self.rng.random_range(0..=now_ms)),
            _ => {}
        }
        if self.chance(0.1) {
            options.meta =
                BTreeMap::from([("traceparent".into(), "00-é".into()), (String::new(), "x".into())]);
        }
        if self.chance(0.02) {
            self.spoil(&mut options);
        }
        NewJob { payload: self.payload(name), options }
    }

    /// Options that are refused, and their last valid neighbours.
    fn spoil(&mut self, options: &mut EnqueueOptions) {
        const TEN_YEARS_MS: u64 = 315_360_000_000;
        match self.rng.random_range(0..10) {
            0 => options.id = Some(String::new()),
            1 => options.id = Some("with space".into()),
            2 => options.id = Some("x".repeat(129)),
            3 => options.key = Some("k".repeat(self.rng.random_range(512..=513))),
            4 => options.priority = Some(10),
            5 => options.delay = Some(TEN_YEARS_MS + self.rng.random_range(0..=1)),
            6 => (options.delay, options.run_at) = (Some(1), Some(1)),
            7 => options.run_at = Some(5_000_000_000_000 + self.rng.random_range(0..=1)),
            8 => {
                let n = self.rng.random_range(32..=33);
                options.meta = (0..n).map(|n| (format!("m{n}"), "v".to_owned())).collect();
            }
            _ => {
                let n = self.rng.random_range(4_095..=4_096);
                options.meta = BTreeMap::from([("m".to_owned(), "v".repeat(n))]);
            }
        }
    }

    fn payload(&mut self, job_type: &str) -> Vec<u8> {
        if GROUPED.contains(&job_type) && self.chance(0.97) {
            return groups::payload(&mut self.rng);
        }
        if job_type == "keyed" && self.chance(0.9) {
            return self.keyed_payload();
        }
        let rng = &mut self.rng;
        match rng.random_range(0..40) {
            0 => vec![0x93; 4_097],
            1 => vec![0; 4_096],
            2 => vec![b'x'; rng.random_range(100..=101)],
            3..8 => Vec::new(),
            // What looks like a header of ours.
            8 => b"\x94\x01\xa4mail\xce\x00\x00\x00\x01\x05".to_vec(),
            _ => (0..rng.random_range(1..40)).map(|_| rng.random()).collect(),
        }
    }

    fn keyed_payload(&mut self) -> Vec<u8> {
        let rng = &mut self.rng;
        let user = match rng.random_range(0..24) {
            0 => "null",
            1 => "1.5",
            2 => "1.0",
            3 => "9007199254740992",
            4 => "true",
            5 => "[1]",
            6 => "{}",
            7 => "\"\"",
            8 => "-9007199254740991",
            9 => "\"a:b\"",
            10 => "\"50%\"",
            11 => "\"\\u00e9\"",
            12 => "1e2",
            _ => ["7", "8", "9", "10"].choose(rng).copied().unwrap_or_default(),
        };
        let event = match rng.random_range(0..20) {
            0 => String::new(),
            1 => ",\"event\":null".to_owned(),
            2 => format!(",\"event\":\"{}\"", "l".repeat(rng.random_range(508..=511))),
            n => format!(",\"event\":\"created{}\"", n % 3),
        };
        format!("{{\"x\":[1.25,\"}}\"],\"user\":{{\"id\":{user}}}{event}}}").into_bytes()
    }
}
