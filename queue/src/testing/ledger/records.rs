//! What the final records alone can tell: whether a job was lost, finished twice, or settled by a worker that no longer
//! held its lease. For runs without a history, or whose times tell no order because the clock of Redis jumped.
//!
//! Jobs are independent of each other, so each is judged alone, in one pass. The checker knows nothing of how the queue
//! works; it sees only the three records that a user could keep.

use std::collections::HashMap;

use super::evidence::{Effect, Evidence};
use super::report::Violation;
use super::verdict::Verdict;
use crate::types::{Job, JobState};

/// Judges a run by its final records (I1 to I4, I14).
#[must_use]
pub fn check(evidence: &Evidence) -> Verdict {
    let mut effects: HashMap<&str, Vec<&Effect>> = HashMap::new();
    for effect in &evidence.effects {
        effects.entry(&effect.job).or_default().push(effect);
    }
    let mut verdict = Verdict { accepted: evidence.accepted.len() as u64, ..Verdict::default() };
    for id in &evidence.accepted {
        let Some(job) = evidence.jobs.get(id) else {
            verdict.violations.push(Violation::Lost { job: id.clone(), accepted_ms: None });
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
        JobState::Dead | JobState::Discarded => verdict.dead += 1,
        JobState::Cancelled => verdict.cancelled += 1,
        state => {
            verdict.violations.push(Violation::Unfinished { job: job.id.clone(), state, deadline_ms: None })
        }
    }
    tokens_rise(job, verdict);
    if job.state == JobState::Succeeded {
        success_stands(job, calls, verdict);
    }
    no_settlement_is_stale(job, calls, verdict);
}

fn tokens_rise(job: &Job, verdict: &mut Verdict) {
    // What a person did is no attempt and has no token.
    let attempts: Vec<_> = job.history.iter().filter(|attempt| attempt.ran()).collect();
    for pair in attempts.windows(2) {
        let (earlier, later) = (pair[0].token, pair[1].token);
        if later <= earlier {
            let at_ms = pair[1].started_ms;
            verdict.violations.push(Violation::TokensFell { job: job.id.clone(), earlier, later, at_ms });
        }
    }
}

fn success_stands(job: &Job, calls: &[&Effect], verdict: &mut Verdict) {
    let Some(first) = job.history.iter().position(|attempt| attempt.outcome == "success") else {
        verdict.violations.push(Violation::SuccessWithoutEffect { job: job.id.clone(), token: 0 });
        return;
    };
    if first + 1 < job.history.len() {
        let (tokens, at_ms) =
            job.history[first..].iter().map(|attempt| (attempt.token, attempt.ended_ms)).unzip();
        verdict.violations.push(Violation::FinishedTwice { job: job.id.clone(), tokens, at_ms });
    }
    let token = job.history[first].token;
    if !calls.iter().any(|call| call.success && call.token == token) {
        verdict.violations.push(Violation::SuccessWithoutEffect { job: job.id.clone(), token });
    }
}

/// The last attempt settled the job, so no lease may be newer than its token.
fn no_settlement_is_stale(job: &Job, calls: &[&Effect], verdict: &mut Verdict) {
    let last = job.history.iter().rfind(|attempt| attempt.ran());
    let (Some(last), Some(newer)) = (last, calls.iter().map(|call| call.token).max()) else {
        return;
    };
    if newer > last.token {
        let (token, at_ms) = (last.token, last.ended_ms);
        verdict.violations.push(Violation::StaleSettlement { job: job.id.clone(), token, newer, at_ms });
    }
}
