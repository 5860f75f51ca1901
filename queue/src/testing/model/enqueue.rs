//! `enqueue`.

use std::collections::BTreeMap;

use lanekeeper_api::policy::OnConflict;

use super::given::Given;
use super::groups::Group;
use super::key;
use super::options::{MAX_DELAY_MS, valid};
use super::state::{Job, Model, Owner, Place};
use crate::types::{EnqueueOptions, Enqueued, JobState, NewJob};

/// A job that may be accepted.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) options: EnqueueOptions,
    payload: Vec<u8>,
    due_ms: u64,
    pub(super) key: Option<String>,
    /// That of its concurrency key, where the type has one.
    group: Option<Group>,
    /// The class of that key's rate, where it has classes: what the payload says, if it does.
    class: Option<Option<String>>,
    debounced: bool,
}

/// What becomes of one, by the state before the call.
enum Fate {
    Answered(Enqueued),
    /// As an earlier one of the call, by its place.
    Twin(usize),
    New,
    /// In the place of this job.
    Replaces(String),
}

fn rejected(reason: &str) -> Enqueued {
    Enqueued::Rejected { reason: reason.to_owned(), message: String::new() }
}

fn waiting(due_ms: u64, now_ms: u64) -> JobState {
    if due_ms > now_ms { JobState::Scheduled } else { JobState::Ready }
}

impl Model {
    pub(super) fn enqueue(&mut self, jobs: &[NewJob], now_ms: u64, given: &Given) -> Vec<Enqueued> {
        let read: Vec<_> = jobs.iter().map(|job| self.read(job, now_ms)).collect();
        self.admit(read, true, now_ms, given)
    }

    /// Takes in what can be, and where it is bounded, what fits in; the outcomes by place.
    pub(super) fn admit(
        &mut self,
        read: Vec<Result<Spec, &'static str>>,
        bounded: bool,
        now_ms: u64,
        given: &Given,
    ) -> Vec<Enqueued> {
        let fates = self.fates(&read, now_ms);
        if bounded && let Some(most) = self.policy().capacity.and_then(|capacity| capacity.jobs) {
            // Finished jobs make way first.
            let more = fates.iter().filter(|fate| matches!(fate, Fate::New)).count();
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            self.make_room((self.jobs.len() + more).saturating_sub(most).min(200));
        }
        let mut outcomes: Vec<Enqueued> = Vec::with_capacity(read.len());
        for (at, (fate, spec)) in fates.into_iter().zip(read).enumerate() {
            let outcome = match (fate, spec) {
                (Fate::Answered(outcome), _) => outcome,
                (Fate::Twin(first), Ok(spec)) => match &outcomes[first] {
                    refused @ Enqueued::Rejected { .. } => refused.clone(),
                    _ => self.follow(spec, now_ms),
                },
                (Fate::New, Ok(_)) if bounded && self.is_full() => rejected("queue-full"),
                (Fate::New, Ok(spec)) => {
                    let made = given.ids.get(at).and_then(Clone::clone);
                    self.store_new(spec, made, now_ms)
                }
                (Fate::Replaces(id), Ok(spec)) => self.replace(&id, spec, now_ms),
                (_, Err(reason)) => rejected(reason),
            };
            outcomes.push(outcome);
        }
        outcomes
    }

    /// One whose id or key an earlier one of the call has taken.
    fn follow(&mut self, spec: Spec, now_ms: u64) -> Enqueued {
        match self.standing(&spec, now_ms) {
            Fate::Answered(outcome) => outcome,
            Fate::Replaces(id) => self.replace(&id, spec, now_ms),
            Fate::New | Fate::Twin(_) => {
                self.broken = Some("a pair of the call left no trace for the next one".to_owned());
                rejected("broken")
            }
        }
    }

    /// Whether a follow-up cannot be stored because its type refuses keys that have an owner.
    pub(super) fn refuses(&self, spec: &Spec, now_ms: u64) -> bool {
        matches!(self.standing(spec, now_ms), Fate::Answered(Enqueued::Rejected { .. }))
    }

