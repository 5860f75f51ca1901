//! How many replicas the work needs, before any limit: the terms of a decision.

use std::collections::BTreeMap;

use super::estimate::Estimate;
use super::sample::{Load, Sample, ScalePolicy, TypeLoad};

/// Time between two decisions that the terms reckon with, ms.
const TICK_MS: f64 = 5_000.0;
/// A need of 2.04 replicas is met by 2.
const SLACK: f64 = 0.05;
/// Share of the target age that is always left to start the waiting jobs in: the need of jobs that are
/// already late stays finite.
const LATE_SHARE: f64 = 0.25;

/// Replicas by each term, unrounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Terms {
    /// To start the due jobs before the oldest reaches the target age.
    pub backlog: f64,
    /// To keep up with the rate at which jobs come.
    pub throughput: f64,
    /// `depthPerReplica`.
    pub depth: f64,
    /// For jobs that become due while a worker would start.
    pub scheduled: f64,
}

/// What one look at the work adds up to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Need {
    /// By term.
    pub terms: Terms,
    /// Due jobs that may start.
    pub due: u64,
    /// Running jobs.
    pub running: u64,
    /// Jobs due soon.
    pub soon: u64,
    /// Age of the oldest due job, ms.
    pub oldest_age_ms: u64,
}

impl Need {
    /// Whole replicas: the greatest term, and one as long as there is anything to do.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        let Terms { backlog, throughput, depth, scheduled } = self.terms;
        let most = backlog.max(throughput).max(depth).max(scheduled);
        let whole = (most - SLACK).ceil().clamp(0.0, f64::from(u32::MAX)) as u32;
        whole.max(u32::from(self.due + self.running + self.soon > 0))
    }
}

/// Adds up the need of a load whose types have these estimates.
#[must_use]
pub fn need(policy: &ScalePolicy, sample: &Sample, load: &Load, known: &BTreeMap<String, Estimate>) -> Need {
    let mut total = Need::default();
    let mut work = Vec::with_capacity(load.types.len());
    for t in &load.types {
        let estimate = known.get(&t.name).cloned().unwrap_or_else(|| Estimate::first(t));
        // What is held needs no workers, whatever its rate: only running jobs count, and, where only its lane is held,
        // that it goes on soon.
        let held = load.held.is_some() || t.held;
        let due = if held { 0 } else { t.due };
        let soon = if load.held.is_some() { 0 } else { t.soon };
        total.due += due;
        total.soon += soon;
        total.running += t.running;
        total.oldest_age_ms = total.oldest_age_ms.max(if due > 0 { t.oldest_age_ms } else { 0 });
        work.push(Work::new(policy, sample, t, &estimate, (due, soon), held));
    }
    total.terms = terms(policy, sample, &work, &total);
    total
}

/// Slots that one job type wants, by term.
struct Work {
    /// Slots of one worker that its jobs may use.
    per_worker: f64,
    /// To start what is due with the workers that are ready.
    now: f64,
    /// The same with workers that must start first.
    later: f64,
    /// To keep up.
    steady: f64,
    /// For what comes soon.
    soon: f64,
}

impl Work {
    fn new(
        policy: &ScalePolicy,
        sample: &Sample,
        load: &TypeLoad,
        estimate: &Estimate,
        (due, soon): (u64, u64),
        held: bool,
    ) -> Self {
        let service = estimate.service_ms();
        let target = policy.oldest_age_ms as f64;
        let startup = sample.startup_ms as f64;
        let least = (target * LATE_SHARE).max(1.0);
        let left = (target - load.oldest_age_ms as f64).max(least);
        let jobs = (due + load.running) as f64;
        // A slot starts 1 + left/service jobs within the time left: one slot per job when jobs are long,
        // few slots for many when they are short.
        let slots = |jobs: f64, left: f64| if jobs == 0.0 { 0.0 } else { jobs / (1.0 + left / service) };
        let (now, later) =
            if due == 0 { (0.0, 0.0) } else { (slots(jobs, left), slots(jobs, (left - startup).max(least))) };
        let rate = if held { 0.0 } else { estimate.rate_per_ms() };
        let coming = rate * (startup + TICK_MS);
        let offered = rate * service;
        Self {
            per_worker: f64::from(policy.slots.min(load.per_worker.unwrap_or(u32::MAX)).max(1)),
            now,
            later,
            // Never more than the jobs that can be there by then.
            steady: (offered + offered.sqrt()).min(jobs + coming + coming.sqrt()),
            soon: if soon == 0 { 0.0 } else { slots(jobs + soon as f64, target.max(1.0)) },
        }
    }
}

fn terms(policy: &ScalePolicy, sample: &Sample, work: &[Work], total: &Need) -> Terms {
    let slots = f64::from(policy.slots.max(1));
    // A worker is one bin of `slots`, in which each type has room for `per_worker`: the bin as a whole and
    // each type's room in it bound the need from below.
    let bound = |of: &dyn Fn(&Work) -> f64| {
        let whole = work.iter().map(of).sum::<f64>() / slots;
        work.iter().map(|w| of(w) / w.per_worker).fold(whole, f64::max)
    };
    let ready = f64::from(sample.ready);
    let whole = backlog(
        work.iter().map(|w| w.now).sum::<f64>() / slots,
        work.iter().map(|w| w.later).sum::<f64>() / slots,
        ready,
    );
    Terms {
        backlog: work
            .iter()
            .map(|w| backlog(w.now / w.per_worker, w.later / w.per_worker, ready))
            .fold(whole, f64::max),
        throughput: bound(&|w| w.steady),
        depth: policy.depth_per_replica.map_or(0.0, |per| total.due as f64 / f64::from(per.max(1))),
        scheduled: bound(&|w| w.soon),
    }
}

/// Ready workers take their share of the backlog; only the rest is reckoned with workers that lose their
/// start-up time first.
fn backlog(now: f64, later: f64, ready: f64) -> f64 {
    if now <= ready { now } else { ready + (1.0 - ready / now) * later }
}
