//! Decisions by themselves, by properties, and over simulated time.

mod cases;
mod properties;
mod sampling;
mod simulation;

use super::sample::{Load, Mode, Sample, ScalePolicy, TypeLoad};

/// A pool of ten slots with a promise of ten seconds.
fn policy() -> ScalePolicy {
    ScalePolicy {
        mode: Mode::Auto,
        min: 0,
        max: 20,
        slots: 10,
        oldest_age_ms: 5_000,
        depth_per_replica: None,
        idle_after_ms: 120_000,
    }
}

fn waiting(due: u64, oldest_age_ms: u64) -> TypeLoad {
    TypeLoad { name: "mail".into(), due, oldest_age_ms, arrived_total: due, ..TypeLoad::default() }
}

fn sample(types: Vec<TypeLoad>, replicas: u32, busy: u32) -> Sample {
    Sample { load: Some(Load { held: None, types }), replicas, ready: replicas, busy, startup_ms: 500 }
}
