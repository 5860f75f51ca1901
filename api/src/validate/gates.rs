//! Gates: checked where they are written, then resolved to plain figures.

use super::problem::Problems;
use super::{key, reason};
use crate::duration::Duration;
use crate::job_queue::{
    CircuitSpec, ConcurrencyKeySpec, HandlerSpec, KeyRateLimitSpec, LaneSpec, LimitBySpec, OnThrottleSpec,
    RateLimitSpec,
};
use crate::policy::{Circuit, ConcurrencyKey, LimitBy, RateLimit};

/// Most jobs at once.
const MAX_CONCURRENCY: i64 = 100_000;
/// Most jobs per time and at once.
const MAX_RATE: i64 = 1_000_000;
/// Longest time for which a rate counts, ms: Redis reckons with it in µs, which must stay exact.
const MAX_PER_MS: u64 = 31 * 86_400_000;
/// Most failures in a row.
const MAX_FAILURES: i64 = 1000;
/// Most values with limits of their own.
const MAX_LIMITS: usize = 64;
/// Longest path of a payload field.
const MAX_FIELD: usize = 512;

pub(crate) fn check_lane(problems: &mut Problems, field: &str, lane: &LaneSpec) {
    if let Some(concurrency) = lane.concurrency {
        problems.range(&format!("{field}.concurrency"), i64::from(concurrency), 1, MAX_CONCURRENCY);
    }
    if let Some(RateLimitSpec { limit, per, burst }) = &lane.rate_limit {
        check_rate(problems, &format!("{field}.rateLimit"), *limit, *per, *burst);
    }
    if let Some(circuit) = &lane.circuit {
        let field = format!("{field}.circuit");
        problems.range(&format!("{field}.failures"), i64::from(circuit.failures), 1, MAX_FAILURES);
        problems.positive(&format!("{field}.probeAfter"), circuit.probe_after);
    }
}

pub(crate) fn check_key(problems: &mut Problems, field: &str, spec: &ConcurrencyKeySpec) {
    if let Err(error) = key::parse_key(&spec.key) {
        problems.add(reason::KEY_TEMPLATE, format!("{field}.key"), &spec.key, error.to_string());
    }
    if let Some(limit) = spec.limit {
        problems.range(&format!("{field}.limit"), i64::from(limit), 1, MAX_CONCURRENCY);
    }
    let Some(rate) = &spec.rate_limit else {
        if spec.limit.is_none() {
            let message =
                "a concurrency key without a bound holds nothing back: set limit, rateLimit or both";
            problems.add(reason::NO_BOUND, field, "", message);
        }
        return;
    };
    let field = format!("{field}.rateLimit");
    check_rate(problems, &field, rate.limit, rate.per, rate.burst);
    if let Some(by) = &rate.by {
        check_by(problems, &format!("{field}.by"), by);
    }
}

fn check_rate(problems: &mut Problems, field: &str, limit: u32, per: Duration, burst: Option<u32>) {
    problems.range(&format!("{field}.limit"), i64::from(limit), 1, MAX_RATE);
    problems.positive(&format!("{field}.per"), per);
    if per.as_millis() > MAX_PER_MS {
        problems.add(reason::INVALID_VALUE, format!("{field}.per"), per, "must be at most 31d");
    }
    if let Some(burst) = burst {
        problems.range(&format!("{field}.burst"), i64::from(burst), 1, MAX_RATE);
    }
}

fn check_by(problems: &mut Problems, field: &str, by: &LimitBySpec) {
    let path = format!("{field}.field");
    problems.text(&path, &by.field, MAX_FIELD);
    let odd = |c: char| c.is_whitespace() || c == '{' || c == '}';
    if !by.field.is_empty() && (by.field.contains(odd) || by.field.split('.').any(str::is_empty)) {
        let message = "must be the path of a payload field without braces and blanks, such as customer.plan";
        problems.add(reason::INVALID_VALUE, path, &by.field, message);
    }
    let limits = format!("{field}.limits");
    problems.at_most(&limits, by.limits.len(), MAX_LIMITS);
    if by.limits.is_empty() {
        let message = "name at least one value and its limit, as in {premium: 1000}";
        problems.add(reason::MISSING, &limits, "", message);
    }
    for (value, limit) in &by.limits {
        problems.range(&format!("{limits}.{value}"), i64::from(*limit), 1, MAX_RATE);
    }
}

/// Whether a `Retry-After` of this handler holds a concurrency key.
pub(crate) fn holds_keys(handler: &HandlerSpec) -> bool {
    handler.http.as_ref().is_some_and(|http| http.on_throttle == OnThrottleSpec::Key)
}

pub(crate) fn resolve_rate(spec: &RateLimitSpec) -> RateLimit {
    RateLimit { limit: spec.limit, per_ms: spec.per.as_millis(), burst: spec.burst, by: None }
}

pub(crate) fn resolve_circuit(spec: &CircuitSpec) -> Circuit {
    Circuit { failures: spec.failures, probe_after_ms: spec.probe_after.as_millis() }
}

/// `None` only where [`check_key`] complains.
pub(crate) fn resolve_key(spec: &ConcurrencyKeySpec) -> Option<ConcurrencyKey> {
    Some(ConcurrencyKey {
        key: key::parse_key(&spec.key).ok()?,
        limit: spec.limit,
        rate_limit: spec.rate_limit.as_ref().map(resolve_key_rate),
    })
}

fn resolve_key_rate(spec: &KeyRateLimitSpec) -> RateLimit {
    let by = spec.by.as_ref().map(|by| LimitBy {
        path: by.field.split('.').map(str::to_owned).collect(),
        // Redis compares with what it renders, in which these two are escaped.
        limits: by
            .limits
            .iter()
            .map(|(value, limit)| (value.replace('%', "%25").replace(':', "%3A"), *limit))
            .collect(),
    });
    RateLimit { limit: spec.limit, per_ms: spec.per.as_millis(), burst: spec.burst, by }
}
