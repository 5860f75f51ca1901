//! The generator's hand on dead letters.

use lanekeeper_queue::testing::model::{Given, Model, Op, Reply, Word};
use lanekeeper_queue::types::{DeadFilter, JobState, Meant, ReviewState};
use rand::Rng;
use rand::seq::IndexedRandom;

use crate::ops::Generator;
use crate::policies::{LANES, TYPES};

impl Generator {
    pub fn word(&mut self) -> Word {
        let by = if self.chance(0.1) { "é".repeat(65) } else { "anna".to_owned() };
        let why = match self.rng.random_range(0..10) {
            0..5 => String::new(),
            9 => "ö".repeat(600),
            _ => "the mail server is back".to_owned(),
        };
        Word { by, why, meant: None }
    }

    /// Somebody looks at dead letters and decides.
    pub fn review(&mut self, model: &Model, now_ms: u64) -> Op {
        let dead = [JobState::Dead, JobState::Dead, JobState::Discarded];
        let mut ids = self.ids(model, now_ms, &dead);
        let mut word = self.word();
        word.meant = self.meant(now_ms);
        match self.rng.random_range(0..4) {
            0 => Op::Acknowledge { ids, word },
            1 => {
                let bytes = [0, 1, 50, 101, 4_097];
                let payload = vec![b'n'; *bytes.choose(&mut self.rng).expect("not empty")];
                Op::Edit { id: ids.swap_remove(0), word, payload }
            }
            _ => Op::Discard { ids, word },
        }
    }

    /// What a filter may have asked for that found letters.
    pub fn meant(&mut self, now_ms: u64) -> Option<Meant> {
        let states = [ReviewState::Open, ReviewState::Acknowledged, ReviewState::Discarded];
        let state = self.chance(0.7).then(|| *states.choose(&mut self.rng).expect("not empty"));
        let ago = [0, 1, 1_000, 60_000].choose(&mut self.rng).expect("not empty");
        self.chance(0.4).then_some(Meant { state, until_ms: now_ms.saturating_sub(*ago) })
    }

    pub fn filter(&mut self, model: &Model, now_ms: u64) -> DeadFilter {
        let (name, _) = *TYPES.choose(&mut self.rng).expect("not empty");
        let states = [ReviewState::Open, ReviewState::Acknowledged, ReviewState::Discarded];
        let mut filter = DeadFilter { oldest_first: self.chance(0.4), ..DeadFilter::default() };
        filter.job_type = self.chance(0.3).then(|| name.to_owned());
        filter.state = self.chance(0.5).then(|| *states.choose(&mut self.rng).expect("not empty"));
        filter.lane = self.chance(0.2).then(|| (*LANES.choose(&mut self.rng).expect("not empty")).to_owned());
        // A letter that there is lends what to look for.
        let all =
            Op::DeadList { filter: DeadFilter { state: filter.state, ..DeadFilter::default() }, limit: 200 };
        let Reply::Found(letters) = model.clone().apply(&all, now_ms, &Given::default()) else {
            return filter;
        };
        let Some(letter) = letters.choose(&mut self.rng) else { return filter };
        filter.fingerprint = letter.fingerprint.clone().filter(|_| self.chance(0.3));
        filter.since_ms = letter.finished_ms.filter(|_| self.chance(0.2));
        filter.until_ms = letter.finished_ms.filter(|_| self.chance(0.2));
        if self.chance(0.2) {
            let key = letter.key.clone().unwrap_or_default();
            let cut = key.char_indices().map(|(at, _)| at).nth(1).unwrap_or_default();
            let patterns = [
                "*".to_owned(),
                key.clone(),
                format!("{}*", &key[..cut]),
                format!("*{}", &key[cut..]),
                "e*e*1".into(),
            ];
            filter.key = patterns.choose(&mut self.rng).cloned();
        }
        filter
    }
}
