//! Leases: renewal, fencing, take-over by sweeps, and outages that cost nobody.

use super::common::*;
use lanekeeper_queue::types::*;

async fn sweep(bed: &Bed, sweeper: &WorkerIdentity) -> SweepReply {
    bed.queue.sweep(sweeper, 100).await.unwrap()
}

/// The score of a lease: its expiry.
async fn expiry(bed: &Bed, id: &str) -> u64 {
    bed.raw(&["ZSCORE", &bed.key("r"), id]).await.unwrap()
}

/// Claims a job and lets its lease run out with nobody to blame but the worker.
async fn lapsed(bed: &Bed, worker: &WorkerIdentity, payload: &str) -> Claimed {
    let claimed = bed.running(worker, job("mail", payload)).await;
    bed.expire(&claimed.id).await;
    bed.calm().await;
    claimed
}

#[tokio::test]
async fn a_heartbeat_extends_leases_and_says_which_are_lost() {
    let bed = Bed::new().await;
    let (w, other) = (worker("w"), worker("other"));
    let mine = bed.running(&w, job("mail", "1")).await;
    let theirs = bed.running(&other, job("mail", "2")).await;
    bed.expire(&mine.id).await;
    let reply = bed.beat(&w, &[&mine, &theirs, &Claimed { id: "nope".into(), ..mine.clone() }]).await;
    assert_eq!(reply.lost, [theirs.id.as_str(), "nope"]);
    assert!(reply.cancelled.is_empty());
    assert_eq!(
        expiry(&bed, &mine.id).await,
        reply.now_ms + LEASE_MS,
        "expired, not swept: still its holder's"
    );
    assert_eq!(bed.settle(&w, &mine, success()).await, Settled::Done);
    assert_eq!(bed.beat(&w, &[&mine]).await.lost, [mine.id]);
}

#[tokio::test]
async fn many_leases_are_extended_in_bounded_calls() {
    let bed = Bed::new().await;
    let w = worker("w");
    let held: Vec<Held> = (0..2_500).map(|n| Held { id: format!("x{n}"), token: n }).collect();
    assert_eq!(bed.queue.extend(&info(&w), &held).await.unwrap().lost.len(), 2_500);
}

#[tokio::test]
async fn an_expired_lease_is_still_its_holders_until_it_is_swept() {
    let bed = Bed::new().await;
    let w = worker("w");
    let claimed = lapsed(&bed, &w, "x").await;
    assert_eq!(bed.settle(&w, &claimed, success()).await, Settled::Done);
}

#[tokio::test]
async fn a_sweep_takes_over_and_the_old_holder_is_fenced_off() {
    let bed = Bed::new().await;
    let (w, s) = (worker("w"), worker("s"));
    let claimed = lapsed(&bed, &w, "x").await;
    let swept = sweep(&bed, &s).await;
    let expired = &swept.expired[0];
    assert_eq!(expired.lost_by, w);
    assert!(expired.job.token > claimed.token);
    assert_eq!((expired.job.attempt, expired.job.crashes), (1, 0));
    assert_eq!((expired.job.lane.as_str(), expired.job.payload.as_slice()), ("fast", b"x".as_slice()));
    assert_eq!(expired.job.claimed_ms, claimed.claimed_ms);

    assert_eq!(bed.settle(&w, &claimed, success()).await, Settled::Stale);
    assert_eq!(bed.beat(&w, &[&claimed]).await.lost, [claimed.id.clone()]);
    assert!(sweep(&bed, &worker("s2")).await.expired.is_empty(), "one sweeper per lapse");

    let outcome = Outcome::Retry { delay_ms: 0, spends: Spends::Crash, error: error("gone") };
    assert_eq!(bed.settle(&s, &expired.job, outcome).await, Settled::Done);
    let found = bed.job(&claimed.id).await;
    assert_eq!((found.state, found.crashes, found.tries, found.attempts), (JobState::Ready, 1, 0, 1));
    let attempt = &found.history[0];
    assert_eq!((attempt.worker.as_str(), attempt.token), ("w", claimed.token), "told of who lost it");
    let again = bed.claim(&w, &["fast"], 1).await.remove(0);
    assert!(again.token > expired.job.token);
    assert_eq!((again.attempt, again.crashes), (2, 1));
    assert_eq!(bed.settle(&w, &claimed, success()).await, Settled::Stale);
    assert_eq!(bed.settle(&w, &again, success()).await, Settled::Done);
}

