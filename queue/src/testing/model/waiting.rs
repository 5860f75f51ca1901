//! Jobs that wait, jobs that have ended, and what retention removes.

use super::state::{Job, Model, Owner, Place};
use crate::types::{Attempt, MAX_CHECKPOINT, Note, ProgressTold};

/// History kept: the first attempts and the last ones, and what people decided in between.
const HISTORY_FIRST: usize = 5;
const HISTORY_LAST: usize = 5;
const HISTORY_MOST: usize = 30;
/// Bytes of message kept of an attempt that is no longer the last.
pub(super) const MESSAGE_OLD: usize = 1024;
/// Bytes kept of a progress' unit and of its message.
const UNIT_MOST: usize = 32;
const SAID_MOST: usize = 512;
/// Largest integer that a number of Lua holds exactly.
pub(super) const MAX_INTEGER: u64 = 1 << 53;

/// The first `limit` bytes of a text, cut between characters.
pub(super) fn clip(text: &str, limit: usize) -> String {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

impl Job {
    /// Puts the job where it waits until `due_ms`.
    pub(super) fn wait(&mut self, due_ms: u64, now_ms: u64) {
        self.line_ms = due_ms;
        self.due_ms = due_ms;
        self.place = if due_ms > now_ms { Place::Schedule } else { Place::Line };
    }

    /// Takes down what the handler tells.
    pub(super) fn hear(&mut self, note: &Note, now_ms: u64) {
        if let Some(told) = &note.progress {
            self.progress = Some(ProgressTold {
                done: told.done.min(MAX_INTEGER),
                total: told.total.filter(|total| *total > 0).map(|total| total.min(MAX_INTEGER)),
                unit: clip(&told.unit, UNIT_MOST),
                message: clip(&told.message, SAID_MOST),
                told_ms: now_ms,
            });
        }
        match &note.checkpoint {
            Some(left) if left.is_empty() => self.checkpoint = None,
            Some(left) if left.len() <= MAX_CHECKPOINT => self.checkpoint = Some((left.clone(), now_ms)),
            _ => {}
        }
    }

    /// Adds a finished attempt to the history.
    pub(super) fn remember(&mut self, attempt: Attempt) {
        if let Some(error) = self.history.last_mut().and_then(|last| last.error.as_mut()) {
            error.message = clip(&error.message, MESSAGE_OLD);
        }
        self.note(attempt);
    }

    /// The same, and the message before it stays as long as it is.
    pub(super) fn note(&mut self, attempt: Attempt) {
        if self.history.len() >= HISTORY_MOST {
            let decided =
                |entry: &Attempt| ["acknowledge", "discard", "replay", "cancel"].contains(&&*entry.outcome);
            let middle = &self.history[HISTORY_FIRST..self.history.len() - HISTORY_LAST];
            let spared = middle.iter().position(|entry| !decided(entry)).unwrap_or(0);
            self.history.remove(HISTORY_FIRST + spared);
            self.dropped += 1;
        }
        self.history.push(attempt);
    }
}

impl Model {
    /// The job ends well or is called off. Adds its type to `kept` when its record stays.
    pub(super) fn finish(
        &mut self,
        id: &str,
        mut job: Job,
        place: Place,
        now_ms: u64,
        kept: &mut Vec<String>,
    ) {
        let rules = self.rules(&job.job_type);
        let (key_for_ms, completed) = (rules.key_for_ms, rules.completed);
        job.place = place;
        job.finished_ms = Some(now_ms);
        (job.progress, job.checkpoint) = (None, None);
        match &job.key {
            Some(key) if place == Place::Succeeded && key_for_ms > 0 => {
                // Only the key's owner has a say in how long it stays taken.
                if self.keys.get(key).is_none_or(|owner| owner.id == id && owner.until_ms.is_none()) {
                    let until_ms = now_ms + key_for_ms;
                    self.keys.insert(key.clone(), Owner { id: id.to_owned(), until_ms: Some(until_ms) });
                    self.key_checks.insert(key.clone(), until_ms);
                }
            }
            key => self.free_key(id, key.as_deref()),
        }
        let counters = self.counters(&job.job_type);
        if place == Place::Succeeded {
            counters.succeeded += 1;
        } else {
            counters.cancelled += 1;
        }
        if completed.keep > 0 && completed.for_ms > 0 {
            kept.push(job.job_type.clone());
            self.jobs.insert(id.to_owned(), job);
        } else {
            self.jobs.remove(id);
        }
    }

    /// The finished jobs of a type, oldest first.
    pub(super) fn finished_of(&self, job_type: &str) -> Vec<(u64, String)> {
        let mut found: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.place.is_finished() && job.job_type == job_type)
            .map(|(id, job)| (job.finished_ms.unwrap_or(0), id.clone()))
            .collect();
        found.sort();
        found
    }

    /// Removes finished jobs of a type that are too many, at most `most`, unless they are `slack` or fewer; how many.
    pub(super) fn trim_count(&mut self, job_type: &str, most: usize, slack: usize) -> usize {
        let finished = self.finished_of(job_type);
        let keep = usize::try_from(self.rules(job_type).completed.keep).unwrap_or(usize::MAX);
        let excess = finished.len().saturating_sub(keep);
        if excess <= slack {
            return 0;
        }
        let excess = excess.min(most);
        for (_, id) in &finished[..excess] {
            self.jobs.remove(id);
        }
        excess
    }

    /// What every call does that finished jobs whose records stay, `kept` their types: an eighth beyond the bound may stay,
    /// then many go at once, at least twice as many as came.
    pub(super) fn trim_after(&mut self, kept: &[String]) {
        let mut types: Vec<&String> = kept.iter().collect();
        types.sort();
        types.dedup();
        for job_type in types {
            let came = kept.iter().filter(|name| *name == job_type).count();
            let keep = usize::try_from(self.rules(job_type).completed.keep).unwrap_or(usize::MAX);
            let slack = (keep / 8).min(25);
            self.trim_count(job_type, (2 * came).max(slack), slack);
        }
    }

    /// Puts at most `most` jobs that became due into their lines; how many. Each type has a share, in the order of their first due
    /// jobs; what is left goes to those with more.
    pub(super) fn promote(&mut self, most: usize, now_ms: u64) -> usize {
        let mut firsts: std::collections::BTreeMap<&str, u64> = Default::default();
        let mut due: Vec<(u64, u8, &String, &str)> = Vec::new();
        for (id, job) in &self.jobs {
            if job.place == Place::Schedule && job.line_ms <= now_ms {
                let first = firsts.entry(&job.job_type).or_insert(job.line_ms);
                *first = job.line_ms.min(*first);
                due.push((job.line_ms, job.priority, id, &job.job_type));
            }
        }
        due.sort_by_key(|&(due, priority, id, kind)| (firsts[kind], kind, due, priority, id));
        let share = (most / firsts.len().max(1)).max(1);
        let mut taken: std::collections::BTreeMap<&str, usize> = Default::default();
        let (shares, beyond): (Vec<_>, Vec<_>) = due.into_iter().partition(|&(.., kind)| {
            let count = taken.entry(kind).or_default();
            *count += 1;
            *count <= share
        });
        let chosen: Vec<String> =
            shares.into_iter().chain(beyond).take(most).map(|(_, _, id, _)| id.clone()).collect();
        for id in &chosen {
            if let Some(job) = self.jobs.get_mut(id) {
                job.place = Place::Line;
            }
        }
        chosen.len()
    }

    /// When the first job of the schedule becomes or became due.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.jobs.values().filter(|job| job.place == Place::Schedule).map(|job| job.line_ms).min()
    }
}
