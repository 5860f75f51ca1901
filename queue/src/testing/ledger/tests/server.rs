//! A tiny queue in memory that keeps every promise: what `lk_*` would answer, in the terms of the ledger.

use std::collections::BTreeMap;

use super::super::history::{Act, Ending};
use super::super::{Dump, Entry, Index, KeyOwner, Record, Rules, digest};
use crate::types::{JobState, Spends};

pub(super) const LEASE_MS: u64 = 300;

/// What one job is and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) lane: &'static str,
    pub(super) priority: u8,
    pub(super) key: Option<String>,
    pub(super) due_ms: u64,
    pub(super) seq: u64,
    pub(super) state: JobState,
    pub(super) token: u64,
    pub(super) holder: String,
    pub(super) expires_ms: u64,
    pub(super) cancel: bool,
    pub(super) tries: u32,
    pub(super) crashes: u32,
    pub(super) attempts: u32,
    ended_ms: u64,
    gone: bool,
}

/// The queue. `jobs` keeps removed ones, marked as gone.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) now_ms: u64,
    pub(super) rules: Rules,
    pub(super) jobs: Vec<Job>,
    last_token: u64,
    seq: u64,
    /// Credit of each lane: smooth weighted round robin.
    credit: BTreeMap<&'static str, f64>,
    granted: Vec<(u64, &'static str)>,
}

