//! `settle`.

use std::collections::BTreeSet;

use lanekeeper_api::policy::OnConflict;

use super::enqueue::Spec;
use super::given::Given;
use super::options::MAX_DELAY_MS;
use super::state::{Job, Lease, Model, Place};
use super::waiting::{MAX_INTEGER, MESSAGE_OLD, clip};
use crate::types::{
    Attempt, AttemptError, ErrorClass, Holds, Outcome, Settled, Settlement, Spends, WorkerIdentity,
};

const MESSAGE_LAST: usize = 65_536;
const RESULT_MOST: usize = 65_536;
const CODE_MOST: usize = 64;

/// What the words of one call bring beside themselves.
#[derive(Default)]
struct Told {
    /// Types of jobs that were finished and whose records stay.
    kept: Vec<String>,
    follow_ups: Vec<Spec>,
    deaths: Vec<Spec>,
    /// Ids that have a job, before the call or by follow-ups of it, and keys that those take.
    ids: BTreeSet<String>,
    keys: BTreeSet<String>,
}

/// A follow-up, and whether its type refuses it for the owner of its key, by the state before the call.
#[derive(Clone)]
struct Asked {
    spec: Spec,
    refused: bool,
}

impl Model {
    pub(super) fn settle_all(
        &mut self,
        worker: &WorkerIdentity,
        done: &[Settlement],
        now_us: u64,
    ) -> Vec<Settled> {
        let now_ms = now_us / 1_000;
        let (mut told, mut refused) = (Told::default(), BTreeSet::new());
        let follow_ups: Vec<_> = done.iter().map(|word| self.follow_ups(word, now_ms)).collect();
        let named = follow_ups.iter().flatten().flatten().filter_map(|asked| asked.spec.options.id.as_ref());
        told.ids.extend(named.filter(|id| self.jobs.contains_key(*id)).cloned());
        let mut settled = vec![Settled::Stale; done.len()];
        for at in said_in_order(done) {
            let word = &done[at];
            // Not another word about a job whose follow-ups were refused in this call.
            if !refused.contains(&word.id) {
                settled[at] = self.settle_one(worker, word, follow_ups[at].clone(), now_ms, &mut told);
            }
            if matches!(settled[at], Settled::Refused { .. }) {
                refused.insert(word.id.clone());
            }
        }
        self.trim_after(&told.kept);
        let brought: Vec<_> = told.follow_ups.into_iter().chain(told.deaths).map(Ok).collect();
        if !brought.is_empty() {
            // Keys whose jobs ended are judged before the new jobs say what their classes are.
            self.regard_groups(now_us, false);
        }
        self.admit(brought, false, now_ms, &Given::default());
        settled
    }

    /// The jobs that a success asks for; none where one cannot be read.
    fn follow_ups(&self, word: &Settlement, now_ms: u64) -> Option<Vec<Asked>> {
        let Outcome::Success { follow_ups, .. } = &word.outcome else { return Some(Vec::new()) };
        let refused = |spec: &Spec| self.refuses(spec, now_ms) && !self.frees_key_of(&word.id, spec);
        let asked = follow_ups.iter().map(|job| {
            let spec = self.read(job, now_ms)?;
            Ok(Asked { refused: refused(&spec), spec })
        });
        asked.collect::<Result<_, &'static str>>().ok()
    }

    /// Whether the success of the job is what makes the key of the spec free.
    fn frees_key_of(&self, id: &str, spec: &Spec) -> bool {
        let owner = spec.key.as_ref().and_then(|key| self.keys.get(key));
        let job = self.jobs.get(id).filter(|_| owner.is_some_and(|owner| owner.id == id));
        job.is_some_and(|job| self.rules(&job.job_type).key_for_ms == 0)
    }

