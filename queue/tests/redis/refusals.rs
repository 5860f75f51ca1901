//! Policies that make no sense, field by field: each is refused before anything is written.

use serde_json::{Value, json};

use super::common::*;
use lanekeeper_queue::types::Configured;

/// Writes a policy as it is under the next generation; the refusal, or none.
async fn write(bed: &Bed, policy: &str, generation: u64) -> Option<String> {
    let generation = generation.to_string();
    let arguments: [&[u8]; 6] =
        [policy.as_bytes(), b"kubernetes:a", b"u1", b"1000", generation.as_bytes(), b"0"];
    let reply = fcall::<(String, u64)>(bed, "lk_configure", &arguments).await;
    match reply {
        Ok((outcome, _)) => {
            assert_eq!(outcome, "applied", "{policy}");
            None
        }
        Err(error) => {
            assert_eq!(error.code(), Some("LKPOLICY"), "{policy}: {error}");
            Some(error.detail().unwrap_or_default().to_owned())
        }
    }
}

fn changed(policy: &Value, place: &str, value: &Value) -> String {
    let mut policy = policy.clone();
    let (parent, name) = place.rsplit_once('/').unwrap();
    match policy.pointer_mut(parent).unwrap() {
        Value::Array(list) => list[name.parse::<usize>().unwrap()] = value.clone(),
        object => object[name] = value.clone(),
    }
    policy.to_string()
}

#[tokio::test]
async fn what_is_no_policy_is_refused_in_words() {
    let bed = Bed::new().await;
    let before = bed.queue.policy().await.unwrap();
    for (text, words) in [
        ("", "not valid JSON"),
        ("[", "not valid JSON"),
        ("7", "not valid JSON"),
        ("null", "not valid JSON"),
        ("\"text\"", "not valid JSON"),
        ("[]", "lanes or jobTypes"),
        ("{}", "lanes or jobTypes"),
    ] {
        let why = write(&bed, text, 9).await.expect(text);
        assert!(why.contains(words), "{text}: {why}");
    }
    assert_eq!(bed.queue.policy().await.unwrap(), before);
}

