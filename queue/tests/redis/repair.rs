//! Indexes that were lost or damaged are found and mended by sweeps.

use super::common::*;
use lanekeeper_queue::types::*;

/// A bed with jobs in every state: 300 ready, 40 scheduled, 30 running, 20 dead, 10 done; two of each with keys.
async fn stocked() -> Bed {
    let bed = Bed::new().await;
    let w = worker("w");
    let keyed = |n: usize| with(job("mail", n.to_string()), |o| o.key = (n < 2).then(|| format!("k{n}")));
    let fill = async |from: usize, count: usize| {
        let jobs: Vec<NewJob> = (from..from + count).map(keyed).collect();
        bed.queue.enqueue_all(&jobs).await.unwrap();
    };
    fill(0, 60).await;
    let claimed = bed.claim(&w, &["fast"], 60).await;
    let word = |(n, job): (usize, &Claimed)| settlement(job, if n < 20 { dead("no") } else { success() });
    let words: Vec<Settlement> = claimed[..30].iter().enumerate().map(word).collect();
    bed.queue.settle(&w, &words).await.unwrap();
    fill(100, 300).await;
    let later: Vec<NewJob> = (400..440).map(|n| with(keyed(n), |o| o.delay = Some(3_600_000))).collect();
    bed.queue.enqueue_all(&later).await.unwrap();
    bed.calm().await;
    bed
}

/// What the figures say: ready, scheduled, running, dead, and dead of the type.
async fn figures(bed: &Bed) -> (u64, u64, u64, u64, u64) {
    let stats = bed.queue.stats().await.unwrap();
    let Some(mail) = stats.lanes[0].types.iter().find(|t| t.name == "mail") else { return (0, 0, 0, 0, 0) };
    (mail.ready, mail.scheduled, mail.running, stats.dead, mail.dead)
}

async fn succeeded(bed: &Bed) -> usize {
    let find = Find { state: Some(JobState::Succeeded), limit: 200, ..Find::default() };
    bed.queue.find(&find).await.unwrap().jobs.len()
}

/// Sweeps while there is more to do; how often.
async fn sweep(bed: &Bed) -> usize {
    let mut calls = 1;
    while bed.queue.sweep(&worker("s"), 100).await.unwrap().more {
        calls += 1;
        assert!(calls < 100, "sweeps find no end");
    }
    calls
}

#[tokio::test]
async fn every_index_that_is_lost_is_made_anew() {
    let bed = stocked().await;
    let expected = (300, 40, 30, 20, 20);
    assert_eq!((figures(&bed).await, succeeded(&bed).await), (expected, 10));
    for suffix in
        ["q:mail", "s:mail", "n", "r", "d", "d:mail", "f:mail", "t", "c", "w:fast", "kx", "wake", "g", "yg"]
    {
        bed.poke(&["DEL", &bed.key(suffix)]).await;
        sweep(&bed).await;
        assert_eq!(
            (figures(&bed).await, succeeded(&bed).await),
            (expected, 10),
            "after the loss of {suffix}"
        );
        assert_eq!(bed.raw::<u64>(&["ZCARD", &bed.key("r")]).await.unwrap(), 30, "{suffix}");
        assert!(bed.raw::<f64>(&["ZSCORE", &bed.key("n"), "mail"]).await.unwrap() > 1e12);
    }
    // All at once.
    for suffix in ["q:mail", "s:mail", "n", "r", "d", "d:mail", "f:mail", "t", "c"] {
        bed.poke(&["DEL", &bed.key(suffix)]).await;
    }
    sweep(&bed).await;
    assert_eq!((figures(&bed).await, succeeded(&bed).await), (expected, 10));
    let claimed = bed.claim(&worker("w"), &["fast"], 200).await;
    let order: Vec<usize> =
        claimed.iter().map(|job| String::from_utf8_lossy(&job.payload).parse().unwrap()).collect();
    assert!(order.is_sorted() && order.len() == 200, "in their old order");
}

