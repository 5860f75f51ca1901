//! Judges a run: one sort, one pass per job, then the windows over all jobs and what Redis holds.

use std::collections::{HashMap, HashSet};

use super::evidence::{Entry, Record, Run};
use super::history::{Act, Ending, Event, Fate};
use super::keys::KeySpan;
use super::life::Life;
use super::limits::LeaseSpan;
use super::phase::End;
use super::report::Violation;
use super::rules::Rules;
use super::verdict::Verdict;
use super::walk::Walk;
use super::{conservation, dead_letters, fairness, keys, limits, liveness, order};

/// A claim that leased a job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant<'a> {
    pub(super) at_ms: u64,
    pub(super) token: u64,
    pub(super) lane: &'a str,
}

/// A job that was accepted and how it came to its first lease.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) job: &'a str,
    pub(super) job_type: &'a str,
    pub(super) lane: &'a str,
    pub(super) priority: u8,
    pub(super) accepted_ms: u64,
    pub(super) due_ms: u64,
    pub(super) seq: u64,
    /// Due and accepted, ms.
    pub(super) ready_ms: u64,
    /// Time and token of its first grant, when no reply that may have granted it before was lost.
    pub(super) first: Option<(u64, u64)>,
    /// It was never started and stands ready in the end.
    pub(super) waits_still: bool,
}

impl Arrival<'_> {
    /// It was not due at once.
    pub(super) fn waited_for_time(&self) -> bool {
        self.due_ms > self.accepted_ms
    }
}

/// What Redis holds of one job.
#[derive(Debug, Default)]
pub(super) struct Found<'a> {
    pub(super) record: Option<&'a Record>,
    pub(super) entries: Vec<&'a Entry>,
}

/// What passes over single jobs gather for the windows.
#[derive(Debug, Default)]
pub(super) struct Gathered<'a> {
    pub(super) grants: Vec<Grant<'a>>,
    pub(super) arrivals: Vec<Arrival<'a>>,
    pub(super) leases: Vec<LeaseSpan<'a>>,
    pub(super) keys: Vec<KeySpan<'a>>,
    pub(super) verdict: Verdict,
    /// Accepted successes, and lost ones.
    pub(super) successes: (u64, u64),
}

/// What the passes look up.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) rules: &'a Rules,
    /// Successes that handlers wrote down, if they did.
    pub(super) effects: Option<HashSet<(&'a str, u64)>>,
    /// Clients that lost the reply to a claim.
    pub(super) lost_claims: HashSet<&'a str>,
}

/// Judges a run by what the queue promised. Linear but for the sorts; a million events take seconds.
#[must_use]
pub fn judge(run: &Run, rules: &Rules) -> Verdict {
    let mut lost: Vec<&Event> = run.events.iter().filter(|event| is_lost_claim(event)).collect();
    lost.sort_unstable_by_key(|event| event.at_ms);
    let known = Known {
        rules,
        effects: run.effects.as_ref().map(|effects| {
            effects.iter().filter(|call| call.success).map(|call| (call.job.as_str(), call.token)).collect()
        }),
        lost_claims: lost.iter().map(|event| event.client.as_str()).collect(),
    };
    let mut left = leftovers(run);
    let mut gathered = Gathered::default();
    let events = in_order(run);
    for events in events.chunk_by(|a, b| a.0 == b.0) {
        one_job(run, events, &known, &mut left, &mut gathered);
    }
    strangers(run, rules, &left, &mut gathered.verdict);
    windows(&mut gathered, &lost, rules);
    let mut verdict = gathered.verdict;
    keys::judge_dump(&run.dump, &mut verdict.violations);
    if let Some(counted) = run.dump.succeeded_total {
        let (sure, maybe) = gathered.successes;
        let records = counted.clamp(sure, sure + maybe);
        if counted != records {
            verdict.violations.push(Violation::CountsDiffer { counted, records });
        }
    }
    verdict.repeated_effects = repeated(run);
    verdict
}

fn is_lost_claim(event: &Event) -> bool {
    let lease = matches!(event.act, Act::Claim | Act::Grant { .. } | Act::Takeover { .. });
    lease && event.fate == Fate::Unknown
}

/// What a job's events are sorted by: job, time, token (acts without one come first), rank; and where the event is.
type Key = (u32, u64, u64, u64, usize);

