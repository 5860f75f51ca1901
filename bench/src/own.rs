//! What Linux says of a process.

use anyhow::{Context, Result};

/// CPU seconds of this process, user and system.
pub(crate) fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit_once(')').context("/proc/self/stat")?.1;
    let ticks: Vec<f64> = after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse().ok()).collect();
    // USER_HZ, which Linux fixes at 100 for programs.
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

/// Resident memory of a process, MB; `self` is one too.
pub(crate) fn resident_mb(pid: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kb = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    Ok(kb.context("VmRSS")? / 1024.0)
}
