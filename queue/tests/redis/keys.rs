//! Idempotency: keys rendered from payloads, and what the owner's state decides.

use super::common::*;
use lanekeeper_api::policy::{KeyPart, OnConflict};
use lanekeeper_queue::types::*;

fn template(parts: &[&str]) -> Vec<KeyPart> {
    parts
        .iter()
        .map(|part| match part.strip_prefix('$') {
            Some(path) => KeyPart::Path(path.split('.').map(str::to_owned).collect()),
            None => KeyPart::Text((*part).to_owned()),
        })
        .collect()
}

async fn bed(parts: &[&str]) -> Bed {
    Bed::with(|p| p.job_types.get_mut("mail").unwrap().key = Some(template(parts))).await
}

#[tokio::test]
async fn keys_are_rendered_exactly() {
    let bed = bed(&["e:", "$a", ":", "$b.c"]).await;
    let cases: &[(&str, &str)] = &[
        (r#"{"a":"x","b":{"c":7}}"#, "e:x:7"),
        (r#"{"a":"50%:x","b":{"c":-3}}"#, "e:50%25%3Ax:-3"),
        (r#"{"a":"x\u0000","b":{"c":7}}"#, "e:x%00:7"),
        (r#"{"a":"","b":{"c":9007199254740991}}"#, "e::9007199254740991"),
        (r#"{"a":"é \u00e9","b":{"c":-9007199254740991}}"#, "e:é é:-9007199254740991"),
        (r#" {"b":{"c":0},"a":"1.5e3"} "#, "e:1.5e3:0"),
        (r#"{"a":"z","b":{"c":-0}}"#, "e:z:0"),
        (r#"{"a":"first","b":{"c":1},"a":"last"}"#, "e:last:1"),
        (r#"{"s":"}","t":"]},","x":1.5,"a":"1","b":{"c":7}}"#, "e:1:7"),
        (r#"{"x":1.5,"y":["}",{"c":2.5}],"a":"q\"\\","b":{"d":1e5,"c":3}}"#, "e:q\"\\:3"),
    ];
    for (payload, key) in cases {
        let id = bed.accept(job("mail", payload)).await;
        assert_eq!(bed.job(&id).await.key.as_deref(), Some(*key), "{payload}");
    }
}

#[tokio::test]
async fn nothing_is_rounded_or_guessed() {
    let bed = bed(&["k:", "$a.b"]).await;
    let cases: &[(&[u8], &str)] = &[
        (b"", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"[{\"a\":{\"b\":1}}]", "not a JSON object"),
        (b"{\"a\":{\"b\":1}", "not valid JSON"),
        (b"{\"a\":{\"b\":007}}", "not valid JSON"),
        (b"{\"a\":{\"b\":0x10}}", "not valid JSON"),
        (b"{\"a\":{\"b\":NaN}}", "not valid JSON"),
        (b"{\"a\":{\"b\":\"\\ud800\"}}", "not valid JSON"),
        (b"{}", "a.b is missing"),
        (b"{\"a\":7}", "a.b is missing"),
        (b"{\"a\":\"text\"}", "a.b is missing"),
        (b"{\"a\":null}", "a.b is missing"),
        (b"{\"a\":[1]}", "a.b is missing"),
        (b"{\"a\":{\"b\":null}}", "a.b is null"),
        (b"{\"a\":{\"b\":true}}", "a.b is a boolean"),
        (b"{\"a\":{\"b\":[]}}", "a.b is an array or object"),
        (b"{\"a\":{\"b\":{}}}", "a.b is an array or object"),
        (b"{\"a\":{\"b\":1.5}}", "a.b is a fraction"),
        // No JSON to others, but cjson takes it: without a digit before the point.
        (b"{\"a\":{\"b\":-.9}}", "a.b is a fraction"),
        (b"{\"a\":{\"b\":1.0}}", "a.b is a fraction"),
        (b"{\"a\":{\"b\":1.00000000000000000001}}", "a.b is a fraction"),
        (b"{\"a\":{\"b\":1e3}}", "a.b is a fraction or in exponent notation"),
        (b"{\"a\":{\"b\":9007199254740992}}", "a.b is 2^53 or larger"),
        (b"{\"a\":{\"b\":9223372036854775808}}", "a.b is 2^53 or larger"),
        (b"{\"a\":{\"b\":-9007199254740993}}", "a.b is 2^53 or larger"),
        (b"{\"a\":{\"b\":1e400}}", "a.b"),
        (b"{\"a\":{\"b\":\"\xff\"}}", "a.b is not valid UTF-8"),
    ];
    for (payload, words) in cases {
        let shown = String::from_utf8_lossy(payload).into_owned();
        match bed.put(job("mail", payload)).await {
            Enqueued::Rejected { reason, message } => {
                assert_eq!(reason, "key-field", "{shown}: {message}");
                assert!(message.contains(words), "{shown}: {message:?} lacks {words:?}");
            }
            other => panic!("{shown}: {other:?}"),
        }
    }
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000));
    assert!(
        matches!(bed.put(job("mail", deep)).await, Enqueued::Rejected { reason, .. } if reason == "key-field")
    );
    let long = format!("{{\"a\":{{\"b\":\"{}\"}}}}", "x".repeat(5_000));
    assert!(
        matches!(bed.put(job("mail", long)).await, Enqueued::Rejected { reason, .. } if reason == "key-field")
    );
}

#[tokio::test]
async fn a_caller_may_bring_its_own_key() {
    let bed = bed(&["k:", "$a"]).await;
    let mine = |payload: &str| with(job("mail", payload), |o| o.key = Some("mine".into()));
    let id = bed.accept(mine("not json")).await;
    assert_eq!(bed.put(mine("{}")).await, Enqueued::Duplicate { id, state: JobState::Ready });
    let id = bed.accept(with(job("report", "x"), |o| o.key = Some("r".into()))).await;
    assert_eq!(bed.job(&id).await.key.as_deref(), Some("r"));
}

fn keyed() -> NewJob {
    with(job("mail", "x"), |o| o.key = Some("k".into()))
}

#[tokio::test]
async fn twins_in_one_call_are_one_job() {
    let bed = Bed::new().await;
    let outcomes = bed.queue.enqueue(&[keyed(), job("mail", "y"), keyed()]).await.unwrap();
    let Enqueued::Accepted { id, .. } = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(outcomes[2], Enqueued::Duplicate { id: id.clone(), state: JobState::Ready });
    assert_eq!(bed.claim(&worker("w"), &["fast"], 10).await.len(), 2);
}

#[tokio::test]
async fn the_owners_state_decides() {
    let bed = Bed::new().await;
    let w = worker("w");
    let again = |state| {
        let bed = &bed;
        async move {
            match bed.put(keyed()).await {
                Enqueued::Duplicate { id, state: found } => {
                    assert_eq!(found, state);
                    id
                }
                other => panic!("{state:?}: {other:?}"),
            }
        }
    };
    // scheduled
    let id = bed.accept(with(keyed(), |o| o.delay = Some(60_000))).await;
    assert_eq!(again(JobState::Scheduled).await, id);
    // cancelled frees it; ready
    assert_eq!(bed.queue.cancel(std::slice::from_ref(&id), "ops").await.unwrap()[0].outcome, "cancelled");
    let id = bed.accept(keyed()).await;
    again(JobState::Ready).await;
    // running
    let claimed = bed.claim(&w, &["fast"], 1).await.remove(0);
    again(JobState::Running).await;
    // waiting for a retry
    bed.settle(&w, &claimed, retry(60_000)).await;
    again(JobState::Scheduled).await;
    bed.queue.cancel(&[id], "ops").await.unwrap();
    // dead keeps it, deleting frees it
    let id = bed.dead(keyed()).await;
    assert_eq!(again(JobState::Dead).await, id);
    assert_eq!(bed.queue.dead_discard(&[id], "me", "").await.unwrap()[0].outcome, "discarded");
    // succeeded keeps it, even when the record is gone
    let claimed = bed.running(&w, keyed()).await;
    bed.settle(&w, &claimed, success()).await;
    assert_eq!(again(JobState::Succeeded).await, claimed.id);
    bed.poke(&["HDEL", &bed.key("j"), &claimed.id]).await;
    assert_eq!(again(JobState::Succeeded).await, claimed.id);
}

#[tokio::test]
async fn a_key_is_free_again_once_key_for_has_passed() {
    let bed = Bed::with(|p| p.job_types.get_mut("mail").unwrap().key_for_ms = 1).await;
    let w = worker("w");
    let claimed = bed.running(&w, keyed()).await;
    bed.settle(&w, &claimed, success()).await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    let second = loop {
        match bed.put(keyed()).await {
            Enqueued::Accepted { id, .. } => break id,
            other => assert!(tokio::time::Instant::now() < deadline, "{other:?}"),
        }
    };
    // The old expiry must not free the key that now has another owner.
    bed.queue.sweep(&w, 100).await.unwrap();
    assert_eq!(bed.put(keyed()).await, Enqueued::Duplicate { id: second, state: JobState::Ready });
    let expired: u64 = bed.raw(&["ZCARD", &bed.key("kx")]).await.unwrap();
    assert_eq!(expired, 0);
}

#[tokio::test]
async fn key_for_zero_frees_the_key_with_the_success_and_sweeps_forget_old_ones() {
    let bed = Bed::with(|p| {
        p.job_types.get_mut("mail").unwrap().key_for_ms = 0;
        p.job_types.get_mut("reset").unwrap().key_for_ms = 1;
    })
    .await;
    let w = worker("w");
    let claimed = bed.running(&w, keyed()).await;
    bed.settle(&w, &claimed, success()).await;
    bed.accept(keyed()).await;
    let claimed = bed.running(&w, with(job("reset", ""), |o| o.key = Some("r".into()))).await;
    bed.settle(&w, &claimed, success()).await;
    let held = |key: &'static str| {
        let bed = &bed;
        async move { bed.raw::<bool>(&["HEXISTS", &bed.key("k"), key]).await.unwrap() }
    };
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    while held("r").await {
        assert!(tokio::time::Instant::now() < deadline);
        bed.queue.sweep(&w, 100).await.unwrap();
    }
    assert!(held("k").await, "a live owner's key stays");
}

#[tokio::test]
async fn an_entry_whose_record_is_gone_keeps_nobody_out() {
    let bed = Bed::new().await;
    let id = bed.accept(keyed()).await;
    bed.poke(&["HDEL", &bed.key("j"), &id]).await;
    bed.accept(keyed()).await;
}

#[tokio::test]
async fn a_replay_takes_its_key_back_or_says_who_has_it() {
    let bed = Bed::new().await;
    let id = bed.dead(keyed()).await;
    let replay =
        || async { bed.queue.dead_replay(std::slice::from_ref(&id), "me", "").await.unwrap().remove(0) };
    // Somebody removed the entry by hand: free, taken by another, and free again.
    bed.poke(&["HDEL", &bed.key("k"), "k"]).await;
    let other = bed.accept(keyed()).await;
    assert_eq!(
        replay().await,
        Acted { id: id.clone(), outcome: "key-conflict".into(), state: Some(JobState::Dead) }
    );
    bed.queue.cancel(&[other], "ops").await.unwrap();
    assert_eq!(replay().await.outcome, "replayed");
    assert_eq!(bed.put(keyed()).await, Enqueued::Duplicate { id, state: JobState::Ready });
}

#[tokio::test]
async fn an_empty_or_overlong_key_is_refused() {
    let bed = bed(&["$a"]).await;
    for (value, words) in [(String::new(), "is empty"), ("x".repeat(513), "512 bytes")] {
        let Enqueued::Rejected { reason, message } =
            bed.put(job("mail", format!(r#"{{"a":"{value}"}}"#))).await
        else {
            panic!("a key of {} bytes was accepted", value.len());
        };
        assert_eq!(reason, "key-field");
        assert!(message.contains(words), "{message}");
    }
    bed.accept(job("mail", format!(r#"{{"a":"{}"}}"#, "x".repeat(512)))).await;
}

#[tokio::test]
async fn a_key_of_a_payload_with_many_members_is_made_in_time() {
    let bed = bed(&["$id"]).await;
    let members: Vec<String> = (0..18_000).map(|n| format!("\"m{n}\":1")).collect();
    let payloads = (0..4).map(|n| format!("{{\"x\":1.5,\"\\u0069d\":{n},{}}}", members.join(",")));
    let jobs: Vec<NewJob> = payloads.map(|payload| job("mail", payload)).collect();
    let before = cpu_seconds(&bed).await;
    let made = bed.queue.enqueue(&jobs).await.unwrap();
    let took = cpu_seconds(&bed).await - before;
    assert!(made.iter().all(|outcome| matches!(outcome, Enqueued::Accepted { .. })), "{made:?}");
    assert!(took < 0.4, "{took} s");
}

/// CPU time of the server so far: other than the clock's, it does not depend on what else the machine does.
async fn cpu_seconds(bed: &Bed) -> f64 {
    let info: String = bed.raw(&["INFO", "cpu"]).await.unwrap();
    let of = |name: &str| -> f64 {
        info.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).expect("INFO cpu names it")
    };
    of("used_cpu_user:") + of("used_cpu_sys:")
}

#[tokio::test]
async fn a_follow_up_may_take_the_key_that_its_own_jobs_success_makes_free() {
    let bed = Bed::with(|policy| {
        for (name, key_for_ms) in [("mail", 0), ("reset", 60_000)] {
            let own = policy.job_types.get_mut(name).unwrap();
            (own.on_conflict, own.key_for_ms) = (OnConflict::Reject, key_for_ms);
        }
    })
    .await;
    let w = worker("w");
    let of = |name: &str, key: &str| with(job(name, "x"), |o| o.key = Some(key.into()));
    let next = |jobs: &[(&str, &str)]| {
        let follow_ups = jobs.iter().map(|(name, key)| of(name, key)).collect();
        Outcome::Success { result: b"1".to_vec(), follow_ups }
    };
    // A chain of jobs under one key.
    bed.accept(of("mail", "k")).await;
    for _ in 0..3 {
        let claimed = bed.claim(&w, &["fast"], 5).await;
        assert_eq!(claimed.len(), 1);
        assert_eq!(bed.settle(&w, &claimed[0], next(&[("mail", "k")])).await, Settled::Done);
        assert_eq!(bed.state(&claimed[0].id).await, JobState::Succeeded);
    }
    let last = bed.claim(&w, &["fast"], 5).await.remove(0);
    assert_eq!((last.key.as_deref(), last.payload.as_slice()), (Some("k"), b"x".as_slice()));
    // Free for one of them, and not where it stays taken or is another's.
    let refused = bed.settle(&w, &last, next(&[("mail", "k"), ("reset", "k")])).await;
    assert!(matches!(&refused, Settled::Refused { why } if why.starts_with("number 2")), "{refused:?}");
    let other = bed.running(&w, of("reset", "l")).await;
    for (running, key) in [(&other, "l"), (&other, "k"), (&last, "l")] {
        let refused = bed.settle(&w, running, next(&[("mail", key)])).await;
        assert!(matches!(&refused, Settled::Refused { why } if why.contains("(running)")), "{refused:?}");
    }
}
