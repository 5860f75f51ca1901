//! Records that one side can read and the other cannot, clocks that went back.

use super::common::*;
use lanekeeper_queue::types::*;

/// Puts bytes in the place of a job's record.
async fn overwrite(bed: &Bed, id: &str, record: &[u8]) {
    let mut cmd = redis::cmd("HSET");
    cmd.arg(bed.key("j")).arg(id).arg(record);
    let _: u64 = cmd.query_async(&mut bed.queue.connection()).await.unwrap();
}

/// msgpack `[1, "mail", enqueued, 5, …]` and the payload `x`.
fn record(enqueued_ms: u64, rest: &[u8], fields: u8) -> Vec<u8> {
    let mut raw = vec![0x90 + fields, 1, 0xa4];
    raw.extend(b"mail\xcf");
    raw.extend(enqueued_ms.to_be_bytes());
    raw.push(5);
    raw.extend(rest);
    raw.push(b'x');
    raw
}

/// Readable for the library, not for this client: meta that are no strings.
fn poison() -> Vec<u8> {
    record(1_000, &[0, 0xa0, 0x92, 1, 2], 7)
}

#[tokio::test]
async fn a_clock_that_went_back_damages_no_record() {
    let bed = Bed::new().await;
    let w = worker("w");
    let id = bed.accept(job("mail", "x")).await;
    let ahead = bed.job(&id).await.enqueued_ms + 3_600_000;
    overwrite(&bed, &id, &record(ahead, &[], 4)).await;
    for outcome in [retry(0), Outcome::Release { why: "drain".into() }, dead("no")] {
        let claimed = bed.claim(&w, &["fast"], 1).await.remove(0);
        assert!(claimed.due_ms <= ahead && claimed.enqueued_ms == ahead);
        assert_eq!(claimed.payload, b"x");
        assert_eq!(bed.settle(&w, &claimed, outcome).await, Settled::Done);
    }
    assert_eq!(bed.queue.dead_replay(&[id.clone()], "me", "").await.unwrap()[0].outcome, "replayed");
    assert!(bed.claim(&w, &["fast"], 1).await[0].due_ms < ahead, "by the time of the replay");
}

#[tokio::test]
async fn one_unreadable_record_costs_neither_a_claim_nor_a_page() {
    let bed = Bed::new().await;
    let w = worker("w");
    let mut made = Vec::new();
    for n in 0..3 {
        made.push(bed.accept(job("mail", [n])).await);
    }
    overwrite(&bed, &made[1], &poison()).await;
    let page = bed.queue.find(&Find { limit: 5, ..Find::default() }).await.unwrap();
    assert_eq!(page.jobs.len(), 2);
    assert_eq!(bed.queue.get(&made, true).await.unwrap().iter().flatten().count(), 2);
    let claimed = bed.claim(&w, &["fast"], 5).await;
    assert_eq!(ids(&claimed), [&made[0], &made[2]]);
    assert_eq!(bed.queue.leases_of(&w).await.unwrap().len(), 2);
    assert_eq!(bed.queue.stats().await.unwrap().dead, 1, "it does not come round again");
    let page = bed.queue.dead_list(&DeadFilter::default(), 5, None).await.unwrap();
    assert_eq!((page.jobs.len(), page.unreadable), (0, vec![made[1].clone()]));
    assert_eq!(bed.queue.dead_discard(&[made[1].clone()], "me", "").await.unwrap()[0].outcome, "discarded");
}

#[tokio::test]
async fn one_unreadable_record_costs_no_sweep() {
    let bed = Bed::new().await;
    let (w, s) = (worker("w"), worker("s"));
    let bad = bed.running(&w, job("mail", "1")).await;
    let good = bed.running(&w, job("mail", "2")).await;
    overwrite(&bed, &bad.id, &poison()).await;
    bed.expire(&bad.id).await;
    bed.expire(&good.id).await;
    bed.calm().await;
    let swept = bed.queue.sweep(&s, 10).await.unwrap();
    assert_eq!(swept.expired.iter().map(|e| &e.job.id).collect::<Vec<_>>(), [&good.id]);
    assert_eq!(bed.queue.stats().await.unwrap().dead, 1);
}

