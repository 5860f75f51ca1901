//! Dead letters: fingerprints, lists and counts.
#![allow(unreachable_pub, reason = "a module of one test binary")]

use std::collections::{BTreeMap, BTreeSet};

use super::common::*;
use lanekeeper_queue::types::*;

fn dead_of(class: ErrorClass, code: &str, message: &str) -> Outcome {
    Outcome::Dead {
        reason: DeadReason::PermanentError,
        error: AttemptError { class, code: code.into(), message: message.into() },
        spends: Spends::Try,
    }
}

/// A job that died of that; its id.
pub async fn died(bed: &Bed, job: NewJob, message: &str) -> String {
    let w = worker("w-dead");
    let job = bed.running(&w, job).await;
    let word = dead_of(ErrorClass::Permanent, "HttpStatus", message);
    assert_eq!(bed.settle(&w, &job, word).await, Settled::Done);
    job.id
}

/// Many that died at once; their ids.
pub async fn many(
    bed: &Bed,
    job_type: &str,
    lane: &str,
    count: usize,
    message: impl Fn(usize) -> String,
) -> Vec<String> {
    let w = worker("w-dead");
    let mut all = Vec::new();
    while all.len() < count {
        let batch = (count - all.len()).min(200);
        bed.queue.enqueue(&vec![job(job_type, "x"); batch]).await.unwrap();
        let jobs = bed.claim(&w, &[lane], 200).await;
        assert_eq!(jobs.len(), batch);
        let word = |n: usize| dead_of(ErrorClass::Permanent, "HttpStatus", &message(all.len() + n));
        let done: Vec<Settlement> =
            jobs.iter().enumerate().map(|(n, job)| settlement(job, word(n))).collect();
        bed.queue.settle(&w, &done).await.unwrap();
        all.extend(jobs.into_iter().map(|job| job.id));
    }
    all
}

pub async fn ids_of(bed: &Bed, filter: &DeadFilter, limit: u32) -> Vec<String> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = bed.queue.dead_ids(filter, limit, cursor.as_deref()).await.unwrap();
        assert!(page.ids.len() <= limit as usize);
        all.extend(page.ids);
        cursor = page.cursor;
        if cursor.is_none() {
            return all;
        }
    }
}

pub async fn groups(bed: &Bed, filter: &DeadFilter) -> Vec<DeadGroup> {
    bed.queue.dead_groups(filter, |_| {}).await.unwrap()
}

#[tokio::test]
async fn errors_that_differ_in_numbers_ids_and_quotes_have_one_fingerprint() {
    let bed = Bed::new().await;
    let mut prints = BTreeMap::new();
    for (kind, message) in [
        ("user", "no user 42"),
        ("user", "no user 7"),
        ("quoted", "can't open '/tmp/a' of \"anna\""),
        ("quoted", "can't open '/x' of \"b\""),
        ("id", "job 01KAB3XYZ9QRST is 6f1b2c3d-aaaa-bbbb-cccc-ddddeeeeffff"),
        ("id", "job 01KAB3XYZ9QRSU is 0f1b2c3d-aaaa-bbbb-cccc-ddddeeeefff0"),
        ("address", "10.0.0.1:6379 refused\nit"),
        ("address", "192.168.17.254:80 refused it"),
        ("letters", "no uzer 42"),
        ("long letters", "connection refused"),
        ("other long letters", "connection forgotten"),
    ] {
        let id = died(&bed, job("mail", "x"), message).await;
        let print = bed.job(&id).await.fingerprint.expect("the dead have one");
        assert!(print.len() == 12 && print.bytes().all(|b| b.is_ascii_hexdigit()), "{print}");
        assert_eq!(prints.entry(kind).or_insert_with(|| print.clone()), &print, "{message}");
    }
    let distinct: BTreeSet<&String> = prints.values().collect();
    assert_eq!(distinct.len(), prints.len(), "{prints:?}");
    // Class and code tell errors apart too.
    let w = worker("w");
    for (class, code) in [(ErrorClass::Transient, "HttpStatus"), (ErrorClass::Permanent, "ExitCode")] {
        let job = bed.running(&w, job("mail", "x")).await;
        bed.settle(&w, &job, dead_of(class, code, "no user 42")).await;
        assert!(!distinct.contains(&bed.job(&job.id).await.fingerprint.unwrap()));
    }
    let alive = bed.accept(job("mail", "x")).await;
    let alive = bed.job(&alive).await;
    assert_eq!((alive.fingerprint, alive.review), (None, None));
}

