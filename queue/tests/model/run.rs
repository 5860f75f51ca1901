//! Many cases of one seed, by several drivers: each has a Redis of its own, and takes the next case when it is through with one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::bench::Bench;
use crate::drive::{Case, run_case};
use crate::report::{self, Tally};
use crate::shrink;

/// Operations between two lines that say how far it is.
const TELL_EVERY: u64 = 100_000;

/// What the drivers share.
pub struct Run {
    seed: u64,
    ops: u64,
    started: Instant,
    next_case: AtomicU64,
    done: AtomicU64,
    diverged: AtomicBool,
}

impl Run {
    pub fn new(seed: u64, ops: u64, first_case: u64) -> Self {
        let (next_case, done) = (AtomicU64::new(first_case), AtomicU64::new(0));
        Self { seed, ops, started: Instant::now(), next_case, done, diverged: AtomicBool::new(false) }
    }

    pub fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// The number of the next case, and the most operations that it may have; none where the run is over.
    fn take(&self) -> Option<(u64, u64)> {
        let left = self.ops.checked_sub(self.done()).filter(|left| *left > 0)?;
        (!self.diverged.load(Relaxed)).then(|| (self.next_case.fetch_add(1, Relaxed), left))
    }

    fn note(&self, case: &Case) {
        let took = case.steps.len() as u64;
        let done = self.done.fetch_add(took, Relaxed) + took;
        if done / TELL_EVERY > (done - took) / TELL_EVERY {
            println!("{self}");
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cases, seconds) = (self.next_case.load(Relaxed), self.started.elapsed().as_secs_f64());
        write!(f, "{} operations up to case {cases}, {seconds:.1} s", self.done())
    }
}

/// Runs until all operations are done; how often what was seen. Panics where library and model diverge.
pub async fn all(run: &Arc<Run>, drivers: usize) -> Tally {
    let driving: Vec<_> = (0..drivers).map(|_| tokio::spawn(drive(run.clone()))).collect();
    let (mut seen, mut failures) = (Tally::default(), Vec::new());
    for driver in driving {
        match driver.await.expect("a driver panicked") {
            Ok(tally) => seen.merge(tally),
            Err(failure) => failures.push(failure),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    seen
}

async fn drive(run: Arc<Run>) -> Result<Tally, String> {
    let mut bench = Bench::start().await;
    let mut seen = Tally::default();
    while let Some((number, most)) = run.take() {
        let case = run_case(&mut bench, run.seed, number, most, &mut seen).await;
        run.note(&case);
        if let Some(divergence) = case.divergence {
            run.diverged.store(true, Relaxed);
            println!("{run}: case {} of seed {} diverged; shrinking", number + 1, run.seed);
            println!("what Redis has of concurrency keys:\n{}", bench.groups_in_words().await);
            let (steps, divergence) = shrink::shrink(&mut bench, case.steps, divergence).await;
            return Err(report::failure(run.seed, number + 1, &steps, &divergence));
        }
    }
    Ok(seen)
}
