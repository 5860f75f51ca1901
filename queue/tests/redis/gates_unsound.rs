//! What gates remember and cannot be right: ends from before the clock went back, fields that cannot be read, and what the policy
//! no longer has.

use super::common::*;
use lanekeeper_api::policy::{Circuit, ConcurrencyKey, KeyPart, LanePolicy, QueuePolicy, RateLimit};
use lanekeeper_queue::testing::clock;
use lanekeeper_queue::types::*;

const HOUR_MS: u64 = 3_600_000;
/// By so much more than it was long a wait may end in the future.
const SLACK_MS: u64 = 60_000;

/// A lane with a circuit, a type with a key.
async fn bed() -> Bed {
    Bed::still(|policy| {
        policy.lanes[0].circuit = Some(Circuit { failures: 1, probe_after_ms: 5_000 });
        keyed(policy, true);
    })
    .await
}

fn keyed(policy: &mut QueuePolicy, has_key: bool) {
    let key = vec![KeyPart::Path(vec!["v".into()])];
    policy.job_types.get_mut("mail").unwrap().concurrency_key =
        has_key.then_some(ConcurrencyKey { key, limit: None, rate_limit: None });
}

fn hold(delay_ms: u64, holds: Holds) -> Outcome {
    Outcome::Snooze { delay_ms, why: "429".into(), holds }
}

async fn back_by(bed: &Bed, ms: u64) {
    clock::set(&mut bed.queue.connection(), (NOON_MS - ms) * 1_000).await.unwrap();
}

