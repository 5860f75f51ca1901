//! What a taken key and a death mean: stored under the names the library reads, refused where it cannot work.

use kube::core::cel::validate_cel;
use serde_json::{Value, json};

use super::*;

/// [`QUEUE`] whose job type has more fields, and a second one beside it.
fn with(fields: &str) -> crate::job_queue::JobQueue {
    let text = QUEUE.replacen("lane: fast,", &format!("lane: fast, {fields},"), 1);
    assert_ne!(text, QUEUE);
    load(&text).queues.remove(0).object
}

fn stored(fields: &str) -> Value {
    let queue = with(fields);
    validate_cel(&queue).unwrap();
    serde_json::to_value(job_queue(&queue, source()).unwrap()).unwrap()["jobTypes"]["t"].clone()
}

#[test]
fn endings_are_stored_under_the_names_the_library_reads() {
    let plain = stored("priority: 5");
    assert!(
        plain.get("onConflict").is_none() && plain.get("debounce").is_none() && plain.get("onDead").is_none()
    );
    assert_eq!(stored("onConflict: Reject")["onConflict"], "Reject");
    let policy = stored("onConflict: Replace, debounce: {wait: 5s, atMost: 1m}");
    assert_eq!(
        (&policy["onConflict"], &policy["debounce"]),
        (&json!("Replace"), &json!({"waitMs": 5_000, "mostMs": 60_000}))
    );
}

#[test]
fn endings_that_cannot_work_are_refused() {
    let debounce = with("debounce: {wait: 5s, atMost: 1m}");
    assert!(validate_cel(&debounce).is_err());
    for (fields, field, why) in [
        ("debounce: {wait: 5s, atMost: 1m}", "debounce", reason::INVALID_VALUE),
        ("onConflict: Replace, debounce: {wait: 5m, atMost: 1m}", "debounce.atMost", reason::MIN_ABOVE_MAX),
        ("onDead: {enqueue: {type: nobody}}", "onDead.enqueue.type", reason::UNKNOWN_JOB_TYPE),
        ("onDead: {enqueue: {type: t}}", "onDead.enqueue.type", reason::ON_DEAD_CHAIN),
    ] {
        let problems = job_queue(&with(fields), source()).unwrap_err();
        let found: Vec<_> = problems.iter().map(|problem| (problem.field.as_str(), problem.reason)).collect();
        assert_eq!(found, [(format!("spec.jobTypes[0].{field}").as_str(), why)], "{fields}");
    }
}