#[tokio::test]
async fn single_entries_and_keys_are_put_back_and_nothing_is_put_where_it_does_not_belong() {
    let bed = stocked().await;
    let ready =
        bed.queue.find(&Find { state: Some(JobState::Ready), limit: 5, ..Find::default() }).await.unwrap();
    for job in &ready.jobs {
        bed.poke(&["ZREM", &bed.key("q:mail"), &job.id]).await;
    }
    bed.poke(&["DEL", &bed.key("k")]).await;
    let before = bed.queue.stats().await.unwrap().damaged;
    sweep(&bed).await;
    assert_eq!(figures(&bed).await, (300, 40, 30, 20, 20));
    assert!(matches!(
        bed.put(with(job("mail", "x"), |o| o.key = Some("k1".into()))).await,
        Enqueued::Duplicate { .. }
    ));
    let damaged = bed.queue.stats().await.unwrap().damaged - before;
    assert!((5..=7).contains(&damaged), "{damaged}");
    // A sound queue is left as it is, and one with an unreadable record is not gone through for ever.
    bed.poke(&["HSET", &bed.key("j"), &ready.jobs[0].id, "junk"]).await;
    bed.poke(&["ZREM", &bed.key("q:mail"), &ready.jobs[0].id]).await;
    sweep(&bed).await;
    let calm = bed.queue.stats().await.unwrap().damaged;
    for _ in 0..5 {
        assert_eq!(sweep(&bed).await, 1);
    }
    assert_eq!(bed.queue.stats().await.unwrap().damaged, calm);
    assert_eq!(figures(&bed).await, (299, 40, 30, 20, 20));
}

#[tokio::test]
async fn keys_that_outlive_their_jobs_are_put_back() {
    let bed = Bed::with(|policy| policy.job_types.get_mut("mail").unwrap().key_for_ms = 60_000).await;
    let keyed = || with(job("mail", "1"), |o| o.key = Some("once".into()));
    let w = worker("w");
    let done = bed.running(&w, keyed()).await;
    assert_eq!(bed.settle(&w, &done, success()).await, Settled::Done);
    let entry: String = bed.raw(&["HGET", &bed.key("k"), "once"]).await.unwrap();
    for lost in ["k", "kx"] {
        bed.poke(&["DEL", &bed.key(lost)]).await;
        sweep(&bed).await;
        assert_eq!(bed.raw::<String>(&["HGET", &bed.key("k"), "once"]).await.unwrap(), entry, "{lost}");
        assert_eq!(bed.raw::<u64>(&["ZCARD", &bed.key("kx")]).await.unwrap(), 1, "{lost}");
        assert!(matches!(bed.put(keyed()).await, Enqueued::Duplicate { id, .. } if id == done.id));
    }
    // A key whose time was over does not come back.
    bed.poke(&["ZADD", &bed.key("kx"), "1", "once"]).await;
    bed.poke(&["DEL", &bed.key("k")]).await;
    sweep(&bed).await;
    assert!(matches!(bed.put(keyed()).await, Enqueued::Accepted { .. }));
}