#[tokio::test]
async fn every_field_of_a_policy_that_is_none_is_refused() {
    let bed = Bed::new().await;
    let policy = serde_json::to_value(&bed.policy).unwrap();
    let rate = |limit: Value, per: Value| json!({"limit": limit, "perMs": per});
    let keyed = |limit: Value, rate: Value| json!({"key": [], "limit": limit, "rateLimit": rate});
    let by = json!({"limit": 1, "perMs": 1, "by": {"path": ["t"], "limits": {"a": "x"}}});
    let wrong: &[(&str, Value, &str)] = &[
        ("/lanes", json!("x"), "lanes or jobTypes"),
        ("/jobTypes", json!("x"), "lanes or jobTypes"),
        ("/leaseMs", json!("x"), "leaseMs or maxPayload"),
        ("/leaseMs", json!(0), "leaseMs or maxPayload"),
        ("/maxPayload", json!("x"), "leaseMs or maxPayload"),
        ("/capacity", json!({"jobs": 0}), "capacity"),
        ("/capacity", json!({"jobs": "x"}), "capacity"),
        ("/capacity", json!({"bytes": 0}), "capacity"),
        ("/jobTypes", json!([policy["jobTypes"]["mail"]]), "job type 1 is incomplete"),
        ("/jobTypes/mail", json!("x"), "job type mail"),
        ("/jobTypes/mail/lane", json!(7), "job type mail"),
        ("/jobTypes/mail/priority", json!("x"), "job type mail"),
        ("/jobTypes/mail/keyForMs", json!("x"), "job type mail"),
        ("/jobTypes/mail/completed", json!("x"), "job type mail"),
        ("/jobTypes/mail/completed/keep", json!("x"), "job type mail"),
        ("/jobTypes/mail/completed/forMs", json!("x"), "job type mail"),
        ("/jobTypes/mail/key", json!("x"), "job type mail"),
        ("/jobTypes/mail/debounce", json!({"waitMs": 5}), "debounce of job type mail"),
        ("/jobTypes/mail/debounce", json!({"mostMs": 5}), "debounce of job type mail"),
        ("/jobTypes/mail/debounce", json!({"waitMs": 0, "mostMs": 5}), "debounce of job type mail"),
        ("/jobTypes/mail/concurrencyKey", keyed(json!(0), Value::Null), "concurrency key of job type mail"),
        ("/jobTypes/mail/concurrencyKey", keyed(json!(1), json!("x")), "concurrency key of job type mail"),
        ("/jobTypes/mail/concurrencyKey", keyed(Value::Null, rate(json!(0), json!(1))), "concurrency key"),
        ("/jobTypes/mail/concurrencyKey", keyed(Value::Null, by), "concurrency key of job type mail"),
        ("/lanes/0", json!(7), "a lane has no name"),
        ("/lanes/0/name", json!(7), "a lane has no name"),
        ("/lanes/0/startWithinMs", json!("soon"), "the policy was refused"),
        ("/lanes/0/concurrency", json!(0), "a gate of lane fast"),
        ("/lanes/0/concurrency", json!("x"), "a gate of lane fast"),
        ("/lanes/0/rateLimit", json!("x"), "a gate of lane fast"),
        ("/lanes/0/rateLimit", rate(json!(0), json!(1)), "a gate of lane fast"),
        ("/lanes/0/rateLimit", rate(json!(1), json!(0)), "a gate of lane fast"),
        ("/lanes/0/rateLimit", rate(Value::Null, json!(1)), "a gate of lane fast"),
        ("/lanes/0/rateLimit", json!({"limit": 1, "perMs": 1, "burst": 0}), "a gate of lane fast"),
        ("/lanes/0/circuit", json!({"failures": 1}), "a gate of lane fast"),
        ("/lanes/0/circuit", json!({"probeAfterMs": 1}), "a gate of lane fast"),
        ("/lanes/0/circuit", json!({"failures": 0, "probeAfterMs": 1}), "a gate of lane fast"),
        ("/lanes/0/circuit", json!({"failures": 1, "probeAfterMs": 0}), "a gate of lane fast"),
    ];
    for (place, value, words) in wrong {
        let why = write(&bed, &changed(&policy, place, value), 9).await;
        let why = why.unwrap_or_else(|| panic!("{place}: {value} was taken"));
        assert!(why.contains(words), "{place}: {value}: {why}");
    }
    // And their neighbours that are right.
    let right: &[(&str, Value)] = &[
        ("/leaseMs", json!(1)),
        ("/jobTypes/mail/lane", json!("nowhere")),
        ("/capacity", Value::Null),
        ("/capacity", json!({"jobs": 1, "bytes": null})),
        ("/jobTypes/mail/concurrencyKey", keyed(Value::Null, Value::Null)),
        ("/jobTypes/mail/concurrencyKey", keyed(json!(1), rate(json!(1), json!(1)))),
        ("/lanes/0/concurrency", json!(1)),
        ("/lanes/0/rateLimit", json!({"limit": 1, "perMs": 1, "burst": null})),
        ("/lanes/0/circuit", json!({"failures": 1, "probeAfterMs": 1})),
    ];
    for (generation, (place, value)) in (10..).zip(right) {
        assert_eq!(write(&bed, &changed(&policy, place, value), generation).await, None, "{place}: {value}");
    }
}

#[tokio::test]
async fn a_policy_is_there_only_with_its_version() {
    let bed = Bed::new().await;
    for (command, key, field) in [("HDEL", "m", "v"), ("DEL", "p", "")] {
        assert!(bed.queue.policy().await.unwrap().is_some());
        let key = bed.key(key);
        bed.poke(&[command, &key, field][..if field.is_empty() { 2 } else { 3 }]).await;
        assert_eq!(bed.queue.policy().await.unwrap(), None, "{command} {key}");
        let mut again = bed.policy.clone();
        again.source.generation += 1;
        assert!(matches!(bed.queue.configure(&again, true).await.unwrap(), Configured::Applied { .. }));
    }
    // Calls go on by the policy that they know, where only its text is gone.
    bed.accept(job("mail", "x")).await;
    bed.poke(&["DEL", &bed.key("p")]).await;
    bed.accept(job("mail", "x")).await;
}

#[tokio::test]
async fn a_concurrency_key_is_neither_empty_nor_overlong() {
    use lanekeeper_api::policy::{ConcurrencyKey, KeyPart};
    use lanekeeper_queue::types::Enqueued;
    let key = ConcurrencyKey { key: vec![KeyPart::Path(vec!["v".into()])], limit: Some(1), rate_limit: None };
    let bed = Bed::with(|policy| policy.job_types.get_mut("mail").unwrap().concurrency_key = Some(key)).await;
    for (length, taken) in [(0, false), (1, true), (512, true), (513, false)] {
        let outcome = bed.put(job("mail", json!({"v": "x".repeat(length)}).to_string())).await;
        match outcome {
            Enqueued::Accepted { .. } => assert!(taken, "{length}"),
            Enqueued::Rejected { reason, message } => {
                assert_eq!((taken, reason.as_str()), (false, "key-field"), "{length}");
                assert!(message.contains("empty or longer than 512"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
}
