//! What a type with concurrency keys goes by: among the types of its lane, and its lane among others.

use super::common::*;
use lanekeeper_api::policy::{ConcurrencyKey, KeyPart, QueuePolicy, RateLimit};
use lanekeeper_queue::types::*;

/// `mail` has the key `v`, `limited` of the same lane has none; so has `report`, in a lane of its own.
fn keyed(limit: u32) -> impl FnOnce(&mut QueuePolicy) {
    let key = vec![KeyPart::Path(vec!["v".into()])];
    move |policy| {
        policy.job_types.get_mut("mail").unwrap().concurrency_key =
            Some(ConcurrencyKey { key, limit: Some(limit), rate_limit: None });
    }
}

fn of(key: &str, priority: u8) -> NewJob {
    with(job("mail", format!(r#"{{"v":"{key}"}}"#)), |o| o.priority = Some(priority))
}

/// A bed in which these came a millisecond after each other: (name, how many, priority). `p` and `r` have no keys.
async fn bed_with(limit: u32, jobs: &[(&str, usize, u8)]) -> Bed {
    let bed = Bed::still(keyed(limit)).await;
    come(&bed, 0, jobs).await;
    bed
}

async fn come(bed: &Bed, mut at: u64, jobs: &[(&str, usize, u8)]) {
    for (name, count, priority) in jobs {
        for _ in 0..*count {
            at += 1;
            bed.at(at).await;
            let job = match *name {
                "p" | "r" => {
                    let kind = if *name == "p" { "limited" } else { "report" };
                    with(job(kind, *name), |o| o.priority = Some(*priority))
                }
                key => of(key, *priority),
            };
            bed.accept(job).await;
        }
    }
}

/// What claims get, one a millisecond from `at` on, until one gets none: keys, or `p` and `r`.
async fn drained(bed: &Bed, mut at: u64, wish: &ClaimRequest) -> String {
    let mut got = String::new();
    loop {
        at += 1;
        bed.at(at).await;
        let jobs = bed.claim_reply(&worker("w"), wish).await.jobs;
        if jobs.is_empty() {
            return got;
        }
        got.extend(jobs.iter().map(name));
    }
}

fn name(job: &Claimed) -> char {
    let payload = String::from_utf8(job.payload.clone()).unwrap();
    payload.strip_prefix(r#"{"v":""#).unwrap_or(&payload).chars().next().unwrap()
}

#[tokio::test]
async fn old_jobs_of_a_key_wait_for_no_turn_of_a_key_with_late_ones() {
    for room in [1, 10, 100] {
        let bed = bed_with(1_000, &[("a", 6, 5), ("p", 20, 5), ("b", 3, 5)]).await;
        let got = drained(&bed, 100, &want(&["fast"], room)).await;
        assert_eq!(got, format!("abababaaa{}", "p".repeat(20)), "by {room}");
    }
}

#[tokio::test]
async fn urgent_jobs_of_a_key_wait_for_no_turn_of_a_key_with_others() {
    for room in [1, 10, 100] {
        let bed = bed_with(1_000, &[("p", 3, 5), ("a", 6, 0), ("b", 1, 9)]).await;
        assert_eq!(drained(&bed, 100, &want(&["fast"], room)).await, "abaaaaappp", "by {room}");
    }
    // Others that keep coming make no difference.
    let bed = bed_with(1_000, &[("a", 6, 0), ("b", 1, 9)]).await;
    let mut got = String::new();
    for n in 0..7 {
        come(&bed, 100 + n, &[("p", 1, 5)]).await;
        got.extend(bed.claim(&worker("w"), &["fast"], 1).await.iter().map(name));
    }
    assert_eq!(got, "abaaaaa");
}

#[tokio::test]
async fn once_its_urgent_jobs_are_gone_a_type_goes_by_what_is_left() {
    for room in [1, 2, 10, 100] {
        let bed = bed_with(1_000, &[("a", 1, 0), ("b", 2, 9), ("c", 1, 9), ("p", 3, 5)]).await;
        assert_eq!(drained(&bed, 100, &want(&["fast"], room)).await, "apppbcb", "by {room}");
    }
}

#[tokio::test]
async fn a_key_at_its_limit_lends_its_type_nothing() {
    for room in [1, 2, 10, 100] {
        let bed = bed_with(1, &[("a", 3, 0), ("p", 2, 5), ("b", 1, 5)]).await;
        assert_eq!(drained(&bed, 100, &want(&["fast"], room)).await, "appb", "by {room}");
        let bed = bed_with(2, &[("a", 3, 0), ("b", 1, 9), ("p", 2, 5), ("c", 1, 5)]).await;
        assert_eq!(drained(&bed, 100, &want(&["fast"], room)).await, "abcapp", "by {room}");
    }
}

#[tokio::test]
async fn a_held_key_lends_its_type_nothing_until_it_may_go() {
    for room in [1, 10] {
        let bed = bed_with(1_000, &[("a", 4, 0)]).await;
        let first = bed.claim(&worker("w"), &["fast"], 1).await.remove(0);
        let patience = Outcome::Snooze { delay_ms: 60_000, why: "429".into(), holds: Holds::Key };
        bed.settle(&worker("w"), &first, patience).await;
        come(&bed, 10, &[("p", 2, 5), ("b", 2, 5)]).await;
        assert_eq!(drained(&bed, 100, &want(&["fast"], room)).await, "ppbb", "by {room}");
        come(&bed, 70_000, &[("p", 2, 5), ("b", 2, 5)]).await;
        // The hold is over for the key, and for the job that was put off.
        assert_eq!(drained(&bed, 80_000, &want(&["fast"], room)).await, "babaaapp", "by {room}");
    }
}

#[tokio::test]
async fn a_key_beyond_its_rate_lends_its_type_nothing() {
    let mut bed = bed_with(1_000, &[("a", 3, 0), ("p", 2, 5), ("b", 1, 5)]).await;
    bed.change(|policy| {
        let key = policy.job_types.get_mut("mail").unwrap().concurrency_key.as_mut().unwrap();
        key.rate_limit = Some(RateLimit { limit: 1, per_ms: 60_000, burst: None, by: None });
    })
    .await;
    assert_eq!(drained(&bed, 100, &want(&["fast"], 1)).await, "appb");
}

#[tokio::test]
async fn behind_many_jobs_that_may_not_go_the_first_that_may_is_found() {
    for room in [1, 10, 100] {
        let bed = bed_with(1, &[("a", 1, 5)]).await;
        bed.claim(&worker("w"), &["fast"], 1).await;
        come(&bed, 10, &[("c", 1, 9), ("d", 1, 9), ("a", 40, 5), ("b", 1, 5), ("p", 2, 5)]).await;
        // The turns are of c, d and b, and by b's job the type goes before p until that is gone.
        assert_eq!(drained(&bed, 100, &want(&["fast"], room)).await, "cdbpp", "by {room}");
        // Of b one may go: its other job lends d nothing.
        let bed = bed_with(1, &[("a", 1, 5)]).await;
        bed.claim(&worker("w"), &["fast"], 1).await;
        come(&bed, 10, &[("c", 1, 9), ("a", 40, 5), ("b", 2, 5), ("d", 1, 9), ("p", 2, 5)]).await;
        assert_eq!(drained(&bed, 100, &want(&["fast"], room)).await, "cbppd", "by {room}");
    }
}

#[tokio::test]
async fn a_job_that_its_keys_line_has_lost_lends_its_type_nothing() {
    let bed = bed_with(1_000, &[("b", 1, 9)]).await;
    bed.at(2).await;
    let lost = bed.accept(of("a", 0)).await;
    come(&bed, 2, &[("p", 2, 5), ("a", 1, 9)]).await;
    bed.poke(&["ZREM", &bed.key("y:mail:a"), &lost]).await;
    assert_eq!(drained(&bed, 100, &want(&["fast"], 1)).await, "ppba");
}

#[tokio::test]
async fn a_key_that_has_a_turn_and_no_room_any_more_lends_its_type_nothing() {
    let mut bed = bed_with(1_000, &[("a", 3, 0), ("b", 1, 9), ("p", 2, 5)]).await;
    assert_eq!(name(&bed.claim(&worker("w"), &["fast"], 1).await[0]), 'a');
    bed.change(keyed(1)).await;
    assert_eq!(drained(&bed, 100, &want(&["fast"], 1)).await, "ppb");
}

#[tokio::test]
async fn a_claim_of_many_goes_as_claims_of_one_do() {
    let mut seen = Vec::new();
    for room in [1, 3, 7, 40, 200] {
        let bed = Bed::still(keyed(3)).await;
        for n in 0..60_u8 {
            let key = ["a", "b", "p", "c", "p", "d", "a"][usize::from(n) % 7];
            come(&bed, u64::from(n), &[(key, 1, [5, 0, 9, 5, 4][usize::from(n) % 5])]).await;
        }
        seen.push(drained(&bed, 100, &want(&["fast"], room)).await);
        assert_eq!(seen[0], *seen.last().unwrap(), "by {room}");
    }
    assert_eq!(seen[0].len(), 12 + seen[0].matches('p').count());
}

#[tokio::test]
async fn by_deadline_a_lane_goes_by_the_first_of_its_jobs_that_may_go() {
    for room in [1, 4, 10] {
        let bed = bed_with(1_000, &[("a", 3, 5), ("r", 2, 5), ("b", 1, 5)]).await;
        let wish = ClaimRequest { order: ClaimOrder::Deadline, ..want(&["slow", "fast"], room) };
        assert_eq!(drained(&bed, 100, &wish).await, "abaarr", "by {room}");
        // What may not go makes no lane urgent.
        let bed = bed_with(1, &[("a", 3, 5), ("r", 2, 5), ("b", 1, 5)]).await;
        let got = drained(&bed, 100, &wish).await;
        let expected = if room == 1 { "arrb" } else { "abrr" };
        assert_eq!(got, expected, "by {room}; claims are served lane by lane");
    }
}

#[tokio::test]
async fn jobs_beyond_those_of_a_large_claim_count() {
    for room in [1, 16, 40, 100] {
        let bed = bed_with(1_000, &[("a", 30, 5), ("p", 5, 5), ("b", 40, 5)]).await;
        let expected = format!("{}appppp{}", "ab".repeat(29), "b".repeat(11));
        assert_eq!(drained(&bed, 100, &want(&["fast"], room)).await, expected, "by {room}");
    }
}
