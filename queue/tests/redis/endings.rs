//! What the end of a job brings: follow-up jobs, `onDead`; and what a key's owner means for the next job.

use serde_json::{Value, json};

use super::common::*;
use lanekeeper_queue::types::*;

/// A bed whose stored policy was changed as JSON.
async fn with_policy(change: impl FnOnce(&mut Value)) -> Bed {
    let bed = Bed::new().await;
    let mut policy = serde_json::to_value(&bed.policy).unwrap();
    change(&mut policy);
    let root = bed.queue.name().root();
    let args = [&policy.to_string(), "kubernetes:a", "u1", "1000", "2", "0"];
    let mut call = vec!["FCALL", "lk_configure", "1", &root];
    call.extend(args);
    bed.poke(&call).await;
    bed
}

fn follow(job_type: &str, payload: &str) -> NewJob {
    job(job_type, payload)
}

fn success_with(follow_ups: Vec<NewJob>) -> Outcome {
    Outcome::Success { result: b"1".to_vec(), follow_ups }
}

#[tokio::test]
async fn follow_up_jobs_are_stored_with_the_success() {
    let bed = Bed::new().await;
    let w = worker("w");
    let claimed = bed.running(&w, job("mail", "x")).await;
    let next = vec![follow("report", "a\0b"), with(follow("mail", "later"), |o| o.delay = Some(60_000))];
    assert_eq!(bed.settle(&w, &claimed, success_with(next)).await, Settled::Done);
    assert_eq!(bed.state(&claimed.id).await, JobState::Succeeded);
    let got = bed.claim(&w, &["fast", "slow"], 5).await;
    assert_eq!((got.len(), got[0].payload.as_slice()), (1, b"a\0b".as_slice()));
    let later = bed
        .queue
        .find(&Find { state: Some(JobState::Scheduled), limit: 5, ..Find::default() })
        .await
        .unwrap();
    assert_eq!(later.jobs.len(), 1);
    // A word that comes too late brings nothing.
    let stale = success_with(vec![follow("mail", "no")]);
    assert_eq!(bed.settle(&w, &claimed, stale).await, Settled::Stale);
    let types = &bed.queue.stats().await.unwrap().lanes[0].types;
    assert_eq!(types.iter().map(|t| t.enqueued_total).sum::<u64>(), 2, "mail and its later one");
}

#[tokio::test]
async fn a_follow_up_that_cannot_be_stored_stores_neither_it_nor_the_success() {
    let bed = Bed::new().await;
    let w = worker("w");
    let bad = bed.running(&w, job("mail", "x")).await;
    let good = bed.running(&w, job("mail", "y")).await;
    let done = [
        settlement(&bad, success_with(vec![follow("mail", "1"), follow("nope", "2")])),
        settlement(&good, success_with(vec![follow("report", "3")])),
    ];
    let settled = bed.queue.settle(&w, &done).await.unwrap();
    let Settled::Refused { why } = &settled[0] else { panic!("{settled:?}") };
    assert!(why.contains("number 2") && why.contains("unknown-type"), "{why}");
    assert_eq!(settled[1], Settled::Done);
    assert_eq!(bed.state(&bad.id).await, JobState::Running, "its worker has the word still");
    assert_eq!(bed.settle(&w, &bad, dead("FollowUpRefused")).await, Settled::Done);
    let waiting =
        bed.queue.find(&Find { state: Some(JobState::Ready), limit: 9, ..Find::default() }).await.unwrap();
    assert_eq!(waiting.jobs.iter().map(|job| job.job_type.as_str()).collect::<Vec<_>>(), ["report"]);
    let many = success_with((0..101).map(|n| follow("mail", &n.to_string())).collect());
    let claimed = bed.running(&w, job("reset", "z")).await;
    assert!(
        matches!(bed.settle(&w, &claimed, many).await, Settled::Refused { why } if why.contains("100 jobs"))
    );
}