#[tokio::test]
async fn a_sweeper_that_dies_is_swept_itself_and_the_loser_is_remembered() {
    let bed = Bed::new().await;
    let (w, s1, s2) = (worker("w"), worker("s1"), worker("s2"));
    let claimed = lapsed(&bed, &w, "x").await;
    let first = sweep(&bed, &s1).await.expired.remove(0);
    assert!(expiry(&bed, &claimed.id).await > first.job.claimed_ms);
    bed.expire(&claimed.id).await;
    bed.calm().await;
    let second = sweep(&bed, &s2).await.expired.remove(0);
    assert_eq!(second.lost_by, w);
    assert!(second.job.token > first.job.token);
    assert_eq!(second.job.attempt, 1, "taking over is no attempt");
    assert_eq!(bed.settle(&s1, &first.job, retry(0)).await, Settled::Stale);
    assert_eq!(bed.settle(&s2, &second.job, retry(0)).await, Settled::Done);
    let found = bed.job(&claimed.id).await;
    assert_eq!((found.attempts, found.history.len()), (1, 1));
    assert_eq!((found.history[0].worker.as_str(), found.history[0].token), ("w", claimed.token));
}

#[tokio::test]
async fn a_sweep_is_bounded_and_says_when_there_is_more() {
    let bed = Bed::new().await;
    let w = worker("w");
    for n in 0..5 {
        lapsed(&bed, &w, &n.to_string()).await;
    }
    let first = bed.queue.sweep(&worker("s"), 3).await.unwrap();
    assert_eq!((first.expired.len(), first.more), (3, true));
    let second = bed.queue.sweep(&worker("s"), 3).await.unwrap();
    assert_eq!((second.expired.len(), second.more), (2, false));
}

#[tokio::test]
async fn an_outage_costs_nobody_a_lease() {
    let bed = Bed::new().await;
    let (w, s) = (worker("w"), worker("s"));
    let claimed = bed.running(&w, job("mail", "x")).await;
    // Nobody called for longer than half a lease, and the lease ran out meanwhile.
    bed.expire(&claimed.id).await;
    bed.calm().await;
    bed.poke(&["HSET", &bed.key("m"), "a", &(claimed.claimed_ms - LEASE_MS / 2 - 1).to_string()]).await;
    let swept = sweep(&bed, &s).await;
    assert!(swept.expired.is_empty());
    assert_eq!(swept.rearmed, 1);
    assert_eq!(expiry(&bed, &claimed.id).await, swept.now_ms + LEASE_MS);
    // It may run out once more within that lease: nothing expires before one whole lease has passed since the outage.
    bed.expire(&claimed.id).await;
    assert_eq!(
        (sweep(&bed, &s).await.expired.len(), bed.settle(&w, &claimed, success()).await),
        (0, Settled::Done)
    );
}

#[tokio::test]
async fn any_first_call_after_an_outage_notices_it() {
    let bed = Bed::new().await;
    let (w, s) = (worker("w"), worker("s"));
    let claimed = bed.running(&w, job("mail", "x")).await;
    let quiet = (claimed.claimed_ms - LEASE_MS).to_string();
    for call in 0..3 {
        bed.expire(&claimed.id).await;
        bed.poke(&["HSET", &bed.key("m"), "a", &quiet, "o", "0"]).await;
        match call {
            0 => drop(bed.claim(&worker("w2"), &["fast"], 1).await),
            1 => drop(bed.beat(&worker("w2"), &[]).await),
            _ => drop(bed.queue.settle(&worker("w2"), &[settlement(&claimed, success())]).await.unwrap()),
        }
        let swept = sweep(&bed, &s).await;
        assert_eq!((swept.expired.len(), swept.rearmed), (0, 1), "call {call}");
    }
}