    /// The ids and keys that an answer takes; none where a key is refused. One with the id of an earlier job is that job.
    fn takes(&self, asked: &[Asked], told: &Told) -> Option<(BTreeSet<String>, BTreeSet<String>)> {
        let (mut ids, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for Asked { spec, refused } in asked {
            let known = |id: &String| ids.contains(id) || told.ids.contains(id);
            if let Some(key) = spec.key.as_ref().filter(|_| !spec.options.id.as_ref().is_some_and(known)) {
                let rejects = self.rules(&spec.options.job_type).on_conflict == OnConflict::Reject;
                if *refused || (rejects && (keys.contains(key) || told.keys.contains(key))) {
                    return None;
                }
                keys.insert(key.clone());
            }
            ids.extend(spec.options.id.clone());
        }
        Some((ids, keys))
    }

    /// Notes in `told` what else the word brings.
    fn settle_one(
        &mut self,
        worker: &WorkerIdentity,
        word: &Settlement,
        follow_ups: Option<Vec<Asked>>,
        now_ms: u64,
        told: &mut Told,
    ) -> Settled {
        let holds = |lease: &&Lease| lease.token == word.token && lease.holder.boot == worker.boot;
        let Some(lease) = self.leases.get(&word.id).filter(holds).cloned() else { return Settled::Stale };
        let brings = follow_ups.and_then(|asked| Some((self.takes(&asked, told)?, asked)));
        let Some(((ids, keys), asked)) = brings else { return Settled::Refused { why: String::new() } };
        let Some(mut job) = self.jobs.remove(&word.id) else { return Settled::Stale };
        told.follow_ups.extend(asked.into_iter().map(|asked| asked.spec));
        told.ids.extend(ids);
        told.keys.extend(keys);
        let kept = &mut told.kept;
        self.leases.remove(&word.id);
        let cancelled = lease.cancel.is_some() && !matches!(word.outcome, Outcome::Success { .. });
        let (id, kind) = (word.id.as_str(), job.job_type.clone());
        job.end_attempt(&lease, worker, word, cancelled, now_ms);
        let counters = self.counters(&kind);
        counters.attempts += 1;
        counters.busy_ms += now_ms.saturating_sub(lease.since_ms);
        if matches!(word.outcome, Outcome::Retry { .. } | Outcome::Dead { .. }) {
            counters.failed += 1;
        }
        self.tell_gates(&kind, id, &word.outcome, now_ms);
        if let Outcome::Snooze { delay_ms, holds: Holds::Key, .. } = &word.outcome {
            self.hold_group(&kind, &job.group, (*delay_ms).min(MAX_DELAY_MS), now_ms);
        }
        if let (Some(note), false) = (&word.note, cancelled) {
            job.hear(note, now_ms);
        }
        match &word.outcome {
            Outcome::Success { result, .. } => {
                job.result = result[..result.len().min(RESULT_MOST)].to_vec();
                self.finish(id, job, Place::Succeeded, now_ms, kept);
                return Settled::Done;
            }
            _ if cancelled => {
                self.finish(id, job, Place::Cancelled, now_ms, kept);
                return Settled::Done;
            }
            Outcome::Dead { reason, error, .. } => {
                told.deaths.extend(self.on_dead(id, &job, word.token, *reason, error, now_ms));
                job.place = Place::Dead;
                job.finished_ms = Some(now_ms);
                job.reason = Some(*reason);
                self.counters(&kind).died += 1;
            }
            // A job that is handed back keeps its place.
            Outcome::Release { .. } => job.wait(job.due_ms.min(now_ms), now_ms),
            Outcome::Retry { delay_ms, .. } | Outcome::Snooze { delay_ms, .. } => {
                job.wait(now_ms + (*delay_ms).min(MAX_DELAY_MS), now_ms);
            }
        }
        self.jobs.insert(id.to_owned(), job);
        Settled::Done
    }
}

/// Successes without an answer go first, for the client says them together; only a circuit can tell the difference.
fn said_in_order(done: &[Settlement]) -> Vec<usize> {
    let mut said = BTreeSet::new();
    let plain = |at: &usize| {
        let word = &done[*at];
        let first = said.insert(&word.id);
        first
            && matches!(&word.outcome, Outcome::Success { result, follow_ups } if result.is_empty() && follow_ups.is_empty())
    };
    let (mut first, rest): (Vec<usize>, Vec<usize>) = (0..done.len()).partition(plain);
    first.sort_by_key(|at| (done[*at].token, done[*at].policy_version));
    first.into_iter().chain(rest).collect()
}

impl Job {
    fn end_attempt(
        &mut self,
        lease: &Lease,
        worker: &WorkerIdentity,
        word: &Settlement,
        cancelled: bool,
        now_ms: u64,
    ) {
        let (outcome, spends, mut error) = told(&word.outcome);
        if let (true, Some(by), Some(error)) = (cancelled, &lease.cancel, &mut error) {
            error.message = if matches!(word.outcome, Outcome::Release { .. }) {
                error.code = "Cancelled".to_owned();
                format!("cancelled by {by}")
            } else {
                clip(&format!("cancelled by {by}: {}", error.message), MESSAGE_LAST)
            };
        }
        self.attempts += 1;
        match spends {
            Spends::Try => self.tries += 1,
            Spends::Crash => self.crashes += 1,
            Spends::Nothing => {}
        }
        // A sweeper speaks for the worker that lost the lease.
        let (by, token) = lease.lost.as_ref().map_or((worker, lease.token), |(by, token)| (by, *token));
        self.remember(Attempt {
            number: self.attempts,
            started_ms: lease.since_ms,
            ended_ms: now_ms,
            worker: by.name.clone(),
            node: by.node.clone(),
            token,
            policy_version: word.policy_version.min(MAX_INTEGER),
            outcome: if cancelled { "cancel" } else { outcome }.to_owned(),
            error,
        });
    }
}

/// What the history says of an outcome, and what it costs.
fn told(outcome: &Outcome) -> (&'static str, Spends, Option<AttemptError>) {
    let bounded = |error: &AttemptError| AttemptError {
        class: error.class,
        code: clip(&error.code, CODE_MOST),
        message: clip(&error.message, MESSAGE_LAST),
    };
    let back = |code: &str, why: &str| AttemptError {
        class: ErrorClass::Transient,
        code: code.to_owned(),
        message: clip(why, MESSAGE_OLD),
    };
    match outcome {
        Outcome::Success { .. } => ("success", Spends::Nothing, None),
        Outcome::Retry { spends, error, .. } => ("retry", *spends, Some(bounded(error))),
        Outcome::Dead { spends, error, .. } => ("dead", *spends, Some(bounded(error))),
        Outcome::Release { why } => ("release", Spends::Nothing, Some(back("Released", why))),
        Outcome::Snooze { why, .. } => ("snooze", Spends::Nothing, Some(back("Snoozed", why))),
    }
}
