//! Gates and concurrency keys under changed policies, damage, and odd requests: nothing stays stuck, nothing is lost.

use std::time::Duration;

use super::common::*;
use lanekeeper_api::policy::{Circuit, ConcurrencyKey, KeyPart, QueuePolicy, RateLimit};
use lanekeeper_queue::types::*;

fn by_vendor(limit: u32) -> impl Fn(&mut QueuePolicy) {
    move |policy| {
        let key = vec![KeyPart::Path(vec!["v".into()])];
        policy.job_types.get_mut("mail").unwrap().concurrency_key =
            Some(ConcurrencyKey { key, limit: Some(limit), rate_limit: None });
    }
}

fn without_key(policy: &mut QueuePolicy) {
    policy.job_types.get_mut("mail").unwrap().concurrency_key = None;
}

fn of(vendor: &str) -> NewJob {
    job("mail", format!(r#"{{"v":"{vendor}"}}"#))
}

async fn accept(bed: &Bed, vendors: &[&str]) {
    for vendor in vendors {
        bed.accept(of(vendor)).await;
    }
}

fn vendors(jobs: &[Claimed]) -> Vec<String> {
    let mut found: Vec<String> =
        jobs.iter().map(|job| String::from_utf8_lossy(&job.payload[6..7]).into_owned()).collect();
    found.sort();
    found
}

#[tokio::test]
async fn a_closed_lane_starves_no_other_by_deadline() {
    let bed = Bed::with(|policy| policy.lanes[0].concurrency = Some(1)).await;
    let w = worker("w");
    for _ in 0..5 {
        bed.accept(job("mail", "fast")).await;
    }
    bed.accept(job("report", "slow")).await;
    let mut wish = want(&["fast", "slow"], 5);
    wish.order = ClaimOrder::Deadline;
    assert_eq!(bed.claim_reply(&w, &wish).await.jobs.len(), 2, "one of each: the fast lane is full");
}

#[tokio::test]
async fn by_deadline_a_worker_is_told_when_a_lane_opens() {
    let rate = RateLimit { limit: 1, per_ms: 60_000, burst: None, by: None };
    let bed = Bed::still(|policy| policy.lanes[0].rate_limit = Some(rate)).await;
    let w = worker("w");
    bed.accept(job("mail", "1")).await;
    bed.accept(job("mail", "2")).await;
    let mut wish = want(&["fast", "slow"], 1);
    wish.order = ClaimOrder::Deadline;
    assert_eq!(bed.claim_reply(&w, &wish).await.jobs.len(), 1);
    bed.at(1_000).await;
    let reply = bed.claim_reply(&w, &wish).await;
    assert!(reply.jobs.is_empty() && reply.waits);
    assert_eq!(reply.next_due_ms.map(|due| due - reply.now_ms), Some(59_000));
}

#[tokio::test]
async fn a_key_is_free_again_although_its_job_was_trimmed_at_once() {
    let bed = Bed::with(|policy| {
        by_vendor(1)(policy);
        policy.job_types.get_mut("mail").unwrap().completed.keep = 1;
    })
    .await;
    let w = worker("w");
    accept(&bed, &["A", "B", "A", "B"]).await;
    let first = bed.claim(&w, &["fast"], 9).await;
    assert_eq!(vendors(&first), ["A", "B"]);
    let words: Vec<Settlement> = first.iter().map(|job| settlement(job, success())).collect();
    bed.queue.settle(&w, &words).await.unwrap();
    assert_eq!(vendors(&bed.claim(&w, &["fast"], 9).await), ["A", "B"]);
}

#[tokio::test]
async fn a_key_that_goes_and_comes_back_neither_sticks_nor_runs_too_many() {
    let mut bed = Bed::with(by_vendor(1)).await;
    let w = worker("w");
    accept(&bed, &["A", "A", "B"]).await;
    let running = bed.claim(&w, &["fast"], 1).await;
    assert_eq!(vendors(&running), ["A"]);
    bed.change(without_key).await;
    bed.change(by_vendor(1)).await;
    accept(&bed, &["A"]).await;
    assert_eq!(vendors(&bed.claim(&w, &["fast"], 9).await), ["B"], "A runs one already");
    bed.settle(&w, &running[0], success()).await;
    assert_eq!(vendors(&bed.claim(&w, &["fast"], 9).await), ["A"]);
    assert!(bed.claim(&w, &["fast"], 9).await.is_empty());
}

#[tokio::test]
async fn a_type_that_goes_and_comes_back_neither_sticks_nor_hands_a_job_out_twice() {
    let mut bed = Bed::with(by_vendor(1)).await;
    let w = worker("w");
    accept(&bed, &["A", "B"]).await;
    let cancelled = bed.accept(with(of("C"), |o| o.id = Some("x".into()))).await;
    let running = bed.claim(&w, &["fast"], 1).await;
    let mail = bed.policy.job_types["mail"].clone();
    bed.change(|policy| drop(policy.job_types.remove("mail"))).await;
    bed.settle(&w, &running[0], success()).await;
    bed.queue.cancel(&[cancelled.clone()], "ops").await.unwrap();
    bed.change(|policy| {
        policy.job_types.insert("mail".into(), mail);
        policy.job_types.get_mut("mail").unwrap().completed.keep = 0;
    })
    .await;
    while bed.queue.sweep(&w, 100).await.unwrap().more {}
    bed.accept(with(of("D"), |o| o.id = Some("x".into()))).await;
    accept(&bed, &["A"]).await;
    let mut got = bed.claim(&w, &["fast"], 9).await;
    got.extend(bed.claim(&w, &["fast"], 9).await);
    assert_eq!(vendors(&got), ["A", "B", "D"]);
}

#[tokio::test]
async fn tightened_and_loosened_bounds_count_at_once() {
    let mut bed = Bed::with(by_vendor(10)).await;
    let w = worker("w");
    accept(&bed, &["A"; 6]).await;
    bed.claim(&w, &["fast"], 3).await;
    accept(&bed, &["B"]).await;
    bed.change(by_vendor(1)).await;
    assert_eq!(vendors(&bed.claim(&w, &["fast"], 1).await), ["B"], "A makes way for those behind");
    bed.change(by_vendor(5)).await;
    assert_eq!(vendors(&bed.claim(&w, &["fast"], 9).await), ["A", "A"]);
    // A lane's rate that was slow and is fast now.
    let mut bed = Bed::with(|policy| {
        policy.lanes[0].rate_limit = Some(RateLimit { limit: 10, per_ms: 3_600_000, burst: None, by: None });
    })
    .await;
    accept(&bed, &["A"; 30]).await;
    assert_eq!(bed.claim(&w, &["fast"], 50).await.len(), 10);
    bed.change(|policy| policy.lanes[0].rate_limit.as_mut().unwrap().per_ms = 10).await;
    assert!(!bed.claim(&w, &["fast"], 50).await.is_empty());
}

#[tokio::test]
async fn the_count_of_a_key_is_mended_with_its_lost_lease() {
    let bed = Bed::with(by_vendor(1)).await;
    let w = worker("w");
    accept(&bed, &["A", "A"]).await;
    let claimed = bed.claim(&w, &["fast"], 1).await;
    bed.poke(&["HDEL", &bed.key("l"), &claimed[0].id]).await;
    bed.expire(&claimed[0].id).await;
    bed.calm().await;
    for _ in 0..3 {
        bed.queue.sweep(&worker("s"), 100).await.unwrap();
    }
    assert_eq!(bed.claim(&w, &["fast"], 9).await.len(), 1, "one of the two, for one may run");
}

#[tokio::test]
async fn within_a_key_age_counts_against_priority() {
    let bed = Bed::with(by_vendor(5)).await;
    let w = worker("w");
    let old = bed.accept(with(of("A"), |o| o.priority = Some(9))).await;
    let due = bed.job(&old).await.enqueued_ms - 10 * 3_600_000;
    for line in ["q:mail", "y:mail:A"] {
        bed.poke(&["ZADD", &bed.key(line), "XX", &(90_000_000_000_000 + due).to_string(), &old]).await;
    }
    bed.accept(with(of("A"), |o| o.priority = Some(0))).await;
    assert_eq!(bed.claim(&w, &["fast"], 1).await[0].id, old);
}

#[tokio::test]
async fn one_probe_at_a_time_and_the_next_worker_is_woken() {
    let bed =
        Bed::with(|policy| policy.lanes[0].circuit = Some(Circuit { failures: 1, probe_after_ms: 50 })).await;
    let w = worker("w");
    accept(&bed, &["A"; 5]).await;
    let first = bed.claim(&w, &["fast"], 1).await;
    bed.settle(&w, &first[0], retry(60_000)).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    let mut wish = want(&["fast"], 3);
    wish.shares = vec![1];
    let probe = bed.claim_reply(&w, &wish).await.jobs;
    assert_eq!(probe.len(), 1);
    bed.poke(&["DEL", &bed.key("w:fast")]).await;
    bed.settle(&w, &probe[0], success()).await;
    assert_eq!(bed.raw::<u64>(&["LLEN", &bed.key("w:fast")]).await.unwrap(), 1);
}

#[tokio::test]
async fn odd_wishes_and_policies_are_refused_before_anything_is_written() {
    let bed = Bed::new().await;
    accept(&bed, &["A"; 3]).await;
    let root = bed.queue.name().root();
    let identity = b"\x94\xa1b\xa1w\xa1p\xa1n".as_slice();
    for limit in [b"\xa3abc".as_slice(), b"\xc3", b"\xcb\x7f\xf8\0\0\0\0\0\0"] {
        let wish = [b"\x93\x05\x91\xa4fast\x81\xa4mail".as_slice(), limit].concat();
        let mut call = redis::cmd("FCALL");
        call.arg("lk_claim").arg(1).arg(&root).arg(identity).arg("").arg(wish);
        let refused = call.query_async::<redis::Value>(&mut bed.queue.connection()).await.unwrap_err();
        assert_eq!(refused.code(), Some("LKARGS"), "{refused}");
    }
    assert_eq!(bed.claim(&worker("w"), &["fast"], 9).await.len(), 3, "nothing was taken");
    let policy = serde_json::to_value(&bed.policy).unwrap();
    let odd = [
        ("/lanes/0", serde_json::json!({})),
        ("/lanes/0/circuit", serde_json::json!({})),
        ("/lanes/0/rateLimit", serde_json::json!({"limit": 0, "perMs": 5})),
        ("/lanes/0/concurrency", serde_json::json!("many")),
        ("/jobTypes/mail/debounce", serde_json::json!({"waitMs": 5})),
        (
            "/jobTypes/mail/concurrencyKey",
            serde_json::json!({"key": [], "rateLimit": {"limit": 1, "perMs": 1, "by": {"path": ["t"], "limits": {"a": 0}}}}),
        ),
    ];
    for (place, value) in odd {
        let mut changed = policy.clone();
        let (parent, name) = place.rsplit_once('/').unwrap();
        match changed.pointer_mut(parent).unwrap() {
            serde_json::Value::Array(list) => list[name.parse::<usize>().unwrap()] = value,
            object => object[name] = value,
        }
        let refused = bed
            .raw::<redis::Value>(&[
                "FCALL",
                "lk_configure",
                "1",
                &root,
                &changed.to_string(),
                "kubernetes:a",
                "u1",
                "1000",
                "9",
                "0",
            ])
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Some("LKPOLICY"), "{place}: {refused}");
    }
    bed.queue.stats().await.unwrap();
}

#[tokio::test]
async fn jobs_that_run_since_before_their_type_had_a_key_do_not_loosen_its_limit() {
    let mut bed = Bed::new().await;
    let w = worker("w");
    let before = bed.running(&w, of("a")).await;
    bed.change(by_vendor(1)).await;
    let first = bed.running(&w, of("a")).await;
    bed.queue.sweep(&w, 200).await.unwrap();
    assert_eq!(bed.queue.stats().await.unwrap().damaged, 0);
    bed.settle(&w, &before, success()).await;
    accept(&bed, &["a"]).await;
    assert_eq!(bed.claim(&w, &["fast"], 5).await.len(), 0, "one of the key runs");
    bed.settle(&w, &first, success()).await;
    assert_eq!(bed.claim(&w, &["fast"], 5).await.len(), 1);
}

#[tokio::test]
async fn short_holds_one_after_the_other_are_one_long_one() {
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    bed.accept(job("mail", "1")).await;
    let held = |delay_ms| Outcome::Snooze { delay_ms, why: "429".into(), holds: Holds::Lane };
    for at in [0, 2_500, 64_000] {
        bed.at(at).await;
        let job = bed.claim(&w, &["fast"], 1).await.remove(0);
        bed.settle(&w, &job, held(2_000)).await;
    }
    let gate = bed.queue.stats().await.unwrap().gates.remove(0);
    let now = bed.queue.stats().await.unwrap().now_ms;
    assert_eq!((gate.gate, gate.since_ms.map(|since| now - since)), (Gate::Hold, Some(64_000)));
    let held_events = async || {
        let events = bed.queue.events(None, 100).await.unwrap();
        events.into_iter().filter(|event| event.kind == "held").count()
    };
    assert_eq!(held_events().await, 1);
    // After a minute of quiet it is news again.
    bed.at(126_001).await;
    let job = bed.claim(&w, &["fast"], 1).await.remove(0);
    bed.settle(&w, &job, held(2_000)).await;
    let gate = bed.queue.stats().await.unwrap().gates.remove(0);
    assert_eq!((gate.since_ms, held_events().await), (Some(now + 62_001), 2));
}

#[tokio::test]
async fn a_hold_that_is_over_dates_no_other_gate() {
    let bed = Bed::still(|policy| policy.lanes[0].concurrency = Some(1)).await;
    let w = worker("w");
    let first = bed.running(&w, job("mail", "1")).await;
    let held = Outcome::Snooze { delay_ms: 2_000, why: "429".into(), holds: Holds::Lane };
    bed.settle(&w, &first, held).await;
    bed.at(2_001).await;
    assert_eq!(bed.claim(&w, &["fast"], 1).await.len(), 1);
    let gate = bed.queue.stats().await.unwrap().gates.remove(0);
    assert_eq!((gate.gate, gate.since_ms), (Gate::Concurrency, None));
}

#[tokio::test]
async fn a_hold_ends_by_hand() {
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let first = bed.running(&w, job("mail", "1")).await;
    let next = bed.accept(job("mail", "2")).await;
    let held = Outcome::Snooze { delay_ms: 1_800_000, why: "429".into(), holds: Holds::Lane };
    bed.settle(&w, &first, held).await;
    assert!(bed.claim(&w, &["fast"], 5).await.is_empty());
    let resume = async |lanes: &[String]| bed.queue.resume("me", lanes).await.unwrap();
    assert!(!resume(&[]).await[0].changed, "the queue was not paused");
    assert!(bed.claim(&w, &["fast"], 5).await.is_empty());
    let lane = ["fast".to_owned()];
    assert!(resume(&lane).await[0].changed);
    assert_eq!(ids(&bed.claim(&w, &["fast"], 5).await), [&next]);
    assert!(!resume(&lane).await[0].changed, "nothing is left to lift");
}

#[tokio::test]
async fn a_pause_by_hand_outlives_a_policy_without_its_lane() {
    let mut bed = Bed::new().await;
    let lane = ["fast".to_owned()];
    bed.queue.pause("ada", "vendor", &lane).await.unwrap();
    let whole = bed.policy.clone();
    bed.change(|policy| {
        policy.lanes.remove(0);
        policy.job_types.retain(|_, spec| spec.lane == "slow");
    })
    .await;
    assert!(bed.queue.stats().await.unwrap().gates.is_empty(), "of the lanes that there are");
    bed.change(|policy| (policy.lanes, policy.job_types) = (whole.lanes, whole.job_types)).await;
    let gate = bed.queue.stats().await.unwrap().gates.remove(0);
    assert_eq!(
        (gate.gate, gate.by.as_deref(), gate.why.as_deref()),
        (Gate::Paused, Some("ada"), Some("vendor"))
    );
    bed.accept(job("mail", "x")).await;
    let w = worker("w");
    assert!(bed.claim(&w, &["fast"], 5).await.is_empty());
    assert!(bed.queue.resume("ada", &lane).await.unwrap()[0].changed);
    assert_eq!(bed.claim(&w, &["fast"], 5).await.len(), 1);
}

#[tokio::test]
async fn a_permanent_failure_starts_the_count_anew_but_closes_no_open_circuit() {
    let bed = Bed::still(|policy| {
        policy.lanes[0].circuit = Some(Circuit { failures: 2, probe_after_ms: 1_000 });
    })
    .await;
    let w = worker("w");
    let permanent = || {
        let error = AttemptError { class: ErrorClass::Permanent, ..error("401") };
        Outcome::Dead { reason: DeadReason::PermanentError, error, spends: Spends::Try }
    };
    bed.queue.enqueue(&vec![job("mail", "x"); 9]).await.unwrap();
    let running = bed.claim(&w, &["fast"], 5).await;
    let gates = async || bed.queue.stats().await.unwrap().gates;
    for (at, outcome) in [retry(60_000), permanent(), retry(60_000)].into_iter().enumerate() {
        bed.settle(&w, &running[at], outcome).await;
        assert!(gates().await.is_empty(), "two in a row are needed");
    }
    bed.settle(&w, &running[3], retry(60_000)).await;
    assert_eq!(gates().await[0].until_ms, Some(NOON_MS + 1_000));
    bed.settle(&w, &running[4], permanent()).await;
    assert_eq!(gates().await[0].until_ms, Some(NOON_MS + 1_000), "it ran when the circuit opened");
    // The dependency is up and refuses everything: one dead letter per probe, not the whole backlog.
    bed.at(1_000).await;
    let probe = bed.claim(&w, &["fast"], 5).await.remove(0);
    bed.settle(&w, &probe, permanent()).await;
    assert_eq!(gates().await[0].until_ms, Some(NOON_MS + 3_000), "a failed probe doubles the wait");
    assert!(bed.claim(&w, &["fast"], 5).await.is_empty());
    bed.at(3_000).await;
    let probe = bed.claim(&w, &["fast"], 5).await;
    assert_eq!(probe.len(), 1);
    bed.settle(&w, &probe[0], success()).await;
    assert!(gates().await.is_empty());
}

#[tokio::test]
async fn a_policy_without_the_circuit_lets_go_what_an_open_one_held() {
    let circuit = Some(Circuit { failures: 1, probe_after_ms: 60_000 });
    let mut bed = Bed::still(|policy| policy.lanes[0].circuit = circuit).await;
    let w = worker("w");
    bed.queue.enqueue(&vec![job("mail", "x"); 3]).await.unwrap();
    let first = bed.claim(&w, &["fast"], 1).await.remove(0);
    bed.settle(&w, &first, retry(60_000)).await;
    assert!(bed.claim(&w, &["fast"], 5).await.is_empty());
    bed.change(|policy| policy.lanes[0].circuit = None).await;
    assert_eq!(bed.claim(&w, &["fast"], 5).await.len(), 2);
}
