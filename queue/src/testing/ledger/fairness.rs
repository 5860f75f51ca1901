//! I8: while all lanes have jobs waiting, shares follow weights, and no waiting lane is passed by for long.
//!
//! A lane certainly waits at a grant when one of its jobs was due before and gets its first grant then or later, or never
//! does and still stands there in the end. Where a lost claim may have leased something unseen, shares are not judged.

use std::collections::VecDeque;

use super::judge::{Arrival, Grant};
use super::report::Violation;
use super::rules::Fairness;

/// Judges all grants, given in order of time. `lost`: when claims were made whose replies were lost.
pub(super) fn judge(
    grants: &[Grant<'_>],
    arrivals: &[Arrival<'_>],
    lost: &[u64],
    late_ms: u64,
    rules: &Fairness,
    found: &mut Vec<Violation>,
) {
    let total: f64 = rules.weights.values().sum();
    let lanes: Vec<&str> = rules.weights.keys().map(String::as_str).collect();
    let lane_of = |lane: &str| lanes.iter().position(|known| *known == lane);
    let grants: Vec<(&Grant<'_>, usize)> =
        grants.iter().filter_map(|grant| Some((grant, lane_of(grant.lane)?))).collect();
    let times: Vec<(u64, u64)> = grants.iter().map(|(grant, _)| (grant.at_ms, grant.token)).collect();
    let waits: Vec<Vec<bool>> =
        lanes.iter().map(|lane| waiting(arrivals.iter().filter(|a| a.lane == *lane), &times)).collect();
    let fog = foggy(&times, lost, late_ms);
    for (at, lane) in lanes.iter().enumerate() {
        starved(lane, at, &grants, &waits[at], &fog, rules, found);
    }
    let all_wait: Vec<bool> = (0..grants.len()).map(|at| waits.iter().all(|lane| lane[at])).collect();
    let dues: Vec<f64> = rules.weights.values().map(|weight| weight / total).collect();
    shares(&lanes, &grants, &all_wait, &fog, &dues, rules, found);
}

/// At which grants some of the jobs certainly waited.
fn waiting<'a>(jobs: impl Iterator<Item = &'a Arrival<'a>>, times: &[(u64, u64)]) -> Vec<bool> {
    let mut change = vec![0_i64; times.len() + 1];
    for job in jobs.filter(|job| !job.waited_for_time()) {
        let from = times.partition_point(|(at_ms, _)| *at_ms <= job.ready_ms);
        let until = match job.first {
            Some(first) => times.partition_point(|time| *time <= first),
            None if job.waits_still => times.len(),
            None => continue,
        };
        if from < until {
            change[from] += 1;
            change[until] -= 1;
        }
    }
    running_sum(&change, times.len())
}

/// Between which grants and the one before a lost claim may have leased something.
fn foggy(times: &[(u64, u64)], lost: &[u64], late_ms: u64) -> Vec<bool> {
    let mut change = vec![0_i64; times.len() + 1];
    for called_ms in lost {
        let from = times.partition_point(|(at_ms, _)| at_ms < called_ms);
        let last = called_ms.saturating_add(late_ms);
        let until = (times.partition_point(|(at_ms, _)| *at_ms <= last) + 1).min(times.len());
        if from < until {
            change[from] += 1;
            change[until] -= 1;
        }
    }
    running_sum(&change, times.len())
}

fn running_sum(change: &[i64], len: usize) -> Vec<bool> {
    let sums = change.iter().scan(0, |sum, change| {
        *sum += change;
        Some(*sum > 0)
    });
    sums.take(len).collect()
}

fn starved(
    name: &str,
    lane: usize,
    grants: &[(&Grant<'_>, usize)],
    waits: &[bool],
    fog: &[bool],
    rules: &Fairness,
    found: &mut Vec<Violation>,
) {
    let mut passed: Option<(usize, u64)> = None;
    for (at, (grant, of)) in grants.iter().enumerate() {
        if *of == lane || !waits[at] || fog[at] {
            passed = None;
        }
        if *of == lane || !waits[at] {
            continue;
        }
        let (count, from_ms) = passed.map_or((1, grant.at_ms), |(count, from_ms)| (count + 1, from_ms));
        passed = Some((count, from_ms));
        // Once per stretch.
        if count == rules.most_wait + 1 {
            found.push(Violation::LaneStarved {
                lane: name.into(),
                grants: count,
                allowed: rules.most_wait,
                from_ms,
                to_ms: grant.at_ms,
            });
        }
    }
}

/// Slides a window over stretches in which every lane waits; after a violation the next window starts afresh.
fn shares(
    lanes: &[&str],
    grants: &[(&Grant<'_>, usize)],
    all_wait: &[bool],
    fog: &[bool],
    dues: &[f64],
    rules: &Fairness,
    found: &mut Vec<Violation>,
) {
    let mut window: VecDeque<(u64, usize)> = VecDeque::with_capacity(rules.window + 1);
    let mut counts = vec![0_usize; lanes.len()];
    for (at, (grant, lane)) in grants.iter().enumerate() {
        if !all_wait[at] || fog[at] {
            window.clear();
            counts.fill(0);
        }
        if !all_wait[at] {
            continue;
        }
        window.push_back((grant.at_ms, *lane));
        counts[*lane] += 1;
        if window.len() > rules.window
            && let Some((_, left)) = window.pop_front()
        {
            counts[left] -= 1;
        }
        if window.len() < rules.window.max(1) {
            continue;
        }
        let unfair = counts
            .iter()
            .zip(dues)
            .position(|(count, due)| (ratio(*count, window.len()) - due).abs() > rules.epsilon);
        if let Some(unfair) = unfair {
            found.push(Violation::UnfairShare {
                lane: lanes[unfair].into(),
                granted: counts[unfair],
                grants: window.len(),
                weight_permille: permille(dues[unfair]),
                from_ms: window.front().map_or(0, |(at_ms, _)| *at_ms),
                to_ms: grant.at_ms,
            });
            window.clear();
            counts.fill(0);
        }
    }
}

/// Windows are far below 2^53 grants.
#[allow(clippy::cast_precision_loss)]
fn ratio(count: usize, of: usize) -> f64 {
    count as f64 / of as f64
}

/// A share of 0..=1 in thousandths.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn permille(share: f64) -> u32 {
    (share * 1000.0).round() as u32
}
