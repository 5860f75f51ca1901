//! Every place where a job stands, lost alone: one sweep puts it back as it was, and counts it once.

use super::common::*;
use lanekeeper_queue::types::*;

struct Stock {
    bed: Bed,
    /// By state: ready, scheduled, running, succeeded, cancelled, dead, discarded.
    ids: Vec<String>,
}

fn keyed(payload: &str, key: &str) -> NewJob {
    with(job("mail", payload), |o| o.key = Some(key.into()))
}

/// One job in every state, in a queue where nothing is wrong.
async fn stock() -> Stock {
    let bed = Bed::still(|policy| policy.job_types.get_mut("mail").unwrap().key_for_ms = 60_000).await;
    let w = worker("w");
    let succeeded = bed.running(&w, keyed("s", "ks")).await;
    bed.settle(&w, &succeeded, success()).await;
    let dead = bed.dead(keyed("d", "kd")).await;
    let discarded = bed.dead(job("mail", "x")).await;
    bed.queue.dead_discard(&[discarded.clone()], "ada", "").await.unwrap();
    let running = bed.running(&w, job("mail", "r")).await;
    let cancelled = bed.accept(job("mail", "c")).await;
    bed.queue.cancel(&[cancelled.clone()], "ops").await.unwrap();
    let scheduled =
        bed.accept(with(job("mail", "l"), |o| (o.delay, o.priority) = (Some(7_000), Some(3)))).await;
    let ready = bed.accept(with(keyed("1", "kr"), |o| o.priority = Some(8))).await;
    bed.calm().await;
    Stock { bed, ids: vec![ready, scheduled, running.id, succeeded.id, cancelled, dead, discarded] }
}

async fn sweep(bed: &Bed) -> u64 {
    while bed.queue.sweep(&worker("s"), 100).await.unwrap().more {}
    bed.queue.stats().await.unwrap().damaged
}

#[tokio::test]
async fn a_place_that_is_lost_is_put_back_as_it_was_and_counted_once() {
    let Stock { bed, ids } = stock().await;
    let [ready, scheduled, running, succeeded, cancelled, dead, discarded] = ids.as_slice() else { panic!() };
    assert_eq!(sweep(&bed).await, 0, "nothing is wrong");
    let sorted = [
        ("q:mail", ready.as_str()),
        ("s:mail", scheduled),
        ("r", running),
        ("f:mail", succeeded),
        ("f:mail", cancelled),
        ("d", dead),
        ("d:mail", dead),
        ("dx", discarded),
        ("dx:mail", discarded),
        ("kx", "ks"),
    ];
    let hashed = [("k", "kr"), ("k", "kd"), ("k", "ks")];
    let places = sorted.map(|place| (place, "ZSCORE", "ZREM")).into_iter();
    let places = places.chain(hashed.map(|place| (place, "HGET", "HDEL")));
    for (n, ((key, member), get, remove)) in (1..).zip(places) {
        let key = bed.key(key);
        let was: Option<String> = bed.raw(&[get, &key, member]).await.unwrap();
        assert!(was.is_some(), "{key} {member}");
        bed.poke(&[remove, &key, member]).await;
        assert_eq!(sweep(&bed).await, n, "{key} {member}");
        assert_eq!(bed.raw::<Option<String>>(&[get, &key, member]).await.unwrap(), was, "{key} {member}");
        assert_eq!(sweep(&bed).await, n, "it is mended");
    }
    // What is not damage, for it may be missing from before there was any: cards, and when the next job falls due.
    for (key, suffix) in [("dc", dead.as_str()), ("dc", discarded)] {
        let was: Vec<u8> = bed.raw(&["HGET", &bed.key(key), suffix]).await.unwrap();
        bed.poke(&["HDEL", &bed.key(key), suffix]).await;
        let before = bed.queue.stats().await.unwrap().damaged;
        assert_eq!(sweep(&bed).await, before);
        assert_eq!(bed.raw::<Vec<u8>>(&["HGET", &bed.key(key), suffix]).await.unwrap(), was);
    }
    bed.poke(&["DEL", &bed.key("n")]).await;
    sweep(&bed).await;
    assert_eq!(bed.queue.stats().await.unwrap().next_due_ms, Some(NOON_MS + 7_000));
    let states = [
        JobState::Ready,
        JobState::Scheduled,
        JobState::Running,
        JobState::Succeeded,
        JobState::Cancelled,
        JobState::Dead,
        JobState::Discarded,
    ];
    for (id, state) in ids.iter().zip(states) {
        assert_eq!(bed.state(id).await, state);
        let found = bed.queue.find(&Find { state: Some(state), limit: 9, ..Find::default() }).await.unwrap();
        assert_eq!(found.jobs.len(), 1, "{state:?}");
    }
}

