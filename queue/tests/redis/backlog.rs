//! A type gets a concurrency key while jobs of it wait.

use super::common::*;
use super::grouping::{keyed, of};
use lanekeeper_api::policy::QueuePolicy;

#[tokio::test]
async fn jobs_from_before_a_key_have_the_key_of_their_payload_once_they_are_in_line() {
    let mut bed = Bed::new().await;
    let w = worker("w");
    let ran = bed.running(&w, of("a")).await;
    for _ in 0..3 {
        bed.accept(of("a")).await;
    }
    let later = bed.accept(with(of("a"), |options| options.delay = Some(1))).await;
    let without = [bed.accept(job("mail", "{}")).await, bed.accept(job("mail", "no JSON")).await];
    bed.change(keyed(1)).await;
    let first = bed.claim(&w, &["fast"], 9).await;
    let (keyed, others): (Vec<_>, Vec<_>) = first.iter().partition(|job| !without.contains(&job.id));
    assert_eq!((keyed.len(), others.len()), (1, 2), "one of the key; what has none is bounded by nothing");
    assert!(bed.claim(&w, &["fast"], 9).await.is_empty());
    // What ran then has the key once it stands in line again, and so has what was scheduled.
    bed.settle(&w, &ran, retry(0)).await;
    assert!(bed.claim(&w, &["fast"], 9).await.is_empty(), "one of the key runs");
    let mut last = keyed[0].clone();
    let mut seen = vec![last.id.clone()];
    for _ in 0..4 {
        bed.settle(&w, &last, success()).await;
        let next = bed.claim(&w, &["fast"], 9).await;
        assert_eq!(next.len(), 1, "one at a time");
        last = next.into_iter().next().unwrap();
        seen.push(last.id.clone());
    }
    assert!(seen.contains(&later) && seen.contains(&ran.id), "{seen:?}");
}

#[tokio::test]
async fn large_jobs_from_before_a_key_are_named_a_few_at_a_time() {
    let mut bed = Bed::new().await;
    let w = worker("w");
    let large = format!(r#"{{"v":"a","text":"{}"}}"#, "x".repeat(200_000));
    for _ in 0..12 {
        bed.accept(job("mail", large.clone())).await;
    }
    bed.change(keyed(1)).await;
    let (mut served, mut steps) = (0, 0);
    while served < 12 {
        steps += u32::from(regrouping(&bed).await.is_some());
        let got = bed.claim(&w, &["fast"], 9).await;
        assert_eq!(got.len(), 1, "one of the key at a time, also while others are not named yet");
        served += 1;
        bed.settle(&w, &got[0], success()).await;
    }
    assert!((2..12).contains(&steps), "{steps}");
}

/// How far the queue is with jobs of `mail` from before its key; none when it is done.
async fn regrouping(bed: &Bed) -> Option<String> {
    bed.raw(&["HGET", &bed.key("g"), "ungrouped:mail"]).await.unwrap()
}

#[tokio::test]
async fn many_jobs_from_before_a_key_are_looked_at_step_by_step() {
    let mut bed = Bed::new().await;
    bed.queue.enqueue_all(&vec![of("a"); 450]).await.unwrap();
    bed.change(keyed(1)).await;
    let line: Vec<String> = bed.raw(&["ZRANGE", &bed.key("q:mail"), "0", "-1"]).await.unwrap();
    for last in [Some(&line[199]), Some(&line[399]), None] {
        assert_eq!(bed.queue.sweep(&worker("s"), 10).await.unwrap().more, last.is_some());
        let place = regrouping(&bed).await;
        assert_eq!(place.as_deref().and_then(|place| place.split(':').nth(1)), last.map(String::as_str));
    }
    assert_eq!(bed.raw::<u64>(&["ZCARD", &bed.key("y:mail:a")]).await.unwrap(), 450);
    assert!(!bed.queue.sweep(&worker("s"), 10).await.unwrap().more);
}

#[tokio::test]
async fn claims_alone_put_all_jobs_from_before_a_key_into_line() {
    let mut bed = Bed::new().await;
    let w = worker("w");
    bed.queue.enqueue_all(&vec![of("a"); 450]).await.unwrap();
    bed.change(keyed(9)).await;
    let mut claims = 0;
    while regrouping(&bed).await.is_some() {
        assert_eq!(bed.claim(&w, &["fast"], 1).await.len(), 1);
        claims += 1;
    }
    assert_eq!(claims, 3);
    let waiting: usize = bed.raw(&["ZCARD", &bed.key("y:mail:a")]).await.unwrap();
    assert_eq!(waiting + claims, 450);
}

/// What is more urgent comes to stand before the place up to which the line was looked at, and what is taken leaves it.
#[tokio::test]
async fn jobs_that_come_and_go_meanwhile_make_none_from_before_a_key_be_passed_over() {
    let mut bed = Bed::new().await;
    let w = worker("w");
    bed.queue.enqueue_all(&vec![of("a"); 400]).await.unwrap();
    bed.change(keyed(1_000)).await;
    let mut got = 0;
    for (urgent, most) in [(0, 100), (0, 1), (120, 120), (0, 1)] {
        let urgent = vec![with(of("b"), |options| options.priority = Some(0)); urgent];
        bed.queue.enqueue_all(&urgent).await.unwrap();
        got += bed.claim(&w, &["fast"], most).await.len();
    }
    for _ in 0..4 {
        got += bed.claim(&w, &["fast"], 100).await.len();
    }
    assert_eq!(got, 520);
}

#[tokio::test]
async fn a_line_that_something_else_overwrote_keeps_the_jobs_of_no_other_key_waiting() {
    let plain = |policy: &mut QueuePolicy| policy.job_types.get_mut("mail").unwrap().concurrency_key = None;
    let mut bed = Bed::with(keyed(9)).await;
    for vendor in ["a", "b", "a", "b"] {
        bed.accept(of(vendor)).await;
    }
    bed.change(plain).await;
    bed.poke(&["SET", &bed.key("y:mail:a"), "something else's"]).await;
    bed.change(keyed(9)).await;
    let got = bed.claim(&worker("w"), &["fast"], 9).await;
    assert_eq!(sent(&got), [r#"{"v":"b"}"#; 2]);
    assert_eq!(regrouping(&bed).await, None);
    assert_eq!(bed.queue.stats().await.unwrap().damaged, 1);
}