    pub(super) fn is_full(&self) -> bool {
        let most = self.policy().capacity.and_then(|capacity| capacity.jobs);
        most.is_some_and(|most| self.jobs.len() as u64 >= most)
    }

    fn fates(&self, read: &[Result<Spec, &'static str>], now_ms: u64) -> Vec<Fate> {
        // What earlier jobs of the same call took: by id and by key, their place.
        let (mut by_id, mut by_key) = (BTreeMap::new(), BTreeMap::new());
        let mut fates = Vec::with_capacity(read.len());
        for (at, spec) in read.iter().enumerate() {
            let spec = match spec {
                Ok(spec) => spec,
                Err(reason) => {
                    fates.push(Fate::Answered(rejected(reason)));
                    continue;
                }
            };
            let (id, key) = (spec.options.id.as_ref(), spec.key.as_ref());
            let known = id.filter(|id| self.jobs.contains_key(*id));
            let same_key = key.filter(|_| known.is_none()).and_then(|key| by_key.get(key));
            let twin = id.and_then(|id| by_id.get(id)).or(same_key);
            let fate = match twin {
                Some(&first) => Fate::Twin(first),
                None => self.standing(spec, now_ms),
            };
            let takes = match &fate {
                Fate::New => id.cloned(),
                Fate::Replaces(owner) => Some(owner.clone()),
                Fate::Answered(_) | Fate::Twin(_) => None,
            };
            if matches!(fate, Fate::New | Fate::Replaces(_)) {
                by_id.extend(takes.map(|id| (id, at)));
                by_key.extend(key.map(|key| (key, at)));
            }
            fates.push(fate);
        }
        fates
    }

    pub(super) fn read(&self, job: &NewJob, now_ms: u64) -> Result<Spec, &'static str> {
        self.read_with(job, None, now_ms)
    }

