//! As many concurrency keys, or leases, as customers: no call goes through them all, and nothing of them stays behind.

use super::common::*;
use lanekeeper_api::policy::{ConcurrencyKey, KeyPart, LimitBy, QueuePolicy, RateLimit};
use lanekeeper_queue::types::*;

fn path(field: &str) -> Vec<String> {
    vec![field.into()]
}

fn keyed(limit: Option<u32>, rate_limit: Option<RateLimit>) -> impl Fn(&mut QueuePolicy) {
    move |policy| {
        policy.job_types.get_mut("mail").unwrap().concurrency_key = Some(ConcurrencyKey {
            key: vec![KeyPart::Path(path("v"))],
            limit,
            rate_limit: rate_limit.clone(),
        });
    }
}

fn of(vendor: usize) -> NewJob {
    job("mail", format!(r#"{{"v":"{vendor}","t":"x"}}"#))
}

async fn accept_all(bed: &Bed, jobs: Vec<NewJob>) {
    for some in jobs.chunks(200) {
        assert!(
            bed.queue.enqueue(some).await.unwrap().iter().all(|e| matches!(e, Enqueued::Accepted { .. }))
        );
    }
}

async fn count(bed: &Bed, command: &str, key: &str) -> usize {
    bed.raw(&[command, &bed.key(key)]).await.unwrap()
}

async fn keys(bed: &Bed, pattern: &str) -> usize {
    bed.raw::<Vec<String>>(&["KEYS", &bed.key(pattern)]).await.unwrap().len()
}

#[tokio::test]
async fn all_keys_that_stand_aside_are_judged_anew_by_the_next_claims() {
    let mut bed = Bed::still(keyed(Some(1), None)).await;
    let w = worker("w");
    accept_all(&bed, (0..300).flat_map(|n| [of(n), of(n)]).collect()).await;
    for _ in 0..3 {
        assert_eq!(bed.claim(&w, &["fast"], 100).await.len(), 100);
    }
    assert!(bed.claim(&w, &["fast"], 100).await.is_empty());
    bed.change(keyed(Some(2), None)).await;
    assert_eq!(count(&bed, "ZCARD", "yp:mail").await, 300, "the policy's call left that to claims");
    let mut got = 0;
    for _ in 0..10 {
        got += bed.claim(&w, &["fast"], 100).await.len();
    }
    assert_eq!(got, 300);
    let flag: Option<String> = bed.raw(&["HGET", &bed.key("g"), "doubted:mail"]).await.unwrap();
    assert_eq!((flag, keys(&bed, "y:mail:*").await), (None, 0));
}

#[tokio::test]
async fn claims_go_on_where_they_were_among_keys_in_doubt() {
    let mut bed = Bed::still(keyed(Some(1), None)).await;
    let w = worker("w");
    accept_all(&bed, (0..200).flat_map(|n| [of(n), of(n)]).collect()).await;
    let running = [bed.claim(&w, &["fast"], 100).await, bed.claim(&w, &["fast"], 100).await].concat();
    bed.change(keyed(Some(1), None)).await;
    let mut doubted = Vec::new();
    for _ in 0..3 {
        assert!(bed.claim(&w, &["fast"], 9).await.is_empty());
        doubted.push(bed.raw::<bool>(&["HEXISTS", &bed.key("g"), "doubted:mail"]).await.unwrap());
    }
    // A claim looks twice, at 64 of them each time.
    assert_eq!(doubted, [true, false, false]);
    bed.settle(&w, &running[7], success()).await;
    assert_eq!(bed.claim(&w, &["fast"], 9).await.len(), 1);
}

#[tokio::test]
async fn lines_of_a_key_that_the_type_lost_go_by_sweeps_and_before_it_has_one_again() {
    let mut bed = Bed::still(keyed(Some(1), None)).await;
    accept_all(&bed, (0..2_500).map(of).collect()).await;
    let plain = |policy: &mut QueuePolicy| {
        policy.job_types.get_mut("mail").unwrap().concurrency_key = None;
    };
    bed.change(plain).await;
    assert_eq!(keys(&bed, "y:mail:*").await, 1_500);
    assert!(bed.queue.sweep(&worker("s"), 100).await.unwrap().more);
    assert_eq!(keys(&bed, "y:mail:*").await, 500);
    bed.queue.sweep(&worker("s"), 100).await.unwrap();
    assert_eq!((keys(&bed, "y:mail:*").await, keys(&bed, "y[tp]:mail").await), (0, 0));
    assert_eq!(count(&bed, "HLEN", "g").await, 0, "nothing is left to remove");
    bed.change(keyed(Some(1), None)).await;
    while bed.queue.sweep(&worker("s"), 100).await.unwrap().more {}
    assert_eq!(keys(&bed, "y:mail:*").await, 2_500);
    bed.change(plain).await;
    bed.change(keyed(Some(1), None)).await;
    assert_eq!(keys(&bed, "y:mail:*").await, 0, "they come back as sweeps find what stands in line");
    let flags: Vec<String> = bed.raw(&["HKEYS", &bed.key("g")]).await.unwrap();
    assert_eq!(flags, ["ungrouped:mail"]);
    while bed.queue.sweep(&worker("s"), 100).await.unwrap().more {}
    assert_eq!(keys(&bed, "y:mail:*").await, 2_500);
}

#[tokio::test]
async fn a_queue_with_many_keys_is_destroyed_as_a_whole_also_without_its_policy() {
    for with_policy in [true, false] {
        let bed = Bed::still(keyed(Some(1), None)).await;
        accept_all(&bed, (0..5_200).map(of).collect()).await;
        bed.claim(&worker("w"), &["fast"], 1).await;
        bed.queue.sweep(&worker("s"), 100).await.unwrap();
        if !with_policy {
            bed.poke(&["DEL", &bed.key("p")]).await;
        }
        assert_eq!(bed.queue.destroy().await.unwrap(), 5_200);
        assert_eq!(bed.raw::<Vec<String>>(&["KEYS", "*"]).await.unwrap(), [""; 0]);
    }
}

#[tokio::test]
async fn what_keys_remember_goes_as_fast_as_it_comes() {
    let by = LimitBy { path: path("t"), limits: [("x".to_owned(), 2)].into() };
    let rate = RateLimit { limit: 1, per_ms: 1_000, burst: None, by: Some(by) };
    let bed = Bed::still(keyed(None, Some(rate))).await;
    let w = worker("w");
    bed.at(1_000).await;
    accept_all(&bed, (0..1_000).map(of).collect()).await;
    let later = with(of(7), |options| options.delay = Some(100_000_000));
    bed.accept(later).await;
    for _ in 0..10 {
        for job in bed.claim(&w, &["fast"], 100).await {
            bed.settle(&w, &job, success()).await;
        }
    }
    assert_eq!((count(&bed, "HLEN", "ya:mail").await, count(&bed, "HLEN", "yc:mail").await), (1_000, 1_000));
    bed.at(10_000).await;
    let mut sweeps = 0;
    while bed.queue.sweep(&worker("s"), 100).await.unwrap().more {
        sweeps += 1;
    }
    assert!((5..100).contains(&sweeps), "{sweeps}");
    let left = [count(&bed, "HLEN", "ya:mail").await, count(&bed, "HLEN", "yc:mail").await];
    assert!(left.iter().all(|left| *left <= 100), "{left:?}");
    for _ in 0..9 {
        bed.queue.sweep(&worker("s"), 100).await.unwrap();
    }
    let classes: Vec<String> = bed.raw(&["HKEYS", &bed.key("yc:mail")]).await.unwrap();
    assert_eq!(
        (count(&bed, "HLEN", "ya:mail").await, classes),
        (0, vec!["7".to_owned()]),
        "one waits for its time"
    );
}

#[tokio::test]
async fn a_class_is_no_longer_than_one_that_a_policy_may_name() {
    let by = LimitBy { path: path("t"), limits: [("x".to_owned(), 2)].into() };
    let rate = RateLimit { limit: 1, per_ms: 1_000, burst: None, by: Some(by) };
    let bed = Bed::still(keyed(None, Some(rate))).await;
    for (vendor, bytes) in [("a", 512), ("b", 513)] {
        let class = "t".repeat(bytes);
        bed.accept(job("mail", format!(r#"{{"v":"{vendor}","t":"{class}"}}"#))).await;
    }
    assert_eq!(bed.raw::<Vec<String>>(&["HKEYS", &bed.key("yc:mail")]).await.unwrap(), ["a"]);
}

#[tokio::test]
async fn a_limit_holds_among_many_leases_also_where_the_type_comes_to_have_its_key_again() {
    let mut bed = Bed::still(keyed(Some(1), None)).await;
    let w = worker("w");
    accept_all(&bed, (0..5_200).map(|_| job("report", "{}")).collect()).await;
    let mut held = 0;
    while held < 5_200 {
        held += bed.claim(&w, &["slow"], 200).await.len();
    }
    accept_all(&bed, (0..3).map(|_| of(1)).collect()).await;
    let first = bed.claim(&w, &["fast"], 9).await;
    assert_eq!(first.len(), 1);
    bed.change(|policy| policy.job_types.get_mut("mail").unwrap().concurrency_key = None).await;
    bed.change(keyed(Some(1), None)).await;
    while bed.queue.sweep(&worker("s"), 100).await.unwrap().more {}
    assert!(bed.claim(&w, &["fast"], 9).await.is_empty(), "one runs");
    bed.settle(&w, &first[0], success()).await;
    assert_eq!(bed.claim(&w, &["fast"], 9).await.len(), 1);
}

#[tokio::test]
async fn lines_of_keys_that_stand_aside_go_behind_those_that_have_a_turn() {
    let mut bed = Bed::still(keyed(Some(1), None)).await;
    let w = worker("w");
    accept_all(&bed, vec![of(1), of(1)]).await;
    assert_eq!(bed.claim(&w, &["fast"], 9).await.len(), 1);
    accept_all(&bed, (2..1_002).map(of).collect()).await;
    assert_eq!((count(&bed, "ZCARD", "yt:mail").await, count(&bed, "ZCARD", "yp:mail").await), (1_000, 1));
    bed.change(|policy| policy.job_types.get_mut("mail").unwrap().concurrency_key = None).await;
    while bed.queue.sweep(&worker("s"), 100).await.unwrap().more {}
    assert_eq!((keys(&bed, "y:mail:*").await, keys(&bed, "y[tp]:mail").await), (0, 0));
}

#[tokio::test]
async fn keys_that_remember_what_counts_make_no_sweep_look_for_more() {
    let by = LimitBy { path: path("t"), limits: [("x".to_owned(), 2)].into() };
    let bed =
        Bed::still(keyed(None, Some(RateLimit { limit: 1, per_ms: 60_000, burst: None, by: Some(by) })))
            .await;
    accept_all(&bed, (0..150).flat_map(|n| [of(n), of(n), of(n)]).collect()).await;
    assert_eq!(bed.claim(&worker("w"), &["fast"], 150).await.len(), 150);
    assert_eq!((count(&bed, "HLEN", "ya:mail").await, count(&bed, "HLEN", "yc:mail").await), (150, 150));
    assert!(!bed.queue.sweep(&worker("s"), 100).await.unwrap().more);
}

#[tokio::test]
async fn whoever_takes_all_that_has_a_turn_wakes_another_for_what_has_none_yet() {
    let mut bed = Bed::new().await;
    accept_all(&bed, (0..250).map(of).collect()).await;
    bed.change(keyed(Some(1), None)).await;
    bed.poke(&["DEL", &bed.key("w:fast")]).await;
    assert_eq!(bed.claim(&worker("w"), &["fast"], 200).await.len(), 200);
    assert_eq!(count(&bed, "LLEN", "w:fast").await, 1);
    assert_eq!(bed.claim(&worker("v"), &["fast"], 200).await.len(), 50);
}
