//! Measured figures: one JSON line each, on standard error and in `target/figures`.

use anyhow::Result;
use serde_json::Value;

use crate::command::repository;

/// Writes `target/figures/cluster-<name>.json` and prints the line.
///
/// # Errors
/// When the file cannot be written.
pub fn record(name: &str, figures: &Value) -> Result<()> {
    let folder = repository().join("target/figures");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(format!("cluster-{name}.json")), format!("{figures}\n"))?;
    eprintln!("figures {name}: {figures}");
    Ok(())
}

/// The smallest sample that at least `percent` of all are not above.
#[must_use]
pub fn percentile(samples: &[u64], percent: usize) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn a_percentile_is_a_sample() {
        let twenty: Vec<u64> = (1..=20).rev().collect();
        assert_eq!(
            (percentile(&twenty, 50), percentile(&twenty, 95), percentile(&twenty, 100)),
            (10, 19, 20)
        );
        assert_eq!(percentile(&[], 95), 0);
    }
}
