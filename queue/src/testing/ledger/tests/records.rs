//! The check of final records alone.

use std::collections::HashMap;

use super::super::{Effect, Evidence, Violation, check};
use crate::types::{Attempt, Job, JobState};

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
    assert!(found.contains(&Violation::Lost { job: "a".into(), accepted_ms: None }), "{found:?}");
}

#[test]
fn a_job_that_never_ends_is_caught() {
    let found = violations(|e| of(e).state = JobState::Ready);
    assert!(
        found.contains(&Violation::Unfinished { job: "a".into(), state: JobState::Ready, deadline_ms: None }),
        "{found:?}"
    );
}

#[test]
fn a_doubled_success_is_caught() {
    let found = violations(|e| of(e).history.push(attempt(3, 30, "success")));
    assert!(
        found.contains(&Violation::FinishedTwice {
            job: "a".into(),
            tokens: vec![20, 30],
            at_ms: vec![0, 0]
        }),
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
    assert_eq!(found, [Violation::StaleSettlement { job: "a".into(), token: 20, newer: 25, at_ms: 0 }]);
}

#[test]
fn a_token_that_falls_is_caught() {
    let found = violations(|e| of(e).history[0].token = 21);
    assert_eq!(found, [Violation::TokensFell { job: "a".into(), earlier: 21, later: 20, at_ms: 0 }]);
}