#[tokio::test]
async fn a_death_brings_its_job_once_and_each_time() {
    let bed = with_policy(|policy| policy["jobTypes"]["mail"]["onDead"] = json!({"type": "report"})).await;
    let w = worker("w");
    let payload = r#"{"n": 1.10, "text": "a\u0000b"}"#;
    let claimed = bed.running(&w, with(job("mail", payload), |o| o.key = Some("k\"1".into()))).await;
    bed.settle(&w, &claimed, retry(0)).await;
    assert!(bed.claim(&w, &["slow"], 5).await.is_empty(), "a retry is no death");
    let again = bed.claim(&w, &["fast"], 5).await.remove(0);
    bed.settle(&w, &again, dead("Broken")).await;
    let told = bed.claim(&w, &["slow"], 5).await;
    assert_eq!(told.len(), 1);
    let news: Value = serde_json::from_slice(&told[0].payload).unwrap();
    assert_eq!(news["job"], json!(claimed.id));
    assert_eq!((news["type"].as_str(), news["key"].as_str()), (Some("mail"), Some("k\"1")));
    assert_eq!((news["reason"].as_str(), news["attempts"].as_u64()), (Some("PermanentError"), Some(2)));
    assert_eq!(news["error"]["message"], "Broken");
    assert!(String::from_utf8_lossy(&told[0].payload).contains(payload), "the payload as it came");
    // A replay that dies again is another death.
    bed.queue.dead_replay(&[claimed.id.clone()], "me", "").await.unwrap();
    let third = bed.claim(&w, &["fast"], 5).await.remove(0);
    bed.settle(&w, &third, dead("Broken")).await;
    assert_eq!(bed.claim(&w, &["slow"], 5).await.len(), 1);
    // No JSON object, and one too large to be carried along: the news comes without it.
    for payload in
        ["plain".to_owned(), "[1]".to_owned(), format!("{{\"x\":\"{}\"}}", "x".repeat(256 * 1024 - 8))]
    {
        let claimed = bed.running(&w, job("mail", &payload)).await;
        bed.settle(&w, &claimed, dead("Broken")).await;
        let told = bed.claim(&w, &["slow"], 5).await;
        let news: Value = serde_json::from_slice(&told[0].payload).unwrap();
        assert_eq!((&news["job"], news.get("payload")), (&json!(claimed.id), None));
    }
}

/// What a foreign client might send for follow-up jobs.
#[tokio::test]
async fn follow_ups_that_are_none_are_refused_in_words() {
    let bed = Bed::new().await;
    let w = worker("w");
    for (blob, why) in [
        (&b"\xc1"[..], "not msgpack"),
        (b"\x81\xa1a\x01", "no list"),
        (b"\x91\x01", "no pair"),
        (b"\x91\x91\xa2{}", "no pair"),
    ] {
        let claimed = bed.running(&w, job("mail", "x")).await;
        let mut word = vec![0x91, 0x97, 0xa0 + u8::try_from(claimed.id.len()).unwrap()];
        word.extend(claimed.id.as_bytes());
        word.push(0xcf);
        word.extend(claimed.token.to_be_bytes());
        word.extend(b"\x07\xa1s\xa0\xa0\xa0");
        *word.last_mut().unwrap() = 0xa0 + u8::try_from(blob.len()).unwrap();
        word.extend(blob);
        let mut identity = vec![0x94, 0xa6];
        identity.extend(b"boot-w\xa1w\xa4pool\xa4node");
        let mut call = redis::cmd("FCALL");
        call.arg("lk_settle").arg(1).arg(bed.queue.name().root()).arg(identity).arg(word);
        let (_, _, letters, refusals): (u64, u64, String, Vec<String>) =
            call.query_async(&mut bed.queue.connection()).await.unwrap();
        assert_eq!((letters.as_str(), refusals.len()), ("f", 1));
        assert!(refusals[0].contains(why), "{refusals:?}");
        assert_eq!(bed.state(&claimed.id).await, JobState::Running);
    }
}

fn keyed(payload: &str, key: &str) -> NewJob {
    with(job("mail", payload), |o| o.key = Some(key.into()))
}

#[tokio::test]
async fn a_taken_key_may_be_refused() {
    let bed = with_policy(|policy| policy["jobTypes"]["mail"]["onConflict"] = json!("Reject")).await;
    let id = bed.accept(keyed("1", "k")).await;
    let Enqueued::Rejected { reason, message } = bed.put(keyed("2", "k")).await else { panic!("accepted") };
    assert_eq!(reason, "key-conflict");
    assert!(message.contains(&id) && message.contains("ready"), "{message}");
    bed.accept(keyed("3", "other")).await;
}

