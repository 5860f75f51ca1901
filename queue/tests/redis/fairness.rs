//! Age against priority within a lane; shares and deadlines between lanes.

use super::common::*;
use lanekeeper_queue::types::*;

/// Makes a ready job of the type look due since so many ms, as waiting would.
async fn aged(bed: &Bed, kind: &str, id: &str, priority: u64, ms: u64) {
    let due = bed.job(id).await.enqueued_ms - ms;
    let score = (priority * 10_000_000_000_000 + due).to_string();
    bed.poke(&["ZADD", &bed.key(&format!("q:{kind}")), "XX", &score, id]).await;
}

/// One level is worth ten promises of 10 s, but at least 10 minutes.
const STEP_MS: u64 = 600_000;

#[tokio::test]
async fn age_outweighs_priority_level_by_level() {
    let bed = Bed::new().await;
    let w = worker("w");
    for (kind, payload, priority, waited) in [
        ("mail", "first come", 5, 0),
        ("mail", "not old enough", 7, 2 * STEP_MS - 5_000),
        ("mail", "old enough", 7, 2 * STEP_MS + 5_000),
        ("limited", "oldest", 9, 4 * STEP_MS + 60_000),
        ("reset", "urgent", 0, 0),
    ] {
        let id = bed
            .accept(with(job(kind, payload), |o| o.priority = Some(u8::try_from(priority).unwrap())))
            .await;
        aged(&bed, kind, &id, priority, waited).await;
    }
    let expected = ["urgent", "oldest", "old enough", "first come", "not old enough"];
    let ready = bed.queue.find(&Find { limit: 9, ..Find::default() }).await.unwrap().jobs;
    let mut places = Vec::new();
    for job in &ready {
        places.push((bed.queue.position(&job.id).await.unwrap().unwrap().ahead, job.id.clone()));
    }
    places.sort();
    assert_eq!(places.iter().map(|(ahead, _)| *ahead).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let claimed = bed.claim(&w, &["fast"], 9).await;
    assert_eq!(sent(&claimed), expected);
    let by_place: Vec<_> = places.into_iter().map(|(_, id)| id).collect();
    assert_eq!(
        claimed.iter().map(|job| job.id.clone()).collect::<Vec<_>>(),
        by_place,
        "position tells the truth"
    );
    assert_eq!(bed.raw::<u64>(&["EXISTS", &bed.key("q:mail"), &bed.key("q:limited")]).await.unwrap(), 0);
}

#[tokio::test]
async fn one_line_of_several_priorities_is_served_by_age_and_within_its_bound() {
    let bed = Bed::new().await;
    let w = worker("w");
    for (payload, priority, waited) in [("a", 5, 0), ("b", 9, 5 * STEP_MS), ("c", 5, 10_000), ("d", 2, 0)] {
        let id = bed
            .accept(with(job("limited", payload), |o| o.priority = Some(u8::try_from(priority).unwrap())))
            .await;
        aged(&bed, "limited", &id, priority, waited).await;
    }
    let mut wish = want(&["fast"], 9);
    wish.type_limits.insert("limited".into(), 3);
    assert_eq!(sent(&bed.claim_reply(&w, &wish).await.jobs), ["d", "b", "c"]);
    assert_eq!(sent(&bed.claim_reply(&w, &wish).await.jobs), ["a"]);
}

#[tokio::test]
async fn shares_bound_the_first_round_and_what_is_left_goes_round_again() {
    let bed = Bed::new().await;
    let w = worker("w");
    for n in 0..10 {
        bed.accept(job("mail", format!("f{n}"))).await;
    }
    for n in 0..3 {
        bed.accept(job("report", format!("s{n}"))).await;
    }
    let mut wish = want(&["fast", "slow"], 6);
    wish.shares = vec![4, 2];
    assert_eq!(sent(&bed.claim_reply(&w, &wish).await.jobs), ["f0", "f1", "f2", "f3", "s0", "s1"]);
    // The second lane has one left of its two: the first gets the rest.
    assert_eq!(sent(&bed.claim_reply(&w, &wish).await.jobs), ["f4", "f5", "f6", "f7", "s2", "f8"]);
    wish.shares = vec![0, 6];
    assert_eq!(sent(&bed.claim_reply(&w, &wish).await.jobs), ["f9"], "a share of nothing holds nothing back");
}

#[tokio::test]
async fn the_share_of_a_lane_that_the_policy_does_not_have_is_nobodys() {
    let bed = Bed::new().await;
    for (kind, payload) in [("mail", "f0"), ("mail", "f1"), ("mail", "f2"), ("report", "s0")] {
        bed.accept(job(kind, payload)).await;
    }
    let mut wish = want(&["fast", "gone", "slow"], 3);
    wish.shares = vec![1, 2, 1];
    assert_eq!(sent(&bed.claim_reply(&worker("w"), &wish).await.jobs), ["f0", "s0", "f1"]);
}

#[tokio::test]
async fn the_lane_with_the_least_time_left_goes_first() {
    let mut bed = Bed::new().await;
    bed.change(|policy| policy.lanes[1].start_within_ms = 60_000).await;
    let w = worker("w");
    // (payload, type, waited): the fast lane promises 10 s, the slow one 60 s.
    for (payload, kind, waited) in [
        ("f0", "mail", 0),
        ("f8", "mail", 8_000),
        ("s55", "report", 55_000),
        ("s51", "report", 51_000),
        ("s0", "report", 0),
    ] {
        let id = bed.accept(job(kind, payload)).await;
        aged(&bed, kind, &id, 5, waited).await;
    }
    let mut wish = want(&["fast", "slow"], 3);
    wish.order = ClaimOrder::Deadline;
    let mut first = sent(&bed.claim_reply(&w, &wish).await.jobs);
    first.sort();
    // Left: f8 2 s, s55 5 s, s51 9 s, f0 10 s, s0 60 s.
    assert_eq!(first, ["f8", "s51", "s55"]);
    wish.slots = 1;
    assert_eq!(sent(&bed.claim_reply(&w, &wish).await.jobs), ["f0"]);
    assert_eq!(sent(&bed.claim_reply(&w, &wish).await.jobs), ["s0"]);
    assert!(bed.claim_reply(&w, &wish).await.jobs.is_empty());
}

#[tokio::test]
async fn critical_lanes_go_before_every_deadline() {
    let mut bed = Bed::new().await;
    bed.change(|policy| policy.lanes[1].critical = true).await;
    for (payload, kind, waited) in [("late", "mail", 60_000), ("c1", "report", 0), ("c2", "report", 0)] {
        let id = bed.accept(job(kind, payload)).await;
        aged(&bed, kind, &id, 5, waited).await;
    }
    let mut wish = want(&["fast", "slow"], 2);
    wish.order = ClaimOrder::Deadline;
    assert_eq!(sent(&bed.claim_reply(&worker("w"), &wish).await.jobs), ["c1", "c2"]);
}

#[tokio::test]
async fn by_deadline_a_claim_goes_on_behind_many_jobs_whose_records_are_gone() {
    let bed = Bed::new().await;
    for n in 0..6 {
        let id = bed.accept(job("mail", n.to_string())).await;
        if n < 5 {
            bed.poke(&["HDEL", &bed.key("j"), &id]).await;
        }
    }
    let mut wish = want(&["fast", "slow"], 1);
    wish.order = ClaimOrder::Deadline;
    assert_eq!(sent(&bed.claim_reply(&worker("w"), &wish).await.jobs), ["5"]);
}

#[tokio::test]
async fn the_limit_of_a_type_holds_over_all_rounds_of_a_claim() {
    let bed = Bed::new().await;
    for n in 0..6 {
        bed.accept(job("limited", format!("l{n}"))).await;
    }
    let mut wish = want(&["fast", "slow"], 6);
    wish.shares = vec![1, 5];
    wish.type_limits.insert("limited".into(), 2);
    assert_eq!(sent(&bed.claim_reply(&worker("w"), &wish).await.jobs), ["l0", "l1"]);
}

#[tokio::test]
async fn a_herd_that_falls_due_keeps_no_other_type_waiting() {
    let bed = Bed::still(|_| {}).await;
    let later = |kind, delay, payload: String| with(job(kind, payload), |o| o.delay = Some(delay));
    let herd: Vec<NewJob> = (0..500).map(|n| later("mail", 10, format!("m{n:03}"))).collect();
    bed.queue.enqueue_all(&herd).await.unwrap();
    bed.accept(later("report", 11, "critical".into())).await;
    bed.at(20).await;
    let w = worker("w");
    assert_eq!(sent(&bed.claim(&w, &["slow", "fast"], 2).await), ["critical", "m000"]);
    // All of the herd comes all the same, in order.
    let mut rest = Vec::new();
    while rest.len() < 499 {
        let jobs = bed.claim(&w, &["fast"], 200).await;
        assert!(!jobs.is_empty());
        rest.extend(sent(&jobs));
    }
    assert!(rest.is_sorted());
}

#[tokio::test]
async fn a_sweep_says_that_types_are_left_for_which_it_had_no_room() {
    let bed = Bed::still(|_| {}).await;
    for kind in ["mail", "report"] {
        bed.accept(with(job(kind, "x"), |options| options.delay = Some(10))).await;
    }
    bed.at(20).await;
    let sweeps =
        [bed.queue.sweep(&worker("s"), 1).await.unwrap(), bed.queue.sweep(&worker("s"), 1).await.unwrap()];
    assert_eq!(sweeps.each_ref().map(|sweep| sweep.promoted), [1, 1]);
    assert!(sweeps[0].more, "{sweeps:?}");
}