#[tokio::test]
async fn names_and_messages_that_are_not_utf8_poison_no_record() {
    let bed = Bed::new().await;
    let w = worker("w");
    let id = bed.dead(job("mail", "x")).await;
    for function in ["lk_dead_replay", "lk_dead_discard", "lk_dead_ack"] {
        let mut call = redis::cmd("FCALL");
        call.arg(function).arg(1).arg(bed.queue.name().root()).arg(b"\xff").arg("").arg("").arg(&id);
        let refused = call.query_async::<redis::Value>(&mut bed.queue.connection()).await.unwrap_err();
        assert_eq!(refused.code(), Some("LKARGS"), "{refused}");
    }
    assert_eq!(bed.state(&id).await, JobState::Dead);
    // A foreign client's word, {id, token, version, 'r', 0, 't', class, code, message}.
    let claimed = bed.running(&w, job("mail", "y")).await;
    let mut word = vec![0x91, 0x99, 0xa0 + u8::try_from(claimed.id.len()).unwrap()];
    word.extend(claimed.id.as_bytes());
    word.push(0xcf);
    word.extend(claimed.token.to_be_bytes());
    word.extend(b"\xff\xa1r\x00\xa1t\xa2a\xff\xa2b\xfe\xa2c\xfd");
    let mut identity = vec![0x94, 0xa6];
    identity.extend(b"boot-w\xa1w\xa0\xa0");
    let settle = |identity: Vec<u8>| {
        let mut call = redis::cmd("FCALL");
        call.arg("lk_settle").arg(1).arg(bed.queue.name().root()).arg(identity).arg(word.as_slice());
        call
    };
    let refused = settle(b"\x94\xa6boot-w\xa1\xff\xa0\xa0".to_vec())
        .query_async::<redis::Value>(&mut bed.queue.connection())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some("LKARGS"), "{refused}");
    let (_, _, letters, _): (u64, u64, String, Vec<String>) =
        settle(identity).query_async(&mut bed.queue.connection()).await.unwrap();
    assert_eq!(letters, "d");
    let attempt = bed.job(&claimed.id).await.history.remove(0);
    assert_eq!((attempt.outcome.as_str(), attempt.policy_version), ("retry", 0));
    assert_eq!(bed.claim(&w, &["fast"], 1).await[0].id, claimed.id);
}

#[tokio::test]
async fn an_entry_left_over_from_a_lost_record_deletes_no_live_job() {
    let mut bed = Bed::new().await;
    let w = worker("w");
    let again = || with(job("mail", "x"), |o| o.id = Some("mine".into()));
    let first = bed.running(&w, again()).await;
    bed.settle(&w, &first, success()).await;
    bed.poke(&["HDEL", &bed.key("j"), "mine"]).await;
    bed.accept(again()).await;
    bed.poke(&["ZADD", &bed.key("f:mail"), "1", "mine"]).await;
    bed.queue.sweep(&w, 10).await.unwrap();
    assert_eq!(bed.raw::<u64>(&["ZCARD", &bed.key("f:mail")]).await.unwrap(), 0);
    assert_eq!(bed.state("mine").await, JobState::Ready, "by age");
    bed.change(|p| p.job_types.get_mut("mail").unwrap().completed.keep = 0).await;
    bed.poke(&["ZADD", &bed.key("f:mail"), "1", "mine"]).await;
    bed.queue.sweep(&w, 10).await.unwrap();
    assert_eq!(bed.state("mine").await, JobState::Ready, "by number");
}