    /// `source`: what the keys are made from where the job comes whatever becomes of them.
    pub(super) fn read_with(
        &self,
        job: &NewJob,
        source: Option<&[u8]>,
        now_ms: u64,
    ) -> Result<Spec, &'static str> {
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
        let rules = self.rules(&options.job_type);
        let debounce = rules.debounce.filter(|_| options.delay.is_none() && options.run_at.is_none());
        let delay = debounce.map(|debounce| debounce.wait_ms).or(options.delay);
        let due_ms = delay.map(|delay| now_ms + delay).or(options.run_at).unwrap_or(now_ms).max(now_ms);
        if due_ms - now_ms > MAX_DELAY_MS {
            return Err("invalid-options");
        }
        let said = source.unwrap_or(&job.payload);
        let own = rules.key.filter(|_| options.key.is_none()).map(|parts| key::render(parts, said));
        let bounds = self.key_rules(&options.job_type);
        let group = bounds.map(|bounds| key::render(&bounds.key, said));
        if source.is_none() && (own == Some(None) || group == Some(None)) {
            return Err("key-field");
        }
        let key = options.key.clone().or(own.flatten());
        let group = group.map(|group| group.map_or(Group::Outside, Group::Of));
        let by = bounds.and_then(|bounds| bounds.rate_limit.as_ref()?.by.as_ref());
        let class = by.map(|by| key::class(&by.path, said));
        let debounced = debounce.is_some();
        let (options, payload) = (options.clone(), job.payload.clone());
        Ok(Spec { options, payload, due_ms, key, group, class, debounced })
    }

    /// What jobs of earlier calls mean for this one.
    fn standing(&self, spec: &Spec, now_ms: u64) -> Fate {
        if let Some((id, job)) = spec.options.id.as_ref().and_then(|id| self.jobs.get_key_value(id)) {
            let state = self.state_of(id, job, now_ms);
            return Fate::Answered(Enqueued::Duplicate { id: id.clone(), state });
        }
        let Some(owner) = spec.key.as_ref().and_then(|key| self.keys.get(key)) else { return Fate::New };
        let rules = self.rules(&spec.options.job_type);
        let state = match owner.until_ms {
            Some(until_ms) if until_ms > now_ms => JobState::Succeeded,
            Some(_) => return Fate::New,
            None => {
                let known = self.jobs.get(&owner.id).filter(|job| job.place.holds_key());
                let Some(job) = known else { return Fate::New };
                let state = self.state_of(&owner.id, job, now_ms);
                let untouched = job.job_type == spec.options.job_type && job.attempts == 0;
                let waits = matches!(state, JobState::Ready | JobState::Scheduled);
                if rules.on_conflict == OnConflict::Replace && untouched && waits {
                    return Fate::Replaces(owner.id.clone());
                }
                state
            }
        };
        Fate::Answered(if rules.on_conflict == OnConflict::Reject {
            rejected("key-conflict")
        } else {
            Enqueued::Duplicate { id: owner.id.clone(), state }
        })
    }

    /// A job goes on standing where the one stood whose place it takes, unless it asks for a time. Debounced jobs are put off again
    /// with each that comes, but not for ever.
    fn replace(&mut self, id: &str, mut spec: Spec, now_ms: u64) -> Enqueued {
        let (first_ms, stood_ms) =
            self.jobs.get(id).map_or((now_ms, now_ms), |job| (job.enqueued_ms.min(now_ms), job.line_ms));
        if let Some(debounce) = self.rules(&spec.options.job_type).debounce.filter(|_| spec.debounced) {
            spec.due_ms = spec.due_ms.min(first_ms + debounce.most_ms);
        } else if spec.options.delay.is_none() && spec.options.run_at.is_none() {
            spec.due_ms = spec.due_ms.min(stood_ms);
        }
        let state = waiting(spec.due_ms, now_ms);
        if let Some(old) = self.jobs.remove(id) {
            self.group_left(&old);
        }
        self.put(id, spec, first_ms, now_ms);
        Enqueued::Replaced { id: id.to_owned(), state }
    }

    fn store_new(&mut self, spec: Spec, made: Option<String>, now_ms: u64) -> Enqueued {
        let own = spec.options.id.clone();
        if own.is_none() {
            self.check_made(made.as_deref(), now_ms);
        }
        let id = own.or(made).unwrap_or_default();
        let state = waiting(spec.due_ms, now_ms);
        self.counters(&spec.options.job_type).enqueued += 1;
        self.put(&id, spec, now_ms, now_ms);
        Enqueued::Accepted { id, state }
    }

    fn put(&mut self, id: &str, spec: Spec, enqueued_ms: u64, now_ms: u64) {
        let kind = &spec.options.job_type;
        let mut job = Job {
            job_type: kind.clone(),
            place: Place::Line,
            enqueued_ms,
            due_ms: now_ms,
            line_ms: now_ms,
            asked_ms: spec.due_ms,
            replayed_ms: 0,
            priority: spec.options.priority.unwrap_or(self.rules(kind).priority),
            key: spec.key.clone(),
            group: spec.group.clone().unwrap_or(Group::Open),
            meta: spec.options.meta.clone(),
            tries: 0,
            crashes: 0,
            attempts: 0,
            history: Vec::new(),
            dropped: 0,
            finished_ms: None,
            reason: None,
            result: Vec::new(),
            payload: spec.payload,
            progress: None,
            checkpoint: None,
            original: None,
        };
        job.wait(spec.due_ms, now_ms);
        if let (Some(Group::Of(group)), Some(class)) = (spec.group, spec.class) {
            // The last job of a key that was enqueued decides.
            self.set_class((job.job_type.clone(), group), class);
        }
        if let Some(key) = spec.key {
            self.keys.insert(key, Owner { id: id.to_owned(), until_ms: None });
        }
        self.ids.insert(id.to_owned());
        self.jobs.insert(id.to_owned(), job);
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