#[tokio::test]
async fn a_job_that_was_not_started_may_be_replaced() {
    let bed = with_policy(|policy| policy["jobTypes"]["mail"]["onConflict"] = json!("Replace")).await;
    let w = worker("w");
    let id = bed.accept(keyed("old", "k")).await;
    let behind = bed.accept(keyed("behind", "k2")).await;
    let replaced = bed.put(with(keyed("new", "k"), |o| o.priority = Some(7))).await;
    assert_eq!(replaced, Enqueued::Replaced { id: id.clone(), state: JobState::Ready });
    let waiting: u64 = bed.raw(&["ZCARD", &bed.key("q:mail")]).await.unwrap();
    assert_eq!(waiting, 2);
    let claimed = bed.claim(&w, &["fast"], 5).await;
    assert_eq!(claimed.iter().map(|job| &job.id).collect::<Vec<_>>(), [&behind, &id]);
    assert_eq!(claimed[1].payload, b"new");
    // Running, waiting for a retry, done: an owner like any other.
    for outcome in [None, Some(retry(60_000)), Some(success())] {
        if let Some(outcome) = outcome {
            let job = bed.claim(&w, &["fast"], 1).await.pop().unwrap_or_else(|| claimed[1].clone());
            bed.settle(&w, &job, outcome).await;
            if bed.state(&id).await == JobState::Scheduled {
                bed.poke(&["ZADD", &bed.key("s:mail"), "10", &id]).await;
                bed.poke(&["ZADD", &bed.key("n"), "1", "mail"]).await;
            }
        }
        assert!(matches!(bed.put(keyed("newer", "k")).await, Enqueued::Duplicate { .. }));
    }
    let total: u64 = bed.queue.stats().await.unwrap().lanes[0].types.iter().map(|t| t.enqueued_total).sum();
    assert_eq!(total, 2, "what was replaced counts once");
}

#[tokio::test]
async fn pairs_of_one_call_mean_what_they_would_one_after_the_other() {
    let bed = with_policy(|policy| {
        policy["jobTypes"]["mail"]["onConflict"] = json!("Replace");
        policy["jobTypes"]["report"]["onConflict"] = json!("Reject");
    })
    .await;
    let before = bed.accept(keyed("0", "older")).await;
    let report = |payload: &str| NewJob {
        payload: payload.into(),
        ..with(job("report", ""), |o| o.key = Some("r".into()))
    };
    let calls = [
        keyed("1", "k"),
        with(keyed("2", "k"), |o| (o.priority, o.delay) = (Some(2), Some(60_000))),
        keyed("3", "older"),
        keyed("4", "older"),
        report("a"),
        report("b"),
        with(job("mail", "5"), |o| o.id = Some("mine".into())),
        with(keyed("6", "k"), |o| o.id = Some("mine".into())),
    ];
    let outcomes = bed.queue.enqueue(&calls).await.unwrap();
    let Enqueued::Accepted { id, state: JobState::Ready } = &outcomes[0] else { panic!("{outcomes:?}") };
    let Enqueued::Accepted { id: first, .. } = &outcomes[4] else { panic!("{outcomes:?}") };
    assert_eq!(outcomes[1], Enqueued::Replaced { id: id.clone(), state: JobState::Scheduled });
    let again = Enqueued::Replaced { id: before.clone(), state: JobState::Ready };
    assert_eq!((&outcomes[2], &outcomes[3]), (&again, &again));
    let Enqueued::Rejected { reason, message } = &outcomes[5] else { panic!("{outcomes:?}") };
    assert!(reason == "key-conflict" && message.contains(first), "{message}");
    assert_eq!(outcomes[7], Enqueued::Duplicate { id: "mine".into(), state: JobState::Ready });
    let (replaced, older) = (bed.job(id).await, bed.job(&before).await);
    assert_eq!(
        (replaced.payload.as_deref(), replaced.priority, replaced.state),
        (Some(b"2".as_slice()), 2, JobState::Scheduled)
    );
    assert_eq!(older.payload.unwrap(), b"4");
    let total: u64 = bed.queue.stats().await.unwrap().lanes[0].types.iter().map(|t| t.enqueued_total).sum();
    assert_eq!(total, 3, "what was replaced counts once");
}

