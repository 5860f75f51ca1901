//! Concurrency keys that come to a type, and that leave it: what stands in no line, and what is left behind.

use super::common::*;
use lanekeeper_api::policy::{ConcurrencyKey, KeyPart, LimitBy, OnConflict, QueuePolicy, RateLimit};
use lanekeeper_queue::types::*;

pub(super) fn keyed(limit: u32) -> impl Fn(&mut QueuePolicy) {
    move |policy| {
        let rate_limit = Some(RateLimit { limit: 1_000, per_ms: 1, burst: None, by: None });
        policy.job_types.get_mut("mail").unwrap().concurrency_key = Some(ConcurrencyKey {
            key: vec![KeyPart::Path(vec!["v".into()])],
            limit: Some(limit),
            rate_limit,
        });
    }
}

pub(super) fn of(vendor: &str) -> NewJob {
    job("mail", format!(r#"{{"v":"{vendor}"}}"#))
}

/// Keys of groups, but for the one that tells of which group a job is.
async fn left(bed: &Bed) -> Vec<String> {
    bed.raw(&["KEYS", &bed.key("y?*:*")]).await.unwrap()
}

#[tokio::test]
async fn a_type_that_loses_its_key_forgets_its_groups() {
    let mut bed = Bed::with(keyed(1)).await;
    let w = worker("w");
    for vendor in ["a", "a", "b", "c"] {
        bed.accept(of(vendor)).await;
    }
    let running = bed.claim(&w, &["fast"], 2).await;
    let held = Outcome::Snooze { delay_ms: 60_000, why: "429".into(), holds: Holds::Key };
    bed.settle(&w, &running[1], held).await;
    let before = left(&bed).await.len();
    assert!(before >= 5, "running, arrivals, holds, turns, aside: {before}");
    bed.change(|policy| policy.job_types.get_mut("mail").unwrap().concurrency_key = None).await;
    assert!(left(&bed).await.is_empty(), "{:?}", left(&bed).await);
    let lines: Vec<String> = bed.raw(&["KEYS", &bed.key("y:*")]).await.unwrap();
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(bed.claim(&w, &["fast"], 9).await.len(), 2, "no bounds any more");
}

#[tokio::test]
async fn groups_are_forgotten_once_they_say_nothing_any_more() {
    let bed = Bed::still(|policy| {
        let by = LimitBy { path: vec!["tier".into()], limits: [("high".into(), 2)].into() };
        let rate_limit = Some(RateLimit { limit: 1, per_ms: 1_000, burst: None, by: Some(by) });
        policy.job_types.get_mut("mail").unwrap().concurrency_key =
            Some(ConcurrencyKey { key: vec![KeyPart::Path(vec!["v".into()])], limit: None, rate_limit });
    })
    .await;
    let w = worker("w");
    let tiered = |vendor: &str| job("mail", format!(r#"{{"v":"{vendor}","tier":"high"}}"#));
    let kept = async || {
        let mut sizes = Vec::new();
        for suffix in ["ya:mail", "yh:mail", "yc:mail"] {
            sizes.push(bed.raw::<u64>(&["HLEN", &bed.key(suffix)]).await.unwrap());
        }
        sizes
    };
    let running = bed.running(&w, tiered("a")).await;
    let held = bed.running(&w, tiered("b")).await;
    bed.accept(tiered("b")).await;
    let patience = Outcome::Snooze { delay_ms: 700, why: "429".into(), holds: Holds::Key };
    bed.settle(&w, &held, patience).await;
    assert_eq!(kept().await, [2, 1, 2]);
    // The arrival is a whole interval ahead, half a second for this class; `a` runs, of `b` one waits in line.
    for (ms, left) in [(499, [2, 1, 2]), (500, [0, 1, 2]), (699, [0, 1, 2]), (700, [0, 0, 2])] {
        bed.at(ms).await;
        bed.queue.sweep(&w, 10).await.unwrap();
        assert_eq!(kept().await, left, "after {ms} ms");
    }
    bed.settle(&w, &running, success()).await;
    bed.queue.sweep(&w, 10).await.unwrap();
    assert_eq!(kept().await, [0, 0, 1], "nothing is known of a any more");
    let again = bed.claim(&w, &["fast"], 9).await;
    assert_eq!(again.len(), 2, "as many as its class may");
    for job in &again {
        bed.settle(&w, job, success()).await;
    }
    bed.at(1_699).await;
    bed.queue.sweep(&w, 10).await.unwrap();
    assert_eq!(kept().await, [1, 0, 1], "its rate is in force still");
    bed.at(1_700).await;
    bed.queue.sweep(&w, 10).await.unwrap();
    assert_eq!(kept().await, [0, 0, 0]);
}

#[tokio::test]
async fn the_class_of_a_scheduled_job_outlives_sweeps() {
    let bed = Bed::still(|policy| {
        let by = LimitBy { path: vec!["tier".into()], limits: [("high".into(), 2)].into() };
        let rate_limit = Some(RateLimit { limit: 1, per_ms: 60_000, burst: None, by: Some(by) });
        policy.job_types.get_mut("mail").unwrap().concurrency_key =
            Some(ConcurrencyKey { key: vec![KeyPart::Path(vec!["v".into()])], limit: None, rate_limit });
    })
    .await;
    let later = || with(job("mail", r#"{"v":"a","tier":"high"}"#), |o| o.delay = Some(1_000));
    bed.queue.enqueue(&[later(), later()]).await.unwrap();
    bed.queue.sweep(&worker("s"), 10).await.unwrap();
    bed.at(1_000).await;
    assert_eq!(bed.claim(&worker("w"), &["fast"], 9).await.len(), 2, "two of its class may go at once");
}

#[tokio::test]
async fn grouped_jobs_that_are_called_off_or_put_off_leave_their_line() {
    let bed = Bed::with(|policy| {
        keyed(9)(policy);
        policy.job_types.get_mut("mail").unwrap().on_conflict = OnConflict::Replace;
    })
    .await;
    let once = |delay| with(of("a"), |o| (o.key, o.delay) = (Some("k".into()), delay));
    let put_off = bed.accept(once(None)).await;
    assert!(matches!(bed.put(once(Some(60_000))).await, Enqueued::Replaced { .. }));
    let called_off = bed.accept(of("b")).await;
    bed.queue.cancel(&[called_off], "ops").await.unwrap();
    assert_eq!(bed.state(&put_off).await, JobState::Scheduled);
    let lines: Vec<String> = bed.raw(&["KEYS", &bed.key("y:*")]).await.unwrap();
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(bed.raw::<u64>(&["EXISTS", &bed.key("yt:mail")]).await.unwrap(), 0);
    // And back into line.
    assert!(matches!(bed.put(once(None)).await, Enqueued::Replaced { .. }));
    assert_eq!(ids(&bed.claim(&worker("w"), &["fast"], 9).await), [put_off]);
}

#[tokio::test]
async fn a_job_that_damage_put_into_two_lines_is_handed_out_once() {
    let bed = Bed::with(keyed(9)).await;
    let twice = bed.accept(of("a")).await;
    let behind = bed.accept(of("b")).await;
    bed.poke(&["ZADD", &bed.key("y:mail:b"), "1", &twice]).await;
    let mut got: Vec<String> =
        bed.claim(&worker("w"), &["fast"], 9).await.into_iter().map(|job| job.id).collect();
    got.sort();
    assert_eq!(got, [twice, behind]);
    assert!(bed.claim(&worker("w"), &["fast"], 9).await.is_empty(), "it stands in no line any more");
}

#[tokio::test]
async fn sweeps_find_nothing_wrong_with_groups_that_go_or_stand_aside() {
    let bed = Bed::with(keyed(1)).await;
    let w = worker("w");
    for vendor in ["a", "a", "b", "b", "c"] {
        bed.accept(of(vendor)).await;
    }
    bed.claim(&w, &["fast"], 2).await;
    let standing = async || {
        let mut all = Vec::new();
        for key in ["yt:mail", "yp:mail", "y:mail:a", "y:mail:b", "y:mail:c"] {
            all.push(
                bed.raw::<Vec<String>>(&["ZRANGE", &bed.key(key), "0", "-1", "WITHSCORES"]).await.unwrap(),
            );
        }
        all
    };
    let before = standing().await;
    for _ in 0..3 {
        bed.queue.sweep(&w, 100).await.unwrap();
    }
    assert_eq!((standing().await, bed.queue.stats().await.unwrap().damaged), (before, 0));
}

#[tokio::test]
async fn only_jobs_of_the_type_count_in_its_groups() {
    let mut bed = Bed::new().await;
    let w = worker("w");
    for kind in ["mail", "mail", "reset", "report"] {
        bed.accept(job(kind, r#"{"v":"a"}"#)).await;
    }
    assert_eq!(bed.claim(&w, &["fast", "slow"], 9).await.len(), 4);
    bed.change(keyed(1)).await;
    let running: std::collections::BTreeMap<String, u64> =
        bed.raw(&["HGETALL", &bed.key("yr:mail")]).await.unwrap();
    assert_eq!(running, [(String::new(), 2)].into(), "nobody knows yet which group they are of");
    bed.queue.sweep(&w, 10).await.unwrap();
    let running: std::collections::BTreeMap<String, u64> =
        bed.raw(&["HGETALL", &bed.key("yr:mail")]).await.unwrap();
    assert_eq!(running, [(String::new(), 0), ("a".to_owned(), 2)].into());
}

#[tokio::test]
async fn a_key_that_a_sweep_finds_at_its_limit_stands_aside_until_its_job_ends() {
    let mut bed = Bed::new().await;
    let w = worker("w");
    let running = bed.running(&w, of("a")).await;
    bed.change(keyed(1)).await;
    // Nobody knows yet that one of `a` runs.
    let behind = bed.accept(of("a")).await;
    bed.queue.sweep(&w, 100).await.unwrap();
    let first = bed.accept(of("b")).await;
    bed.settle(&w, &running, success()).await;
    let got = [bed.claim(&w, &["fast"], 1).await, bed.claim(&w, &["fast"], 1).await].concat();
    assert_eq!(ids(&got), [first, behind]);
}

#[tokio::test]
async fn a_count_of_a_group_that_is_wrong_is_counted_anew() {
    let bed = Bed::with(keyed(2)).await;
    let w = worker("w");
    for vendor in ["a", "a", "a", "b"] {
        bed.accept(of(vendor)).await;
    }
    assert_eq!(bed.claim(&w, &["fast"], 9).await.len(), 3);
    let counts = async || {
        bed.raw::<std::collections::BTreeMap<String, u64>>(&["HGETALL", &bed.key("yr:mail")]).await.unwrap()
    };
    let right = counts().await;
    for (group, count) in [("a", "7"), ("b", "0"), ("c", "1")] {
        bed.poke(&["HSET", &bed.key("yr:mail"), group, count]).await;
        bed.queue.sweep(&w, 10).await.unwrap();
        assert_eq!(counts().await, right, "{group}");
    }
    assert!(bed.claim(&w, &["fast"], 9).await.is_empty());
}

#[tokio::test]
async fn a_key_without_a_rate_is_told_of_without_one() {
    let bed = Bed::with(|policy| {
        keyed(1)(policy);
        policy.job_types.get_mut("mail").unwrap().concurrency_key.as_mut().unwrap().rate_limit = None;
    })
    .await;
    bed.accept(of("a")).await;
    let second = bed.accept(of("a")).await;
    let standing = bed.queue.key_standing(&second).await.unwrap().unwrap();
    assert_eq!((standing.ahead, standing.limit, standing.rate_opens_ms), (1, Some(1), None));
}

#[tokio::test]
async fn a_job_that_cannot_be_read_takes_no_place_of_its_group() {
    let bed = Bed::with(keyed(1)).await;
    let w = worker("w");
    let junk = bed.accept(of("a")).await;
    let good = bed.accept(of("a")).await;
    bed.poke(&["HSET", &bed.key("j"), &junk, "junk"]).await;
    assert_eq!(ids(&bed.claim(&w, &["fast"], 9).await), [good]);
    // A type without waiting jobs stands in no other's way.
    bed.accept(job("reset", "x")).await;
    bed.accept(job("limited", "x")).await;
    assert_eq!(bed.claim(&w, &["fast"], 9).await.len(), 2);
}

#[tokio::test]
async fn a_job_that_was_replaced_while_its_type_had_no_key_forgets_its_group() {
    let replaces = |policy: &mut QueuePolicy| {
        policy.job_types.get_mut("mail").unwrap().on_conflict = OnConflict::Replace;
    };
    let mut bed = Bed::with(|policy| {
        keyed(9)(policy);
        replaces(policy);
    })
    .await;
    let once = |group: &str| with(of(group), |o| o.key = Some("k".into()));
    let id = bed.accept(once("a")).await;
    bed.change(|policy| policy.job_types.get_mut("mail").unwrap().concurrency_key = None).await;
    assert!(matches!(bed.put(once("b")).await, Enqueued::Replaced { .. }));
    bed.change(keyed(9)).await;
    bed.queue.sweep(&worker("s"), 100).await.unwrap();
    let group: Option<String> = bed.raw(&["HGET", &bed.key("yg"), &id]).await.unwrap();
    assert_ne!(group.as_deref(), Some("a"));
}

#[tokio::test]
async fn when_the_keys_of_all_jobs_are_lost_every_one_is_looked_at_at_once() {
    let bed = Bed::with(keyed(9)).await;
    let w = worker("w");
    let jobs: Vec<_> = (0..300).map(|n| of(&format!("v{n}"))).collect();
    for some in jobs.chunks(100) {
        bed.queue.enqueue(some).await.unwrap();
    }
    bed.poke(&["DEL", &bed.key("yg")]).await;
    // A sweep looks at a few at random; what it finds makes it go through them all.
    for _ in 0..3 {
        bed.queue.sweep(&w, 100).await.unwrap();
    }
    assert_eq!(bed.raw::<u64>(&["HLEN", &bed.key("yg")]).await.unwrap(), 300);
}

#[tokio::test]
async fn a_key_that_a_wrong_count_set_aside_goes_once_that_is_right() {
    let bed = Bed::with(keyed(1)).await;
    let w = worker("w");
    bed.running(&w, of("b")).await;
    let waiting = bed.accept(of("a")).await;
    // As if one of its jobs ran.
    bed.poke(&["HSET", &bed.key("yr:mail"), "a", "1"]).await;
    bed.poke(&["ZREM", &bed.key("yt:mail"), "a"]).await;
    bed.poke(&["ZADD", &bed.key("yp:mail"), "+inf", "a"]).await;
    assert!(bed.claim(&w, &["fast"], 9).await.is_empty());
    bed.queue.sweep(&w, 10).await.unwrap();
    let got = bed.claim(&w, &["fast"], 9).await;
    assert_eq!(got.iter().map(|job| &job.id).collect::<Vec<_>>(), [&waiting]);
}
