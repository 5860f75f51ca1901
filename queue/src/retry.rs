//! When a failed attempt is tried again, and when it is not: pure decisions.

use lanekeeper_api::duration::Duration;
use lanekeeper_api::policy::{Backoff, Jitter, JobTypePolicy, RetryPolicy};

use crate::types::{AttemptError, Claimed, DeadReason, ErrorClass, Outcome, Spends};

/// Code of a further try that came too late to be made.
pub const GAVE_UP: &str = "GaveUp";

/// Delay before retry `retry` (0 is the first), in ms. `random` in 0..=1 is the luck of the jitter. Figures beyond the range
/// of the result saturate.
#[must_use]
pub fn next_retry(policy: &RetryPolicy, retry: u32, random: f64) -> u64 {
    let delay = match &policy.backoff {
        Backoff::Exponential { first_ms, factor, max_ms } => {
            // 0 × ∞ is no number: a first delay of zero stays zero.
            let grown =
                if *first_ms == 0 { 0.0 } else { to_f64(*first_ms) * factor.max(1.0).powf(f64::from(retry)) };
            grown.min(to_f64(*max_ms))
        }
        Backoff::Schedule(delays) => {
            let at = usize::try_from(retry).unwrap_or(usize::MAX).min(delays.len().saturating_sub(1));
            to_f64(delays.get(at).copied().unwrap_or_default())
        }
    };
    let random = if random.is_finite() { random.clamp(0.0, 1.0) } else { 0.5 };
    let spread = match policy.jitter {
        Jitter::None => 1.0,
        Jitter::Full => random,
        Jitter::Percent(percent) => 1.0 + f64::from(percent.min(100)) / 100.0 * (2.0 * random - 1.0),
    };
    to_u64(delay * spread)
}

/// What becomes of a failed attempt of `job`.
///
/// `spends` says what the failure costs: `Try` for a failure of the handler, `Crash` for an attempt that was lost with its
/// worker, which is tried again at once, `Nothing` for neither. `random` in 0..=1 is the luck of the jitter.
#[must_use]
pub fn verdict(
    policy: &JobTypePolicy,
    job: &Claimed,
    error: AttemptError,
    spends: Spends,
    random: f64,
    now_ms: u64,
) -> Outcome {
    let dead = |reason, error| Outcome::Dead { reason, error, spends };
    if error.class == ErrorClass::Permanent {
        return dead(DeadReason::PermanentError, error);
    }
    let delay_ms = match spends {
        Spends::Crash => {
            // The attempt at hand counts: with a budget of 3 the third crash is the last.
            if job.crashes.saturating_add(1) >= policy.crash_budget.max(1) {
                return dead(DeadReason::CrashBudgetExhausted, error);
            }
            0
        }
        Spends::Try if job.tries >= policy.retry.limit => return dead(DeadReason::TriesExhausted, error),
        Spends::Try | Spends::Nothing => next_retry(&policy.retry, job.tries, random),
    };
    if now_ms.saturating_add(delay_ms) >= end_ms(policy, job) {
        return dead(DeadReason::GaveUp, error);
    }
    Outcome::Retry { delay_ms, spends, error }
}

/// What becomes of a job that was claimed at `now_ms` for a further try and is beyond its `giveUpAfter` by then: what held it
/// back (a pause, a hold, a backlog) took longer than it lives. None where it is to be run, as every first try is.
///
/// Transient, and spending nothing: it says nothing about the job or its lane.
#[must_use]
pub fn too_late(policy: &JobTypePolicy, job: &Claimed, now_ms: u64) -> Option<Outcome> {
    if !job.is_further_try() || now_ms <= end_ms(policy, job) {
        return None;
    }
    let age = Duration::from_millis(now_ms.saturating_sub(job.enqueued_ms));
    let message = format!(
        "not tried again: its turn came at an age of {age}, beyond its giveUpAfter of {}; the attempts before say what went wrong",
        Duration::from_millis(policy.give_up_after_ms)
    );
    let error = AttemptError { class: ErrorClass::Transient, code: GAVE_UP.to_owned(), message };
    Some(Outcome::Dead { reason: DeadReason::GaveUp, error, spends: Spends::Nothing })
}

/// When the job is given up, ms.
#[must_use]
pub fn end_ms(policy: &JobTypePolicy, job: &Claimed) -> u64 {
    job.enqueued_ms.saturating_add(policy.give_up_after_ms)
}

