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

#[test]
fn a_key_may_be_free_with_the_success_and_who_replaces_is_told_that_it_is_not() {
    assert_eq!(stored("keyFor: 0s")["keyForMs"], 0);
    assert_eq!(stored("priority: 5")["keyForMs"], 86_400_000);
    let warned = |fields: &str| {
        let queue = with(fields);
        let policy = job_queue(&queue, source()).unwrap();
        let mut warnings = job_queue_warnings(&queue, &policy);
        warnings.retain(|warning| warning.reason == reason::KEY_KEPT);
        warnings
    };
    for fields in ["onConflict: Replace", "onConflict: Replace, debounce: {wait: 5s, atMost: 1m}"] {
        let found = warned(fields);
        assert_eq!(found.len(), 1, "{fields}");
        assert_eq!(found[0].field, "spec.jobTypes[0].keyFor");
        for part in ["for 24h after a success", "answered duplicate", "write keyFor: 0s"] {
            assert!(found[0].message.contains(part), "{part}: {}", found[0]);
        }
    }
    for fields in
        ["onConflict: Reject", "onConflict: Replace, keyFor: 0s", "onConflict: Replace, keyFor: 24h"]
    {
        assert_eq!(warned(fields), [], "{fields}");
    }
}

#[test]
fn keys_that_no_news_of_a_death_can_have_are_warned_of() {
    let warned = |keys: &str| {
        let mut queue = with("onDead: {enqueue: {type: news}}");
        let news = with(keys).spec.job_types.remove(0);
        queue.spec.job_types.push(crate::job_queue::JobTypeSpec { name: "news".to_owned(), ..news });
        let policy = job_queue(&queue, source()).unwrap();
        let mut warnings = job_queue_warnings(&queue, &policy);
        warnings.retain(|warning| warning.reason == reason::NEWS_UNKEYED);
        warnings
    };
    let fine = "key: 'news:{payload.n}:{reason}', concurrencyKey: {key: '{error.code}', limit: 1}";
    assert_eq!(warned(fine), []);
    let found = warned("key: '{n}', concurrencyKey: {key: 'c:{customer.id}', limit: 1}");
    assert_eq!(found.len(), 2);
    for (warning, named) in found.iter().zip(["{payload.n}", "{payload.customer.id}"]) {
        assert_eq!(warning.field, "spec.jobTypes[0].onDead.enqueue.type");
        assert!(warning.message.ends_with(&format!("named as {named}")), "{warning}");
    }
}