/// Refusals changed nothing and are left out.
fn in_order(run: &Run) -> Vec<Key> {
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut keys = Vec::with_capacity(run.events.len());
    for (at, event) in run.events.iter().enumerate() {
        if event.fate == Fate::Refused || is_lost_claim(event) {
            continue;
        }
        let Some(job) = event.act.job() else { continue };
        let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        let job = *numbers.entry(job).or_insert(next);
        keys.push((job, event.at_ms, event.act.token().unwrap_or(0), event.act.rank(), at));
    }
    keys.sort_unstable();
    keys
}

fn leftovers(run: &Run) -> HashMap<&str, Found<'_>> {
    let mut left: HashMap<&str, Found<'_>> = HashMap::with_capacity(run.dump.records.len());
    for record in &run.dump.records {
        left.entry(&record.job).or_default().record = Some(record);
    }
    for entry in &run.dump.entries {
        left.entry(&entry.job).or_default().entries.push(entry);
    }
    left
}

fn one_job<'a>(
    run: &'a Run,
    keys: &[Key],
    known: &Known<'a>,
    left: &mut HashMap<&'a str, Found<'a>>,
    gathered: &mut Gathered<'a>,
) {
    let Some(job) = keys.first().and_then(|key| run.events[key.4].act.job()) else { return };
    let left = left.remove(job).unwrap_or_default();
    let mut walk = Walk::new(job, known);
    for same_ms in keys.chunk_by(|a, b| a.1 == b.1) {
        let events: Vec<&Event> = same_ms.iter().map(|key| &run.events[key.4]).collect();
        walk.pass(&events, gathered);
    }
    let life = walk.finish(&left, gathered);
    count(&life, &left, &mut gathered.verdict);
    let found = &mut gathered.verdict.violations;
    conservation::judge(&life, &left, known.rules, found);
    dead_letters::judge_end(&life, &left, found);
    found.extend(conservation::one_index(job, &left));
    if let Some(rules) = known.rules.liveness {
        found.extend(liveness::judge(Some(&life), left.record, run.dump.at_ms, rules));
    }
}

fn count(life: &Life<'_>, left: &Found<'_>, verdict: &mut Verdict) {
    verdict.accepted += u64::from(life.accepted_ms.is_some() || life.told_of);
    let sure = life.phases.first().and_then(|phase| phase.ended());
    let sure = sure.filter(|end| life.all(|phase| phase.ended() == Some(*end)));
    match left.record.and_then(|record| End::of(record.state)).or(sure) {
        Some(End::Succeeded) => verdict.succeeded += 1,
        Some(End::Dead) => verdict.dead += 1,
        Some(End::Cancelled) => verdict.cancelled += 1,
        None => {}
    }
}

/// Jobs in Redis that the history does not name: a lost reply may have handed them in.
fn strangers(run: &Run, rules: &Rules, left: &HashMap<&str, Found<'_>>, verdict: &mut Verdict) {
    let mut names: Vec<&&str> = left.keys().collect();
    names.sort_unstable();
    for name in names {
        let left = &left[*name];
        let found = &mut verdict.violations;
        found.extend(conservation::one_index(name, left));
        found.extend(left.record.and_then(|record| dead_letters::one_entry(record, left, None)));
        if let Some(rules) = rules.liveness {
            found.extend(liveness::judge(None, left.record, run.dump.at_ms, rules));
        }
    }
}

fn windows(gathered: &mut Gathered<'_>, lost: &[&Event], rules: &Rules) {
    gathered.grants.sort_unstable_by_key(|grant| (grant.at_ms, grant.token));
    let found = &mut gathered.verdict.violations;
    if let Some(scope) = rules.fifo {
        order::judge(&gathered.arrivals, scope, found);
    }
    if let Some(fair) = &rules.fairness {
        let lost: Vec<u64> = lost.iter().map(|event| event.at_ms).collect();
        fairness::judge(&gathered.grants, &gathered.arrivals, &lost, rules.late_ms, fair, found);
    }
    limits::rates(&gathered.grants, &rules.rates, found);
    limits::caps(&gathered.leases, &rules.caps, found);
    keys::judge(std::mem::take(&mut gathered.keys), found);
}

/// Jobs whose handler answered success more than once.
fn repeated(run: &Run) -> u64 {
    let mut calls: HashMap<&str, u64> = HashMap::new();
    for call in run.effects.iter().flatten().filter(|call| call.success) {
        *calls.entry(&call.job).or_default() += 1;
    }
    calls.values().filter(|calls| **calls > 1).count() as u64
}

/// Whether the act is a success.
pub(super) fn is_success(act: &Act) -> bool {
    matches!(act, Act::Settle { ending: Ending::Success, .. })
}
