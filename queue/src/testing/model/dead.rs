//! Dead letters: `dead_list`, `dead_groups`, `dead_ack`, `dead_discard`, `dead_replay`, `dead_edit`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::act::{acted, once};
use super::fingerprint::fingerprint;
use super::op::Word;
use super::state::{Job, Model, Owner, Place};
use super::waiting::{MESSAGE_OLD, clip};
use crate::types::{
    Acted, Attempt, AttemptError, DeadFilter, DeadGroup, ErrorClass, Job as Shown, JobState, Review,
    ReviewState,
};

/// Bytes kept of the name of who asked.
pub(super) const BY_MOST: usize = 128;

impl Model {
    pub(super) fn dead_list(&self, filter: &DeadFilter, now_ms: u64) -> Vec<Shown> {
        self.letters(filter, now_ms).into_iter().filter_map(|(_, id)| self.shown(id, false, now_ms)).collect()
    }

    pub(super) fn dead_groups(&self, filter: &DeadFilter, now_ms: u64) -> Vec<DeadGroup> {
        let mut groups: BTreeMap<(String, String), DeadGroup> = BTreeMap::new();
        for (at_ms, id) in self.letters(&DeadFilter { oldest_first: true, ..filter.clone() }, now_ms) {
            let job = &self.jobs[id];
            let fingerprint = fingerprint(&job.history);
            let group = groups.entry((job.job_type.clone(), fingerprint.clone())).or_insert(DeadGroup {
                job_type: job.job_type.clone(),
                fingerprint,
                count: 0,
                first_ms: at_ms,
                last_ms: at_ms,
                example: String::new(),
            });
            group.count += 1;
            group.last_ms = at_ms;
        }
        let mut all: Vec<DeadGroup> = groups.into_values().collect();
        all.sort_by_key(|group| Reverse(group.count));
        all
    }

    /// Times and ids of the letters that pass, in order.
    fn letters(&self, filter: &DeadFilter, now_ms: u64) -> Vec<(u64, &String)> {
        let mut found: Vec<(u64, &String)> = self
            .jobs
            .iter()
            .filter(|(id, job)| self.passes(filter, id, job, now_ms))
            .map(|(id, job)| (job.finished_ms.unwrap_or_default(), id))
            .collect();
        found.sort();
        if !filter.oldest_first {
            found.reverse();
        }
        found
    }

    fn passes(&self, filter: &DeadFilter, id: &str, job: &Job, now_ms: u64) -> bool {
        let Some(review) = Review::of(self.state_of(id, job, now_ms), &job.history) else { return false };
        let at_ms = job.finished_ms.unwrap_or_default();
        let lane = self.rules(&job.job_type).lane.map(|lane| lane.name.as_str());
        reviewed(filter.state, review.state)
            && filter.lane.as_ref().is_none_or(|wanted| lane == Some(wanted.as_str()))
            && filter.job_type.as_ref().is_none_or(|wanted| job.job_type == *wanted)
            && filter.fingerprint.as_ref().is_none_or(|wanted| fingerprint(&job.history) == *wanted)
            && filter.since_ms.is_none_or(|since| at_ms >= since)
            && filter.until_ms.is_none_or(|until| at_ms <= until)
            && filter.key.as_ref().is_none_or(|pattern| fits(pattern, job.key.as_deref().unwrap_or_default()))
    }

    /// Whether a dead or discarded job is still what was asked for.
    fn is_meant(&self, word: &Word, id: &str, job: &Job, now_ms: u64) -> bool {
        let Some(meant) = word.meant else { return true };
        let review = Review::of(self.state_of(id, job, now_ms), &job.history);
        review.is_some_and(|review| reviewed(meant.state, review.state))
            && job.finished_ms.unwrap_or_default() <= meant.until_ms
    }

    pub(super) fn acknowledge(&mut self, ids: &[String], word: &Word, now_ms: u64) -> Vec<Acted> {
        once(ids).into_iter().map(|id| self.acknowledge_one(id, word, now_ms)).collect()
    }

    fn acknowledge_one(&mut self, id: &str, word: &Word, now_ms: u64) -> Acted {
        let version = self.version();
        let Some(job) = self.jobs.get(id) else { return acted(id, "not-found", None) };
        let seen = job.history.last().is_some_and(|last| last.outcome == "acknowledge");
        if job.place != Place::Dead || seen || !self.is_meant(word, id, job, now_ms) {
            return acted(id, "wrong-state", Some(self.state_of(id, job, now_ms)));
        }
        let job = self.jobs.get_mut(id).expect("it was there a moment ago");
        job.hear_word("acknowledge", "Acknowledged", word, version, now_ms);
        acted(id, "acknowledged", Some(JobState::Dead))
    }

    pub(super) fn discard(&mut self, ids: &[String], word: &Word, now_ms: u64) -> Vec<Acted> {
        once(ids).into_iter().map(|id| self.discard_one(id, word, now_ms)).collect()
    }

