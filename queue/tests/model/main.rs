//! The library and the reference model, side by side, on random operations until they diverge.
//!
//! `LANEKEEPER_MODEL_OPS` bounds the operations, `LANEKEEPER_MODEL_SEED` repeats a run, `LANEKEEPER_MODEL_CASE` begins with one of
//! its cases; `LANEKEEPER_MODEL_SHRINK` says for how many seconds a failing run is made shorter, 0 leaves it as long as it is.
//! `LANEKEEPER_LIBRARY_FILE` names the source of a function library to test instead of this crate's, as one file;
//! `LANEKEEPER_LIBRARY_DUMP` writes this crate's to such a file.
#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub, reason = "tests")]

mod bench;
mod channels;
mod claims;
mod damage;
mod drive;
mod groups;
mod jobs;
mod letters;
mod ops;
mod policies;
mod report;
mod run;
mod settlements;
mod shrink;
mod standing;

use std::sync::Arc;

use run::Run;

const DEFAULT_OPS: u64 = 20_000;
const DEFAULT_SEED: u64 = 2;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_library_does_what_the_model_says() {
    let asked = number("LANEKEEPER_MODEL_OPS");
    let ops = asked.unwrap_or(DEFAULT_OPS);
    // The short run is a gate: it says the same of the same code. The long one looks for what nobody has seen yet.
    let chosen = || if asked.is_some() { rand::random::<u32>().into() } else { DEFAULT_SEED };
    let seed = number("LANEKEEPER_MODEL_SEED").unwrap_or_else(chosen);
    println!("LANEKEEPER_MODEL_SEED={seed} LANEKEEPER_MODEL_OPS={ops}");
    let first = number("LANEKEEPER_MODEL_CASE").map_or(0, |case| case.saturating_sub(1));
    // A driver waits for its Redis and that for the driver: two of them keep two cores busy.
    let drivers = if ops > DEFAULT_OPS { 2 } else { 1 };
    let run = Arc::new(Run::new(seed, ops, first));
    let seen = run::all(&run, drivers).await;
    println!("{run}, no divergence\n{seen}");
    seen.check(run.done());
}
