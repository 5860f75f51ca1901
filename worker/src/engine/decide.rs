//! What becomes of an attempt: pure decisions, given how the handler ended and why it was stopped.

use std::time::Duration;

use lanekeeper_api::duration::Duration as Length;
use lanekeeper_api::policy::{DEFAULT_MAX_HOLD_MS, Handler, JobTypePolicy, OnThrottle};
use lanekeeper_queue::retry;
use lanekeeper_queue::types::{AttemptError, Claimed, DeadReason, Holds, Outcome, Spends};

use super::executor::Ended;
use crate::handler::{Cause, Failure, MAX_TEXT, code, millis};
use crate::metrics::Ending;

/// Shortest a `Retry-After` or a snooze may hold, ms: none may make a job spin.
const MIN_HOLD_MS: u64 = 1_000;

/// The outcome to settle; none when the lease is another's and nothing may be said any more.
pub(super) fn outcome(
    job: &Claimed,
    policy: &JobTypePolicy,
    ended: Ended,
    stopped: Option<Cause>,
    now_ms: u64,
) -> Option<Outcome> {
    if stopped == Some(Cause::LeaseLost) {
        return None;
    }
    let failure = match ended {
        // A handler that finished although it was told to stop has done the work.
        Ended::Returned(Ok(answer)) => {
            // A part of a result would pass for all of it.
            let result = if answer.result.len() > MAX_TEXT { Vec::new() } else { answer.result };
            return Some(Outcome::Success { result, follow_ups: answer.follow_ups });
        }
        Ended::Returned(Err(failure)) => failure,
        Ended::Panicked(text) => Failure::ambiguous(code::PANICKED, format!("the handler panicked\n{text}")),
        Ended::Abandoned => {
            let why = format!("still running {} s after its timeout", crate::handler::STOP_GRACE.as_secs());
            Failure::ambiguous(code::TIMEOUT, why)
        }
    };
    Some(match (stopped, failure) {
        (Some(Cause::Cancelled), _) => Outcome::Release { why: Cause::Cancelled.as_str().to_owned() },
        // A `Retry-After` is the vendor's word, not the drain's doing: whoever takes the job next would run into it again.
        (Some(Cause::Drain), Failure::Retry { retry_after: None, .. }) => {
            Outcome::Release { why: Cause::Drain.as_str().to_owned() }
        }
        (_, Failure::Snooze { error, after }) => {
            put_off(job, policy, error, millis(after).max(MIN_HOLD_MS), Holds::Job, now_ms)
        }
        (_, Failure::Retry { error, retry_after: Some(after) }) => hold(job, policy, error, after, now_ms),
        (_, Failure::Retry { error, retry_after: None } | Failure::Permanent { error }) => {
            retry::verdict(policy, job, error, Spends::Try, rand::random(), now_ms)
        }
    })
}

/// `Retry-After`: held for as long as the handler's policy lets it.
fn hold(job: &Claimed, policy: &JobTypePolicy, error: AttemptError, after: Duration, now_ms: u64) -> Outcome {
    let (holds, most) = match &policy.handler {
        Handler::Http(http) => (what(http.on_throttle), http.max_hold_ms),
        Handler::Exec(_) => (Holds::Job, DEFAULT_MAX_HOLD_MS),
    };
    put_off(job, policy, error, millis(after).clamp(MIN_HOLD_MS, most.max(MIN_HOLD_MS)), holds, now_ms)
}

/// Without a cost. A job that would be given up before it may come back is dead at once, where the wait is its own. Where its
/// lane or key waits with it, the wait has to be told in any case, or all that stands behind it runs into the same answer; a
/// death tells none, so the job waits with the others, and [`retry::too_late`] gives it up without a try when its turn comes.
fn put_off(
    job: &Claimed,
    policy: &JobTypePolicy,
    error: AttemptError,
    delay_ms: u64,
    holds: Holds,
    now_ms: u64,
) -> Outcome {
    let end_ms = retry::end_ms(policy, job);
    if holds == Holds::Job && now_ms.saturating_add(delay_ms) > end_ms {
        let [wait, left] = [delay_ms, end_ms.saturating_sub(now_ms)].map(Length::from_millis);
        let mut error = error;
        error.message =
            format!("it was to wait for {wait} and is given up after {left} more\n{}", error.message);
        return Outcome::Dead { reason: DeadReason::GaveUp, error, spends: Spends::Nothing };
    }
    Outcome::Snooze { delay_ms, why: error.message, holds }
}

