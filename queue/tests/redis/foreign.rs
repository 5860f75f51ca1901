//! Keys that hold something of another type, and values of the queue's own state that are none.

use super::common::*;
use super::offers::waiting;
use lanekeeper_api::policy::{Capacity, ConcurrencyKey, KeyPart};
use lanekeeper_queue::types::*;

/// A string in the place of a key.
async fn spoil(bed: &Bed, key: &str) {
    bed.poke(&["DEL", &bed.key(key)]).await;
    bed.poke(&["SET", &bed.key(key), "x"]).await;
}

async fn damaged(bed: &Bed) -> u64 {
    bed.raw::<Option<u64>>(&["HGET", &bed.key("m"), "x"]).await.unwrap().unwrap_or(0)
}

#[tokio::test]
async fn a_sweep_hands_back_what_it_took_over_whatever_else_it_trips_over() {
    for key in
        ["f:report", "dx:report", "s:report", "q:report", "kx", "h", "o", "t", "c", "w:slow", "n", "d:report"]
    {
        let bed = Bed::new().await;
        let (w, s) = (worker("w"), worker("s"));
        let running = bed.running(&w, job("mail", "x")).await;
        spoil(&bed, key).await;
        if key == "s:report" {
            bed.poke(&["ZADD", &bed.key("n"), "1", "report"]).await;
        }
        bed.expire(&running.id).await;
        bed.calm().await;
        let swept = bed.queue.sweep(&s, 10).await.expect(key);
        assert_eq!(swept.expired.iter().map(|e| &e.job.id).collect::<Vec<_>>(), [&running.id], "{key}");
        let again = &swept.expired[0].job;
        assert_eq!(bed.settle(&s, again, retry(0)).await, Settled::Done, "{key}");
        if key == "n" {
            bed.poke(&["DEL", &bed.key("n")]).await;
        }
        assert_eq!(ids(&bed.claim(&w, &["fast"], 5).await), [&running.id], "{key}");
        if !["o", "q:report", "w:slow"].contains(&key) {
            assert!(damaged(&bed).await > 0, "{key}");
        }
    }
}

#[tokio::test]
async fn a_spoilt_schedule_stops_neither_others_nor_itself_once_it_is_whole() {
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let later = |kind| with(job(kind, "x"), |o| o.delay = Some(10));
    let one = bed.accept(later("mail")).await;
    let two = bed.accept(later("reset")).await;
    spoil(&bed, "s:mail").await;
    bed.at(20).await;
    let reply = bed.claim_reply(&w, &want(&["fast"], 5)).await;
    assert_eq!(ids(&reply.jobs), [&two]);
    assert_eq!(reply.next_due_ms, None, "nobody comes back at once for what cannot go");
    bed.poke(&["DEL", &bed.key("s:mail")]).await;
    for _ in 0..3 {
        bed.queue.sweep(&w, 10).await.unwrap();
    }
    assert_eq!(ids(&bed.claim(&w, &["fast"], 5).await), [&one]);
}

#[tokio::test]
async fn what_only_counts_or_wakes_fails_no_enqueue() {
    for key in ["c", "w:fast", "l", "n", "e"] {
        let bed = Bed::new().await;
        let w = worker("w");
        spoil(&bed, key).await;
        let id = bed.accept(job("mail", "x")).await;
        if key == "l" || key == "n" {
            bed.poke(&["DEL", &bed.key(key)]).await;
        }
        assert_eq!(bed.state(&id).await, JobState::Ready, "{key}");
        assert_eq!(ids(&bed.claim(&w, &["fast"], 5).await), [&id], "{key}");
        assert_eq!(bed.claim(&w, &["fast"], 5).await, [], "{key}");
        if key == "c" || key == "w:fast" {
            assert!(damaged(&bed).await > 0, "{key}");
        }
    }
}

#[tokio::test]
async fn a_spoilt_schedule_stops_no_enqueue_that_needs_neither_it_nor_room() {
    let bed =
        Bed::with(|policy| policy.capacity = Some(Capacity { jobs: Some(5), bytes: Some(100_000) })).await;
    spoil(&bed, "s:mail").await;
    bed.accept(job("mail", "x")).await;
}

