//! Where a fault can be put into a valid history: jobs of which no reply was lost, so that nothing excuses it.

use std::collections::BTreeMap;

use super::super::history::{Act, Ending, Event, Fate};
use super::super::{Entry, Index, Record, Run};
use crate::types::JobState;

/// One job and its accepted events, in order; each an index into the run's events.
pub(super) struct Site {
    pub(super) job: String,
    pub(super) at: Vec<usize>,
}

/// All jobs without lost replies whose history begins with their enqueue.
pub(super) fn sites(run: &Run) -> Vec<Site> {
    let mut jobs: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, event) in run.events.iter().enumerate() {
        if let (Some(job), true) = (event.act.job(), event.fate != Fate::Refused) {
            jobs.entry(job).or_default().push(at);
        }
    }
    let sound = |at: &&Vec<usize>| {
        at.iter().all(|at| run.events[*at].fate == Fate::Ok)
            && matches!(run.events[at[0]].act, Act::Enqueue { .. })
            && !at.iter().any(|at| matches!(run.events[*at].act, Act::Cancel { .. } | Act::Duplicate { .. }))
    };
    let sites = jobs.into_iter().filter(|(_, at)| sound(&at));
    sites.map(|(job, at)| Site { job: job.into(), at }).collect()
}

/// The first place where `fits` holds for an event and the time (ms) until the next of the same job.
pub(super) fn place(run: &Run, fits: impl Fn(&Event, u64) -> bool) -> Option<(Site, usize)> {
    for site in sites(run) {
        for (nth, at) in site.at.iter().enumerate() {
            let next = site.at.get(nth + 1).map_or(u64::MAX, |next| run.events[*next].at_ms);
            if fits(&run.events[*at], next - run.events[*at].at_ms) {
                let at = *at;
                return Some((site, at));
            }
        }
    }
    None
}

/// A job whose last event is its accepted success and whose record is still there; that event.
pub(super) fn succeeded(run: &Run) -> Option<(String, usize)> {
    sites(run).into_iter().find_map(|site| {
        let last = *site.at.last()?;
        let success = matches!(run.events[last].act, Act::Settle { ending: Ending::Success, .. });
        let there = run.dump.records.iter().any(|record| record.job == site.job);
        (success && there).then_some((site.job, last))
    })
}

pub(super) fn token(event: &Event) -> u64 {
    event.act.token().unwrap_or_default()
}

pub(super) fn ok(at_ms: u64, client: &str, act: Act) -> Event {
    Event { client: client.into(), at_ms, fate: Fate::Ok, act }
}

pub(super) fn grant(job: &str, lane: &str, token: u64) -> Act {
    // Not a first attempt, so that order and fairness do not look at it.
    Act::Grant { job: job.into(), token, attempt: 2, lane: lane.into(), expires_ms: None, payload: None }
}

pub(super) fn settle(job: &str, token: u64, ending: Ending) -> Act {
    Act::Settle { job: job.into(), token, ending }
}

pub(super) fn enqueue(job: &str, lane: &str, key: Option<&str>, due_ms: u64) -> Act {
    Act::Enqueue {
        job: Some(job.into()),
        job_type: "x".into(),
        lane: lane.into(),
        priority: 9,
        key: key.map(Into::into),
        payload: None,
        due_ms,
        seq: 0,
    }
}

/// Puts the job's record into a state and its entries into these indexes.
pub(super) fn leave(run: &mut Run, job: &str, state: Option<JobState>, indexes: &[Index]) {
    let dump = &mut run.dump;
    let old = dump.records.iter().find(|record| record.job == job).cloned();
    dump.records.retain(|record| record.job != job);
    dump.entries.retain(|entry| entry.job != job);
    let new =
        Record { job: job.into(), state: JobState::Ready, due_ms: 0, attempts: 1, key: None, payload: None };
    if let Some(state) = state {
        dump.records.push(Record { state, ..old.unwrap_or(new) });
    }
    for index in indexes {
        dump.entries.push(Entry { index: *index, name: format!("{index:?}"), job: job.into() });
    }
}
