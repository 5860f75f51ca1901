//! Several workers that offer room, and those that fall silent.

use lanekeeper_queue::Queue;
use lanekeeper_queue::types::{ClaimRequest, Expired, JobState, Offer};

use crate::common::*;
use crate::offers::{Ear, claims, handed_ids, offer, tokens, waiting};

#[tokio::test]
async fn workers_take_turns() {
    let bed = Bed::still(|_| {}).await;
    let (a, b) = (worker("a"), worker("b"));
    let mut ears = [Ear::of(&bed, &a).await, Ear::of(&bed, &b).await];
    for w in [&a, &b] {
        claims(&bed, w, &offer(&["fast"], 9, 0)).await;
    }
    for _ in 0..6 {
        bed.accept(job("mail", b"")).await;
    }
    assert_eq!(ears[0].handed(&bed, &a).await.len(), 3);
    assert_eq!(ears[1].handed(&bed, &b).await.len(), 3);
    // Whoever has no room is passed over; more than eight are claimed.
    claims(&bed, &a, &offer(&["fast"], 1, 3)).await;
    claims(&bed, &b, &offer(&["fast"], 20, 3)).await;
    for _ in 0..2 {
        bed.queue.enqueue(&vec![job("mail", b""); 8]).await.unwrap();
    }
    assert!(ears[0].handed(&bed, &a).await.is_empty());
    assert_eq!(handed_ids(&ears[1].handed(&bed, &b).await).len(), 16);
    claims(&bed, &a, &offer(&["fast"], 20, 3)).await;
    bed.queue.enqueue(&vec![job("mail", b""); 9]).await.unwrap();
    assert!(ears[0].handed(&bed, &a).await.is_empty());
    assert_eq!(tokens(&bed).await, 9);
}

#[tokio::test]
async fn a_worker_that_claims_again_after_each_job_waits_for_its_turn() {
    // Each has room to spare, or for a single job.
    for slots in [9, 1] {
        let bed = Bed::still(|_| {}).await;
        let workers = [worker("a"), worker("b"), worker("c")];
        let mut ears = Vec::new();
        for w in &workers {
            ears.push(Ear::of(&bed, w).await);
            claims(&bed, w, &offer(&["fast"], slots, 0)).await;
        }
        let (mut heard, mut turns) = ([0, 0, 0], String::new());
        for _ in 0..9 {
            bed.accept(job("mail", b"")).await;
            for (at, w) in workers.iter().enumerate() {
                let handed = ears[at].handed(&bed, w).await;
                if let Some(one) = handed.first() {
                    turns.push_str(&w.name);
                    heard[at] += 1;
                    bed.settle(w, &one.claim.jobs[0], success()).await;
                    claims(&bed, w, &offer(&["fast"], slots, heard[at])).await;
                }
            }
        }
        assert_eq!(turns, "abcabcabc", "{slots} slots");
    }
}

#[tokio::test]
async fn who_offers_no_more_takes_no_other_offer_along() {
    let bed = Bed::still(|_| {}).await;
    let (a, b, c) = (worker("a"), worker("b"), worker("c"));
    let (mut ear_a, mut ear_b) = (Ear::of(&bed, &a).await, Ear::of(&bed, &b).await);
    let mut ear_c = Ear::of(&bed, &c).await;
    for w in [&a, &b, &c] {
        claims(&bed, w, &offer(&["fast"], 1, 0)).await;
    }
    let none = Offer { stands: false, epoch: 1, heard: 0 };
    claims(&bed, &b, &ClaimRequest { offer: Some(none), ..want(&["fast"], 1) }).await;
    for _ in 0..2 {
        bed.accept(job("mail", b"")).await;
    }
    assert!(ear_b.handed(&bed, &b).await.is_empty());
    let counts = (ear_a.handed(&bed, &a).await.len(), ear_c.handed(&bed, &c).await.len());
    assert_eq!(counts, (1, 1), "each had room for one");
}

#[tokio::test]
async fn a_job_handed_to_a_worker_that_falls_silent_is_taken_over_under_a_new_token() {
    let bed = Bed::still(|_| {}).await;
    let (w, other) = (worker("w"), worker("other"));
    let mut ear = Ear::of(&bed, &w).await;
    claims(&bed, &w, &offer(&["fast"], 1, 0)).await;
    let first = bed.accept(job("mail", b"1")).await;
    let handed = ear.handed(&bed, &w).await;
    assert_eq!(handed_ids(&handed), [first.as_str()]);
    let of_another = bed.running(&other, job("reset", b"")).await;
    assert_ne!(of_another.token, handed[0].claim.jobs[0].token, "no token is given twice");

    // Steps shorter than what would pass for an outage.
    let mut lost = Vec::new();
    for quarter in 1..=5 {
        bed.at(quarter * bed.policy.lease_ms / 4 + 1).await;
        lost.push(bed.queue.sweep(&other, 100).await.unwrap().expired);
    }
    let of_job = |expired: &Vec<Expired>| expired.iter().any(|one| one.job.id == first);
    let when: Vec<_> = lost.iter().map(of_job).collect();
    assert_eq!(when, [false, false, false, true, false], "{lost:?}");
}

