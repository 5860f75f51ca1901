//! One pass over one job's events: each goes to every family that judges single jobs, then into the job's life.

use super::history::{Act, Ending, Event, Fate};
use super::judge::{Arrival, Found, Gathered, Grant, Known, is_success};
use super::keys::Hold;
use super::life::Life;
use super::limits::LeaseSpan;
use super::phase::Phase;
use super::report::Violation;
use super::rules::TypeRules;
use super::tries::Tries;
use super::{dead_letters, leases};
use crate::types::{JobState, Spends};

/// The pass.
#[derive(Debug)]
pub(super) struct Walk<'a, 'k> {
    known: &'k Known<'a>,
    life: Life<'a>,
    tries: Tries,
    bounds: Option<&'a TypeRules>,
    hold: Hold<'a>,
    lease: Option<LeaseSpan<'a>>,
    arrival: Option<Arrival<'a>>,
}

impl<'a, 'k> Walk<'a, 'k> {
    pub(super) fn new(job: &'a str, known: &'k Known<'a>) -> Self {
        Self {
            known,
            life: Life::new(job),
            tries: Tries::default(),
            bounds: None,
            hold: Hold::default(),
            lease: None,
            arrival: None,
        }
    }

    /// Takes the events of one millisecond in, in an order that can have been: Redis tells no finer time.
    pub(super) fn pass(&mut self, events: &[&'a Event], gathered: &mut Gathered<'a>) {
        if let Some(event) = events.first() {
            self.life.advance(event.at_ms, self.known.rules);
        }
        let (mut lost, mut open): (Vec<&Event>, Vec<&Event>) =
            events.iter().partition(|event| event.fate == Fate::Unknown);
        loop {
            // A lost word can have come at once, but not before the lease that it speaks of.
            lost.retain(|event| {
                let waits = open.iter().any(|open| begins(open, event));
                if !waits {
                    self.lose(event, gathered);
                }
                waits
            });
            if open.is_empty() {
                return;
            }
            let event = open.remove(self.next(&open));
            self.accept(event, gathered);
        }
    }

    /// Which comes next: the enqueue of a job that was not accepted yet, the cancellation of a lease while there is one, else the lowest token, else what fits, else the first.
    fn next(&self, open: &[&'a Event]) -> usize {
        if open.len() == 1 {
            return 0;
        }
        let enqueue = |event: &&Event| matches!(event.act, Act::Enqueue { .. });
        if let Some(first) = open.iter().position(enqueue).filter(|_| self.life.accepted_ms.is_none()) {
            return first;
        }
        let fits = |event: &Event| self.life.can(event, self.known.rules);
        let leased = |phase| matches!(phase, Phase::Leased { .. });
        let cancels = |event: &&Event| matches!(event.act, Act::Cancel { running: Some(true), .. });
        let cancel = open.iter().position(|event| cancels(event) && self.life.any(leased));
        let lowest =
            || open.iter().position(|event| event.act.token().is_some()).filter(|at| fits(open[*at]));
        let other = || open.iter().position(|event| event.act.token().is_none() && fits(event));
        cancel.or_else(lowest).or_else(other).unwrap_or(0)
    }

    fn lose(&mut self, event: &'a Event, gathered: &mut Gathered<'a>) {
        self.learn_type(event);
        gathered.successes.1 += u64::from(is_success(&event.act));
        self.tries.take(&self.life, event, self.bounds, &mut gathered.verdict.violations);
        self.life.lose(event, self.known.rules);
        self.look(event, gathered);
    }

    fn accept(&mut self, event: &'a Event, gathered: &mut Gathered<'a>) {
        self.learn_type(event);
        let possible = self.life.can(event, self.known.rules);
        let found = &mut gathered.verdict.violations;
        leases::judge(&self.life, event, possible, &self.known.lost_claims, found);
        dead_letters::judge(&self.life, event, possible, found);
        self.tries.take(&self.life, event, self.bounds, found);
        match &event.act {
            Act::Settle { token, ending: Ending::Success, .. } => {
                gathered.successes.0 += 1;
                let job = self.life.job;
                if self.known.effects.as_ref().is_some_and(|effects| !effects.contains(&(job, *token))) {
                    found.push(Violation::SuccessWithoutEffect { job: job.into(), token: *token });
                }
            }
            Act::Settle { ending: Ending::Retry(Spends::Crash) | Ending::Dead(Spends::Crash), .. } => {
                gathered.verdict.crashes += 1;
            }
            _ => {}
        }
        self.arrive(event, gathered);
        self.life.accept(event, self.known.rules);
        self.look(event, gathered);
    }

    fn learn_type(&mut self, event: &'a Event) {
        if let Act::Enqueue { job_type, .. } = &event.act {
            self.bounds = self.known.rules.types.get(job_type);
        }
    }

    /// Follows the job to its first grant.
    fn arrive(&mut self, event: &'a Event, gathered: &mut Gathered<'a>) {
        match &event.act {
            Act::Enqueue { job_type, lane, priority, due_ms, seq, .. }
                if self.arrival.is_none() && self.life.leases.is_empty() =>
            {
                self.arrival = Some(Arrival {
                    job: self.life.job,
                    job_type,
                    lane,
                    priority: *priority,
                    accepted_ms: event.at_ms,
                    due_ms: *due_ms,
                    seq: *seq,
                    ready_ms: (*due_ms).max(event.at_ms),
                    first: None,
                    waits_still: false,
                });
            }
            Act::Grant { token, attempt, lane, .. } => {
                gathered.grants.push(Grant { at_ms: event.at_ms, token: *token, lane });
                let first = self.life.leases.is_empty() && *attempt == 1;
                if let Some(arrival) = self.arrival.as_mut().filter(|_| first) {
                    arrival.first = Some((event.at_ms, *token));
                }
            }
            _ => {}
        }
    }

    /// Follows the spans in which the job certainly held a lease and its key.
    fn look(&mut self, event: &'a Event, gathered: &mut Gathered<'a>) {
        self.hold.look(&self.life, event, self.known.rules.keys, &mut gathered.keys);
        let begins = match &event.act {
            Act::Grant { lane, .. } if event.fate == Fate::Ok => Some(lane.as_str()),
            _ => None,
        };
        let leased = self.life.all(|phase| matches!(phase, Phase::Leased { .. }));
        if (begins.is_some() || !leased)
            && let Some(over) = self.lease.take()
        {
            gathered.leases.push(LeaseSpan { until_ms: event.at_ms, ..over });
        }
        if let Some(lane) = begins.filter(|_| leased) {
            let (job, from_ms) = (self.life.job, event.at_ms);
            self.lease = Some(LeaseSpan { lane, job, from_ms, until_ms: u64::MAX });
        }
    }

    /// The run is over.
    pub(super) fn finish(mut self, left: &Found<'a>, gathered: &mut Gathered<'a>) -> Life<'a> {
        gathered.leases.extend(self.lease);
        self.hold.finish(&mut gathered.keys);
        if let Some(arrival) = &mut self.arrival {
            let ready = |state| matches!(state, JobState::Ready | JobState::Scheduled);
            let untouched = left.record.is_some_and(|record| ready(record.state) && record.attempts == 0);
            arrival.waits_still = untouched && self.life.leases.is_empty();
        }
        gathered.arrivals.extend(self.arrival);
        self.life
    }
}

/// Whether `event` is about the lease that `lease` begins.
fn begins(lease: &Event, event: &Event) -> bool {
    let lease = &lease.act;
    matches!(lease, Act::Grant { .. } | Act::Takeover { .. }) && lease.token() == event.act.token()
}
