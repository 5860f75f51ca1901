//! I9 and I11: rates and caps of lanes, by sliding window.

use std::collections::BTreeMap;

use super::judge::Grant;
use super::report::Violation;
use super::rules::Rate;

/// A time in which a job was certainly leased, from its claim to the earliest end.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeaseSpan<'a> {
    pub(super) lane: &'a str,
    pub(super) job: &'a str,
    pub(super) from_ms: u64,
    pub(super) until_ms: u64,
}

/// Grants, in order of time, within limit and burst. One violation per crowd: the largest.
pub(super) fn rates(grants: &[Grant<'_>], rates: &BTreeMap<String, Rate>, found: &mut Vec<Violation>) {
    let mut times: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for grant in grants.iter().filter(|grant| rates.contains_key(grant.lane)) {
        times.entry(grant.lane).or_default().push(grant.at_ms);
    }
    for (lane, times) in times {
        let rate = rates[lane];
        let allowed = rate.limit.saturating_add(rate.burst);
        let (mut first, mut worst): (usize, Option<(u64, u64, u64)>) = (0, None);
        for (at, to_ms) in times.iter().enumerate() {
            while to_ms - times[first] >= rate.per_ms.max(1) {
                first += 1;
            }
            let count = (at + 1 - first) as u64;
            if count > allowed && worst.is_none_or(|(most, ..)| count > most) {
                worst = Some((count, times[first], *to_ms));
            } else if count <= allowed {
                found.extend(worst.take().map(|crowd| exceeded(lane, crowd, allowed)));
            }
        }
        found.extend(worst.map(|crowd| exceeded(lane, crowd, allowed)));
    }
}

fn exceeded(lane: &str, (grants, from_ms, to_ms): (u64, u64, u64), allowed: u64) -> Violation {
    Violation::RateExceeded { lane: lane.into(), grants, allowed, from_ms, to_ms }
}

/// Live leases within the cap. One violation each time a lane goes above it. Of one millisecond ends come first.
pub(super) fn caps(spans: &[LeaseSpan<'_>], caps: &BTreeMap<String, u32>, found: &mut Vec<Violation>) {
    let mut changes: Vec<(&str, u64, i64, &str)> = Vec::new();
    for span in spans.iter().filter(|span| caps.contains_key(span.lane)) {
        changes.push((span.lane, span.from_ms, 1, span.job));
        changes.push((span.lane, span.until_ms, -1, span.job));
    }
    changes.sort_unstable();
    let (mut lane, mut live, mut above) = ("", 0_i64, false);
    for (of, at_ms, change, job) in changes {
        if of != lane {
            (lane, live, above) = (of, 0, false);
        }
        live += change;
        let cap = caps[lane];
        if live <= i64::from(cap) {
            above = false;
        } else if !above {
            above = true;
            let live = live.unsigned_abs();
            found.push(Violation::CapExceeded { lane: lane.into(), live, cap, job: job.into(), at_ms });
        }
    }
}