fn what(on_throttle: OnThrottle) -> Holds {
    match on_throttle {
        OnThrottle::Job => Holds::Job,
        OnThrottle::Key => Holds::Key,
        OnThrottle::Lane => Holds::Lane,
    }
}

/// The outcome as figures and log lines call it.
pub(super) fn ending(outcome: &Outcome, stopped: Option<Cause>) -> Ending {
    match outcome {
        Outcome::Success { .. } => Ending::Success,
        Outcome::Retry { .. } => Ending::Retry,
        Outcome::Dead { .. } => Ending::Dead,
        Outcome::Release { .. } if stopped == Some(Cause::Cancelled) => Ending::Cancelled,
        Outcome::Release { .. } => Ending::Release,
        Outcome::Snooze { .. } => Ending::Snooze,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::{
        Answer,
        testing::{claimed, policy},
    };
    use lanekeeper_api::policy::HttpHandler;
    use lanekeeper_queue::types::ErrorClass;

    fn of(ended: Ended, stopped: Option<Cause>) -> Option<Outcome> {
        let job = claimed(b"");
        outcome(&job, &policy(), ended, stopped, job.claimed_ms)
    }

    fn failed() -> Ended {
        Ended::Returned(Err(Failure::transient("X", "no")))
    }

    #[test]
    fn a_failure_spends_a_try_and_waits() {
        assert!(matches!(
            of(failed(), None),
            Some(Outcome::Retry { delay_ms: 1000, spends: Spends::Try, .. })
        ));
        assert!(matches!(of(Ended::Panicked("x".into()), None), Some(Outcome::Retry { .. })));
        assert!(matches!(of(Ended::Abandoned, Some(Cause::Timeout)), Some(Outcome::Retry { error, .. })
            if error.code == code::TIMEOUT && error.class == ErrorClass::Ambiguous));
    }

    #[test]
    fn a_permanent_failure_is_dead_at_once() {
        let ended = Ended::Returned(Err(Failure::permanent("X", "no")));
        assert!(matches!(of(ended, None), Some(Outcome::Dead { reason: DeadReason::PermanentError, .. })));
    }

    #[test]
    fn a_part_of_a_result_does_not_pass_for_the_whole() {
        let kept = |bytes| match of(Ended::Returned(Ok(Answer::plain(vec![b'x'; bytes]))), None) {
            Some(Outcome::Success { result, .. }) => result.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!((kept(MAX_TEXT), kept(MAX_TEXT + 1)), (MAX_TEXT, 0));
    }

    #[test]
    fn nothing_is_said_of_a_lost_lease() {
        assert_eq!(of(Ended::Returned(Ok(Answer::default())), Some(Cause::LeaseLost)), None);
    }

    #[test]
    fn a_drain_hands_back_what_did_not_finish_and_keeps_what_did() {
        assert!(matches!(of(failed(), Some(Cause::Drain)), Some(Outcome::Release { .. })));
        assert!(matches!(of(Ended::Abandoned, Some(Cause::Drain)), Some(Outcome::Release { .. })));
        let done = Ended::Returned(Ok(Answer::plain(b"x".to_vec())));
        assert!(matches!(of(done, Some(Cause::Drain)), Some(Outcome::Success { .. })));
        let refused = Ended::Returned(Err(Failure::permanent("X", "no")));
        assert!(matches!(of(refused, Some(Cause::Drain)), Some(Outcome::Dead { .. })));
    }

    /// An answer that asks for this many seconds of patience.
    fn after(secs: u64) -> Ended {
        let Failure::Retry { error, .. } = Failure::transient("X", "busy") else { unreachable!() };
        Ended::Returned(Err(Failure::Retry { error, retry_after: Some(Duration::from_secs(secs)) }))
    }

    #[test]
    fn retry_after_is_bounded_and_costs_nothing() {
        let job = claimed(b"");
        let mut long = policy();
        long.give_up_after_ms = u64::MAX;
        let of = |secs, policy: &JobTypePolicy| outcome(&job, policy, after(secs), None, job.claimed_ms);
        assert!(matches!(of(30, &long), Some(Outcome::Snooze { delay_ms: 30_000, .. })));
        assert!(matches!(of(0, &long), Some(Outcome::Snooze { delay_ms: 1000, .. })));
        assert!(matches!(of(86_400, &long), Some(Outcome::Snooze { delay_ms: 900_000, .. })));
        assert!(matches!(
            of(86_400, &policy()),
            Some(Outcome::Dead { reason: DeadReason::GaveUp, spends: Spends::Nothing, .. })
        ));
    }

    #[test]
    fn a_snooze_waits_as_long_as_it_says_and_is_bounded_by_give_up_after_alone() {
        let job = claimed(b"");
        let mut policy = policy();
        let of = |secs, stopped, policy: &JobTypePolicy| {
            let later = Failure::snooze(Duration::from_secs(secs), "renders");
            outcome(&job, policy, Ended::Returned(Err(later)), stopped, job.claimed_ms)
        };
        // It came 1 s after the enqueue, and lives for 60 s.
        assert!(
            matches!(of(59, None, &policy), Some(Outcome::Snooze { delay_ms: 59_000, holds: Holds::Job, why })
            if why == "renders")
        );
        assert!(matches!(
            of(60, None, &policy),
            Some(Outcome::Dead { reason: DeadReason::GaveUp, spends: Spends::Nothing, .. })
        ));
        assert!(matches!(of(0, None, &policy), Some(Outcome::Snooze { delay_ms: 1_000, .. })));
        policy.give_up_after_ms = u64::MAX;
        assert!(matches!(of(86_400, None, &policy), Some(Outcome::Snooze { delay_ms: 86_400_000, .. })));
        assert!(
            matches!(of(5, Some(Cause::Drain), &policy), Some(Outcome::Snooze { .. })),
            "its word counts"
        );
        assert!(matches!(of(5, Some(Cause::Cancelled), &policy), Some(Outcome::Release { .. })));
    }

    /// A handler whose `Retry-After` holds this, for two hours at most.
    fn throttled(on_throttle: OnThrottle) -> Handler {
        Handler::Http(HttpHandler { on_throttle, max_hold_ms: 7_200_000, ..HttpHandler::to("http://h/") })
    }

    #[test]
    fn retry_after_holds_what_the_handler_says_and_for_no_longer() {
        let job = claimed(b"");
        let mut policy = policy();
        policy.give_up_after_ms = u64::MAX;
        for (on_throttle, expected) in
            [(OnThrottle::Job, Holds::Job), (OnThrottle::Key, Holds::Key), (OnThrottle::Lane, Holds::Lane)]
        {
            policy.handler = throttled(on_throttle);
            for (secs, held_ms) in
                [(0, 1_000), (3_600, 3_600_000), (86_400, 7_200_000), (u64::MAX, 7_200_000)]
            {
                let Some(Outcome::Snooze { delay_ms, holds, .. }) =
                    outcome(&job, &policy, after(secs), None, job.claimed_ms)
                else {
                    panic!("{on_throttle:?}: held")
                };
                assert_eq!((delay_ms, holds), (held_ms, expected), "{secs} s");
            }
            let drained = outcome(&job, &policy, after(30), Some(Cause::Drain), job.claimed_ms);
            let why = "busy".to_owned();
            assert_eq!(drained, Some(Outcome::Snooze { delay_ms: 30_000, why, holds: expected }));
        }
        // A job that lives for a minute has no time to wait for an hour: it dies of a wait of its own, and tells of one that is
        // its lane's or its key's, so that the others wait.
        policy.give_up_after_ms = 60_000;
        for (on_throttle, holds) in [(OnThrottle::Key, Holds::Key), (OnThrottle::Lane, Holds::Lane)] {
            policy.handler = throttled(on_throttle);
            let told = outcome(&job, &policy, after(3_600), None, job.claimed_ms);
            let why = "busy".to_owned();
            assert_eq!(told, Some(Outcome::Snooze { delay_ms: 3_600_000, why, holds }));
        }
        policy.handler = throttled(OnThrottle::Job);
        assert!(matches!(
            outcome(&job, &policy, after(3_600), None, job.claimed_ms),
            Some(Outcome::Dead { reason: DeadReason::GaveUp, spends: Spends::Nothing, .. })
        ));
    }
}