#[tokio::test]
async fn debounced_jobs_wait_for_quiet_but_not_for_ever() {
    let bed = with_policy(|policy| {
        policy["jobTypes"]["mail"]["onConflict"] = json!("Replace");
        policy["jobTypes"]["mail"]["debounce"] = json!({"waitMs": 10_000, "mostMs": 10_200});
    })
    .await;
    let id = bed.accept(keyed("1", "k")).await;
    let first = bed.job(&id).await;
    assert_eq!((first.state, first.due_ms - first.enqueued_ms), (JobState::Scheduled, 10_000));
    let mut due = first.due_ms;
    for _ in 0..3 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let again = bed.put(keyed("2", "k")).await;
        assert_eq!(again, Enqueued::Replaced { id: id.clone(), state: JobState::Scheduled });
        let job = bed.job(&id).await;
        assert!(job.due_ms >= due && job.due_ms <= first.enqueued_ms + 10_200, "{} {due}", job.due_ms);
        assert_eq!(job.enqueued_ms, first.enqueued_ms);
        due = job.due_ms;
    }
    assert_eq!(due, first.enqueued_ms + 10_200);
    let at_once = bed.accept(with(keyed("3", "now"), |o| o.delay = Some(0))).await;
    assert_eq!(bed.state(&at_once).await, JobState::Ready, "a delay that is given stands");
}

#[tokio::test]
async fn a_call_that_would_bring_too_many_jobs_is_refused_as_a_whole() {
    let bed = Bed::new().await;
    let w = worker("w");
    bed.queue.enqueue_all(&vec![job("mail", "x"); 5]).await.unwrap();
    let claimed = bed.claim(&w, &["fast"], 5).await;
    let many = || success_with((0..90).map(|n| follow("report", &n.to_string())).collect());
    let words: Vec<Settlement> = claimed.iter().map(|job| settlement(job, many())).collect();
    let refused = bed.queue.settle(&w, &words).await.unwrap_err();
    assert!(refused.to_string().contains("may enqueue 200 jobs"), "{refused}");
    assert_eq!(bed.state(&claimed[0].id).await, JobState::Running, "nothing changed");
    for pair in words.chunks(2) {
        assert!(bed.queue.settle(&w, pair).await.unwrap().iter().all(|settled| *settled == Settled::Done));
    }
    let reports: u64 = bed.raw(&["ZCARD", &bed.key("q:report")]).await.unwrap();
    assert_eq!(reports, 450);
}

#[tokio::test]
async fn every_death_is_told_also_of_long_ids_and_of_ids_used_again() {
    // An id may be used again when the record is gone.
    let bed = with_policy(|policy| {
        policy["jobTypes"]["mail"]["onDead"] = json!({"type": "report"});
        policy["jobTypes"]["mail"]["dead"] = json!({"keepReviewedForMs": 0});
    })
    .await;
    let w = worker("w");
    let mut told = 0;
    for id in ["x".repeat(101) + "1", "x".repeat(101) + "2", "again".into(), "again".into()] {
        let claimed = bed.running(&w, with(job("mail", "{}"), |o| o.id = Some(id.clone()))).await;
        bed.settle(&w, &claimed, dead("no")).await;
        for news in bed.claim(&w, &["slow"], 5).await {
            told += 1;
            bed.settle(&w, &news, success()).await;
        }
        bed.queue.dead_discard(&[id], "me", "").await.unwrap();
        bed.queue.sweep(&w, 10).await.unwrap();
    }
    assert_eq!(told, 4);
}

#[tokio::test]
async fn a_follow_up_whose_key_has_an_owner_that_lets_nobody_in_is_told() {
    let bed = with_policy(|policy| policy["jobTypes"]["report"]["onConflict"] = json!("Reject")).await;
    let w = worker("w");
    let of_key = |payload: &str| with(job("report", payload), |options| options.key = Some("k".into()));
    let owner = bed.accept(of_key("first")).await;
    let claimed = bed.running(&w, job("reset", "x")).await;
    let settled = bed.settle(&w, &claimed, success_with(vec![of_key("second")])).await;
    let Settled::Refused { why } = settled else { panic!("{settled:?}") };
    assert!(why.contains("key-conflict") && why.contains(&owner), "{why}");
    assert_eq!(bed.state(&claimed.id).await, JobState::Running);
}

