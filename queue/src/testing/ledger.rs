//! The job ledger: from what the enqueue replies promised, what the handlers did and what Redis holds in the end, tells
//! whether a job was lost, finished twice, or settled by a worker that no longer held its lease.
//!
//! Jobs are independent of each other, so each is judged alone, in one pass. The checker knows nothing of how the queue
//! works; it sees only the three records that a user could keep.

use std::collections::HashMap;

use serde::Serialize;

use crate::types::{Job, JobState};

/// One call of a handler, written down by the handler itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Job id.
    pub job: String,
    /// Token of the lease under which the handler was called.
    pub token: u64,
    /// Whether the handler answered success.
    pub success: bool,
}

/// What a run left behind, once the queue is drained.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Ids that a reply accepted.
    pub accepted: Vec<String>,
    /// Every call of a handler.
    pub effects: Vec<Effect>,
    /// Every accepted job's record in Redis.
    pub jobs: HashMap<String, Job>,
    /// Successes that the queue counted.
    pub succeeded_total: u64,
}

/// Something that must never happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "violation", rename_all = "camelCase")]
pub enum Violation {
    /// An accepted job has no record.
    Lost {
        /// Job id.
        job: String,
    },
    /// An accepted job neither finished nor died although the queue had time to drain.
    Unfinished {
        /// Job id.
        job: String,
        /// State it is in.
        state: JobState,
    },
    /// The record says success, but no handler call under that token answered so.
    SuccessWithoutEffect {
        /// Job id.
        job: String,
        /// Token of the success.
        token: u64,
    },
    /// More than one attempt was accepted as the success, or something was accepted after it.
    FinishedTwice {
        /// Job id.
        job: String,
        /// Tokens of the attempts from the first success on.
        tokens: Vec<u64>,
    },
    /// A settlement was accepted although a newer lease had been granted before it.
    StaleSettlement {
        /// Job id.
        job: String,
        /// Token that settled.
        token: u64,
        /// A newer token that a handler had seen.
        newer: u64,
    },
    /// Tokens of a job did not rise from attempt to attempt.
    TokensFell {
        /// Job id.
        job: String,
        /// Earlier token.
        earlier: u64,
        /// Later token, not above it.
        later: u64,
    },
    /// The queue counted other successes than there are succeeded jobs.
    CountsDiffer {
        /// Counted by the queue.
        counted: u64,
        /// Records in state `succeeded`.
        records: u64,
    },
}

/// The ledger's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Accepted jobs.
    pub accepted: u64,
    /// Those that succeeded.
    pub succeeded: u64,
    /// Those in the dead letters.
    pub dead: u64,
    /// Those called off.
    pub cancelled: u64,
    /// Jobs whose handler answered success more than once: at-least-once delivery, not a violation.
    pub repeated_effects: u64,
    /// Attempts lost to crashes, as the records have it.
    pub crashes: u64,
    /// What must never happen; empty when all is well.
    pub violations: Vec<Violation>,
}

/// Judges a run.
#[must_use]
pub fn check(evidence: &Evidence) -> Verdict {
    let mut effects: HashMap<&str, Vec<&Effect>> = HashMap::new();
    for effect in &evidence.effects {
        effects.entry(&effect.job).or_default().push(effect);
    }
    let mut verdict = Verdict { accepted: evidence.accepted.len() as u64, ..Verdict::default() };
    for id in &evidence.accepted {
        let Some(job) = evidence.jobs.get(id) else {
            verdict.violations.push(Violation::Lost { job: id.clone() });
            continue;
        };
        let calls = effects.get(id.as_str()).map_or(&[][..], Vec::as_slice);
        judge(job, calls, &mut verdict);
    }
    if evidence.succeeded_total != verdict.succeeded {
        let violation =
            Violation::CountsDiffer { counted: evidence.succeeded_total, records: verdict.succeeded };
        verdict.violations.push(violation);
    }
    verdict
}

fn judge(job: &Job, calls: &[&Effect], verdict: &mut Verdict) {
    verdict.crashes += u64::from(job.crashes);
    verdict.repeated_effects += u64::from(calls.iter().filter(|call| call.success).count() > 1);
    match job.state {
        JobState::Succeeded => verdict.succeeded += 1,
        JobState::Dead => verdict.dead += 1,
        JobState::Cancelled => verdict.cancelled += 1,
        state => verdict.violations.push(Violation::Unfinished { job: job.id.clone(), state }),
    }
    tokens_rise(job, verdict);
    if job.state == JobState::Succeeded {
        success_stands(job, calls, verdict);
    }
    no_settlement_is_stale(job, calls, verdict);
}

fn tokens_rise(job: &Job, verdict: &mut Verdict) {
    for pair in job.history.windows(2) {
        let (earlier, later) = (pair[0].token, pair[1].token);
        if later <= earlier {
            verdict.violations.push(Violation::TokensFell { job: job.id.clone(), earlier, later });
        }
    }
}