#[tokio::test]
async fn groups_that_are_lost_are_put_back() {
    use lanekeeper_api::policy::{ConcurrencyKey, KeyPart};
    let key = ConcurrencyKey { key: vec![KeyPart::Path(vec!["v".into()])], limit: Some(1), rate_limit: None };
    let bed = Bed::with(|policy| policy.job_types.get_mut("mail").unwrap().concurrency_key = Some(key)).await;
    for n in 0..6 {
        bed.accept(job("mail", format!(r#"{{"v":{}}}"#, n % 2))).await;
    }
    let w = worker("w");
    let running = bed.claim(&w, &["fast"], 1).await;
    for lost in ["yg", "yp:mail", "yt:mail", "yr:mail", "y:mail:0"] {
        bed.poke(&["DEL", &bed.key(lost)]).await;
        // Eight jobs picked at random are looked at: here that is all of them.
        sweep(&bed).await;
        assert_eq!(bed.raw::<u64>(&["HLEN", &bed.key("yg")]).await.unwrap(), 6, "{lost}");
        let may_go: Vec<String> = bed.raw(&["ZRANGE", &bed.key("yt:mail"), "0", "-1"]).await.unwrap();
        let aside: Vec<String> = bed.raw(&["ZRANGE", &bed.key("yp:mail"), "0", "-1"]).await.unwrap();
        assert_eq!((may_go, aside), (vec!["1".to_owned()], vec!["0".to_owned()]), "{lost}");
    }
    // The limit holds as before, and everything runs in the end.
    assert_eq!(bed.claim(&w, &["fast"], 10).await.len(), 1);
    bed.settle(&w, &running[0], success()).await;
    assert_eq!(bed.claim(&w, &["fast"], 10).await.len(), 1);
}

#[tokio::test]
async fn one_job_whose_group_is_lost_makes_sweeps_look_at_all() {
    use lanekeeper_api::policy::{ConcurrencyKey, KeyPart};
    let key = ConcurrencyKey { key: vec![KeyPart::Path(vec!["v".into()])], limit: Some(1), rate_limit: None };
    let bed = Bed::with(|policy| policy.job_types.get_mut("mail").unwrap().concurrency_key = Some(key)).await;
    let jobs = |n: usize| job("mail", format!(r#"{{"v":{}}}"#, n % 5));
    bed.queue.enqueue_all(&(0..500).map(jobs).collect::<Vec<_>>()).await.unwrap();
    bed.poke(&["DEL", &bed.key("yg")]).await;
    sweep(&bed).await;
    assert_eq!(bed.raw::<u64>(&["HLEN", &bed.key("yg")]).await.unwrap(), 500);
    let damage: Option<u64> = bed.raw(&["HGET", &bed.key("m"), "x"]).await.unwrap();
    assert_eq!(damage, None, "all stood in their lines");
}

/// Ids of the first ready jobs, of which the queue's index knows nothing any more.
async fn lose_ready(bed: &Bed, count: usize) {
    let line = bed.key("q:mail");
    let ids: Vec<String> = bed.raw(&["ZRANGE", &line, "0", &(count - 1).to_string()]).await.unwrap();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    bed.poke(&[&["ZREM", &line], names.as_slice()].concat()).await;
}

#[tokio::test]
async fn records_that_nobody_could_read_hide_no_lost_job_once_they_are_gone() {
    let bed = stocked().await;
    let records = bed.key("j");
    for n in 0..10 {
        bed.poke(&["HSET", &records, &format!("junk{n}"), "xx"]).await;
    }
    sweep(&bed).await;
    let noted = async || bed.raw::<Option<u64>>(&["HGET", &bed.key("m"), "rb"]).await.unwrap();
    assert_eq!(noted().await, Some(10));
    assert_eq!(sweep(&bed).await, 1, "what nobody can read is no reason to look again");
    for (gone, left) in [(0, 9), (1, 8)] {
        bed.poke(&["HDEL", &records, &format!("junk{gone}")]).await;
        sweep(&bed).await;
        assert_eq!(noted().await, Some(left));
    }
    // The one sweep compares sums: that its look at eight jobs meets the one is no more likely than not.
    for _ in 0..5 {
        lose_ready(&bed, 1).await;
        bed.queue.sweep(&worker("s"), 100).await.unwrap();
        sweep(&bed).await;
        assert_eq!(figures(&bed).await, (300, 40, 30, 20, 20));
    }
    for n in 2..10 {
        bed.poke(&["HDEL", &records, &format!("junk{n}")]).await;
    }
    sweep(&bed).await;
    assert_eq!(noted().await, Some(0));
}

#[tokio::test]
async fn letters_whose_records_were_deleted_leave_nothing_and_hide_no_lost_job() {
    for discarded in [false, true] {
        let bed = stocked().await;
        let letters: Vec<String> = bed.raw(&["ZRANGE", &bed.key("d"), "0", "-1"]).await.unwrap();
        let gone = &letters[15..];
        if discarded {
            bed.queue.dead_discard(gone, "anna", "").await.unwrap();
        }
        let pasts: u64 = bed.raw(&["HLEN", &bed.key("a")]).await.unwrap();
        for id in gone {
            bed.poke(&["HDEL", &bed.key("j"), id]).await;
        }
        lose_ready(&bed, 5).await;
        // The first sweeps find what stands for no job, the next one what is missing.
        for _ in 0..3 {
            sweep(&bed).await;
        }
        assert_eq!(figures(&bed).await, (300, 40, 30, 15, 15), "discarded: {discarded}");
        for (command, key, left) in
            [("ZCARD", "dx", 0), ("ZCARD", "dx:mail", 0), ("HLEN", "dc", 15), ("HLEN", "a", pasts - 5)]
        {
            assert_eq!(bed.raw::<u64>(&[command, &bed.key(key)]).await.unwrap(), left, "{key}");
        }
    }
}

#[tokio::test]
async fn many_letters_are_walked_through_a_part_at_a_time() {
    let bed = stocked().await;
    // As many as two steps have where nothing seems wrong, and nothing does: a job is lost for each that stands for none.
    let (dead, own) = (bed.key("d"), bed.key("d:mail"));
    let mut extra: Vec<String> = Vec::new();
    for n in 0..25 {
        extra.extend([(9_000_000_000_000_u64 + n).to_string(), format!("stray{n}")]);
    }
    let names: Vec<&str> = extra.iter().map(String::as_str).collect();
    bed.poke(&[&["ZADD", &dead], names.as_slice()].concat()).await;
    bed.poke(&[&["ZADD", &own], names.as_slice()].concat()).await;
    lose_ready(&bed, 25).await;
    bed.queue.sweep(&worker("s"), 100).await.unwrap();
    for _ in 0..4 {
        sweep(&bed).await;
    }
    assert_eq!(figures(&bed).await, (300, 40, 30, 20, 20));
}

#[tokio::test]
async fn a_queue_without_a_record_keeps_no_letters() {
    let bed = stocked().await;
    bed.poke(&["DEL", &bed.key("j")]).await;
    bed.queue.sweep(&worker("s"), 100).await.unwrap();
    assert_eq!(bed.queue.stats().await.unwrap().dead, 0);
    assert_eq!(bed.raw::<u64>(&["HLEN", &bed.key("dc")]).await.unwrap(), 0);
}

#[tokio::test]
async fn entries_of_finished_and_scheduled_jobs_without_records_hide_no_lost_job() {
    for (index, expected) in [("f:mail", (300, 40, 30, 20, 20)), ("s:mail", (300, 30, 30, 20, 20))] {
        let bed = stocked().await;
        let ids: Vec<String> = bed.raw(&["ZRANGE", &bed.key(index), "0", "9"]).await.unwrap();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        bed.poke(&[&["HDEL", &bed.key("j")], ids.as_slice()].concat()).await;
        lose_ready(&bed, 5).await;
        // One index of one type a sweep.
        for _ in 0..20 {
            sweep(&bed).await;
        }
        assert_eq!(figures(&bed).await, expected, "{index}");
    }
}

#[tokio::test]
async fn how_far_looks_are_may_say_anything_and_holds_none_up() {
    for (field, junk) in [
        ("rc", "junk"),
        ("rc", "99999999999999999999999"),
        ("rn", "junk"),
        ("rn", "1.5"),
        ("rb", "junk"),
        ("wd", "junk"),
        ("wx", "0.5"),
        ("wi", "1.5"),
        ("wt", "-1"),
    ] {
        let bed = stocked().await;
        bed.poke(&["HSET", &bed.key("m"), field, junk]).await;
        lose_ready(&bed, 5).await;
        for _ in 0..4 {
            sweep(&bed).await;
        }
        assert_eq!(figures(&bed).await, (300, 40, 30, 20, 20), "{field} {junk}");
        assert_eq!(bed.queue.stats().await.unwrap().damaged, 5, "{field} {junk}");
    }
}

#[tokio::test]
async fn finished_jobs_are_walked_through_a_part_at_a_time_and_anew() {
    let bed = Bed::with(|policy| policy.job_types.get_mut("mail").unwrap().completed.keep = 1_000).await;
    let w = worker("w");
    bed.queue.enqueue_all(&vec![job("mail", "x"); 1_100]).await.unwrap();
    for _ in 0..6 {
        let done: Vec<Settlement> =
            bed.claim(&w, &["fast"], 100).await.iter().map(|job| settlement(job, success())).collect();
        bed.queue.settle(&w, &done).await.unwrap();
    }
    // A step has 500 of them.
    for (from, to, left) in [("590", "599", 500), ("0", "9", 500)] {
        let ids: Vec<String> = bed.raw(&["ZRANGE", &bed.key("f:mail"), from, to]).await.unwrap();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        for records in ["j", "a"] {
            bed.poke(&[&["HDEL", &bed.key(records)], ids.as_slice()].concat()).await;
        }
        lose_ready(&bed, 5).await;
        for _ in 0..20 {
            sweep(&bed).await;
        }
        assert_eq!(figures(&bed).await.0, left, "{from}");
    }
    assert_eq!(bed.raw::<u64>(&["ZCARD", &bed.key("f:mail")]).await.unwrap(), 580);
}

#[tokio::test]
async fn a_count_of_damage_that_is_none_begins_anew() {
    let bed = stocked().await;
    bed.poke(&["HSET", &bed.key("m"), "x", "junk"]).await;
    for damaged in [5, 10] {
        lose_ready(&bed, 5).await;
        sweep(&bed).await;
        assert_eq!(bed.queue.stats().await.unwrap().damaged, damaged);
    }
}

#[tokio::test]
async fn pasts_and_cards_of_jobs_that_are_nowhere_else_go_and_count_as_damage() {
    for key in ["a", "dc"] {
        let bed = Bed::new().await;
        for n in 0..3 {
            bed.poke(&["HSET", &bed.key(key), &format!("ghost{n}"), "x"]).await;
        }
        bed.accept(job("mail", "x")).await;
        sweep(&bed).await;
        let left: u64 = bed.raw(&["HLEN", &bed.key(key)]).await.unwrap();
        assert_eq!((left, bed.queue.stats().await.unwrap().damaged), (0, 3), "{key}");
    }
}
