//! Who is woken, and who is not: tokens for workers where something may go, none where nothing may.

use std::time::Duration;

use super::common::*;
use futures::StreamExt;
use lanekeeper_api::policy::{ConcurrencyKey, KeyPart, RateLimit};
use lanekeeper_queue::types::*;

async fn tokens(bed: &Bed) -> u64 {
    bed.raw(&["LLEN", &bed.key("w:fast")]).await.unwrap()
}

async fn no_tokens(bed: &Bed) {
    bed.poke(&["DEL", &bed.key("w:fast")]).await;
}

fn hold(delay_ms: u64, holds: Holds) -> Outcome {
    Outcome::Snooze { delay_ms, why: "429".into(), holds }
}

#[tokio::test]
async fn the_end_of_a_job_wakes_somebody_only_where_another_one_may_go() {
    let bed = Bed::still(|policy| policy.lanes[0].concurrency = Some(2)).await;
    let w = worker("w");
    let first = bed.running(&w, job("mail", "1")).await;
    let second = bed.running(&w, job("mail", "2")).await;
    no_tokens(&bed).await;
    bed.settle(&w, &first, success()).await;
    assert_eq!(tokens(&bed).await, 0, "nothing waits");
    let third = bed.running(&w, job("mail", "3")).await;
    bed.accept(job("mail", "4")).await;
    // The lane is paused, then the queue: nothing may go.
    for lanes in [vec!["fast".to_owned()], vec![]] {
        bed.queue.pause("ada", "", &lanes).await.unwrap();
        let again = bed.settle(&w, if lanes.is_empty() { &third } else { &second }, success()).await;
        assert_eq!(again, Settled::Done);
        no_tokens(&bed).await;
        assert_eq!(tokens(&bed).await, 0, "{lanes:?}");
        bed.queue.resume("ada", &lanes).await.unwrap();
        assert_eq!(tokens(&bed).await, 1, "{lanes:?}");
        no_tokens(&bed).await;
    }
    let running = bed.claim(&w, &["fast"], 1).await;
    bed.accept(job("mail", "5")).await;
    assert_eq!(tokens(&bed).await, 1);
    bed.settle(&w, &running[0], success()).await;
    assert_eq!(tokens(&bed).await, 1, "one token is enough");
    no_tokens(&bed).await;
    let fifth = bed.claim(&w, &["fast"], 1).await;
    bed.accept(job("mail", "6")).await;
    no_tokens(&bed).await;
    bed.settle(&w, &fifth[0], success()).await;
    assert_eq!(tokens(&bed).await, 1, "one may go: one is woken");
}

#[tokio::test]
async fn nobody_is_woken_in_a_lane_or_queue_that_is_held_when_a_job_ends() {
    let bed = Bed::still(|policy| policy.lanes[0].concurrency = Some(9)).await;
    let w = worker("w");
    bed.queue.enqueue(&vec![job("mail", "x"); 6]).await.unwrap();
    let running = bed.claim(&w, &["fast"], 3).await;
    for (n, lanes) in [vec!["fast".to_owned()], vec![]].into_iter().enumerate() {
        bed.queue.pause("ada", "", &lanes).await.unwrap();
        no_tokens(&bed).await;
        bed.settle(&w, &running[n], success()).await;
        assert_eq!(tokens(&bed).await, 0, "{lanes:?}");
        bed.queue.pass_on(&["fast".into()]).await.unwrap();
        assert_eq!(tokens(&bed).await, u64::from(!lanes.is_empty()), "only a held queue passes nothing on");
        bed.queue.resume("ada", &lanes).await.unwrap();
    }
    no_tokens(&bed).await;
    bed.accept(with(job("mail", "x"), |o| o.delay = Some(10))).await;
    no_tokens(&bed).await;
    bed.settle(&w, &running[2], hold(1_000, Holds::Lane)).await;
    assert_eq!(tokens(&bed).await, 0, "held by its dependency");
}