/// Delays are far below 2^53 ms; above it the nearest double is near enough.
#[allow(clippy::cast_precision_loss)]
fn to_f64(ms: u64) -> f64 {
    ms as f64
}

/// Rounds; `as` saturates at the ends of the range and takes NaN for 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn to_u64(ms: f64) -> u64 {
    ms.round() as u64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lanekeeper_api::policy::{ExecHandler, Handler, Retention};

    pub(crate) fn exponential(first_ms: u64, factor: f64, max_ms: u64, jitter: Jitter) -> RetryPolicy {
        RetryPolicy { limit: 10, backoff: Backoff::Exponential { first_ms, factor, max_ms }, jitter }
    }

    pub(crate) fn policy(retry: RetryPolicy) -> JobTypePolicy {
        JobTypePolicy {
            key_for_ms: 0,
            timeout_ms: 1,
            retry,
            give_up_after_ms: 100_000,
            completed: Retention { keep: 1, for_ms: 1 },
            ..JobTypePolicy::new("l", Handler::Exec(ExecHandler::of(&["true"])))
        }
    }

    pub(crate) fn job(tries: u32, crashes: u32) -> Claimed {
        Claimed {
            id: "1".into(),
            token: 1,
            job_type: "t".into(),
            lane: "l".into(),
            payload: vec![],
            attempt: 1,
            tries,
            crashes,
            enqueued_ms: 1_000,
            due_ms: 1_000,
            claimed_ms: 1_000,
            key: None,
            meta: Default::default(),
            checkpoint: None,
        }
    }

    fn error(class: ErrorClass) -> AttemptError {
        AttemptError { class, code: "Test".into(), message: "no".into() }
    }

    fn decide(policy: &JobTypePolicy, job: &Claimed, spends: Spends, now_ms: u64) -> Outcome {
        verdict(policy, job, error(ErrorClass::Transient), spends, 0.5, now_ms)
    }

    #[test]
    fn exponential_delays_grow_to_their_bound() {
        let policy = exponential(5_000, 2.0, 3_600_000, Jitter::None);
        let delays: Vec<u64> = (0..4).map(|n| next_retry(&policy, n, 0.0)).collect();
        assert_eq!(delays, [5_000, 10_000, 20_000, 40_000]);
        assert_eq!(next_retry(&policy, 20, 0.0), 3_600_000);
        assert_eq!(next_retry(&policy, u32::MAX, 0.0), 3_600_000);
    }

    #[test]
    fn huge_values_saturate() {
        let policy = exponential(u64::MAX, f64::MAX, u64::MAX, Jitter::Percent(100));
        assert_eq!(next_retry(&policy, u32::MAX, 1.0), u64::MAX);
        assert_eq!(next_retry(&exponential(0, 2.0, u64::MAX, Jitter::None), u32::MAX, 0.0), 0);
        assert_eq!(next_retry(&exponential(7, f64::NAN, 9, Jitter::None), 3, 0.0), 7);
        assert_eq!(next_retry(&exponential(7, 2.0, 1_000, Jitter::Full), 3, f64::NAN), 28);
    }

    #[test]
    fn a_schedule_repeats_its_last_delay() {
        let policy =
            RetryPolicy { limit: 9, backoff: Backoff::Schedule(vec![60, 300, 900]), jitter: Jitter::None };
        let delays: Vec<u64> = (0..5).map(|n| next_retry(&policy, n, 0.0)).collect();
        assert_eq!(delays, [60, 300, 900, 900, 900]);
        let empty = RetryPolicy { limit: 9, backoff: Backoff::Schedule(vec![]), jitter: Jitter::None };
        assert_eq!(next_retry(&empty, 0, 0.0), 0);
    }

    #[test]
    fn jitter_stays_within_its_bounds() {
        let full = exponential(1_000, 1.0, 1_000, Jitter::Full);
        assert_eq!([0.0, 0.25, 1.0].map(|r| next_retry(&full, 0, r)), [0, 250, 1_000]);
        let tenth = exponential(1_000, 1.0, 1_000, Jitter::Percent(10));
        assert_eq!([0.0, 0.5, 1.0].map(|r| next_retry(&tenth, 0, r)), [900, 1_000, 1_100]);
    }

    #[test]
    fn tries_end_in_the_dead_letters() {
        let mut policy = policy(exponential(1_000, 2.0, 60_000, Jitter::None));
        policy.retry.limit = 2;
        let retry = |n| decide(&policy, &job(n, 0), Spends::Try, 2_000);
        assert!(matches!(retry(0), Outcome::Retry { delay_ms: 1_000, spends: Spends::Try, .. }));
        assert!(matches!(retry(1), Outcome::Retry { delay_ms: 2_000, .. }));
        assert!(matches!(
            retry(2),
            Outcome::Dead { reason: DeadReason::TriesExhausted, spends: Spends::Try, .. }
        ));
        policy.retry.limit = 0;
        let none = decide(&policy, &job(0, 0), Spends::Try, 2_000);
        assert!(matches!(none, Outcome::Dead { reason: DeadReason::TriesExhausted, .. }));
    }

    #[test]
    fn a_permanent_error_is_never_tried_again() {
        let policy = policy(exponential(1_000, 2.0, 60_000, Jitter::None));
        let outcome = verdict(&policy, &job(0, 0), error(ErrorClass::Permanent), Spends::Try, 0.5, 2_000);
        assert!(matches!(outcome, Outcome::Dead { reason: DeadReason::PermanentError, .. }));
    }

    #[test]
    fn crashes_have_a_budget_of_their_own_and_return_at_once() {
        let policy = policy(exponential(1_000, 2.0, 60_000, Jitter::None));
        let crash = |tries, crashes| decide(&policy, &job(tries, crashes), Spends::Crash, 2_000);
        assert!(matches!(crash(10, 0), Outcome::Retry { delay_ms: 0, spends: Spends::Crash, .. }));
        assert!(matches!(crash(0, 1), Outcome::Retry { .. }));
        assert!(matches!(crash(0, 2), Outcome::Dead { reason: DeadReason::CrashBudgetExhausted, .. }));
    }

    #[test]
    fn nothing_is_scheduled_beyond_give_up_after() {
        let policy = policy(exponential(60_000, 1.0, 60_000, Jitter::None));
        let at = |now, spends| decide(&policy, &job(0, 0), spends, now);
        assert!(matches!(at(40_000, Spends::Try), Outcome::Retry { .. }));
        assert!(matches!(at(50_000, Spends::Try), Outcome::Dead { reason: DeadReason::GaveUp, .. }));
        assert!(matches!(at(50_000, Spends::Crash), Outcome::Retry { .. }));
        assert!(matches!(at(101_000, Spends::Crash), Outcome::Dead { reason: DeadReason::GaveUp, .. }));
        assert!(matches!(at(101_000, Spends::Nothing), Outcome::Dead { reason: DeadReason::GaveUp, .. }));
        assert!(matches!(at(u64::MAX, Spends::Nothing), Outcome::Dead { reason: DeadReason::GaveUp, .. }));
    }

    #[test]
    fn a_further_try_that_comes_too_late_is_not_made() {
        let policy = policy(exponential(1_000, 2.0, 60_000, Jitter::None));
        // Enqueued at 1 s, it lives until 101 s.
        let at = |job: &Claimed, now_ms| too_late(&policy, job, now_ms);
        let snoozed = Claimed { due_ms: 50_000, attempt: 2, ..job(0, 0) };
        for again in [job(1, 0), job(0, 1), snoozed.clone()] {
            assert_eq!(at(&again, 101_000), None);
            let Some(Outcome::Dead { reason: DeadReason::GaveUp, spends: Spends::Nothing, error }) =
                at(&again, 129_600)
            else {
                panic!("{again:?}")
            };
            assert_eq!((error.class, error.code.as_str()), (ErrorClass::Transient, GAVE_UP));
            for part in ["2m8s600ms", "giveUpAfter of 1m40s"] {
                assert!(error.message.contains(part), "{part}: {}", error.message);
            }
        }
        // A first try, also one that was handed back before or that follows a replay, is made at any age.
        let handed_back = Claimed { attempt: 3, due_ms: 900, ..job(0, 0) };
        let replayed = Claimed { attempt: 9, enqueued_ms: 60_000, due_ms: 60_000, ..job(0, 0) };
        for first in [job(0, 0), handed_back, replayed.clone()] {
            assert_eq!(at(&first, u64::MAX), None, "{first:?}");
        }
        // From the replay on the age counts anew.
        let again = Claimed { tries: 1, ..replayed };
        assert!(at(&again, 160_000).is_none() && at(&again, 160_001).is_some());
    }
}
