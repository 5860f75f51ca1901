//! Bytes of records, pasts and leases that are none: nobody trips over them, and nothing goes out by them.

use super::common::*;
use lanekeeper_queue::types::*;
use redis::Value;
use serde::Serialize;

fn packed(value: impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec(&value).unwrap()
}

/// A text of msgpack that may have any bytes.
fn text(bytes: &[u8]) -> Vec<u8> {
    [&[0xd9, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// An array of packed fields.
fn list(fields: &[&[u8]]) -> Vec<u8> {
    [&[0x90 + u8::try_from(fields.len()).unwrap()][..], &fields.concat()].concat()
}

async fn put(bed: &Bed, key: &str, field: &str, bytes: &[u8]) {
    let mut call = redis::cmd("HSET");
    call.arg(bed.key(key)).arg(field).arg(bytes);
    let _: u64 = call.query_async(&mut bed.queue.connection()).await.unwrap();
}

/// Whether the library can read the job.
async fn reads(bed: &Bed, id: &str) -> bool {
    let (_, views): (u64, Vec<Value>) = fcall(bed, "lk_get", &[b"0", id.as_bytes()]).await.unwrap();
    views[0] != Value::Nil
}

#[tokio::test]
async fn a_record_is_read_only_where_every_field_is_what_it_should_be() {
    let bed = Bed::new().await;
    let id = bed.accept(job("mail", "x")).await;
    for right in [
        packed((1, "mail", 1_000, 5)),
        packed((1, "mail", 1_000, 5, 7)),
        packed((1, "mail", 1_000, 5, 7, "key")),
        packed((1, "mail", 1_000, 5, 0, "", ["a", "b"])),
    ] {
        put(&bed, "j", &id, &right).await;
        assert!(reads(&bed, &id).await, "{right:x?}");
    }
    for wrong in [
        packed((2, "mail", 1_000, 5)),
        packed((1, 7, 1_000, 5)),
        packed((1, "mail", "x", 5)),
        packed((1, "mail", 1_000, "x")),
        packed((1, "mail", 1_000, 5, "x")),
        packed((1, "mail", 1_000, 5, 7, 7)),
        packed((1, "mail", 1_000)),
        packed((1, "mail")),
        packed(1),
        packed("mail"),
        vec![0xc1],
        vec![],
    ] {
        put(&bed, "j", &id, &wrong).await;
        assert!(!reads(&bed, &id).await, "{wrong:x?}");
        assert_eq!(bed.queue.cancel(&[id.clone()], "ops").await.unwrap()[0].outcome, "not-found");
    }
}

#[tokio::test]
async fn a_past_is_read_only_where_every_field_is_what_it_should_be() {
    let bed = Bed::new().await;
    let id = bed.accept(job("mail", "x")).await;
    let none: [u8; 0] = [];
    for right in [packed((1, 0)), packed((1, 0, 5)), packed((1, 3, 5, 1, 1, 1, 0, none, 0, 9, "", ""))] {
        put(&bed, "a", &id, &right).await;
        assert!(reads(&bed, &id).await, "{right:x?}");
    }
    for wrong in [
        packed((2, 0)),
        packed((1, "x")),
        packed([1]),
        packed((1, 0, "x")),
        packed((1, 0, 5, 1, 1, "x")),
        packed((1, 0, 5, 1, 1, 1, 0, 7)),
        packed((1, 3, 5, 1, 1, 1, 0, none, 0, 9, 7, "")),
        packed((1, 3, 5, 1, 1, 1, 0, none, 0, 9, "", 7)),
        packed(1),
        vec![0xc1],
        vec![],
    ] {
        put(&bed, "a", &id, &wrong).await;
        assert!(!reads(&bed, &id).await, "{wrong:x?}");
    }
}

#[tokio::test]
async fn a_lease_is_one_only_where_every_field_is_what_it_should_be() {
    let bed = Bed::new().await;
    let w = worker("w");
    let running = bed.running(&w, job("mail", "x")).await;
    let (token, since, kind, own) =
        (packed(running.token), packed(running.claimed_ms), packed("mail"), text(&identity(&w)));
    put(&bed, "l", &running.id, &list(&[&token, &since, &kind, &own])).await;
    assert!(bed.beat(&w, &[&running]).await.lost.is_empty());
    for wrong in [
        list(&[&packed("x"), &since, &kind, &own]),
        list(&[&token, &packed("x"), &kind, &own]),
        list(&[&token, &since, &packed(7), &own]),
        list(&[&token, &since, &kind, &packed(7)]),
        list(&[&token, &since, &kind, &text(b"junk")]),
        list(&[&token, &since, &kind, &text(&packed(("", "w", "pool", "node")))]),
        list(&[&token, &since]),
        b"junk".to_vec(),
        vec![],
    ] {
        put(&bed, "l", &running.id, &wrong).await;
        assert_eq!(bed.beat(&w, &[&running]).await.lost, [running.id.clone()], "{wrong:x?}");
        assert!(bed.queue.leases_of(&w).await.unwrap().is_empty());
        assert_eq!(bed.settle(&w, &running, success()).await, Settled::Stale);
    }
    // A gauge that is wrong is counted anew in spite of it.
    bed.poke(&["HSET", &bed.key("c"), "r:mail", "9"]).await;
    bed.queue.sweep(&w, 10).await.unwrap();
    assert_eq!(bed.raw::<u64>(&["HGET", &bed.key("c"), "r:mail"]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_type_that_nobody_knows_any_more_is_known_again_by_its_jobs() {
    let mut bed = Bed::new().await;
    bed.accept(job("report", "x")).await;
    bed.change(|policy| drop(policy.job_types.remove("report"))).await;
    bed.poke(&["SREM", &bed.key("t"), "report"]).await;
    bed.queue.sweep(&worker("s"), 10).await.unwrap();
    assert!(bed.raw::<bool>(&["SISMEMBER", &bed.key("t"), "report"]).await.unwrap());
}

#[tokio::test]
async fn what_a_sweep_takes_over_is_bounded_in_bytes() {
    let bed = Bed::with(|policy| policy.max_payload = 1 << 20).await;
    let w = worker("w");
    for _ in 0..6 {
        let running = bed.running(&w, job("mail", vec![b'x'; 1 << 20])).await;
        bed.expire(&running.id).await;
    }
    bed.calm().await;
    let first = bed.queue.sweep(&worker("s"), 100).await.unwrap();
    assert_eq!((first.expired.len(), first.more), (3, true), "a fourth would go beyond 4 MiB");
    let second = bed.queue.sweep(&worker("s"), 100).await.unwrap();
    assert_eq!(second.expired.len(), 3);
}

#[tokio::test]
async fn a_heartbeat_is_one_only_where_both_its_times_are() {
    let bed = Bed::new().await;
    let w = worker("w");
    bed.beat(&w, &[]).await;
    let now = bed.queue.stats().await.unwrap().now_ms;
    let mut own: Vec<u8> = bed.raw(&["HGET", &bed.key("h"), &w.boot]).await.unwrap();
    let info = own.split_off(packed((now, now)).len());
    let whole = |times: Vec<u8>| [times, info.clone()].concat();
    put(&bed, "h", "right", &whole(packed((now, now)))).await;
    for (n, wrong) in [
        whole(packed(("x", now))),
        whole(packed((now, "x"))),
        whole(packed([now])),
        whole(packed(now)),
        packed((now, now)),
        vec![0xc1],
        vec![],
    ]
    .into_iter()
    .enumerate()
    {
        put(&bed, "h", &n.to_string(), &wrong).await;
    }
    let live = async || bed.queue.stats().await.unwrap().workers.len();
    assert_eq!(live().await, 2);
    bed.queue.sweep(&w, 10).await.unwrap();
    let mut known: Vec<String> = bed.raw(&["HKEYS", &bed.key("h")]).await.unwrap();
    known.sort();
    assert_eq!((live().await, known), (2, vec![w.boot.clone(), "right".to_owned()]));
    // Whoever had a damaged one begins anew with its next.
    put(&bed, "h", &w.boot, &whole(packed(("x", "y")))).await;
    bed.beat(&w, &[]).await;
    assert_eq!(live().await, 2);
}

#[tokio::test]
async fn a_settlement_of_a_job_that_cannot_be_read_counts_as_damage() {
    let bed = Bed::new().await;
    let w = worker("w");
    for (damaged, outcome) in (1..).zip([retry(0), dead("no"), Outcome::Release { why: "drain".into() }]) {
        let running = bed.running(&w, job("mail", "x")).await;
        put(&bed, "j", &running.id, b"junk").await;
        assert_eq!(bed.settle(&w, &running, outcome).await, Settled::Stale);
        assert_eq!(bed.queue.stats().await.unwrap().damaged, damaged);
    }
}

#[tokio::test]
async fn notes_of_jobs_that_are_not_there_are_forgotten() {
    let bed = Bed::new().await;
    let w = worker("w");
    let running = bed.running(&w, job("mail", "x")).await;
    bed.tell(&w, &running, Note { progress: None, checkpoint: Some(b"at 3".to_vec()) }).await;
    for stray in ["pghost", "cghost", "p"] {
        put(&bed, "o", stray, b"junk").await;
    }
    // Eight notes at random are looked at: here that is all of them.
    bed.queue.sweep(&w, 10).await.unwrap();
    let left: Vec<String> = bed.raw(&["HKEYS", &bed.key("o")]).await.unwrap();
    assert_eq!(left, [format!("c{}", running.id)]);
    bed.queue.sweep(&w, 10).await.unwrap();
    assert_eq!(bed.job(&running.id).await.checkpoint.unwrap().bytes, 4);
}

#[tokio::test]
async fn a_checkpoint_without_bytes_behind_its_time_is_none() {
    let bed = Bed::new().await;
    let w = worker("w");
    let running = bed.running(&w, job("mail", "x")).await;
    bed.tell(&w, &running, Note { progress: None, checkpoint: Some(b"at 3".to_vec()) }).await;
    for wrong in [packed([5]), packed(["x"]), packed(5), vec![0xc1], vec![]] {
        put(&bed, "o", &format!("c{}", running.id), &wrong).await;
        assert_eq!(bed.job(&running.id).await.checkpoint, None, "{wrong:x?}");
    }
}

#[tokio::test]
async fn a_key_that_is_anothers_by_now_is_not_freed() {
    let bed = Bed::new().await;
    let keyed = || with(job("mail", "x"), |o| o.key = Some("k".into()));
    let first = bed.accept(keyed()).await;
    bed.poke(&["HDEL", &bed.key("k"), "k"]).await;
    let second = bed.accept(keyed()).await;
    bed.queue.cancel(&[first], "ops").await.unwrap();
    assert!(matches!(bed.put(keyed()).await, Enqueued::Duplicate { id, .. } if id == second));
}

#[tokio::test]
async fn a_past_that_is_none_is_told_apart_from_a_record() {
    let bed = Bed::new().await;
    let id = bed.accept(job("mail", "x")).await;
    assert_eq!(bed.queue.damage(&id).await.unwrap(), None, "nothing is wrong with it");
    put(&bed, "a", &id, b"garbage").await;
    let damage = Damage { part: DamagedPart::Past, key: bed.key("a"), bytes: 7 };
    assert_eq!(bed.queue.damage(&id).await.unwrap(), Some(damage));
    assert!(bed.claim(&worker("w"), &["fast"], 1).await.is_empty());
    let told = bed.queue.events(None, 100).await.unwrap();
    let event = told.iter().find(|event| event.kind == "damaged").unwrap();
    let words = format!("its past ({}) cannot be read, of 7 bytes", bed.key("a"));
    assert_eq!((event.job.as_deref(), event.detail.as_deref()), (Some(&*id), Some(&*words)));
    // No bytes are no past, but not the absence of one.
    put(&bed, "a", &id, b"").await;
    assert!(!reads(&bed, &id).await);
    let damage = Damage { part: DamagedPart::Past, key: bed.key("a"), bytes: 0 };
    assert_eq!(bed.queue.damage(&id).await.unwrap(), Some(damage));
    // Where both are damaged, the record is what counts.
    put(&bed, "j", &id, b"junk").await;
    assert_eq!(bed.queue.damage(&id).await.unwrap().unwrap().part, DamagedPart::Record);
}

/// What the advice about a damaged past says of deleting it.
#[tokio::test]
async fn a_job_without_its_past_runs_anew_whatever_it_was() {
    let (w, sweeper) = (worker("w"), worker("s"));
    for ended in [None, Some(success()), Some(dead("broken"))] {
        let bed = Bed::new().await;
        let id = match &ended {
            None => bed.accept(job("mail", "x")).await,
            Some(outcome) => {
                let running = bed.running(&w, job("mail", "x")).await;
                assert_eq!(bed.settle(&w, &running, outcome.clone()).await, Settled::Done);
                running.id
            }
        };
        put(&bed, "a", &id, b"garbage").await;
        // It leaves the line where it stood in one.
        assert!(bed.claim(&w, &["fast"], 1).await.is_empty());
        bed.queue.sweep(&sweeper, 10).await.unwrap();
        bed.poke(&["HDEL", &bed.key("a"), &id]).await;
        let mut taken = Vec::new();
        for _ in 0..20 {
            bed.queue.sweep(&sweeper, 10).await.unwrap();
            taken.extend(bed.claim(&w, &["fast"], 1).await);
        }
        assert_eq!(ids(&taken), [&*id], "{ended:?}");
        assert_eq!((taken[0].attempt, &*taken[0].payload), (1, &b"x"[..]), "{ended:?}");
        assert_eq!(bed.settle(&w, &taken[0], success()).await, Settled::Done);
        assert_eq!(bed.state(&id).await, JobState::Succeeded);
    }
}

#[tokio::test]
async fn a_count_that_is_none_begins_anew_and_costs_no_other() {
    for spoilt in ["a", "b", "s", "r", "e"] {
        let bed = Bed::new().await;
        let w = worker("w");
        bed.poke(&["HSET", &bed.key("c"), &format!("{spoilt}:mail"), "junk"]).await;
        for _ in 0..3 {
            let claimed = bed.running(&w, job("mail", "x")).await;
            // It was busy for a while, or `b` has nothing to count.
            bed.tick().await;
            bed.settle(&w, &claimed, success()).await;
        }
        let fields = ["e:mail", "a:mail", "s:mail", "r:mail"];
        let counts: Vec<i64> =
            bed.raw(&[&["HMGET", &bed.key("c")], fields.as_slice()].concat()).await.unwrap();
        assert_eq!(counts, [3, 3, 3, 0], "{spoilt}");
        assert_eq!(bed.queue.stats().await.unwrap().damaged, 1, "{spoilt}");
    }
}