#[tokio::test]
async fn lists_filter_by_lane_type_error_state_time_and_key() {
    let bed = Bed::new().await;
    let keyed = |key: &str| with(job("mail", "x"), |o| o.key = Some(key.into()));
    let a = died(&bed, keyed("email:7:welcome"), "no user 1").await;
    bed.tick().await;
    let b = died(&bed, job("report", "x"), "no user 2").await;
    bed.tick().await;
    let c = died(&bed, keyed("email:8:bye"), "boom").await;
    bed.tick().await;
    let d = died(&bed, job("reset", "x"), "no user 3").await;
    bed.queue.dead_ack(&[b.clone()], "anna", "").await.unwrap();
    let print = bed.job(&a).await.fingerprint;
    let at = bed.job(&c).await.finished_ms;
    let filter = DeadFilter::default;
    let cases: Vec<(DeadFilter, Vec<&String>)> = vec![
        (filter(), vec![&d, &c, &b, &a]),
        (DeadFilter { oldest_first: true, ..filter() }, vec![&a, &b, &c, &d]),
        (DeadFilter { lane: Some("fast".into()), ..filter() }, vec![&d, &c, &a]),
        (DeadFilter { lane: Some("nope".into()), ..filter() }, vec![]),
        (DeadFilter::of_type(Some("mail")), vec![&c, &a]),
        (DeadFilter { fingerprint: print.clone(), ..filter() }, vec![&d, &b, &a]),
        (
            DeadFilter { fingerprint: print, oldest_first: true, ..DeadFilter::of_type(Some("mail")) },
            vec![&a],
        ),
        (DeadFilter { state: Some(ReviewState::Open), ..filter() }, vec![&d, &c, &a]),
        (DeadFilter { state: Some(ReviewState::Acknowledged), ..filter() }, vec![&b]),
        (DeadFilter { state: Some(ReviewState::Discarded), ..filter() }, vec![]),
        (DeadFilter { since_ms: at, ..filter() }, vec![&d, &c]),
        (DeadFilter { until_ms: at, ..filter() }, vec![&c, &b, &a]),
        (DeadFilter { since_ms: at, oldest_first: true, ..filter() }, vec![&c, &d]),
        (DeadFilter { until_ms: at, oldest_first: true, ..filter() }, vec![&a, &b, &c]),
        (DeadFilter { since_ms: at, until_ms: at, ..filter() }, vec![&c]),
        (DeadFilter { key: Some("email:*".into()), ..filter() }, vec![&c, &a]),
        (DeadFilter { key: Some("*:welcome".into()), ..filter() }, vec![&a]),
        (DeadFilter { key: Some("e*a*l:*:*e".into()), ..filter() }, vec![&c, &a]),
        (DeadFilter { key: Some("email:7:welcome".into()), ..filter() }, vec![&a]),
        (DeadFilter { key: Some("email".into()), ..filter() }, vec![]),
        (DeadFilter { key: Some("email:7*7:welcome".into()), ..filter() }, vec![]),
    ];
    for (filter, expected) in cases {
        for limit in [1, 200] {
            assert_eq!(ids_of(&bed, &filter, limit).await.iter().collect::<Vec<_>>(), expected, "{filter:?}");
        }
        let shown = bed.queue.dead_list(&filter, 200, None).await.unwrap();
        assert_eq!(shown.jobs.iter().map(|job| &job.id).collect::<Vec<_>>(), expected, "{filter:?}");
        let counted: u64 = groups(&bed, &filter).await.iter().map(|group| group.count).sum();
        assert_eq!(counted, expected.len() as u64, "{filter:?}");
    }
    let by_error = groups(&bed, &DeadFilter::of_type(Some("mail"))).await;
    assert_eq!(by_error.len(), 2);
    let first = by_error.iter().find(|group| group.example == a).expect("one died of a's error");
    assert_eq!((first.count, first.first_ms, first.last_ms), (1, first.first_ms, first.first_ms));
}

#[tokio::test]
async fn filters_that_make_no_sense_are_refused() {
    let bed = Bed::new().await;
    let root = bed.queue.name().root();
    let long = format!(r#"{{"key":"{}"}}"#, "x".repeat(513));
    for filter in [
        "x",
        "7",
        r#"{"lane":7}"#,
        r#"{"since":"7"}"#,
        r#"{"lanes":"a"}"#,
        r#"{"state":"dead"}"#,
        "[1]",
        "null",
        &long,
    ] {
        let refused =
            bed.raw::<redis::Value>(&["FCALL", "lk_dead_list", "1", &root, filter, "ids", "1", ""]).await;
        assert_eq!(refused.expect_err(filter).code(), Some("LKARGS"), "{filter}");
    }
    for limit in ["0", "x", "nan"] {
        let refused =
            bed.raw::<redis::Value>(&["FCALL", "lk_dead_list", "1", &root, "", "ids", limit, ""]).await;
        assert_eq!(refused.expect_err(limit).code(), Some("LKARGS"), "{limit}");
    }
}

/// None is dropped, none comes twice, and no call takes long.
#[tokio::test]
async fn fifty_thousand_are_listed_and_counted_by_bounded_calls() {
    const MANY: usize = 50_000;
    let bed = Bed::new().await;
    let mut all: BTreeSet<String> =
        many(&bed, "mail", "fast", MANY - 100, |n| format!("{} 1", ["a", "b"][n % 2]))
            .await
            .into_iter()
            .collect();
    all.extend(many(&bed, "report", "slow", 100, |_| "rare".into()).await);
    assert_eq!(all.len(), MANY);
    bed.poke(&["CONFIG", "RESETSTAT"]).await;
    for filter in [DeadFilter::default(), DeadFilter { lane: Some("fast".into()), ..DeadFilter::default() }] {
        let listed = ids_of(&bed, &filter, 200).await;
        let once: BTreeSet<String> = listed.iter().cloned().collect();
        let expected = if filter.lane.is_some() { MANY - 100 } else { MANY };
        assert_eq!((listed.len(), once.len()), (expected, expected), "{filter:?}");
        assert!(once.is_subset(&all));
    }
    let rare = groups(&bed, &DeadFilter::default()).await;
    assert_eq!(rare.iter().map(|group| group.count).collect::<Vec<_>>(), [24_950, 24_950, 100]);
    let print = rare[2].fingerprint.clone();
    let found = ids_of(&bed, &DeadFilter { fingerprint: Some(print), ..DeadFilter::default() }, 200).await;
    assert_eq!(found.len(), 100);
    let stats: String = bed.raw(&["INFO", "commandstats"]).await.unwrap();
    let line = stats.lines().find(|line| line.starts_with("cmdstat_fcall_ro")).expect("it was called");
    let per_call: f64 =
        line.split("usec_per_call=").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert!(per_call < 20_000.0, "a call took {per_call} µs on average");
}