#[tokio::test]
async fn each_queue_has_offers_of_its_own() {
    let bed = Bed::still(|_| {}).await;
    let (w, theirs) = (worker("w"), worker("theirs"));
    let mut ear = Ear::of(&bed, &w).await;
    claims(&bed, &w, &offer(&["fast"], 1, 0)).await;
    let other = Queue::connect(&bed.redis.options(), "apps/other".parse().unwrap()).await.unwrap();
    other.configure(&bed.policy, false).await.unwrap();
    other.settle_and_claim(&theirs, &[], &offer(&["fast"], 1, 0)).await.unwrap();
    let id = bed.accept(job("mail", b"")).await;
    assert_eq!(handed_ids(&ear.handed(&bed, &w).await), [id.as_str()]);
}

#[tokio::test]
async fn the_key_of_a_job_that_was_handed_over_is_told_of_its_success() {
    let (bed, w, mut ear) = waiting(1).await;
    bed.accept(with(job("mail", b""), |o| o.key = Some("k".into()))).await;
    let handed = ear.handed(&bed, &w).await;
    bed.settle(&w, &handed[0].claim.jobs[0], success()).await;
    let owner: String = bed.raw(&["HGET", &bed.key("k"), "k"]).await.unwrap();
    assert!(owner.contains(' '), "how long it stays taken: {owner}");
}

#[tokio::test]
async fn who_does_not_tell_that_it_heard_of_its_jobs_is_handed_no_more() {
    let (bed, w, mut ear) = waiting(9).await;
    bed.at(1_000).await;
    bed.accept(job("mail", b"")).await;
    bed.at(1_100).await;
    bed.accept(job("mail", b"")).await;
    assert_eq!(handed_ids(&ear.handed(&bed, &w).await).len(), 2);
    bed.at(1_101).await;
    let third = bed.accept(job("mail", b"")).await;
    assert_eq!((bed.state(&third).await, tokens(&bed).await), (JobState::Ready, 1), "it may be frozen");

    // It tells of the first one: the second may be on its way.
    assert_eq!(ids(&claims(&bed, &w, &offer(&["fast"], 9, 1)).await.jobs), [third]);
    bed.at(1_201).await;
    bed.accept(job("mail", b"")).await;
    assert_eq!(handed_ids(&ear.handed(&bed, &w).await).len(), 1);
    bed.at(1_202).await;
    let last = bed.accept(job("mail", b"")).await;
    assert_eq!(bed.state(&last).await, JobState::Ready);
}

#[tokio::test]
async fn who_gives_no_sign_of_life_is_handed_nothing() {
    let (bed, w, mut ear) = waiting(9).await;
    bed.at(5_000).await;
    bed.beat(&w, &[]).await;
    bed.at(12_501).await;
    let first = bed.accept(job("mail", b"")).await;
    assert_eq!(bed.state(&first).await, JobState::Ready, "no heartbeat for 7.5 s");
    assert_eq!(ids(&claims(&bed, &w, &offer(&["fast"], 9, 0)).await.jobs), [first]);
    bed.at(20_001).await;
    let second = bed.accept(job("mail", b"")).await;
    assert_eq!(handed_ids(&ear.handed(&bed, &w).await), [second]);
}

#[tokio::test]
async fn what_was_handed_over_unheard_counts_against_the_limit_of_its_type() {
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let mut ear = Ear::of(&bed, &w).await;
    let mut wish = offer(&["fast"], 9, 0);
    wish.type_limits.insert("mail".into(), 1);
    claims(&bed, &w, &wish).await;
    let first = bed.accept(job("mail", b"")).await;
    bed.accept(job("mail", b"")).await;
    assert_eq!(handed_ids(&ear.handed(&bed, &w).await), [first]);
    // Said before it heard of the first.
    assert!(claims(&bed, &w, &wish).await.jobs.is_empty());
    wish.type_limits.insert("mail".into(), 2);
    assert_eq!(claims(&bed, &w, &wish).await.jobs.len(), 1);
}

#[tokio::test]
async fn claims_that_tell_of_nothing_new_are_no_sign_that_it_hears() {
    let (bed, w, mut ear) = waiting(9).await;
    bed.at(1_000).await;
    bed.accept(job("mail", b"")).await;
    assert_eq!(handed_ids(&ear.handed(&bed, &w).await).len(), 1);
    bed.at(1_090).await;
    claims(&bed, &w, &offer(&["fast"], 9, 0)).await;
    bed.at(1_101).await;
    let next = bed.accept(job("mail", b"")).await;
    assert_eq!(bed.state(&next).await, JobState::Ready);
}