#[tokio::test]
async fn ends_bring_their_jobs_also_where_events_cannot_be_written() {
    let bed = with_policy(|policy| policy["jobTypes"]["mail"]["onDead"] = json!({"type": "report"})).await;
    let w = worker("w");
    let jobs = [bed.running(&w, job("mail", "dies")).await, bed.running(&w, job("reset", "asks")).await];
    bed.poke(&["DEL", &bed.key("e")]).await;
    bed.poke(&["SET", &bed.key("e"), "someone else's"]).await;
    let done = [
        settlement(&jobs[0], dead("broken")),
        settlement(&jobs[1], success_with(vec![follow("report", "1")])),
    ];
    assert_eq!(bed.queue.settle(&w, &done).await.unwrap(), [Settled::Done, Settled::Done]);
    assert_eq!(bed.claim(&w, &["slow"], 9).await.len(), 2, "the follow-up and the news of the death");
}

#[tokio::test]
async fn a_follow_up_with_an_id_meets_the_owner_of_its_key_unless_its_job_is_there() {
    let bed = with_policy(|policy| policy["jobTypes"]["report"]["onConflict"] = json!("Reject")).await;
    let w = worker("w");
    let of_key =
        |id: &str| with(job("report", "x"), |o| (o.key, o.id) = (Some("k".into()), Some(id.to_owned())));
    bed.accept(of_key("there")).await;
    let claimed = bed.running(&w, job("reset", "x")).await;
    let refused = bed.settle(&w, &claimed, success_with(vec![of_key("fresh")])).await;
    assert!(matches!(refused, Settled::Refused { .. }), "{refused:?}");
    assert_eq!(bed.settle(&w, &claimed, success_with(vec![of_key("there")])).await, Settled::Done);
    // Nor does one whose id an earlier one of the answer has.
    let claimed = bed.running(&w, job("reset", "y")).await;
    let first = with(follow("mail", "x"), |options| options.id = Some("fresh".into()));
    assert_eq!(bed.settle(&w, &claimed, success_with(vec![first, of_key("fresh")])).await, Settled::Done);
}

#[tokio::test]
async fn of_two_follow_ups_of_one_call_that_share_a_key_none_is_lost() {
    let bed = with_policy(|policy| policy["jobTypes"]["report"]["onConflict"] = json!("Reject")).await;
    let w = worker("w");
    let keyed = |payload: &str| with(follow("report", payload), |o| o.key = Some("k".into()));
    let twice = bed.running(&w, job("mail", "x")).await;
    let settled = bed.settle(&w, &twice, success_with(vec![keyed("1"), keyed("2")])).await;
    let Settled::Refused { why } = settled else { panic!("{settled:?}") };
    assert!(why.starts_with("number 2: rejected:key-conflict") && why.contains("same answers"), "{why}");

    let other = bed.running(&w, job("mail", "y")).await;
    let done = [&twice, &other].map(|job| settlement(job, success_with(vec![keyed("3")])));
    let settled = bed.queue.settle(&w, &done).await.unwrap();
    assert!(matches!(settled.as_slice(), [Settled::Done, Settled::Refused { .. }]), "{settled:?}");

    // What is the same job by its id is a duplicate, as in an enqueue, and one that was refused takes no key.
    let same = || with(keyed("4"), |o| (o.id, o.key) = (Some("one".into()), Some("l".into())));
    assert_eq!(bed.settle(&w, &other, success_with(vec![same(), same()])).await, Settled::Done);
}

#[tokio::test]
async fn news_whose_key_has_an_owner_that_lets_nobody_in_are_told_to_be_lost() {
    let bed = with_policy(|policy| {
        policy["jobTypes"]["mail"]["onDead"] = json!({"type": "report"});
        policy["jobTypes"]["report"]["onConflict"] = json!("Reject");
        policy["jobTypes"]["report"]["key"] = json!([{"text": "news"}]);
    })
    .await;
    let w = worker("w");
    let first = bed.running(&w, job("mail", "x")).await;
    let second = bed.running(&w, job("mail", "y")).await;
    let done = [&first, &second].map(|job| settlement(job, self::dead("no")));
    assert_eq!(bed.queue.settle(&w, &done).await.unwrap(), [Settled::Done, Settled::Done]);
    assert_eq!(bed.claim(&w, &["slow"], 9).await.len(), 1);
    let events = bed.queue.events(None, 100).await.unwrap();
    let lost: Vec<_> = events.iter().filter(|event| event.kind == "news-lost").collect();
    assert_eq!(lost.len(), 1, "{events:?}");
    assert_eq!((lost[0].job.as_deref(), lost[0].name.as_deref()), (Some(second.id.as_str()), Some("mail")));
    assert!(lost[0].detail.as_deref().unwrap().contains("has the idempotency key"), "{lost:?}");
}
