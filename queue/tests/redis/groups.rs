//! Concurrency keys, where the reference model found the library wrong.

use super::common::*;
use lanekeeper_api::policy::{ConcurrencyKey, KeyPart, LimitBy, OnConflict, QueuePolicy, RateLimit};
use lanekeeper_queue::testing::clock;
use lanekeeper_queue::types::*;

fn key_of_mail(limit: Option<u32>, rate_limit: Option<RateLimit>) -> impl FnOnce(&mut QueuePolicy) {
    let key = vec![KeyPart::Path(vec!["v".into()])];
    move |policy| {
        policy.job_types.get_mut("mail").unwrap().concurrency_key =
            Some(ConcurrencyKey { key, limit, rate_limit });
    }
}

/// Two a minute, of the class `premium` four.
fn by_tier() -> RateLimit {
    let by = LimitBy { path: vec!["tier".into()], limits: [("premium".into(), 4)].into() };
    RateLimit { limit: 2, per_ms: 60_000, burst: None, by: Some(by) }
}

fn of(vendor: &str) -> NewJob {
    job("mail", format!(r#"{{"v":"{vendor}"}}"#))
}

fn premium(vendor: &str) -> NewJob {
    job("mail", format!(r#"{{"v":"{vendor}","tier":"premium"}}"#))
}

#[tokio::test]
async fn the_last_job_of_a_key_decides_its_class_also_where_it_names_none() {
    let bed = Bed::with(key_of_mail(None, Some(by_tier()))).await;
    for _ in 0..5 {
        bed.accept(premium("a")).await;
    }
    bed.accept(of("a")).await;
    assert_eq!(bed.claim(&worker("w"), &["fast"], 9).await.len(), 2);
    // Within one call too.
    let bed = Bed::with(key_of_mail(None, Some(by_tier()))).await;
    bed.queue.enqueue(&[premium("a"), of("a"), of("a"), premium("a")]).await.unwrap();
    assert_eq!(bed.claim(&worker("w"), &["fast"], 9).await.len(), 4);
}

#[tokio::test]
async fn what_a_job_said_of_its_keys_class_stands_where_another_of_the_call_replaces_it() {
    let bed = Bed::with(|policy| {
        key_of_mail(None, Some(by_tier()))(policy);
        policy.job_types.get_mut("mail").unwrap().on_conflict = OnConflict::Replace;
    })
    .await;
    let keyed = |job| with(job, |o| o.key = Some("k".into()));
    bed.queue.enqueue(&[keyed(premium("a")), keyed(of("b"))]).await.unwrap();
    let class: Option<String> = bed.raw(&["HGET", &bed.key("yc:mail"), "a"]).await.unwrap();
    assert_eq!(class.as_deref(), Some("premium"));
}

#[tokio::test]
async fn the_class_of_a_key_stands_while_its_jobs_wait_for_their_time() {
    let bed = Bed::with(key_of_mail(None, Some(by_tier()))).await;
    bed.accept(with(premium("a"), |o| o.delay = Some(3_600_000))).await;
    bed.queue.sweep(&worker("s"), 100).await.unwrap();
    let class: Option<String> = bed.raw(&["HGET", &bed.key("yc:mail"), "a"]).await.unwrap();
    assert_eq!(class.as_deref(), Some("premium"));
}

#[tokio::test]
async fn another_class_counts_at_once_also_where_the_job_that_says_so_is_not_due() {
    let bed = Bed::still(key_of_mail(None, Some(by_tier()))).await;
    for _ in 0..3 {
        bed.accept(of("a")).await;
    }
    assert_eq!(bed.claim(&worker("w"), &["fast"], 9).await.len(), 2);
    bed.at(20_000).await;
    assert!(bed.claim(&worker("w"), &["fast"], 9).await.is_empty(), "a half minute for each");
    bed.accept(with(premium("a"), |o| o.delay = Some(3_600_000))).await;
    assert_eq!(bed.claim(&worker("w"), &["fast"], 9).await.len(), 1, "a quarter for each");
}

#[tokio::test]
async fn a_key_that_got_fewer_jobs_of_a_claim_is_the_first_of_the_next() {
    let bed = Bed::with(key_of_mail(Some(50), None)).await;
    let w = worker("w");
    for n in 0..30 {
        bed.accept(of(["a", "b", "c"][n % 3])).await;
    }
    let mut got = std::collections::BTreeMap::<Vec<u8>, usize>::new();
    for _ in 0..3 {
        for job in bed.claim(&w, &["fast"], 5).await {
            *got.entry(job.payload).or_default() += 1;
        }
    }
    assert_eq!(got.into_values().collect::<Vec<_>>(), [5, 5, 5]);
}

#[tokio::test]
async fn the_jobs_ahead_within_a_key_are_those_that_go_first() {
    let bed = Bed::with(key_of_mail(Some(5), None)).await;
    let old = bed.accept(with(of("a"), |o| o.priority = Some(9))).await;
    let due = bed.job(&old).await.enqueued_ms - 10 * 3_600_000;
    for line in ["q:mail", "y:mail:a"] {
        bed.poke(&["ZADD", &bed.key(line), "XX", &(90_000_000_000_000 + due).to_string(), &old]).await;
    }
    let new = bed.accept(with(of("a"), |o| o.priority = Some(0))).await;
    let mut ahead = Vec::new();
    for id in [&old, &new] {
        ahead.push(bed.queue.key_standing(id).await.unwrap().unwrap().ahead);
    }
    assert_eq!(ahead, [0, 1]);
    assert_eq!(ids(&bed.claim(&worker("w"), &["fast"], 2).await), [&old, &new]);
}

#[tokio::test]
async fn jobs_from_before_their_type_had_a_key_are_no_damage() {
    let mut bed = Bed::new().await;
    for _ in 0..3 {
        bed.accept(of("a")).await;
    }
    bed.change(key_of_mail(Some(1), None)).await;
    while bed.queue.sweep(&worker("s"), 100).await.unwrap().more {}
    assert_eq!(bed.queue.stats().await.unwrap().damaged, 0);
}

#[tokio::test]
async fn a_job_whose_key_was_lost_and_is_another_now_is_handed_out_once() {
    let mut bed = Bed::new().await;
    let (w, s) = (worker("w"), worker("s"));
    for _ in 0..2 {
        bed.accept(of("a")).await;
    }
    bed.change(key_of_mail(Some(5), None)).await;
    let mut got = bed.claim(&w, &["fast"], 1).await;
    // The other one has no key; then it has one, for a sweep cannot tell.
    bed.poke(&["DEL", &bed.key("yg")]).await;
    for _ in 0..3 {
        bed.queue.sweep(&s, 100).await.unwrap();
    }
    for _ in 0..3 {
        got.extend(bed.claim(&w, &["fast"], 1).await);
    }
    assert_eq!(got.len(), 2);
}

#[tokio::test]
async fn a_key_at_its_rate_does_not_wait_for_a_clock_that_went_back() {
    let rate = RateLimit { limit: 1, per_ms: 60_000, burst: None, by: None };
    // Whichever call sees first that it did.
    for swept in [false, true] {
        let bed = Bed::still(key_of_mail(None, Some(rate.clone()))).await;
        let w = worker("w");
        bed.queue.enqueue(&[of("a"), of("a")]).await.unwrap();
        assert_eq!(bed.claim(&w, &["fast"], 5).await.len(), 1);
        clock::set(&mut bed.queue.connection(), (NOON_MS - 7_200_000) * 1_000).await.unwrap();
        if swept {
            bed.queue.sweep(&worker("s"), 100).await.unwrap();
        }
        assert_eq!(bed.claim(&w, &["fast"], 5).await.len(), 1, "swept: {swept}");
    }
}

#[tokio::test]
async fn keys_take_turns_while_the_clock_is_behind_where_it_was() {
    let bed = Bed::still(key_of_mail(None, None)).await;
    let w = worker("w");
    for _ in 0..5 {
        bed.queue.enqueue(&["a", "b", "c"].map(of)).await.unwrap();
    }
    let mut went = String::new();
    for n in 0..15 {
        // From the fifth job on the clock is an hour behind; then a key comes that has to wait for its turn like all others.
        let hour = if n < 5 { 0 } else { 3_600_000 };
        clock::set(&mut bed.queue.connection(), (NOON_MS - hour + n) * 1_000).await.unwrap();
        if n == 9 {
            bed.accept(of("d")).await;
        }
        let got = bed.claim(&w, &["fast"], 1).await;
        went.extend(got.iter().map(|job| {
            let payload: serde_json::Value = serde_json::from_slice(&job.payload).unwrap();
            payload["v"].as_str().unwrap().to_owned()
        }));
    }
    assert_eq!(went, "abcabcabcabcdab");
}

#[tokio::test]
async fn a_key_with_many_jobs_fills_what_those_with_few_leave_of_a_claim() {
    let bed = Bed::with(key_of_mail(Some(50), None)).await;
    let w = worker("w");
    bed.accept(of("b")).await;
    for _ in 0..10 {
        bed.accept(of("a")).await;
    }
    assert_eq!(bed.claim(&w, &["fast"], 8).await.len(), 8);
}

#[tokio::test]
async fn a_key_with_many_jobs_fills_what_those_at_their_limit_leave_of_a_claim() {
    let bed = Bed::with(key_of_mail(Some(5), None)).await;
    let w = worker("w");
    for _ in 0..10 {
        bed.accept(of("b")).await;
    }
    assert_eq!(bed.claim(&w, &["fast"], 4).await.len(), 4, "one more of b may run");
    for _ in 0..10 {
        bed.accept(of("a")).await;
    }
    assert_eq!(bed.claim(&w, &["fast"], 6).await.len(), 6);
}

#[tokio::test]
async fn a_key_that_has_a_turn_and_no_line_holds_up_no_claim() {
    let bed = Bed::with(key_of_mail(Some(5), None)).await;
    let w = worker("w");
    bed.accept(of("a")).await;
    let of_b = bed.accept(of("b")).await;
    bed.poke(&["DEL", &bed.key("y:mail:a")]).await;
    assert_eq!(ids(&bed.claim(&w, &["fast"], 1).await), [of_b]);
    assert_eq!(bed.raw::<u64>(&["ZCARD", &bed.key("yt:mail")]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_class_may_be_true_or_false() {
    let bed = Bed::still(|policy| {
        let path = |name: &str| vec![name.to_owned()];
        let limits = [("true".to_owned(), 3)].into();
        let by = Some(LimitBy { path: path("tier"), limits });
        let rate_limit = Some(RateLimit { limit: 1, per_ms: 60_000, burst: None, by });
        let key = vec![KeyPart::Path(path("v"))];
        policy.job_types.get_mut("mail").unwrap().concurrency_key =
            Some(ConcurrencyKey { key, limit: None, rate_limit });
    })
    .await;
    let w = worker("w");
    for (tier, starts) in [("true", 3), ("false", 1), ("\"true\"", 3), ("null", 1)] {
        for _ in 0..5 {
            let payload = format!(r#"{{"v":{},"tier":{tier}}}"#, serde_json::json!(tier));
            bed.accept(job("mail", payload)).await;
        }
        assert_eq!(bed.claim(&w, &["fast"], 9).await.len(), starts, "{tier}");
    }
    // A key is made of no such thing.
    assert!(matches!(bed.put(job("mail", r#"{"v":true}"#)).await, Enqueued::Rejected { .. }));
}

#[tokio::test]
async fn a_key_that_an_answer_holds_gives_nothing_to_the_claim_of_the_same_call() {
    let bed = Bed::with(key_of_mail(Some(2), None)).await;
    let w = worker("w");
    bed.accept(of("a")).await;
    bed.accept(of("a")).await;
    let first = bed.claim(&w, &["fast"], 1).await.remove(0);
    let later = Outcome::Snooze { delay_ms: 60_000, why: "429".into(), holds: Holds::Key };
    let words = [settlement(&first, later)];
    let (_, reply) = bed.queue.settle_and_claim(&w, &words, &want(&["fast"], 5)).await.unwrap();
    assert_eq!(reply.jobs.len(), 0);
}

#[tokio::test]
async fn a_key_that_waits_for_nobody_is_found_and_counts_as_damage() {
    let bed = Bed::with(key_of_mail(Some(1), None)).await;
    let waiting = bed.accept(of("a")).await;
    bed.poke(&["ZREM", &bed.key("yt:mail"), "a"]).await;
    bed.poke(&["ZADD", &bed.key("yp:mail"), "+inf", "a"]).await;
    bed.queue.sweep(&worker("s"), 10).await.unwrap();
    assert_eq!(bed.queue.stats().await.unwrap().damaged, 1);
    assert_eq!(bed.claim(&worker("w"), &["fast"], 9).await[0].id, waiting);
}

#[tokio::test]
async fn a_count_of_keys_that_something_else_overwrote_holds_up_no_other_lane() {
    let bed = Bed::with(key_of_mail(None, None)).await;
    let waiting = bed.accept(of("a")).await;
    let other = bed.accept(job("report", "x")).await;
    let claimed = async || bed.claim(&worker("w"), &["fast", "slow"], 9).await.remove(0).id;
    bed.poke(&["SET", &bed.key("yr:mail"), "x"]).await;
    assert_eq!(claimed().await, other);
    bed.poke(&["DEL", &bed.key("yr:mail")]).await;
    assert_eq!(claimed().await, waiting);
}

#[tokio::test]
async fn jobs_that_wait_since_before_their_type_had_a_key_do_not_count_as_running() {
    let mut bed = Bed::new().await;
    let w = worker("w");
    // It runs in the nameless group until a sweep says its own.
    bed.running(&w, of("a")).await;
    for _ in 0..10 {
        bed.accept(of("b")).await;
    }
    bed.change(key_of_mail(Some(1), None)).await;
    bed.queue.sweep(&w, 200).await.unwrap();
    assert_eq!(bed.claim(&w, &["fast"], 5).await.len(), 1, "one of b, of which none ran");
}