#[tokio::test]
async fn a_damaged_past_is_a_damaged_job() {
    let bed = Bed::new().await;
    let w = worker("w");
    let past = bed.key("a");
    for junk in ["", "junk", "\u{1}\u{1}\u{0}", "\u{10}\u{1}\u{0}\u{0}"] {
        let waiting = bed.accept(job("mail", "w")).await;
        bed.poke(&["HSET", &past, &waiting, junk]).await;
        assert!(bed.maybe_job(&waiting).await.is_none(), "{junk:?}");
        let before = bed.queue.stats().await.unwrap().damaged;
        let claimed = bed.claim(&w, &["fast"], 5).await;
        assert!(claimed.is_empty(), "{junk:?}");
        let acted = bed.queue.cancel(&[waiting.clone()], "ops").await.unwrap();
        assert_eq!(acted[0].outcome, "not-found");
        assert!(bed.queue.stats().await.unwrap().damaged > before || junk.len() > 3, "{junk:?}");
        for outcome in [success(), retry(0), dead("x")] {
            bed.poke(&["DEL", &bed.key("q:mail")]).await;
            let running = bed.running(&w, job("mail", "r")).await;
            bed.poke(&["HSET", &past, &running.id, junk]).await;
            assert_eq!(bed.settle(&w, &running, outcome).await, Settled::Stale, "{junk:?}");
            assert_eq!(bed.raw::<u64>(&["HLEN", &bed.key("l")]).await.unwrap(), 0, "its lease is gone");
        }
    }
}

#[tokio::test]
async fn a_past_of_no_known_state_or_without_its_end_ends_no_job() {
    let bed = Bed::new().await;
    // {version, state}; a success says when it was.
    for state in [1, 2, 3, 5, 7, 9] {
        let id = bed.accept(job("mail", "x")).await;
        let conn = &mut bed.queue.connection();
        let past = [0x92, 1, state];
        let () = redis::cmd("HSET").arg(bed.key("a")).arg(&id).arg(&past).query_async(conn).await.unwrap();
        assert!(bed.claim(&worker("w"), &["fast"], 5).await.is_empty(), "{state}");
        for _ in 0..20 {
            bed.queue.sweep(&worker("s"), 100).await.unwrap();
        }
        let kept: bool = bed.raw(&["HEXISTS", &bed.key("j"), &id]).await.unwrap();
        assert!(kept, "{state}");
        let told = bed.queue.events(None, 1000).await.unwrap();
        assert!(told.iter().any(|event| event.job.as_deref() == Some(&id)), "{state}: {told:?}");
        // As it is once somebody has taken the damage away.
        bed.poke(&["HDEL", &bed.key("a"), &id]).await;
        for _ in 0..20 {
            bed.queue.sweep(&worker("s"), 100).await.unwrap();
        }
        let claimed = bed.claim(&worker("w"), &["fast"], 5).await;
        assert_eq!(ids(&claimed), [&id], "{state}");
        bed.settle(&worker("w"), &claimed[0], success()).await;
    }
}

#[tokio::test]
async fn texts_are_utf8_to_the_letter_of_the_standard() {
    let bed = Bed::new().await;
    let root = bed.queue.name().root();
    // Overlong forms, surrogates, beyond U+10FFFF, cut short, lone continuations; and the borders that are right.
    let wrong: [&[u8]; 13] = [
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xe0\x80\x80",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf0\x80\x80\x80",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"\x80",
    ];
    let right: [&[u8]; 9] = [
        b"\xc2\x80",
        b"\xdf\xbf",
        b"\xe0\xa0\x80",
        b"\xed\x9f\xbf",
        b"\xee\x80\x80",
        b"\xef\xbf\xbf",
        b"\xf0\x90\x80\x80",
        b"\xf3\xbf\xbf\xbf",
        b"\xf4\x8f\xbf\xbf",
    ];
    for (texts, outcome) in [(&wrong[..], "rejected:invalid-options"), (&right[..], "queued")] {
        for text in texts {
            // Alone, and with letters around it.
            for (before, after) in [("", ""), ("a", ""), ("", "a"), ("ä", "b")] {
                let key = [before.as_bytes(), text, after.as_bytes()].concat();
                let options = [br#"{"type":"mail","key":""#.as_slice(), &key, br#""}"#].concat();
                let mut call = redis::cmd("FCALL");
                call.arg("lk_enqueue").arg(1).arg(&root).arg(options).arg("x");
                let reply: Vec<(redis::Value, String, redis::Value)> =
                    call.query_async(&mut bed.queue.connection()).await.unwrap();
                assert_eq!(reply[0].1, outcome, "{key:x?}");
            }
        }
    }
}
