//! What holds due jobs back: pauses, concurrency, rates, holds, circuits; and turns between concurrency keys.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::common::*;
use lanekeeper_api::policy::{Circuit, ConcurrencyKey, KeyPart, LimitBy, QueuePolicy, RateLimit};
use lanekeeper_queue::types::*;

async fn accept_all(bed: &Bed, kind: &str, payloads: impl IntoIterator<Item = String>) {
    for payload in payloads {
        bed.accept(job(kind, payload)).await;
    }
}

/// That `lane` (none: the queue) was paused or resumed, or was so already.
fn toggled(lane: Option<&str>, changed: bool) -> [Toggled; 1] {
    [Toggled { lane: lane.map(str::to_owned), changed }]
}

fn rate(limit: u32, per_ms: u64) -> RateLimit {
    RateLimit { limit, per_ms, burst: None, by: None }
}

#[tokio::test]
async fn a_paused_queue_accepts_and_starts_nothing_and_a_paused_lane_only_itself() {
    let bed = Bed::new().await;
    let (w, fast) = (worker("w"), ["fast".to_owned()]);
    assert_eq!(bed.queue.pause("ada", "vendor is down", &[]).await.unwrap(), toggled(None, true));
    assert_eq!(
        bed.queue.pause("bob", "again", &[]).await.unwrap(),
        toggled(None, false),
        "the first word stands"
    );
    accept_all(&bed, "mail", ["1".into()]).await;
    accept_all(&bed, "report", ["2".into()]).await;
    let reply = bed.claim_reply(&w, &want(&["fast", "slow"], 5)).await;
    assert_eq!((reply.jobs.len(), reply.held.as_deref()), (0, Some("paused")));
    let stats = bed.queue.stats().await.unwrap();
    assert!(stats.paused);
    let gate = &stats.gates[0];
    assert_eq!((gate.lane.as_deref(), gate.gate, gate.until_ms), (None, Gate::Paused, None));
    assert_eq!((gate.by.as_deref(), gate.why.as_deref()), (Some("ada"), Some("vendor is down")));
    assert!(gate.since_ms.is_some_and(|since| stats.now_ms - since < 60_000), "{gate:?}");
    assert_eq!(bed.queue.resume("ada", &[]).await.unwrap(), toggled(None, true));
    assert_eq!(bed.queue.pause("ada", "", &fast).await.unwrap(), toggled(Some("fast"), true));
    assert_eq!(sent(&bed.claim(&w, &["fast", "slow"], 5).await), ["2"]);
    assert_eq!(bed.queue.resume("ada", &fast).await.unwrap(), toggled(Some("fast"), true));
    let tokens: u64 = bed.raw(&["LLEN", &bed.key("w:fast")]).await.unwrap();
    assert!(tokens >= 1, "someone is woken for what waited");
    assert_eq!(sent(&bed.claim(&w, &["fast", "slow"], 5).await), ["1"]);
    assert_eq!(bed.queue.resume("ada", &fast).await.unwrap(), toggled(Some("fast"), false));
    assert!(refusal(bed.queue.pause("ada", "", &["nope".into()]).await).contains("no lane nope"));
}

#[tokio::test]
async fn a_lane_runs_no_more_than_its_concurrency() {
    let bed = Bed::with(|policy| policy.lanes[0].concurrency = Some(3)).await;
    let (w, v) = (worker("w"), worker("v"));
    accept_all(&bed, "mail", (0..4).map(|n| n.to_string())).await;
    accept_all(&bed, "reset", (4..6).map(|n| n.to_string())).await;
    let first = bed.claim(&w, &["fast"], 2).await;
    assert_eq!(sent(&first), ["4", "5"]);
    let second = bed.claim(&v, &["fast"], 9).await;
    assert_eq!(sent(&second), ["0"]);
    assert!(bed.claim(&v, &["fast"], 9).await.is_empty());
    assert_eq!(bed.raw::<u64>(&["LLEN", &bed.key("w:fast")]).await.unwrap(), 0, "nobody is woken in vain");
    bed.settle(&w, &first[0], success()).await;
    assert_eq!(bed.raw::<u64>(&["LLEN", &bed.key("w:fast")]).await.unwrap(), 1, "one may go: one is woken");
    // Settled and taken in one call: the place that came free counts.
    let done = [settlement(&first[1], success())];
    let (_, reply) = bed.queue.settle_and_claim(&w, &done, &want(&["fast"], 9)).await.unwrap();
    assert_eq!(sent(&reply.jobs), ["1", "2"]);
}

