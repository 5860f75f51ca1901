//! One workload per file. Each adds its figures to the report; none asserts on time.

pub(crate) mod calls;
pub(crate) mod herd;
pub(crate) mod http;
pub(crate) mod idle;
pub(crate) mod memory;
pub(crate) mod pickup;
pub(crate) mod sustained;
pub(crate) mod throughput;

/// The value at a rank (0..=1) of sorted figures.
fn at(sorted: &[f64], rank: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * rank) as usize).copied().unwrap_or(f64::NAN)
}