#[tokio::test]
async fn a_sweep_takes_over_no_more_than_a_reply_holds_and_says_that_there_is_more() {
    let bed = Bed::new().await;
    let (w, s) = (worker("w"), worker("s"));
    let large = "x".repeat(200_000);
    for _ in 0..24 {
        lapsed(&bed, &w, &large).await;
    }
    // The first to expire, and its record is gone.
    let damaged = lapsed(&bed, &w, "x").await.id;
    bed.poke(&["ZADD", &bed.key("r"), "0", &damaged]).await;
    bed.poke(&["HDEL", &bed.key("j"), &damaged]).await;
    let first = sweep(&bed, &s).await;
    assert!(first.more && (1..24).contains(&first.expired.len()), "{}", first.expired.len());
    assert_eq!(bed.queue.stats().await.unwrap().damaged, 1);
    let second = sweep(&bed, &s).await;
    assert_eq!((second.more, first.expired.len() + second.expired.len()), (false, 24));
}

#[tokio::test]
async fn a_clock_that_went_back_expires_nothing_and_leaves_no_lease_in_the_far_future() {
    // Whichever call sees first that it did.
    for touched in [false, true] {
        let bed = Bed::new().await;
        let (w, s) = (worker("w"), worker("s"));
        let claimed = bed.running(&w, job("mail", "x")).await;
        let ahead = claimed.claimed_ms + 3_600_000;
        bed.poke(&["HSET", &bed.key("m"), "a", &ahead.to_string(), "o", "0"]).await;
        bed.poke(&["ZADD", &bed.key("r"), &(ahead + LEASE_MS).to_string(), &claimed.id]).await;
        if touched {
            bed.claim(&w, &["fast"], 1).await;
        }
        let swept = sweep(&bed, &s).await;
        assert_eq!((swept.expired.len(), swept.rearmed), (0, 1), "touched: {touched}");
        let expiry = expiry(&bed, &claimed.id).await;
        assert!(expiry > claimed.claimed_ms && expiry <= swept.now_ms + LEASE_MS, "{expiry}");
    }
}

#[tokio::test]
async fn an_outage_right_after_the_clock_went_back_leaves_no_lease_in_the_far_future() {
    const HOUR_MS: u64 = 3_600_000;
    let bed = Bed::still(|_| {}).await;
    let (w, s) = (worker("w"), worker("s"));
    bed.at(HOUR_MS).await;
    let lost = [bed.running(&w, job("mail", "1")).await, bed.running(&w, job("mail", "2")).await];
    // The step is seen by a worker, and before any sweep nobody calls for more than half a lease.
    bed.at(0).await;
    bed.claim(&worker("other"), &["fast"], 1).await;
    bed.at(LEASE_MS).await;
    // However few leases a sweep may deal with.
    for _ in 0..2 {
        let swept = bed.queue.sweep(&s, 1).await.unwrap();
        assert_eq!((swept.rearmed, swept.expired.len(), swept.more), (1, 0, true));
    }
    for job in &lost {
        assert_eq!(expiry(&bed, &job.id).await, NOON_MS + 2 * LEASE_MS);
    }
    let swept = sweep(&bed, &s).await;
    assert_eq!((swept.rearmed, swept.expired.len(), swept.more), (0, 0, false));
    bed.at(LEASE_MS * 3 / 2).await;
    sweep(&bed, &s).await;
    bed.at(LEASE_MS * 2).await;
    assert_eq!(sweep(&bed, &s).await.expired.len(), 2);
    // The step is dealt with: nothing is left to say that a lease lies too far.
    let far = (NOON_MS + HOUR_MS).to_string();
    bed.poke(&["ZADD", &bed.key("r"), &far, &lost[0].id]).await;
    assert_eq!(sweep(&bed, &s).await.rearmed, 0);
}

#[tokio::test]
async fn a_lease_that_only_a_late_sweep_finds_too_far_ends_one_lease_from_then() {
    let bed = Bed::still(|_| {}).await;
    let (w, s) = (worker("w"), worker("s"));
    bed.at(3_600_000).await;
    let lost = bed.running(&w, job("mail", "x")).await;
    // Workers go on, but nobody sweeps while outages are made up for.
    for n in 0..6 {
        bed.at(n * LEASE_MS / 3).await;
        bed.claim(&worker("other"), &["fast"], 1).await;
    }
    let swept = sweep(&bed, &s).await;
    assert_eq!((swept.rearmed, swept.expired.len()), (1, 0));
    assert_eq!(expiry(&bed, &lost.id).await, swept.now_ms + LEASE_MS);
}