/// Two jobs of one key, of which the first ended so.
async fn after(bed: &Bed, outcome: Outcome) -> String {
    let w = worker("w");
    let first = bed.running(&w, job("mail", r#"{"v":"a"}"#)).await;
    let next = bed.accept(job("mail", r#"{"v":"a"}"#)).await;
    bed.settle(&w, &first, outcome).await;
    next
}

async fn gates(bed: &Bed) -> Vec<(Gate, Option<u64>)> {
    let stats = bed.queue.stats().await.unwrap();
    stats.gates.into_iter().map(|gate| (gate.gate, gate.until_ms)).collect()
}

#[tokio::test]
async fn no_gate_stays_closed_for_as_long_as_the_clock_went_back() {
    for (outcome, gate) in [
        (hold(5_000, Holds::Lane), Some(Gate::Hold)),
        (hold(5_000, Holds::Key), None),
        (retry(HOUR_MS), Some(Gate::Circuit)),
    ] {
        let bed = bed().await;
        let next = after(&bed, outcome).await;
        let end = NOON_MS + 5_000;
        let claim = async || bed.claim(&worker("w"), &["fast"], 5).await;
        let held = async || bed.queue.key_standing(&next).await.unwrap().unwrap().held_until_ms;
        // A small step makes the wait as much longer.
        for step in [0, 1, SLACK_MS] {
            back_by(&bed, step).await;
            assert!(claim().await.is_empty(), "{gate:?}, {step} ms back");
            let told = if gate.is_some() { gates(&bed).await[0].1 } else { held().await };
            assert_eq!(told, Some(end), "{gate:?}, {step} ms back");
        }
        back_by(&bed, SLACK_MS + 1).await;
        assert_eq!(held().await, None);
        let half_open = gate.filter(|gate| *gate == Gate::Circuit);
        let now_ms = bed.queue.stats().await.unwrap().now_ms;
        assert_eq!(gates(&bed).await, half_open.map(|gate| (gate, Some(now_ms))).as_slice());
        assert_eq!(ids(&claim().await), [next], "{gate:?}");
    }
}

#[tokio::test]
async fn a_hold_told_after_the_clock_went_back_is_as_long_as_it_says() {
    for holds in [Holds::Lane, Holds::Key] {
        let bed = bed().await;
        let w = worker("w");
        after(&bed, hold(5_000, holds)).await;
        back_by(&bed, HOUR_MS).await;
        let next = bed.claim(&w, &["fast"], 1).await.remove(0);
        let last = bed.accept(job("mail", r#"{"v":"a"}"#)).await;
        bed.settle(&w, &next, hold(2_000, holds)).await;
        back_by(&bed, HOUR_MS - 1_999).await;
        assert!(bed.claim(&w, &["fast"], 5).await.is_empty());
        back_by(&bed, HOUR_MS - 2_000).await;
        assert!(ids(&bed.claim(&w, &["fast"], 5).await).contains(&last.as_str()));
    }
}

#[tokio::test]
async fn a_hold_of_a_lane_does_not_begin_anew_once_the_clock_has_caught_up() {
    let bed = bed().await;
    after(&bed, hold(5_000, Holds::Lane)).await;
    bed.queue.sweep(&worker("s"), 100).await.unwrap();
    assert_eq!(gates(&bed).await, [(Gate::Hold, Some(NOON_MS + 5_000))], "sweeps leave those that go on");
    back_by(&bed, HOUR_MS).await;
    bed.queue.sweep(&worker("s"), 100).await.unwrap();
    bed.at(0).await;
    assert_eq!(gates(&bed).await, []);
    assert_eq!(bed.queue.stats().await.unwrap().damaged, 0);
}

#[tokio::test]
async fn a_shorter_hold_ends_none_that_is_longer() {
    for holds in [Holds::Lane, Holds::Key] {
        let bed = bed().await;
        let w = worker("w");
        for _ in 0..3 {
            bed.accept(job("mail", r#"{"v":"a"}"#)).await;
        }
        let both = bed.claim(&w, &["fast"], 2).await;
        bed.settle(&w, &both[0], hold(HOUR_MS, holds)).await;
        bed.settle(&w, &both[1], hold(1_000, holds)).await;
        bed.at(HOUR_MS - 1).await;
        assert!(bed.claim(&w, &["fast"], 5).await.is_empty());
        bed.queue.sweep(&worker("s"), 100).await.unwrap();
        assert!(bed.claim(&w, &["fast"], 5).await.is_empty());
        bed.at(HOUR_MS).await;
        assert_eq!(bed.claim(&w, &["fast"], 5).await.len(), 3);
    }
}

#[tokio::test]
async fn a_field_that_cannot_be_read_closes_no_gate_and_goes_with_the_next_sweep() {
    for field in ["h:fast", "o:fast", "t:fast", "f:fast", "ungrouped:mail", "doubted:mail"] {
        for junk in [
            "junk",
            "",
            "-1 2 3",
            "nan",
            "inf",
            "0x10",
            "9999999999999999 1 9999999999999999",
            "\u{1}",
            "a:b",
            "nan:b",
            "5 :b",
        ] {
            let bed = Bed::still(|policy| {
                policy.lanes[0].circuit = Some(Circuit { failures: 2, probe_after_ms: 5_000 });
                policy.lanes[0].rate_limit =
                    Some(RateLimit { limit: 9, per_ms: 1_000, burst: None, by: None });
                keyed(policy, true);
            })
            .await;
            let w = worker("w");
            bed.accept(job("mail", r#"{"v":"a"}"#)).await;
            bed.accept(job("mail", r#"{"v":"a"}"#)).await;
            bed.poke(&["HSET", &bed.key("g"), field, junk]).await;
            assert_eq!(gates(&bed).await, [], "{field} {junk:?}");
            let first = bed.claim(&w, &["fast"], 1).await.remove(0);
            // A circuit that opens after two failures does so, whatever stood there.
            bed.settle(&w, &first, retry(HOUR_MS)).await;
            assert_eq!(gates(&bed).await, [], "{field} {junk:?}");
            bed.poke(&["HSET", &bed.key("g"), field, junk]).await;
            bed.queue.sweep(&w, 100).await.unwrap();
            let left: Option<String> = bed.raw(&["HGET", &bed.key("g"), field]).await.unwrap();
            assert_eq!(left, None, "{field} {junk:?}");
            let damaged = u64::from(!field.ends_with(":mail"));
            assert_eq!(bed.queue.stats().await.unwrap().damaged, damaged, "{field} {junk:?}");
            assert_eq!(bed.claim(&w, &["fast"], 5).await.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_key_whose_hold_cannot_be_read_is_not_held() {
    let bed = bed().await;
    let next = after(&bed, hold(5_000, Holds::Key)).await;
    for junk in ["junk", "", "9999999999999", "1.", ".5", "nan"] {
        bed.poke(&["HSET", &bed.key("yh:mail"), "a", junk]).await;
        let standing = bed.queue.key_standing(&next).await.unwrap().unwrap();
        assert_eq!(standing.held_until_ms, None, "{junk:?}");
    }
    bed.at(5_001).await;
    assert_eq!(bed.claim(&worker("w"), &["fast"], 5).await.len(), 2);
}

#[tokio::test]
async fn a_circuit_that_left_the_policy_is_forgotten() {
    for failures in [1, 2] {
        let circuit = Circuit { failures, probe_after_ms: HOUR_MS };
        let mut bed = Bed::still(|policy| policy.lanes[0].circuit = Some(circuit)).await;
        let w = worker("w");
        let first = bed.running(&w, job("mail", "x")).await;
        bed.settle(&w, &first, retry(HOUR_MS)).await;
        bed.change(|policy| policy.lanes[0].circuit = None).await;
        bed.change(|policy| policy.lanes[0].circuit = Some(Circuit { failures: 2, ..circuit })).await;
        let next = bed.running(&w, job("mail", "x")).await;
        bed.settle(&w, &next, retry(HOUR_MS)).await;
        assert_eq!(gates(&bed).await, [], "one failure in its new life");
    }
}

#[tokio::test]
async fn what_is_left_to_sort_of_a_type_goes_with_its_key() {
    let mut bed = Bed::still(|_| {}).await;
    bed.accept(job("mail", r#"{"v":"a"}"#)).await;
    let flag = bed.key("g");
    let noted = async |bed: &Bed| bed.raw::<bool>(&["HEXISTS", &flag, "ungrouped:mail"]).await.unwrap();
    bed.change(|policy| keyed(policy, true)).await;
    assert!(noted(&bed).await);
    bed.change(|policy| policy.paused = true).await;
    assert!(noted(&bed).await, "as long as the type has one");
    bed.change(|policy| keyed(policy, false)).await;
    assert!(!noted(&bed).await);
}

#[tokio::test]
async fn a_lane_without_job_types_has_figures_like_any_other() {
    let spare = LanePolicy { concurrency: Some(2), ..LanePolicy::new("spare", 10_000) };
    let bed = Bed::with(|policy| policy.lanes.push(spare)).await;
    let stats = bed.queue.stats().await.unwrap();
    assert_eq!(stats.lanes.last().unwrap().name, "spare");
    assert_eq!(stats.gates, []);
}