#[tokio::test]
async fn a_wake_list_that_is_none_wakes_again() {
    let bed = Bed::new().await;
    spoil(&bed, "w:fast").await;
    bed.accept(job("mail", "x")).await;
    assert_eq!(bed.raw::<u64>(&["LLEN", &bed.key("w:fast")]).await.unwrap(), 1);
    spoil(&bed, "w:fast").await;
    bed.queue.pause("me", "", &[]).await.unwrap();
    bed.queue.resume("me", &[]).await.unwrap();
    assert_eq!(bed.raw::<u64>(&["LLEN", &bed.key("w:fast")]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_pause_that_cannot_be_read_is_told_as_it_holds() {
    let bed = Bed::new().await;
    let w = worker("w");
    bed.accept(job("mail", "x")).await;
    let g = bed.key("g");
    for junk in ["junk", "\u{1}", ""] {
        bed.poke(&["HSET", &g, "p:fast", junk]).await;
        bed.poke(&["HSET", &g, "p", junk]).await;
        assert!(bed.claim(&w, &["fast"], 1).await.is_empty());
        let told: Vec<_> = bed.queue.stats().await.unwrap().gates;
        assert_eq!(told.iter().map(|gate| gate.lane.as_deref()).collect::<Vec<_>>(), [None, Some("fast")]);
        for gate in told {
            assert_eq!((gate.gate, gate.since_ms), (Gate::Paused, None), "{junk:?}");
            assert_eq!((gate.by, gate.why), (None, None), "{junk:?}");
        }
    }
    bed.queue.resume("me", &[]).await.unwrap();
    bed.queue.resume("me", &["fast".into()]).await.unwrap();
    assert_eq!(bed.claim(&w, &["fast"], 1).await.len(), 1);
}

#[tokio::test]
async fn a_counter_of_tokens_that_is_none_goes_on_above_all_leases() {
    for junk in ["9223372036854775807", "4503599627370496", "-5", "nan", "inf", "x", ""] {
        let bed = Bed::new().await;
        let w = worker("w");
        // The clock went back since.
        let high = 4_000_000_000_000_000_u64;
        bed.poke(&["HSET", &bed.key("m"), "t", &high.to_string()]).await;
        let held = bed.running(&w, job("mail", "1")).await;
        assert_eq!(held.token, high + 1);
        bed.poke(&["HSET", &bed.key("m"), "t", junk]).await;
        let next = bed.running(&w, job("mail", "2")).await;
        assert_eq!(next.token, high + 2, "{junk}");
        assert_eq!(damaged(&bed).await, 1, "{junk}: told once");
        assert_eq!(bed.running(&w, job("mail", "3")).await.token, high + 3, "{junk}");
        assert_eq!(bed.settle(&w, &held, success()).await, Settled::Done, "{junk}");
    }
}

#[tokio::test]
async fn nothing_is_handed_over_where_leases_cannot_be_written() {
    for key in ["l", "r"] {
        let (bed, w, mut ear) = waiting(9).await;
        spoil(&bed, key).await;
        let id = bed.accept(job("mail", "x")).await;
        assert!(ear.handed(&bed, &w).await.is_empty(), "{key}");
        bed.poke(&["DEL", &bed.key(key)]).await;
        assert_eq!(ids(&bed.claim(&w, &["fast"], 5).await), [&id], "{key}");
    }
}

#[tokio::test]
async fn a_call_that_fails_at_a_key_says_which_and_what_to_do() {
    let kinds =
        [("n", "sorted set"), ("c", "hash"), ("g", "hash"), ("d", "sorted set"), ("q:mail", "sorted set")];
    for (key, kind) in kinds {
        let bed = Bed::new().await;
        bed.poke(&["SADD", &bed.key("t"), "mail"]).await;
        spoil(&bed, key).await;
        let told = refusal(bed.queue.stats().await);
        let expected = format!("{} holds a string where the queue keeps a {kind}", bed.key(key));
        assert!(told.contains(&expected) && told.contains("Rename that key"), "{key}: {told}");
    }
}

async fn by_customer() -> Bed {
    Bed::with(|policy| {
        policy.job_types.get_mut("mail").unwrap().concurrency_key = Some(ConcurrencyKey {
            key: vec![KeyPart::Path(vec!["to".into()])],
            limit: Some(1),
            rate_limit: None,
        });
    })
    .await
}

/// What events say of damage.
async fn told(bed: &Bed) -> Vec<String> {
    let events = bed.queue.events(None, 100).await.unwrap();
    events.into_iter().filter(|event| event.kind == "damaged").filter_map(|event| event.detail).collect()
}

#[tokio::test]
async fn a_spoilt_key_of_one_lane_stops_no_other_and_is_told_now_and_then() {
    let bed = by_customer().await;
    let w = worker("w");
    let waits = bed.accept(job("mail", r#"{"to":"a"}"#)).await;
    spoil(&bed, "yt:mail").await;
    for order in [ClaimOrder::Listed, ClaimOrder::Deadline, ClaimOrder::Listed] {
        let other = bed.accept(job("report", "x")).await;
        let reply = bed.claim_reply(&w, &ClaimRequest { order, ..want(&["fast", "slow"], 5) }).await;
        assert_eq!(ids(&reply.jobs), [&other], "{order:?}");
    }
    let words = told(&bed).await;
    assert_eq!(words.len(), 1, "{words:?}");
    assert!(words[0].contains(&format!("{} holds a string", bed.key("yt:mail"))), "{words:?}");
    bed.poke(&["DEL", &bed.key("yt:mail")]).await;
    until_claimed(&bed, &w, &waits).await;
}

#[tokio::test]
async fn a_spoilt_line_of_one_customer_stops_no_other() {
    let bed = by_customer().await;
    let w = worker("w");
    spoil(&bed, "y:mail:a").await;
    let batch = ["a", "b", "c"].map(|to| job("mail", format!(r#"{{"to":"{to}"}}"#)));
    let put = bed.queue.enqueue(&batch).await.unwrap();
    assert!(put.iter().all(|one| matches!(one, Enqueued::Accepted { .. })));
    let taken = bed.claim(&w, &["fast"], 5).await;
    assert_eq!(taken.len(), 2, "{taken:?}");
    let words = told(&bed).await;
    assert!(words[0].contains(&format!("{} holds a string", bed.key("y:mail:a"))), "{words:?}");
    bed.poke(&["DEL", &bed.key("y:mail:a")]).await;
    let Enqueued::Accepted { id, .. } = &put[0] else { panic!() };
    until_claimed(&bed, &w, id).await;
}

/// Sweeps and claims until the job is handed out.
async fn until_claimed(bed: &Bed, w: &WorkerIdentity, id: &str) {
    for _ in 0..100 {
        bed.queue.sweep(w, 10).await.unwrap();
        let taken = bed.claim(w, &["fast"], 5).await;
        if !taken.is_empty() {
            assert_eq!(ids(&taken), [id]);
            return;
        }
        bed.tick().await;
    }
    panic!("{id} is stuck");
}

#[tokio::test]
async fn a_customer_whose_end_of_a_job_was_not_noted_is_not_stuck() {
    for key in ["yr:mail", "ya:mail", "yh:mail", "yc:mail", "yp:mail", "yt:mail", "yg"] {
        let bed = by_customer().await;
        let w = worker("w");
        let batch = ["a", "a"].map(|to| job("mail", format!(r#"{{"to":"{to}"}}"#)));
        bed.queue.enqueue(&batch).await.unwrap();
        let first = bed.claim(&w, &["fast"], 5).await;
        assert_eq!(first.len(), 1);
        spoil(&bed, key).await;
        assert_eq!(bed.settle(&w, &first[0], success()).await, Settled::Done, "{key}");
        bed.poke(&["DEL", &bed.key(key)]).await;
        let find = Find { state: Some(JobState::Ready), limit: 5, ..Find::default() };
        let waits = bed.queue.find(&find).await.unwrap();
        until_claimed(&bed, &w, &waits.jobs[0].id).await;
    }
}

#[tokio::test]
async fn a_job_that_nobody_can_read_is_told_by_name() {
    let bed = Bed::new().await;
    let w = worker("w");
    let held = bed.running(&w, job("mail", "1")).await;
    let late = bed.running(&w, job("mail", "2")).await;
    let waits = bed.accept(job("mail", "3")).await;
    for id in [&held.id, &late.id, &waits] {
        bed.poke(&["HSET", &bed.key("j"), id, "junk"]).await;
    }
    let damage = Damage { part: DamagedPart::Record, key: bed.key("j"), bytes: 4 };
    assert_eq!(bed.queue.damage(&waits).await.unwrap(), Some(damage));
    assert_eq!(bed.queue.damage("none").await.unwrap(), None);
    assert!(bed.claim(&w, &["fast"], 1).await.is_empty());
    assert_eq!(bed.settle(&w, &held, retry(0)).await, Settled::Stale);
    bed.expire(&late.id).await;
    bed.calm().await;
    bed.queue.sweep(&worker("s"), 10).await.unwrap();
    let told = bed.queue.events(None, 100).await.unwrap();
    let damaged: Vec<_> = told.iter().filter(|event| event.kind == "damaged").collect();
    let named: Vec<_> = damaged.iter().map(|event| event.job.as_deref().unwrap()).collect();
    assert_eq!(named, [&waits, &held.id, &late.id]);
    for event in damaged {
        assert_eq!(event.name.as_deref(), Some("mail"));
        let words = format!("its record ({}) cannot be read, of 4 bytes", bed.key("j"));
        assert_eq!(event.detail.as_deref(), Some(&*words));
    }
}

#[tokio::test]
async fn a_job_of_a_name_that_is_no_text_is_told_though_its_record_can_be_read() {
    let bed = Bed::new().await;
    let id = bed.accept(job("mail", "x")).await;
    let record: Vec<u8> = bed.raw(&["HGET", &bed.key("j"), &id]).await.unwrap();
    let name = b"\xff\xfe";
    let conn = &mut bed.queue.connection();
    let () = redis::cmd("HSET").arg(bed.key("j")).arg(name).arg(record).query_async(conn).await.unwrap();
    let () = redis::cmd("ZADD").arg(bed.key("q:mail")).arg(0).arg(name).query_async(conn).await.unwrap();
    assert_eq!(ids(&bed.claim(&worker("w"), &["fast"], 5).await), [&id]);
    let told = bed.queue.events(None, 100).await.unwrap();
    let damaged: Vec<_> = told.iter().filter_map(|event| event.detail.as_deref()).collect();
    assert!(damaged.contains(&"its id holds bytes that no client can be told"), "{damaged:?}");
    for _ in 0..20 {
        bed.queue.sweep(&worker("s"), 100).await.unwrap();
    }
    assert_eq!(
        bed.raw::<u64>(&["ZCARD", &bed.key("q:mail")]).await.unwrap(),
        0,
        "nobody puts it in line again"
    );
}
