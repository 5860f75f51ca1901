//! What becomes of a job whose lease expired: pure decisions, the same for workers and for the operator.

use std::collections::HashSet;

use lanekeeper_api::policy::JobTypePolicy;

use crate::retry;
use crate::types::{AttemptError, ErrorClass, Expired, Outcome, Spends, Stats};

/// Code of an attempt that was lost with its worker.
pub const LEASE_EXPIRED: &str = "LeaseExpired";

/// The boots of workers that renewed their leases a moment ago. A heartbeat renews everything its worker holds, so a
/// lease that expired although its worker beats was never known to it: the reply to its claim was lost on the way, and no
/// handler ever saw the job. That is nobody's crash. A worker that did crash has been silent for a whole lease by now.
#[must_use]
pub fn alive(stats: Stats, lease_ms: u64) -> HashSet<String> {
    let beats = |seen_ms: u64| stats.now_ms.saturating_sub(seen_ms) < lease_ms / 3 * 2;
    stats.workers.into_iter().filter(|w| beats(w.seen_ms)).map(|w| w.identity.boot).collect()
}

/// The outcome of the attempt that `expired` with its lease. Without a policy for its type the job is handed back: to judge
/// it is the right of a policy that knows it. `never_started`: the holder beats on and knows nothing of the job. `random`
/// in 0..=1 is the luck of the jitter.
#[must_use]
pub fn verdict(
    expired: &Expired,
    policy: Option<&JobTypePolicy>,
    never_started: bool,
    random: f64,
    now_ms: u64,
) -> Outcome {
    let (job, lost_by) = (&expired.job, &expired.lost_by);
    let Some(policy) = policy else {
        return Outcome::Release { why: format!("no policy for job type {} here", job.job_type) };
    };
    if never_started {
        return Outcome::Release { why: "the reply to its claim was lost".to_owned() };
    }
    let message = format!(
        "worker {} on {} stopped renewing its lease: it crashed, was killed or lost its network; the job may have run in part or whole",
        lost_by.name, lost_by.node
    );
    let error = AttemptError { class: ErrorClass::Ambiguous, code: LEASE_EXPIRED.to_owned(), message };
    retry::verdict(policy, job, error, Spends::Crash, random, now_ms)
}

#[cfg(test)]
mod tests {
    use lanekeeper_api::policy::Jitter;

    use super::*;
    use crate::retry::tests::{exponential, job, policy};
    use crate::types::{DeadReason, WorkerIdentity, WorkerInfo};

    fn worker(boot: &str) -> WorkerIdentity {
        WorkerIdentity { name: "w-1".into(), boot: boot.into(), pool: "p".into(), node: "n-1".into() }
    }

    fn expired(crashes: u32) -> Expired {
        Expired { job: job(0, crashes), lost_by: worker("gone") }
    }

    #[test]
    fn a_crash_spends_no_try_until_its_budget_is_gone() {
        let policy = policy(exponential(1_000, 2.0, 60_000, Jitter::None));
        let of = |crashes| verdict(&expired(crashes), Some(&policy), false, 0.5, 2_000);
        let Outcome::Retry { delay_ms: 0, spends: Spends::Crash, error } = of(0) else {
            panic!("{:?}", of(0))
        };
        assert_eq!((error.code.as_str(), error.class), (LEASE_EXPIRED, ErrorClass::Ambiguous));
        assert!(error.message.contains("w-1") && error.message.contains("n-1"), "{}", error.message);
        assert!(matches!(of(2), Outcome::Dead { reason: DeadReason::CrashBudgetExhausted, .. }));
    }

    #[test]
    fn what_never_started_or_is_unknown_here_is_handed_back() {
        let policy = policy(exponential(1_000, 2.0, 60_000, Jitter::None));
        assert!(matches!(verdict(&expired(2), Some(&policy), true, 0.5, 2_000), Outcome::Release { .. }));
        assert!(matches!(verdict(&expired(2), None, false, 0.5, 2_000), Outcome::Release { .. }));
    }

    #[test]
    fn alive_is_who_beat_within_two_thirds_of_a_lease() {
        let info = |boot: &str, seen_ms| WorkerInfo {
            identity: worker(boot),
            lanes: vec![],
            slots: 1,
            busy: 1,
            draining: false,
            seen_ms,
            started_ms: 0,
        };
        let stats = Stats {
            now_ms: 100_000,
            workers: vec![info("a", 81_000), info("b", 80_000)],
            ..Stats::default()
        };
        assert_eq!(alive(stats, 30_000), HashSet::from(["a".to_owned()]));
    }
}