#[tokio::test]
async fn a_rate_lets_a_burst_through_and_then_one_by_one() {
    let bed =
        Bed::with(|policy| policy.lanes[0].rate_limit = Some(RateLimit { burst: Some(4), ..rate(10, 1000) }))
            .await;
    let w = worker("w");
    accept_all(&bed, "mail", (0..9).map(|n| n.to_string())).await;
    let started = tokio::time::Instant::now();
    let first = bed.claim_reply(&w, &want(&["fast"], 9)).await;
    assert_eq!(sent(&first.jobs), ["0", "1", "2", "3"]);
    let opens = first.next_due_ms.expect("when the gate opens") - first.now_ms;
    assert!((90..=101).contains(&opens), "{opens}");
    let mut got = Vec::new();
    while got.len() < 5 {
        let reply = bed.claim_reply(&w, &want(&["fast"], 9)).await;
        got.extend(sent(&reply.jobs));
        if let Some(due) = reply.next_due_ms {
            tokio::time::sleep(Duration::from_millis(due.saturating_sub(reply.now_ms))).await;
        }
    }
    assert_eq!(got, ["4", "5", "6", "7", "8"]);
    // Five more at ten a second after the burst.
    assert!(started.elapsed() >= Duration::from_millis(495), "{:?}", started.elapsed());
}

fn hold(delay_ms: u64, holds: Holds) -> Outcome {
    Outcome::Snooze { delay_ms, why: "429".into(), holds }
}

#[tokio::test]
async fn a_lane_is_held_as_long_as_its_dependency_asked() {
    let bed = Bed::new().await;
    let w = worker("w");
    accept_all(&bed, "mail", ["1".into(), "2".into()]).await;
    let claimed = bed.claim(&w, &["fast"], 1).await;
    bed.settle(&w, &claimed[0], hold(300, Holds::Lane)).await;
    let reply = bed.claim_reply(&w, &want(&["fast"], 5)).await;
    assert!(reply.jobs.is_empty());
    let wait = reply.next_due_ms.unwrap() - reply.now_ms;
    assert!((1..=300).contains(&wait), "{wait}");
    let gates = bed.queue.stats().await.unwrap().gates;
    assert_eq!((gates[0].lane.as_deref(), gates[0].gate), (Some("fast"), Gate::Hold));
    tokio::time::sleep(Duration::from_millis(wait + 1)).await;
    let mut again = sent(&bed.claim(&w, &["fast"], 5).await);
    again.sort();
    assert_eq!(again, ["1", "2"]);
    assert!(bed.queue.stats().await.unwrap().gates.is_empty());
}

#[tokio::test]
async fn a_circuit_opens_on_failures_in_a_row_and_one_probe_closes_it() {
    let bed =
        Bed::with(|policy| policy.lanes[0].circuit = Some(Circuit { failures: 3, probe_after_ms: 200 }))
            .await;
    let w = worker("w");
    accept_all(&bed, "mail", (0..12).map(|n| n.to_string())).await;
    let running = bed.claim(&w, &["fast"], 5).await;
    bed.settle(&w, &running[0], retry(60_000)).await;
    bed.settle(&w, &running[1], retry(60_000)).await;
    bed.settle(&w, &running[2], success()).await;
    bed.settle(&w, &running[3], retry(60_000)).await;
    assert_eq!(bed.claim(&w, &["fast"], 1).await.len(), 1, "a success in between starts the count anew");
    let more = bed.claim(&w, &["fast"], 2).await;
    bed.settle(&w, &more[0], retry(60_000)).await;
    bed.settle(&w, &more[1], retry(60_000)).await;
    let reply = bed.claim_reply(&w, &want(&["fast"], 5)).await;
    assert!(reply.jobs.is_empty(), "open");
    let stats = bed.queue.stats().await.unwrap();
    let gates = &stats.gates;
    assert_eq!((gates[0].lane.as_deref(), gates[0].gate), (Some("fast"), Gate::Circuit));
    assert!(gates[0].since_ms.is_some_and(|since| stats.now_ms - since < 60_000), "{gates:?}");
    // What was running when it opened neither closes nor opens it further by failing.
    bed.settle(&w, &running[4], retry(60_000)).await;
    tokio::time::sleep(Duration::from_millis(reply.next_due_ms.unwrap() - reply.now_ms + 1)).await;
    let probe = bed.claim(&w, &["fast"], 5).await;
    assert_eq!(probe.len(), 1, "one job probes");
    assert!(bed.claim(&w, &["fast"], 5).await.is_empty(), "and only one");
    bed.settle(&w, &probe[0], retry(60_000)).await;
    let reply = bed.claim_reply(&w, &want(&["fast"], 5)).await;
    assert!(reply.jobs.is_empty());
    let wait = reply.next_due_ms.unwrap() - reply.now_ms;
    assert!((201..=400).contains(&wait), "twice as long: {wait}");
    tokio::time::sleep(Duration::from_millis(wait + 1)).await;
    let Stats { gates, now_ms, .. } = bed.queue.stats().await.unwrap();
    assert_eq!(
        (gates.len(), gates[0].gate, gates[0].until_ms),
        (1, Gate::Circuit, Some(now_ms)),
        "half open is not open: the next job goes at once"
    );
    let probe = bed.claim(&w, &["fast"], 5).await;
    let gates = bed.queue.stats().await.unwrap().gates;
    assert_eq!((gates[0].gate, gates[0].until_ms), (Gate::Circuit, None), "it probes");
    bed.settle(&w, &probe[0], success()).await;
    assert!(bed.queue.stats().await.unwrap().gates.is_empty());
    assert_eq!(bed.claim(&w, &["fast"], 9).await.len(), 2, "closed: the rest goes");
}