#[tokio::test]
async fn a_group_whose_time_has_come_is_worth_a_token_for_another_worker() {
    let rate_limit = Some(RateLimit { limit: 1, per_ms: 1_000, burst: None, by: None });
    let key = ConcurrencyKey { key: vec![KeyPart::Path(vec!["v".into()])], limit: None, rate_limit };
    let bed =
        Bed::still(|policy| policy.job_types.get_mut("mail").unwrap().concurrency_key = Some(key)).await;
    let w = worker("w");
    bed.running(&w, job("mail", r#"{"v":"a"}"#)).await;
    bed.accept(job("mail", r#"{"v":"a"}"#)).await;
    let mut wish = want(&["fast"], 5);
    wish.type_limits.insert("mail".into(), 0);
    let reply = bed.claim_reply(&w, &wish).await;
    assert_eq!((reply.next_due_ms, tokens(&bed).await), (Some(NOON_MS + 1_000), 0), "its rate is spent");
    // This worker may not take it, another may. Not again at once: where there is no other, the token came back to this one.
    for (ms, put_back) in [(1_000, 1), (1_499, 0), (1_500, 1), (1_501, 0)] {
        bed.at(ms).await;
        no_tokens(&bed).await;
        assert!(bed.claim_reply(&w, &wish).await.jobs.is_empty());
        assert_eq!(tokens(&bed).await, put_back, "after {ms} ms");
    }
}

#[tokio::test]
async fn tokens_are_as_many_as_jobs_and_at_most_64() {
    let bed = Bed::still(|_| {}).await;
    let mut put = 0;
    for (jobs, expected) in [(1, 1), (3, 4), (58, 62), (1, 63), (5, 64), (9, 64)] {
        bed.queue.enqueue(&vec![job("mail", "x"); jobs]).await.unwrap();
        put += jobs;
        assert_eq!(tokens(&bed).await, expected, "{put} jobs");
    }
    // A new policy gives those that nobody has been woken for a token, up to as many.
    no_tokens(&bed).await;
    bed.queue.pause("ada", "", &[]).await.unwrap();
    bed.queue.resume("ada", &[]).await.unwrap();
    assert_eq!(tokens(&bed).await, 64);
}

#[tokio::test]
async fn a_lane_that_was_tightened_wakes_nobody_before_it_has_room() {
    let mut bed = Bed::with(|policy| policy.lanes[0].concurrency = Some(3)).await;
    let w = worker("w");
    bed.queue.enqueue(&vec![job("mail", "x"); 5]).await.unwrap();
    let running = bed.claim(&w, &["fast"], 3).await;
    bed.change(|policy| policy.lanes[0].concurrency = Some(1)).await;
    no_tokens(&bed).await;
    // In a call that takes nothing, so that it is not the claim that looks.
    let two: Vec<Settlement> = running[..2].iter().map(|job| settlement(job, success())).collect();
    bed.queue.settle_and_claim(&w, &two, &want(&["fast"], 0)).await.unwrap();
    assert_eq!(tokens(&bed).await, 0, "one runs still, and one may");
    let last = [settlement(&running[2], success())];
    bed.queue.settle_and_claim(&w, &last, &want(&["fast"], 0)).await.unwrap();
    assert_eq!(tokens(&bed).await, 1);
}

/// Messages published so far.
async fn published(bed: &Bed) -> u64 {
    let stats: String = bed.raw(&["INFO", "commandstats"]).await.unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_publish:calls="));
    line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn the_operator_is_told_of_first_jobs_as_often_as_it_must_be() {
    let bed = Bed::still(|_| {}).await;
    // Whether it was told of a job that came after so many ms; the job is called off then, if it was the only one.
    let told = async |ms: u64, keep: bool| {
        bed.at(ms).await;
        let before = published(&bed).await;
        let id = bed.accept(job("mail", "x")).await;
        let told = published(&bed).await - before;
        if !keep {
            bed.queue.cancel(&[id], "ops").await.unwrap();
        }
        told == 1
    };
    assert!(told(0, false).await && told(1, false).await, "nobody asks for jobs here");
    bed.claim(&worker("w"), &["fast"], 1).await;
    assert!(!told(2, false).await, "a worker is at hand");
    assert!(!told(100, false).await, "not again within 100 ms");
    assert!(told(101, false).await);
    assert!(told(999, false).await);
    assert!(!told(1_000, false).await);
    assert!(told(1_001, false).await, "the worker asked a second ago");
    assert!(told(1_000, false).await, "the clock went back");
    // While somebody waits already, only where no token is left.
    assert!(told(5_000, true).await);
    assert!(!told(6_000, true).await);
    no_tokens(&bed).await;
    assert!(told(7_000, true).await);
}

#[tokio::test]
async fn jobs_that_fall_due_wake_as_many_as_they_are() {
    let bed = Bed::still(|_| {}).await;
    let later = with(job("mail", "x"), |o| o.delay = Some(1_000));
    bed.queue.enqueue(&vec![later; 3]).await.unwrap();
    assert_eq!(tokens(&bed).await, 1, "somebody has to know the time");
    no_tokens(&bed).await;
    bed.at(1_000).await;
    assert_eq!(bed.queue.sweep(&worker("s"), 2).await.unwrap().promoted, 2);
    assert_eq!(tokens(&bed).await, 2);
    let rest = bed.queue.sweep(&worker("s"), 2).await.unwrap();
    assert_eq!((rest.promoted, tokens(&bed).await), (1, 3));
}

#[tokio::test]
async fn a_job_that_falls_due_before_all_others_is_told_to_one_worker() {
    let bed = Bed::still(|_| {}).await;
    let due_in = |ms| with(job("mail", "x"), |o| o.delay = Some(ms));
    for (ms, told) in [(1_000, 1), (1_000, 0), (1_001, 0), (999, 1), (2_000, 0)] {
        no_tokens(&bed).await;
        bed.accept(due_in(ms)).await;
        assert_eq!(tokens(&bed).await, told, "{ms}");
    }
    bed.accept(due_in(998)).await;
    bed.accept(due_in(997)).await;
    assert_eq!(tokens(&bed).await, 1, "one token is enough");
}

#[tokio::test]
async fn sweeps_put_back_tokens_that_went_with_a_connection() {
    let bed = Bed::still(|policy| policy.lanes[1].concurrency = Some(1)).await;
    let sweep = async || bed.queue.sweep(&worker("s"), 100).await.unwrap();
    sweep().await;
    assert_eq!(tokens(&bed).await, 0, "nothing waits");
    bed.queue.enqueue(&vec![job("mail", "x"); 3]).await.unwrap();
    no_tokens(&bed).await;
    sweep().await;
    assert_eq!(tokens(&bed).await, 1);
    sweep().await;
    assert_eq!(tokens(&bed).await, 1, "one token is enough");
    no_tokens(&bed).await;
    sweep().await;
    assert_eq!(
        tokens(&bed).await,
        0,
        "not twice within half a second: it may come back to one who cannot use it"
    );
    bed.at(500).await;
    sweep().await;
    assert_eq!(tokens(&bed).await, 1);
    bed.at(1_000).await;
    bed.queue.pause("ada", "", &["fast".into()]).await.unwrap();
    no_tokens(&bed).await;
    sweep().await;
    assert_eq!(tokens(&bed).await, 0, "nothing of the lane may go");
    bed.queue.resume("ada", &["fast".into()]).await.unwrap();
    bed.queue.pause("ada", "", &[]).await.unwrap();
    no_tokens(&bed).await;
    sweep().await;
    assert_eq!(tokens(&bed).await, 0, "nothing of the queue may go");
}

#[tokio::test]
async fn a_claim_tells_whether_its_lanes_hold_more() {
    let bed = Bed::still(|policy| policy.job_types.get_mut("mail").unwrap().per_worker = Some(1)).await;
    let w = worker("w");
    let waits = async |slots, lanes: &[&str], limits: &[(&str, u32)]| {
        let want = ClaimRequest {
            slots,
            lanes: lanes.iter().map(|&lane| lane.to_owned()).collect(),
            type_limits: limits.iter().map(|&(name, most)| (name.to_owned(), most)).collect(),
            ..ClaimRequest::default()
        };
        bed.queue.settle_and_claim(&w, &[], &want).await.unwrap().1.waits
    };
    assert!(!waits(5, &["fast", "slow"], &[]).await);
    bed.queue.enqueue(&vec![job("mail", "x"); 3]).await.unwrap();
    assert!(waits(5, &["fast"], &[("mail", 1)]).await, "limits leave some");
    assert!(!waits(5, &["slow"], &[]).await, "other lanes were not asked");
    assert!(waits(1, &["fast"], &[]).await);
    assert!(!waits(5, &["fast"], &[]).await, "all were taken");
    assert!(waits(0, &["fast"], &[]).await, "nobody looked");
    bed.queue.pause("ada", "", &[]).await.unwrap();
    assert!(waits(5, &["fast"], &[]).await, "nobody looked");
}

#[tokio::test]
async fn a_pause_and_its_end_are_told_to_who_watches() {
    let bed = Bed::new().await;
    let mut pubsub = bed.redis.options().client().unwrap().get_async_pubsub().await.unwrap();
    pubsub.subscribe(bed.queue.name().wake_channel()).await.unwrap();
    let mut told = pubsub.on_message();
    bed.queue.pause("me", "", &["fast".into()]).await.unwrap();
    bed.queue.resume("me", &["fast".into()]).await.unwrap();
    for _ in 0..2 {
        let next = tokio::time::timeout(Duration::from_secs(5), told.next()).await.unwrap().unwrap();
        assert_eq!(next.get_payload::<String>().unwrap(), "gates");
    }
}
