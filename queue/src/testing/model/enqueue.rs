//! `enqueue`.

use std::collections::BTreeMap;

use super::given::Given;
use super::key;
use super::options::{MAX_DELAY_MS, valid};
use super::state::{Job, Model, Owner, Place};
use crate::types::{EnqueueOptions, Enqueued, JobState, NewJob};

/// A job that may be accepted.
struct Spec<'a> {
    options: &'a EnqueueOptions,
    payload: &'a [u8],
    due_ms: u64,
    key: Option<String>,
}

fn rejected(reason: &str) -> Enqueued {
    Enqueued::Rejected { reason: reason.to_owned(), message: String::new() }
}

fn waiting(due_ms: u64, now_ms: u64) -> JobState {
    if due_ms > now_ms { JobState::Scheduled } else { JobState::Ready }
}

impl Model {
    pub(super) fn enqueue(&mut self, jobs: &[NewJob], now_ms: u64, given: &Given) -> Vec<Enqueued> {
        // What earlier jobs of the same call took: by id and by key, their place.
        let (mut by_id, mut by_key) = (BTreeMap::new(), BTreeMap::new());
        let mut outcomes: Vec<Enqueued> = Vec::with_capacity(jobs.len());
        for (at, job) in jobs.iter().enumerate() {
            let outcome = match self.read(job, now_ms) {
                Err(reason) => rejected(reason),
                Ok(spec) => {
                    let twin = spec.options.id.as_ref().and_then(|id| by_id.get(id));
                    let twin = twin.or_else(|| spec.key.as_ref().and_then(|key| by_key.get(key)));
                    match twin.map(|&twin: &usize| &outcomes[twin]) {
                        Some(Enqueued::Accepted { id, state }) => {
                            Enqueued::Duplicate { id: id.clone(), state: *state }
                        }
                        _ => match self.standing(&spec, now_ms) {
                            Some(duplicate) => duplicate,
                            None => {
                                by_id.extend(spec.options.id.clone().map(|id| (id, at)));
                                by_key.extend(spec.key.clone().map(|key| (key, at)));
                                let made = given.ids.get(at).and_then(Clone::clone);
                                self.store(spec, made, now_ms)
                            }
                        },
                    }
                }
            };
            outcomes.push(outcome);
        }
        outcomes
    }

    fn read<'a>(&self, job: &'a NewJob, now_ms: u64) -> Result<Spec<'a>, &'static str> {
        let options = &job.options;
        if !valid(options) {
            return Err("invalid-options");
        }
        let policy = self.policy();
        if !policy.job_types.contains_key(&options.job_type) {
            return Err("unknown-type");
        }
        if job.payload.len() as u64 > policy.max_payload {
            return Err("payload-too-large");
        }
        let delayed = options.delay.map(|delay| now_ms + delay);
        let due_ms = delayed.or(options.run_at).unwrap_or(now_ms).max(now_ms);
        if due_ms - now_ms > MAX_DELAY_MS {
            return Err("invalid-options");
        }
        let key = match (&options.key, self.rules(&options.job_type).key) {
            (Some(key), _) => Some(key.clone()),
            (None, Some(parts)) => Some(key::render(parts, &job.payload).ok_or("key-field")?),
            (None, None) => None,
        };
        Ok(Spec { options, payload: &job.payload, due_ms, key })
    }

    /// The answer where the id or the key is taken by a job of an earlier call.
    fn standing(&self, spec: &Spec, now_ms: u64) -> Option<Enqueued> {
        if let Some((id, job)) = spec.options.id.as_ref().and_then(|id| self.jobs.get_key_value(id)) {
            return Some(Enqueued::Duplicate { id: id.clone(), state: self.state_of(id, job, now_ms) });
        }
        let owner = self.keys.get(spec.key.as_ref()?)?;
        let state = match owner.until_ms {
            Some(until_ms) if until_ms > now_ms => JobState::Succeeded,
            Some(_) => return None,
            None => {
                let job = self.jobs.get(&owner.id).filter(|job| job.place.holds_key())?;
                self.state_of(&owner.id, job, now_ms)
            }
        };
        Some(Enqueued::Duplicate { id: owner.id.clone(), state })
    }

    fn store(&mut self, spec: Spec, made: Option<String>, now_ms: u64) -> Enqueued {
        let own = spec.options.id.clone();
        if own.is_none() {
            self.check_made(made.as_deref(), now_ms);
        }
        let id = own.or(made).unwrap_or_default();
        let kind = &spec.options.job_type;
        let mut job = Job {
            job_type: kind.clone(),
            place: Place::Line,
            enqueued_ms: now_ms,
            due_ms: now_ms,
            line_ms: now_ms,
            asked_ms: spec.due_ms,
            counts_from_ms: spec.due_ms,
            priority: spec.options.priority.unwrap_or(self.rules(kind).priority),
            key: spec.key.clone(),
            meta: spec.options.meta.clone(),
            tries: 0,
            crashes: 0,
            attempts: 0,
            history: Vec::new(),
            dropped: 0,
            finished_ms: None,
            reason: None,
            result: Vec::new(),
            payload: spec.payload.to_vec(),
            original: None,
        };
        job.wait(spec.due_ms, now_ms);
        if let Some(key) = spec.key {
            self.keys.insert(key, Owner { id: id.clone(), until_ms: None });
        }
        self.counters(kind).enqueued += 1;
        self.ids.insert(id.clone());
        self.jobs.insert(id.clone(), job);
        Enqueued::Accepted { id, state: waiting(spec.due_ms, now_ms) }
    }

    /// An id that the library made is new, and sorts behind those it made before, unless the clock went back.
    fn check_made(&mut self, made: Option<&str>, now_ms: u64) {
        let Some(id) = made else { return };
        let taken = if self.went_back { self.jobs.contains_key(id) } else { self.ids.contains(id) };
        if taken {
            self.broken = Some(format!("the library made the id {id} a second time"));
        }
        if let Some((last, at_ms)) = &self.last_made
            && (*at_ms < now_ms || *at_ms == now_ms && !self.went_back)
            && last.as_str() >= id
        {
            self.broken = Some(format!("the library made the id {id} after {last}, which sorts behind it"));
        }
        self.last_made = Some((id.to_owned(), now_ms));
    }
}
