//! Makes a failing run small: steps are left out, then parts of batches, as long as library and model still diverge.

use std::time::{Duration, Instant};

use lanekeeper_queue::testing::model::Op;

use crate::bench::Bench;
use crate::drive::{Divergence, Step, rerun};

/// Longest time spent on it, unless `LANEKEEPER_MODEL_SHRINK` says how many seconds.
const PATIENCE: u64 = 60;

/// A shorter run that diverges, and how it does.
pub async fn shrink(bench: &mut Bench, steps: Vec<Step>, first: Divergence) -> (Vec<Step>, Divergence) {
    let patience = crate::number("LANEKEEPER_MODEL_SHRINK").unwrap_or(PATIENCE);
    let until = Instant::now() + Duration::from_secs(patience);
    let mut best = Best { bench, steps, divergence: first, until, runs: 0 };
    if patience == 0 {
        return (best.steps, best.divergence);
    }
    let whole = best.steps.clone();
    if !best.accepts(whole).await {
        println!("the run does not diverge a second time: the library remembers something over a reset");
        return (best.steps, best.divergence);
    }
    loop {
        let before = best.size();
        best.drop_steps().await;
        best.drop_parts().await;
        if best.size() == before || best.is_late() {
            println!("shrunk in {} runs", best.runs);
            return (best.steps, best.divergence);
        }
    }
}

struct Best<'a> {
    bench: &'a Bench,
    steps: Vec<Step>,
    divergence: Divergence,
    until: Instant,
    runs: u32,
}

impl Best<'_> {
    fn is_late(&self) -> bool {
        Instant::now() > self.until
    }

    fn size(&self) -> usize {
        self.steps.iter().map(|step| 1 + parts(&step.op)).sum()
    }

    /// Keeps the candidate where it diverges, cut off behind the place.
    async fn accepts(&mut self, mut candidate: Vec<Step>) -> bool {
        self.runs += 1;
        let Some((taken, divergence)) = rerun(self.bench, &candidate).await else { return false };
        candidate.truncate(taken);
        self.steps = candidate;
        self.divergence = divergence;
        true
    }

    /// Leaves out ever smaller runs of steps, from the end, as the first ones make the queue.
    async fn drop_steps(&mut self) {
        let mut size = self.steps.len() / 2;
        while size > 0 {
            let mut end = self.steps.len();
            while end > 0 && !self.is_late() {
                let start = end.saturating_sub(size);
                let mut candidate = self.steps.clone();
                candidate.drain(start..end);
                self.accepts(candidate).await;
                end = start.min(self.steps.len());
            }
            size /= 2;
        }
    }

    /// Leaves out entries of batches, one at a time.
    async fn drop_parts(&mut self) {
        let mut at = 0;
        while at < self.steps.len() {
            let mut part = parts(&self.steps[at].op);
            while part > 0 && !self.is_late() && at < self.steps.len() {
                part -= 1;
                let mut candidate = self.steps.clone();
                if remove(&mut candidate[at].op, part) {
                    self.accepts(candidate).await;
                }
            }
            at += 1;
        }
    }
}

/// Entries of the operation's batch.
fn parts(op: &Op) -> usize {
    match op {
        Op::Enqueue(jobs) => jobs.len(),
        Op::Work { done, .. } | Op::Settle { done, .. } => done.len(),
        Op::Extend { held, .. } => held.len(),
        Op::Get { ids, .. }
        | Op::Cancel { ids, .. }
        | Op::Replay { ids, .. }
        | Op::Discard { ids, .. }
        | Op::Acknowledge { ids, .. } => ids.len(),
        _ => 0,
    }
}

/// Removes an entry; false where the call would be none without it.
fn remove(op: &mut Op, at: usize) -> bool {
    fn cut<T>(list: &mut Vec<T>, at: usize, least: usize) -> bool {
        let fits = list.len() > least && at < list.len();
        if fits {
            list.remove(at);
        }
        fits
    }
    match op {
        Op::Enqueue(jobs) => cut(jobs, at, 1),
        Op::Work { done, .. } => cut(done, at, 0),
        Op::Settle { done, .. } => cut(done, at, 1),
        Op::Extend { held, notes, .. } => {
            notes.retain(|(place, _)| *place != at);
            notes.iter_mut().filter(|(place, _)| *place > at).for_each(|(place, _)| *place -= 1);
            cut(held, at, 0)
        }
        Op::Get { ids, .. }
        | Op::Cancel { ids, .. }
        | Op::Replay { ids, .. }
        | Op::Discard { ids, .. }
        | Op::Acknowledge { ids, .. } => cut(ids, at, 1),
        _ => false,
    }
}