    fn discard_one(&mut self, id: &str, word: &Word, now_ms: u64) -> Acted {
        let version = self.version();
        let Some(job) = self.jobs.get(id) else { return acted(id, "not-found", None) };
        if job.place != Place::Dead || !self.is_meant(word, id, job, now_ms) {
            return acted(id, "wrong-state", Some(self.state_of(id, job, now_ms)));
        }
        let key = job.key.clone();
        self.free_key(id, key.as_deref());
        let job = self.jobs.get_mut(id).expect("it was there a moment ago");
        job.hear_word("discard", "Discarded", word, version, now_ms);
        (job.place, job.finished_ms) = (Place::Discarded, Some(now_ms));
        acted(id, "discarded", Some(JobState::Discarded))
    }

    pub(super) fn replay(&mut self, ids: &[String], word: &Word, now_ms: u64) -> Vec<Acted> {
        once(ids).into_iter().map(|id| self.replay_one(id, "Replayed", word, now_ms)).collect()
    }

    pub(super) fn edit(&mut self, id: &str, word: &Word, payload: &[u8], now_ms: u64) -> Vec<Acted> {
        if payload.len() as u64 > self.policy().max_payload {
            let state = self.jobs.get(id).map(|job| self.state_of(id, job, now_ms));
            return vec![acted(id, "payload-too-large", state)];
        }
        let mut word = Word { meant: None, ..word.clone() };
        if word.why.is_empty() {
            "with another payload".clone_into(&mut word.why);
        }
        let reply = self.replay_one(id, "PayloadReplaced", &word, now_ms);
        if reply.outcome == "replayed" {
            let job = self.jobs.get_mut(id).expect("it was replayed a moment ago");
            let before = std::mem::replace(&mut job.payload, payload.to_vec());
            job.original.get_or_insert(before);
        }
        vec![reply]
    }

    fn replay_one(&mut self, id: &str, code: &str, word: &Word, now_ms: u64) -> Acted {
        let Some(job) = self.jobs.get(id) else { return acted(id, "not-found", None) };
        let state = self.state_of(id, job, now_ms);
        if !matches!(job.place, Place::Dead | Place::Discarded) || !self.is_meant(word, id, job, now_ms) {
            return acted(id, "wrong-state", Some(state));
        }
        if job.key.as_ref().is_some_and(|key| self.taken(id, key, now_ms)) {
            return acted(id, "key-conflict", Some(state));
        }
        let mut job = job.clone();
        for error in job.history.iter_mut().filter_map(|entry| entry.error.as_mut()) {
            error.message = clip(&error.message, MESSAGE_OLD);
        }
        job.hear_word("replay", code, word, self.version(), now_ms);
        (job.tries, job.crashes, job.finished_ms, job.reason) = (0, 0, None, None);
        // Where the clock went back, the replay may be before it.
        job.replayed_ms = now_ms;
        job.wait(now_ms, now_ms);
        if let Some(key) = &job.key {
            self.keys.insert(key.clone(), Owner { id: id.to_owned(), until_ms: None });
        }
        self.jobs.insert(id.to_owned(), job);
        acted(id, "replayed", Some(JobState::Ready))
    }

    /// Whether another job that counts holds the key.
    fn taken(&self, id: &str, key: &str, now_ms: u64) -> bool {
        let Some(owner) = self.keys.get(key).filter(|owner| owner.id != id) else { return false };
        match owner.until_ms {
            Some(until_ms) => until_ms > now_ms,
            None => self.jobs.get(&owner.id).is_some_and(|other| other.place.holds_key()),
        }
    }

    /// The discarded letters of a type that have been kept long enough, oldest first.
    pub(super) fn discarded_too_old(&self, job_type: &str, now_ms: u64) -> Vec<String> {
        let Some(keep_ms) = self.rules(job_type).keep_reviewed_ms else { return Vec::new() };
        let Some(horizon) = now_ms.checked_sub(keep_ms) else { return Vec::new() };
        let old =
            |job: &Job| job.place == Place::Discarded && job.finished_ms.is_some_and(|at| at <= horizon);
        let mut found: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.job_type == job_type && old(job))
            .map(|(id, job)| (job.finished_ms, id.clone()))
            .collect();
        found.sort();
        found.into_iter().map(|(_, id)| id).collect()
    }
}

impl Job {
    /// Remembers what somebody said of the dead job.
    fn hear_word(&mut self, outcome: &str, code: &str, word: &Word, version: u64, now_ms: u64) {
        let why = (!word.why.is_empty()).then(|| AttemptError {
            class: ErrorClass::Transient,
            code: code.to_owned(),
            message: clip(&word.why, MESSAGE_OLD),
        });
        self.note(Attempt {
            number: self.attempts,
            started_ms: now_ms,
            ended_ms: now_ms,
            worker: clip(&word.by, BY_MOST),
            node: String::new(),
            token: 0,
            policy_version: version,
            outcome: outcome.to_owned(),
            error: why,
        });
    }
}

/// Whether a letter in this state of review is among those wanted.
fn reviewed(wanted: Option<ReviewState>, state: ReviewState) -> bool {
    wanted.map_or(state != ReviewState::Discarded, |wanted| wanted == state)
}

/// Whether a text fits a pattern in which `*` stands for anything: by trying every length for each.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|tail| {
            let cuts = (0..=tail.len()).filter(|at| tail.is_char_boundary(*at));
            cuts.map(|at| &tail[at..]).any(|tail| fits(rest, tail))
        }),
    }
}