#[tokio::test]
async fn a_kept_key_that_is_anothers_is_not_put_back() {
    let Stock { bed, ids } = stock().await;
    let w = worker("w");
    // The same key once more, by a later job: the entry tells of that one.
    bed.poke(&["DEL", &bed.key("k"), &bed.key("kx")]).await;
    let again = bed.running(&w, with(keyed("2", "ks"), |o| o.priority = Some(0))).await;
    bed.at(10).await;
    bed.settle(&w, &again, success()).await;
    let entry: String = bed.raw(&["HGET", &bed.key("k"), "ks"]).await.unwrap();
    assert_eq!(entry, format!("{} {}", again.id, NOON_MS + 60_010));
    bed.poke(&["DEL", &bed.key("kx")]).await;
    sweep(&bed).await;
    assert_eq!(bed.raw::<String>(&["HGET", &bed.key("k"), "ks"]).await.unwrap(), entry);
    assert_eq!(bed.raw::<u64>(&["ZSCORE", &bed.key("kx"), "ks"]).await.unwrap(), NOON_MS + 60_010);
    assert_eq!(bed.raw::<u64>(&["ZCARD", &bed.key("kx")]).await.unwrap(), 1);
    // A live owner's entry has no time, and gets none.
    bed.poke(&["HSET", &bed.key("k"), "ks", &ids[0]]).await;
    bed.poke(&["DEL", &bed.key("kx")]).await;
    let before = sweep(&bed).await;
    assert_eq!(bed.raw::<u64>(&["EXISTS", &bed.key("kx")]).await.unwrap(), 0);
    // Over in this very moment is over.
    bed.poke(&["HDEL", &bed.key("k"), "ks"]).await;
    bed.poke(&["ZADD", &bed.key("kx"), &(NOON_MS + 10).to_string(), "ks"]).await;
    assert_eq!(sweep(&bed).await, before);
    assert_eq!(bed.raw::<u64>(&["HEXISTS", &bed.key("k"), "ks"]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_large_queue_is_gone_through_step_by_step() {
    let bed = Bed::new().await;
    let jobs = vec![job("mail", vec![b'x'; 9_000]); 100];
    for _ in 0..20 {
        bed.queue.enqueue(&jobs).await.unwrap();
    }
    bed.poke(&["DEL", &bed.key("q:mail")]).await;
    let waiting = async || bed.raw::<u64>(&["ZCARD", &bed.key("q:mail")]).await.unwrap();
    let cursor = async || bed.raw::<Option<String>>(&["HGET", &bed.key("m"), "rc"]).await.unwrap();
    let mut steps = 1;
    while bed.queue.sweep(&worker("s"), 10).await.unwrap().more {
        assert!(cursor().await.is_some());
        // Each reads about a mebibyte of records: some hundred of them.
        assert!(waiting().await < 500 * steps, "{} after {steps}", waiting().await);
        steps += 1;
    }
    assert!((5..60).contains(&steps), "{steps} steps");
    assert_eq!((waiting().await, cursor().await), (2_000, None));
    assert_eq!(bed.queue.stats().await.unwrap().damaged, 2_000);
}

#[tokio::test]
async fn gauges_are_counted_anew_where_their_sum_is_wrong() {
    let bed = Bed::new().await;
    let w = worker("w");
    bed.queue
        .enqueue(&[job("mail", "1"), job("mail", "2"), job("reset", "3"), job("report", "4")])
        .await
        .unwrap();
    bed.claim(&w, &["fast", "slow"], 3).await;
    let gauges = async || {
        let mut found = Vec::new();
        for kind in ["mail", "reset", "report", "limited"] {
            let count: Option<i64> = bed.raw(&["HGET", &bed.key("c"), &format!("r:{kind}")]).await.unwrap();
            found.push(count.unwrap_or(0));
        }
        found
    };
    for wrong in [("r:mail", "7"), ("r:report", "-1"), ("r:limited", "1"), ("r:reset", "junk")] {
        bed.poke(&["HSET", &bed.key("c"), wrong.0, wrong.1]).await;
        bed.queue.sweep(&w, 10).await.unwrap();
        assert_eq!(gauges().await, [2, 1, 0, 0], "{wrong:?}");
    }
}

#[tokio::test]
async fn an_empty_queue_is_not_in_the_middle_of_its_mending() {
    let bed = Bed::new().await;
    bed.poke(&["HSET", &bed.key("m"), "rc", "77"]).await;
    assert!(!bed.queue.sweep(&worker("s"), 10).await.unwrap().more);
    assert_eq!(bed.raw::<Option<String>>(&["HGET", &bed.key("m"), "rc"]).await.unwrap(), None);
}

#[tokio::test]
async fn a_lease_that_has_its_expiry_keeps_it_when_another_lost_its_own() {
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let first = bed.running(&w, job("mail", "1")).await;
    bed.at(10).await;
    let second = bed.running(&w, job("mail", "2")).await;
    bed.at(20).await;
    bed.poke(&["ZREM", &bed.key("r"), &second.id]).await;
    assert_eq!(sweep(&bed).await, 1);
    for (id, since) in [(&first.id, 0), (&second.id, 20)] {
        let expiry: u64 = bed.raw(&["ZSCORE", &bed.key("r"), id]).await.unwrap();
        assert_eq!(expiry, NOON_MS + since + LEASE_MS);
    }
}

#[tokio::test]
async fn one_letter_of_many_that_left_the_index_of_all_or_of_its_type_comes_back() {
    let bed = Bed::new().await;
    let letters = super::dead::many(&bed, "mail", "fast", 250, |_| "no".to_owned()).await;
    let lost = &letters[100];
    for index in ["d", "d:mail"] {
        bed.poke(&["ZREM", &bed.key(index), lost]).await;
        // Too many for a look at a few to find it.
        for _ in 0..4 {
            bed.queue.sweep(&worker("s"), 100).await.unwrap();
        }
        let back: Option<f64> = bed.raw(&["ZSCORE", &bed.key(index), lost]).await.unwrap();
        assert!(back.is_some(), "{index}");
    }
}

#[tokio::test]
async fn of_many_leases_without_an_expiry_none_is_forgotten() {
    let bed = Bed::with(|policy| policy.job_types.get_mut("mail").unwrap().per_worker = None).await;
    let w = worker("w");
    for _ in 0..4 {
        bed.queue.enqueue(&vec![job("mail", "x"); 200]).await.unwrap();
        assert_eq!(bed.claim(&w, &["fast"], 200).await.len(), 200);
    }
    bed.poke(&["DEL", &bed.key("r")]).await;
    bed.queue.sweep(&worker("s"), 1).await.unwrap();
    assert_eq!(bed.raw::<u64>(&["ZCARD", &bed.key("r")]).await.unwrap(), 800);
}

#[tokio::test]
async fn a_kept_key_goes_back_to_the_job_that_succeeded_under_it() {
    let bed = Bed::still(|policy| policy.job_types.get_mut("mail").unwrap().key_for_ms = 60_000).await;
    let w = worker("w");
    for _ in 0..10 {
        let cancelled = bed.accept(keyed("c", "k")).await;
        bed.queue.cancel(&[cancelled], "ops").await.unwrap();
    }
    let done = bed.running(&w, keyed("s", "k")).await;
    bed.settle(&w, &done, success()).await;
    bed.poke(&["HDEL", &bed.key("k"), "k"]).await;
    // Each looks at eight jobs of eleven.
    for _ in 0..20 {
        sweep(&bed).await;
    }
    let owner: String = bed.raw(&["HGET", &bed.key("k"), "k"]).await.unwrap();
    assert!(owner.starts_with(&done.id), "{owner}");
}

#[tokio::test]
async fn a_key_that_another_has_by_now_makes_no_job_unreadable() {
    let bed = Bed::still(|policy| policy.job_types.get_mut("mail").unwrap().key_for_ms = 10).await;
    let w = worker("w");
    let done = bed.running(&w, keyed("1", "k")).await;
    bed.settle(&w, &done, success()).await;
    bed.at(20).await;
    let next = bed.accept(keyed("2", "k")).await;
    assert_ne!(next, done.id);
    bed.poke(&["ZREM", &bed.key("f:mail"), &done.id]).await;
    sweep(&bed).await;
    let unreadable: Option<u64> = bed.raw(&["HGET", &bed.key("m"), "rb"]).await.unwrap();
    assert_eq!(unreadable, Some(0));
    assert_eq!(bed.raw::<u64>(&["ZCARD", &bed.key("kx")]).await.unwrap(), 0);
}