impl Server {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            now_ms: 1_000,
            rules,
            jobs: Vec::new(),
            last_token: 0,
            seq: 0,
            credit: BTreeMap::new(),
            granted: Vec::new(),
        }
    }

    pub(super) fn job(&self, id: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id == id && !job.gone)
    }

    fn job_mut(&mut self, id: &str) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.id == id && !job.gone)
    }

    fn new_token(&mut self) -> u64 {
        self.last_token = (self.last_token + 1).max(self.now_ms * 1_000);
        self.last_token
    }

    fn holds_key(&self, job: &Job) -> bool {
        match job.state {
            JobState::Succeeded => job.ended_ms + self.rules.keys.after_success_ms > self.now_ms,
            JobState::Dead => self.rules.keys.dead_hold,
            JobState::Cancelled => false,
            _ => true,
        }
    }

    /// The job that answers an enqueue of this id or key with `duplicate`.
    fn owner(&self, id: &str, key: Option<&str>) -> Option<&Job> {
        let of_key =
            |job: &&Job| !job.gone && key.is_some() && job.key.as_deref() == key && self.holds_key(job);
        self.job(id).or_else(|| self.jobs.iter().find(of_key))
    }

    /// Does what is asked; what happened, or `None` when it is refused.
    pub(super) fn apply(&mut self, client: &str, asked: &Act) -> Option<Act> {
        let now_ms = self.now_ms;
        match asked {
            Act::Enqueue { .. } => self.enqueue(asked),
            Act::Claim => self.claim(client),
            Act::Settle { job, token, ending } => {
                self.settle(client, job, *token, *ending).then(|| asked.clone())
            }
            Act::Extend { job, token, .. } => {
                let found = self.job_mut(job).filter(|job| job.holds(client, *token))?;
                found.expires_ms = now_ms + LEASE_MS;
                Some(Act::Extend { job: job.clone(), token: *token, expires_ms: Some(found.expires_ms) })
            }
            Act::Cancel { job, .. } => {
                let found = self.job_mut(job)?;
                let running = match found.state {
                    JobState::Ready => {
                        found.end(JobState::Cancelled, now_ms);
                        false
                    }
                    JobState::Running => {
                        found.cancel = true;
                        true
                    }
                    _ => return None,
                };
                Some(Act::Cancel { job: job.clone(), running: Some(running) })
            }
            Act::Replay { job, .. } => {
                let found = self.job_mut(job).filter(|job| job.state == JobState::Dead)?;
                (found.state, found.due_ms, found.tries, found.crashes) = (JobState::Ready, now_ms, 0, 0);
                Some(asked.clone())
            }
            Act::Remove { job, .. } => {
                let found = self.job_mut(job).filter(|job| job.state == JobState::Dead)?;
                found.gone = true;
                Some(asked.clone())
            }
            _ => None,
        }
    }

    fn enqueue(&mut self, asked: &Act) -> Option<Act> {
        let now_ms = self.now_ms;
        let Act::Enqueue { job: Some(id), lane, priority, key, due_ms, .. } = asked else { return None };
        if let Some(owner) = self.owner(id, key.as_deref()) {
            return Some(Act::Duplicate { job: owner.id.clone() });
        }
        self.seq += 1;
        let mut done = asked.clone();
        if let Act::Enqueue { due_ms, seq, .. } = &mut done {
            (*due_ms, *seq) = ((*due_ms).max(now_ms), self.seq);
        }
        let lane = if lane == "a" {
            "a"
        } else if lane == "b" {
            "b"
        } else {
            "c"
        };
        self.jobs.push(Job {
            id: id.clone(),
            lane,
            priority: *priority,
            key: key.clone(),
            due_ms: (*due_ms).max(now_ms),
            seq: self.seq,
            state: JobState::Ready,
            token: 0,
            holder: String::new(),
            expires_ms: 0,
            cancel: false,
            tries: 0,
            crashes: 0,
            attempts: 0,
            ended_ms: 0,
            gone: false,
        });
        Some(done)
    }

    fn claim(&mut self, client: &str) -> Option<Act> {
        let mut best: BTreeMap<&'static str, usize> = BTreeMap::new();
        for (at, job) in self.jobs.iter().enumerate() {
            let place = |job: &Job| (job.priority, job.due_ms, job.seq);
            if job.state == JobState::Ready
                && !job.gone
                && job.due_ms <= self.now_ms
                && best.get(job.lane).is_none_or(|best| place(job) < place(&self.jobs[*best]))
                && self.open(job.lane)
            {
                best.insert(job.lane, at);
            }
        }
        let weight = |lane: &str| self.rules.fairness.as_ref().map_or(1.0, |fair| fair.weights[lane]);
        let mut total = 0.0;
        for lane in best.keys() {
            *self.credit.entry(*lane).or_default() += weight(lane);
            total += weight(lane);
        }
        let lane = *best.keys().max_by(|a, b| self.credit[*a].total_cmp(&self.credit[*b]))?;
        *self.credit.entry(lane).or_default() -= total;
        self.granted.push((self.now_ms, lane));
        let (token, expires_ms) = (self.new_token(), self.now_ms + LEASE_MS);
        let job = &mut self.jobs[best[lane]];
        (job.state, job.token, job.holder, job.cancel) = (JobState::Running, token, client.to_owned(), false);
        job.expires_ms = expires_ms;
        Some(Act::Grant {
            job: job.id.clone(),
            token,
            attempt: job.attempts + 1,
            lane: lane.into(),
            expires_ms: Some(expires_ms),
            payload: Some(digest(job.id.as_bytes())),
        })
    }

    /// Whether rate and cap let the lane start one more.
    fn open(&self, lane: &str) -> bool {
        let live = self.jobs.iter().filter(|job| job.lane == lane && job.state == JobState::Running).count();
        let recent = |rate: &super::super::Rate| {
            let since = |at_ms: u64| at_ms + rate.per_ms > self.now_ms;
            let count = self.granted.iter().rev().take_while(|(at_ms, _)| since(*at_ms));
            count.filter(|(_, of)| *of == lane).count() as u64
        };
        self.rules.caps.get(lane).is_none_or(|cap| live < *cap as usize)
            && self.rules.rates.get(lane).is_none_or(|rate| recent(rate) < rate.limit + rate.burst)
    }

    /// Takes over one expired lease.
    pub(super) fn sweep(&mut self, client: &str) -> Option<Act> {
        let now_ms = self.now_ms;
        let at =
            self.jobs.iter().position(|job| job.state == JobState::Running && job.expires_ms <= now_ms)?;
        let token = self.new_token();
        let job = &mut self.jobs[at];
        (job.token, job.holder, job.expires_ms) = (token, client.to_owned(), now_ms + LEASE_MS);
        Some(Act::Takeover { job: job.id.clone(), token, expires_ms: Some(job.expires_ms) })
    }

    fn settle(&mut self, client: &str, id: &str, token: u64, ending: Ending) -> bool {
        let now_ms = self.now_ms;
        let Some(job) = self.job_mut(id).filter(|job| job.holds(client, token)) else { return false };
        job.attempts += 1;
        match ending {
            Ending::Retry(Spends::Try) | Ending::Dead(Spends::Try) => job.tries += 1,
            Ending::Retry(Spends::Crash) | Ending::Dead(Spends::Crash) => job.crashes += 1,
            _ => {}
        }
        match ending {
            Ending::Success => job.end(JobState::Succeeded, now_ms),
            _ if job.cancel => job.end(JobState::Cancelled, now_ms),
            Ending::Dead(_) => job.end(JobState::Dead, now_ms),
            Ending::Release => job.state = JobState::Ready,
            _ => (job.state, job.due_ms) = (JobState::Ready, now_ms + 7),
        }
        true
    }

    /// What is left, without the jobs that `trimmed` says retention has forgotten.
    pub(super) fn dump(&self, mut trimmed: impl FnMut(&Job) -> bool) -> Dump {
        let mut dump = Dump { at_ms: self.now_ms, keys: Some(Vec::new()), ..Dump::default() };
        for job in self.jobs.iter().filter(|job| !job.gone) {
            if let (Some(key), Some(keys)) = (&job.key, &mut dump.keys)
                && self.holds_key(job)
            {
                keys.push(KeyOwner { key: key.clone(), job: job.id.clone() });
            }
            let (index, name) = match job.state {
                JobState::Dead => (Index::Dead, "dead"),
                JobState::Succeeded | JobState::Cancelled => (Index::Finished, "finished"),
                JobState::Running => (Index::Running, "running"),
                _ => (Index::Scheduled, "scheduled"),
            };
            if index == Index::Finished && trimmed(job) {
                continue;
            }
            dump.records.push(Record {
                job: job.id.clone(),
                state: job.state,
                due_ms: job.due_ms,
                attempts: job.attempts,
                key: job.key.clone(),
                payload: Some(digest(job.id.as_bytes())),
            });
            dump.entries.push(Entry { index, name: name.into(), job: job.id.clone() });
        }
        dump
    }
}

impl Job {
    fn holds(&self, client: &str, token: u64) -> bool {
        self.state == JobState::Running && self.token == token && self.holder == client
    }

    fn end(&mut self, state: JobState, now_ms: u64) {
        (self.state, self.ended_ms) = (state, now_ms);
    }
}