/// `mail` by vendor: at most two at once of each.
fn by_vendor(policy: &mut QueuePolicy) {
    key_of_mail(policy, Some(2), None);
}

fn key_of_mail(policy: &mut QueuePolicy, limit: Option<u32>, rate_limit: Option<RateLimit>) {
    let key = vec![KeyPart::Path(vec!["v".into()])];
    policy.job_types.get_mut("mail").unwrap().concurrency_key =
        Some(ConcurrencyKey { key, limit, rate_limit });
}

fn of(vendor: &str, n: usize) -> String {
    format!(r#"{{"v":"{vendor}","n":{n}}}"#)
}

fn vendors(jobs: &[Claimed]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for job in jobs {
        let value: Value = serde_json::from_slice(&job.payload).unwrap();
        *found.entry(value["v"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    found
}

#[tokio::test]
async fn keys_take_turns_and_none_runs_more_than_its_limit() {
    let bed = Bed::with(by_vendor).await;
    let w = worker("w");
    accept_all(&bed, "mail", (0..50).map(|n| of("big", n))).await;
    accept_all(&bed, "mail", (0..3).map(|n| of("small", n))).await;
    accept_all(&bed, "mail", (0..3).map(|n| of("tiny", n))).await;
    let first = bed.claim(&w, &["fast"], 3).await;
    assert_eq!(vendors(&first), [("big".into(), 1), ("small".into(), 1), ("tiny".into(), 1)].into());
    let second = bed.claim(&w, &["fast"], 9).await;
    assert_eq!(vendors(&second), [("big".into(), 1), ("small".into(), 1), ("tiny".into(), 1)].into());
    let reply = bed.claim_reply(&w, &want(&["fast"], 9)).await;
    assert!(reply.jobs.is_empty() && reply.next_due_ms.is_none(), "all at their limit");
    let stats = bed.queue.stats().await.unwrap();
    let mail = stats.lanes[0].types.iter().find(|t| t.name == "mail").unwrap();
    assert_eq!((mail.ready, mail.running), (50, 6));
    let big = first.iter().find(|job| job.payload.starts_with(b"{\"v\":\"big\"")).unwrap();
    let done = [settlement(big, success())];
    let (_, reply) = bed.queue.settle_and_claim(&w, &done, &want(&["fast"], 9)).await.unwrap();
    assert_eq!(vendors(&reply.jobs), [("big".into(), 1)].into());
    // A retry stands in its key's line again, a cancelled job leaves it, a dead one frees its place.
    let small: Vec<_> =
        first.iter().chain(&second).filter(|job| job.payload.starts_with(b"{\"v\":\"small\"")).collect();
    bed.settle(&w, small[0], retry(0)).await;
    bed.settle(&w, small[1], dead("no")).await;
    let waiting =
        bed.queue.find(&Find { state: Some(JobState::Ready), limit: 200, ..Find::default() }).await.unwrap();
    let to_cancel: Vec<String> =
        waiting.jobs.iter().filter(|job| job.id != small[0].id).map(|job| job.id.clone()).collect();
    bed.queue.cancel(&to_cancel, "ops").await.unwrap();
    let last = bed.claim(&w, &["fast"], 9).await;
    assert_eq!(last.iter().map(|job| &job.id).collect::<Vec<_>>(), [&small[0].id]);
    assert_eq!(
        bed.raw::<u64>(&["EXISTS", &bed.key("yt:mail"), &bed.key("yp:mail")]).await.unwrap(),
        0,
        "no group waits"
    );
    assert_eq!(
        bed.raw::<BTreeMap<String, u32>>(&["HGETALL", &bed.key("yr:mail")])
            .await
            .unwrap()
            .values()
            .sum::<u32>(),
        5
    );
}

#[tokio::test]
async fn a_key_has_a_rate_that_may_differ_by_class_and_may_be_held_alone() {
    let bed = Bed::with(|policy| {
        let by = LimitBy { path: vec!["tier".into()], limits: [("premium".into(), 4)].into() };
        key_of_mail(policy, None, Some(RateLimit { by: Some(by), ..rate(2, 60_000) }));
    })
    .await;
    let w = worker("w");
    let tier = |vendor: &str, tier: &str| format!(r#"{{"v":"{vendor}","tier":"{tier}"}}"#);
    accept_all(&bed, "mail", (0..6).map(|_| tier("rich", "premium"))).await;
    accept_all(&bed, "mail", (0..6).map(|_| tier("poor", "basic"))).await;
    accept_all(&bed, "mail", (0..6).map(|n| of("none", n))).await;
    let first = bed.claim_reply(&w, &want(&["fast"], 99)).await;
    assert_eq!(vendors(&first.jobs), [("none".into(), 2), ("poor".into(), 2), ("rich".into(), 4)].into());
    let opens = first.next_due_ms.unwrap() - first.now_ms;
    assert!((14_900..=15_001).contains(&opens), "premium gets one every 15 s: {opens}");
    // Held alone: the others are not touched.
    let bed = Bed::with(by_vendor).await;
    accept_all(&bed, "mail", (0..2).flat_map(|n| [of("a", n), of("b", n)])).await;
    let running = bed.claim(&w, &["fast"], 2).await;
    let a = running.iter().find(|job| job.payload.starts_with(b"{\"v\":\"a\"")).unwrap();
    bed.settle(&w, a, hold(250, Holds::Key)).await;
    let going: Vec<String> = bed.raw(&["ZRANGE", &bed.key("yt:mail"), "0", "-1"]).await.unwrap();
    assert_eq!(going, ["b"], "nobody is woken for a key that is held");
    let reply = bed.claim_reply(&w, &want(&["fast"], 9)).await;
    assert_eq!(vendors(&reply.jobs), [("b".into(), 1)].into());
    let wait = reply.next_due_ms.unwrap() - reply.now_ms;
    tokio::time::sleep(Duration::from_millis(wait + 1)).await;
    assert_eq!(vendors(&bed.claim(&w, &["fast"], 9).await), [("a".into(), 2)].into());
}

#[tokio::test]
async fn jobs_from_before_their_type_had_a_key_are_served_and_the_queue_leaves_nothing_behind() {
    let mut bed = Bed::new().await;
    let w = worker("w");
    accept_all(&bed, "mail", (0..5).map(|n| of("a", n))).await;
    bed.accept(with(job("mail", of("a", 9)), |o| o.delay = Some(1))).await;
    bed.change(by_vendor).await;
    accept_all(&bed, "mail", (10..13).map(|n| of("a", n))).await;
    let mut served = 0;
    while served < 9 {
        let got = bed.claim(&w, &["fast"], 99).await;
        assert!(
            (1..=2).contains(&got.len()),
            "two of the key at once, also of those from before: {}",
            got.len()
        );
        served += got.len();
        for job in &got {
            bed.settle(&w, job, success()).await;
        }
    }
    bed.claim(&w, &["fast"], 99).await;
    let remembered: Vec<String> = bed.raw(&["HKEYS", &bed.key("g")]).await.unwrap();
    assert!(remembered.is_empty(), "nobody looks for jobs from before any more: {remembered:?}");
    let refused = bed.put(job("mail", "{}")).await;
    assert!(matches!(refused, Enqueued::Rejected { ref reason, .. } if reason == "key-field"), "{refused:?}");
    bed.queue.destroy().await.unwrap();
    let left: Vec<String> = bed.raw(&["KEYS", "lk:*"]).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_waiting_job_is_told_what_bounds_its_key() {
    let bed = Bed::with(|policy| key_of_mail(policy, Some(2), Some(rate(3, 60_000)))).await;
    let w = worker("w");
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(bed.accept(job("mail", of("a", n))).await);
    }
    let other = bed.accept(job("report", "{}")).await;
    let standing = |id: &str| {
        let (queue, id) = (bed.queue.clone(), id.to_owned());
        async move { queue.key_standing(&id).await.unwrap() }
    };
    let fresh = KeyStanding {
        key: "a".into(),
        running: 0,
        limit: Some(2),
        held_until_ms: None,
        rate_opens_ms: None,
        ahead: 4,
    };
    assert_eq!(standing(&ids[4]).await, Some(fresh.clone()));
    let running = bed.claim(&w, &["fast"], 9).await;
    assert_eq!(standing(&ids[4]).await, Some(KeyStanding { running: 2, ahead: 2, ..fresh.clone() }));
    assert_eq!(standing(&running[0].id).await, None, "it is not in line");
    assert_eq!(standing(&other).await, None, "its type has no key");
    // The third of the rate's three goes; then the rate is spent until the first has drained away.
    bed.settle(&w, &running[0], success()).await;
    bed.claim(&w, &["fast"], 9).await;
    let now = bed.queue.stats().await.unwrap().now_ms;
    let spent = standing(&ids[4]).await.unwrap();
    let opens = spent.rate_opens_ms.expect("the rate is spent") - now;
    // The moment is rounded up, and what is now was rounded down.
    assert!((1..=20_001).contains(&opens), "{opens}");
    assert_eq!((spent.running, spent.ahead, spent.held_until_ms), (2, 1, None));
    bed.settle(&w, &running[1], hold(30_000, Holds::Key)).await;
    let held = standing(&ids[4]).await.unwrap().held_until_ms.expect("the key is held") - now;
    assert!((29_000..=40_000).contains(&held), "{held}");
}

#[tokio::test]
async fn the_class_of_a_key_bounds_its_rate_as_it_is_told() {
    // As validation escapes the values of limits, so Redis renders them.
    let bed = Bed::with(|policy| {
        let by = LimitBy { path: vec!["tier".into()], limits: [("eu%3Apremium".into(), 4)].into() };
        key_of_mail(policy, None, Some(RateLimit { by: Some(by), ..rate(2, 60_000) }));
    })
    .await;
    accept_all(&bed, "mail", (0..3).map(|_| r#"{"v":"rich","tier":"eu:premium"}"#.to_owned())).await;
    let last = bed.accept(job("mail", r#"{"v":"rich","tier":"eu:premium"}"#)).await;
    assert_eq!(bed.claim(&worker("w"), &["fast"], 3).await.len(), 3);
    let standing = bed.queue.key_standing(&last).await.unwrap().unwrap();
    assert_eq!((standing.limit, standing.rate_opens_ms), (None, None), "premium has one more of its four");
}

#[tokio::test]
async fn claims_of_one_job_go_round_all_keys_and_finished_jobs_leave_nothing_behind() {
    let bed = Bed::with(|policy| {
        by_vendor(policy);
        policy.job_types.get_mut("mail").unwrap().completed.keep = 1;
    })
    .await;
    let w = worker("w");
    accept_all(&bed, "mail", (0..4).flat_map(|n| ["a", "b", "c"].map(|vendor| of(vendor, n)))).await;
    let mut order = Vec::new();
    for _ in 0..12 {
        let job = bed.claim(&w, &["fast"], 1).await.remove(0);
        order.extend(vendors(std::slice::from_ref(&job)).into_keys());
        bed.settle(&w, &job, success()).await;
    }
    for round in order.chunks(3) {
        let mut round = round.to_vec();
        round.sort();
        assert_eq!(round, ["a", "b", "c"], "{order:?}");
    }
    assert_eq!(bed.raw::<u64>(&["HLEN", &bed.key("yg")]).await.unwrap(), 1, "of the one job that is kept");
    assert_eq!(bed.raw::<u64>(&["HLEN", &bed.key("a")]).await.unwrap(), 1);
    let left: Vec<String> = bed.raw(&["KEYS", &bed.key("y?:*")]).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}