#[tokio::test]
async fn tokens_rise_whatever_the_clock_and_the_stored_state_say() {
    let bed = Bed::new().await;
    let w = worker("w");
    let first = bed.running(&w, job("mail", "1")).await;
    // An older state is restored: the last token is forgotten, the clock is not.
    bed.poke(&["HSET", &bed.key("m"), "t", "5"]).await;
    let second = bed.running(&w, job("mail", "2")).await;
    assert!(second.token > first.token);
    // The clock went back: the last token is not forgotten.
    let ahead = second.token + 3_600_000_000;
    bed.poke(&["HSET", &bed.key("m"), "t", &ahead.to_string()]).await;
    let third = bed.running(&w, job("mail", "3")).await;
    assert_eq!(third.token, ahead + 1);
    assert_eq!(bed.settle(&w, &third, success()).await, Settled::Done);
}

#[tokio::test]
async fn a_silent_worker_leaves_the_figures_and_in_time_the_books() {
    let bed = Bed::new().await;
    let w = worker("w");
    bed.beat(&w, &[]).await;
    assert_eq!(bed.queue.stats().await.unwrap().workers.len(), 1);
    // A heartbeat of long ago: msgpack [1, 1] and the info as it was.
    bed.poke(&["HSET", &bed.key("h"), "boot-old", "\x02\x01\x01junk"]).await;
    assert_eq!(bed.queue.stats().await.unwrap().workers.len(), 1, "damaged heartbeats are left out");
    sweep(&bed, &w).await;
    let known: Vec<String> = bed.raw(&["HKEYS", &bed.key("h")]).await.unwrap();
    assert_eq!(known, [w.boot]);
}

#[tokio::test]
async fn a_worker_finds_out_what_a_lost_answer_gave_it() {
    let bed = Bed::new().await;
    let (w, other) = (worker("w"), worker("other"));
    for n in 0..3 {
        bed.accept(job("mail", [n])).await;
    }
    let known = bed.claim(&w, &["fast"], 1).await.remove(0);
    let unknown = bed.claim(&w, &["fast"], 1).await.remove(0);
    bed.claim(&other, &["fast"], 1).await;
    let held = bed.queue.leases_of(&w).await.unwrap();
    let mut expected = [&known, &unknown].map(|job| Held { id: job.id.clone(), token: job.token });
    expected.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(held, expected);
    assert!(bed.queue.leases_of(&worker("nobody")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_shorter_lease_takes_nothing_from_workers_that_have_not_heard_of_it() {
    let mut bed = Bed::new().await;
    let (w, s) = (worker("w"), worker("s"));
    let claimed = bed.running(&w, job("mail", "x")).await;
    let granted = expiry(&bed, &claimed.id).await;
    bed.change(|p| p.lease_ms = LEASE_MS / 6).await;
    // Silent for a third of the old lease, as its workers are between two heartbeats: no outage.
    bed.poke(&["HSET", &bed.key("m"), "a", &(claimed.claimed_ms - LEASE_MS / 3).to_string(), "o", "0"]).await;
    let swept = sweep(&bed, &s).await;
    assert_eq!((swept.rearmed, swept.expired.len()), (0, 0));
    assert_eq!(expiry(&bed, &claimed.id).await, granted);
    let beat = bed.beat(&w, &[&claimed]).await;
    assert_eq!(
        expiry(&bed, &claimed.id).await,
        beat.now_ms + LEASE_MS,
        "renewed in the old rhythm for a while"
    );
    // Every worker has heard of it by now; an outage re-arms lapsed leases only.
    bed.poke(&["HSET", &bed.key("m"), "lu", "1", "a", "1"]).await;
    let swept = sweep(&bed, &s).await;
    assert_eq!(swept.rearmed, 0);
    assert_eq!(expiry(&bed, &claimed.id).await, beat.now_ms + LEASE_MS);
    let beat = bed.beat(&w, &[&claimed]).await;
    assert_eq!(expiry(&bed, &claimed.id).await, beat.now_ms + LEASE_MS / 6);
}