fn success_stands(job: &Job, calls: &[&Effect], verdict: &mut Verdict) {
    let Some(first) = job.history.iter().position(|attempt| attempt.outcome == "success") else {
        verdict.violations.push(Violation::SuccessWithoutEffect { job: job.id.clone(), token: 0 });
        return;
    };
    if first + 1 < job.history.len() {
        let tokens = job.history[first..].iter().map(|attempt| attempt.token).collect();
        verdict.violations.push(Violation::FinishedTwice { job: job.id.clone(), tokens });
    }
    let token = job.history[first].token;
    if !calls.iter().any(|call| call.success && call.token == token) {
        verdict.violations.push(Violation::SuccessWithoutEffect { job: job.id.clone(), token });
    }
}

/// The last attempt settled the job, so no lease may be newer than its token.
fn no_settlement_is_stale(job: &Job, calls: &[&Effect], verdict: &mut Verdict) {
    let (Some(last), Some(newer)) = (job.history.last(), calls.iter().map(|call| call.token).max()) else {
        return;
    };
    if newer > last.token {
        verdict.violations.push(Violation::StaleSettlement { job: job.id.clone(), token: last.token, newer });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Attempt;

    fn attempt(number: u32, token: u64, outcome: &str) -> Attempt {
        Attempt {
            number,
            started_ms: 0,
            ended_ms: 0,
            worker: "w".into(),
            node: "n".into(),
            token,
            policy_version: 1,
            outcome: outcome.into(),
            error: None,
        }
    }

    fn job(id: &str, state: JobState, history: Vec<Attempt>) -> Job {
        let value = serde_json::json!({
            "id": id, "type": "work", "state": state, "priority": 5, "enqueuedMs": 0, "dueMs": 0, "tries": 0, "crashes": 0,
            "attempts": history.len(), "history": history, "payloadBytes": 0,
        });
        serde_json::from_value(value).expect("a job")
    }

    /// One job that crashed once and then succeeded: nothing is wrong with it.
    fn sound() -> Evidence {
        let effect = |token, success| Effect { job: "a".into(), token, success };
        Evidence {
            accepted: vec!["a".into()],
            effects: vec![effect(10, true), effect(20, true)],
            jobs: HashMap::from([(
                "a".into(),
                job("a", JobState::Succeeded, vec![attempt(1, 15, "retry"), attempt(2, 20, "success")]),
            )]),
            succeeded_total: 1,
        }
    }

    fn violations(change: impl FnOnce(&mut Evidence)) -> Vec<Violation> {
        let mut evidence = sound();
        change(&mut evidence);
        check(&evidence).violations
    }

    fn of(evidence: &mut Evidence) -> &mut Job {
        evidence.jobs.get_mut("a").expect("job a")
    }

    #[test]
    fn a_sound_history_passes() {
        let verdict = check(&sound());
        assert_eq!(verdict.violations, []);
        assert_eq!((verdict.accepted, verdict.succeeded, verdict.repeated_effects), (1, 1, 1));
    }

    #[test]
    fn a_lost_job_is_caught() {
        let found = violations(|e| e.jobs.clear());
        assert!(found.contains(&Violation::Lost { job: "a".into() }), "{found:?}");
    }

    #[test]
    fn a_job_that_never_ends_is_caught() {
        let found = violations(|e| of(e).state = JobState::Ready);
        assert!(
            found.contains(&Violation::Unfinished { job: "a".into(), state: JobState::Ready }),
            "{found:?}"
        );
    }

    #[test]
    fn a_doubled_success_is_caught() {
        let found = violations(|e| of(e).history.push(attempt(3, 30, "success")));
        assert!(
            found.contains(&Violation::FinishedTwice { job: "a".into(), tokens: vec![20, 30] }),
            "{found:?}"
        );
    }

    #[test]
    fn a_success_counted_twice_is_caught() {
        let found = violations(|e| e.succeeded_total = 2);
        assert_eq!(found, [Violation::CountsDiffer { counted: 2, records: 1 }]);
    }

    #[test]
    fn a_success_that_no_handler_saw_is_caught() {
        let found = violations(|e| e.effects.retain(|effect| effect.token != 20));
        assert_eq!(found, [Violation::SuccessWithoutEffect { job: "a".into(), token: 20 }]);
    }

    #[test]
    fn a_stale_settlement_is_caught() {
        let found = violations(|e| e.effects.push(Effect { job: "a".into(), token: 25, success: true }));
        assert_eq!(found, [Violation::StaleSettlement { job: "a".into(), token: 20, newer: 25 }]);
    }

    #[test]
    fn a_token_that_falls_is_caught() {
        let found = violations(|e| of(e).history[0].token = 21);
        assert_eq!(found, [Violation::TokensFell { job: "a".into(), earlier: 21, later: 20 }]);
    }
}
