//! lk_settle: how attempts end, and what is refused.

use super::common::*;
use lanekeeper_queue::types::*;

#[tokio::test]
async fn a_retry_waits_spends_a_try_and_is_told() {
    let bed = Bed::new().await;
    let w = worker("w");
    let first = bed.running(&w, job("mail", "x")).await;
    assert_eq!(bed.settle(&w, &first, retry(60_000)).await, Settled::Done);
    let found = bed.job(&first.id).await;
    assert_eq!((found.state, found.tries, found.attempts), (JobState::Scheduled, 1, 1));
    assert!(found.due_ms >= first.claimed_ms + 60_000);
    let error = found.history[0].error.clone().unwrap();
    assert_eq!(
        (error.class, error.code.as_str(), error.message.as_str()),
        (ErrorClass::Transient, "Test", "again")
    );
    assert_eq!(found.history[0].outcome, "retry");

    let second = bed.running(&w, job("mail", "y")).await;
    assert_eq!(bed.settle(&w, &second, retry(0)).await, Settled::Done);
    let again = bed.claim(&w, &["fast"], 5).await;
    assert_eq!((again[0].attempt, again[0].tries), (2, 1));
    let mail =
        bed.queue.stats().await.unwrap().lanes[0].types.iter().find(|t| t.name == "mail").unwrap().clone();
    assert_eq!((mail.failed_total, mail.attempts_total, mail.running, mail.scheduled), (2, 2, 1, 1));
}

#[tokio::test]
async fn what_an_attempt_costs_is_what_the_settlement_says() {
    let bed = Bed::new().await;
    let w = worker("w");
    let outcomes = [
        (Outcome::Retry { delay_ms: 0, spends: Spends::Crash, error: error("x") }, (0, 1)),
        (Outcome::Retry { delay_ms: 0, spends: Spends::Nothing, error: error("x") }, (0, 1)),
        (Outcome::Release { why: "drain".into() }, (0, 1)),
        (Outcome::Snooze { delay_ms: 0, why: "busy".into(), holds: Holds::Job }, (0, 1)),
        (retry(0), (1, 1)),
    ];
    let id = bed.accept(job("mail", "x")).await;
    for (n, (outcome, costs)) in outcomes.into_iter().enumerate() {
        let claimed = bed.claim(&w, &["fast"], 1).await.remove(0);
        assert_eq!(claimed.attempt as usize, n + 1);
        bed.settle(&w, &claimed, outcome).await;
        let found = bed.job(&id).await;
        assert_eq!((found.tries, found.crashes), costs, "{:?}", found.history.last());
    }
    let told: Vec<String> = bed.job(&id).await.history.into_iter().map(|a| a.outcome).collect();
    assert_eq!(told, ["retry", "retry", "release", "snooze", "retry"]);
}

#[tokio::test]
async fn a_released_job_keeps_its_place_and_a_snoozed_one_waits() {
    let bed = Bed::new().await;
    let w = worker("w");
    let first = bed.running(&w, job("mail", "1")).await;
    bed.accept(job("mail", "2")).await;
    bed.settle(&w, &first, Outcome::Release { why: "drain".into() }).await;
    assert_eq!(bed.job(&first.id).await.due_ms, first.due_ms);
    let again = bed.claim(&w, &["fast"], 1).await.remove(0);
    assert_eq!(again.id, first.id);
    bed.settle(
        &w,
        &again,
        Outcome::Snooze { delay_ms: 30_000, why: "Retry-After: 30".into(), holds: Holds::Job },
    )
    .await;
    let found = bed.job(&first.id).await;
    assert_eq!(found.state, JobState::Scheduled);
    assert_eq!(found.history[1].error.as_ref().unwrap().message, "Retry-After: 30");
}

#[tokio::test]
async fn every_reason_of_death_is_kept() {
    let bed = Bed::new().await;
    let w = worker("w");
    for reason in [
        DeadReason::PermanentError,
        DeadReason::TriesExhausted,
        DeadReason::CrashBudgetExhausted,
        DeadReason::GaveUp,
    ] {
        let claimed = bed.running(&w, job("mail", b"\x00\xff")).await;
        let outcome = Outcome::Dead { reason, error: error("the end"), spends: Spends::Try };
        assert_eq!(bed.settle(&w, &claimed, outcome).await, Settled::Done);
        let found = bed.job(&claimed.id).await;
        assert_eq!((found.state, found.dead_reason, found.tries), (JobState::Dead, Some(reason), 1));
        assert_eq!(found.payload.unwrap(), b"\x00\xff");
        assert_eq!(found.history[0].outcome, "dead");
    }
    assert_eq!(bed.queue.stats().await.unwrap().dead, 4);
}

#[tokio::test]
async fn only_the_holder_of_the_lease_settles_and_only_once() {
    let bed = Bed::new().await;
    let (w, other) = (worker("w"), worker("other"));
    let claimed = bed.running(&w, job("mail", "x")).await;
    let reborn = WorkerIdentity { boot: "another boot".into(), ..w.clone() };
    let wrong_token = Claimed { token: claimed.token + 1, ..claimed.clone() };
    let wrong_job = Claimed { id: "nope".into(), ..claimed.clone() };
    let before = bed.job(&claimed.id).await;
    assert_eq!(bed.settle(&other, &claimed, success()).await, Settled::Stale);
    assert_eq!(bed.settle(&reborn, &claimed, success()).await, Settled::Stale);
    assert_eq!(bed.settle(&w, &wrong_token, success()).await, Settled::Stale);
    assert_eq!(bed.settle(&w, &wrong_job, success()).await, Settled::Stale);
    assert_eq!(bed.job(&claimed.id).await, before, "nothing changed");
    // Its place may be described anew: only the boot counts.
    let moved = WorkerIdentity { node: "elsewhere".into(), ..w.clone() };
    let both = [settlement(&claimed, success()), settlement(&claimed, retry(0))];
    assert_eq!(bed.queue.settle(&moved, &both).await.unwrap(), [Settled::Done, Settled::Stale]);
    assert_eq!(bed.settle(&w, &claimed, retry(0)).await, Settled::Stale);
    assert_eq!(bed.state(&claimed.id).await, JobState::Succeeded);
}

#[tokio::test]
async fn large_batches_are_settled_in_order() {
    let bed = Bed::new().await;
    let w = worker("w");
    bed.queue.enqueue_all(&vec![job("mail", "x"); 450]).await.unwrap();
    let mut held = Vec::new();
    while held.len() < 450 {
        held.extend(bed.claim(&w, &["fast"], 200).await);
    }
    let mut done: Vec<Settlement> = held.iter().map(|job| settlement(job, success())).collect();
    done[7].token = 1;
    let (settled, _) = bed.queue.settle_and_claim(&w, &done, &want(&["fast"], 1)).await.unwrap();
    assert_eq!(settled.len(), 450);
    assert!(settled.iter().enumerate().all(|(n, s)| (*s == Settled::Stale) == (n == 7)));
}

#[tokio::test]
async fn a_long_history_loses_its_middle_and_says_so() {
    let bed = Bed::new().await;
    let w = worker("w");
    let id = bed.accept(job("mail", "x")).await;
    for n in 1..=40 {
        let claimed = bed.claim(&w, &["fast"], 1).await.remove(0);
        let long = format!("{n} {}", "é".repeat(40_000));
        bed.settle(
            &w,
            &claimed,
            Outcome::Retry { delay_ms: 0, spends: Spends::Nothing, error: error(&long) },
        )
        .await;
    }
    let found = bed.job(&id).await;
    assert_eq!((found.attempts, found.history.len(), found.history_dropped), (40, 30, 10));
    let numbers: Vec<u32> = found.history.iter().map(|a| a.number).collect();
    assert_eq!(numbers, (1..=5).chain(16..=40).collect::<Vec<_>>());
    let lengths: Vec<usize> = found.history.iter().map(|a| a.error.as_ref().unwrap().message.len()).collect();
    assert!(lengths[..29].iter().all(|len| (1_000..=1_024).contains(len)), "{lengths:?}");
    assert!((65_000..=65_536).contains(&lengths[29]));
    let bytes: usize = bed.raw(&["HSTRLEN", &bed.key("a"), &id]).await.unwrap();
    assert!(bytes < 110_000, "{bytes}");
}

#[tokio::test]
async fn results_may_be_any_bytes_and_are_bounded() {
    let bed = Bed::new().await;
    let w = worker("w");
    let claimed = bed.running(&w, job("mail", "x")).await;
    bed.settle(&w, &claimed, Outcome::Success { result: vec![0xff; 100_000], follow_ups: vec![] }).await;
    assert_eq!(bed.state(&claimed.id).await, JobState::Succeeded);
    let bytes: usize = bed.raw(&["HSTRLEN", &bed.key("a"), &claimed.id]).await.unwrap();
    assert!((65_536..66_000).contains(&bytes), "{bytes}");
}

#[tokio::test]
async fn payloads_come_back_byte_identical() {
    let bed = Bed::new().await;
    let w = worker("w");
    let payloads: [&[u8]; 8] = [
        b"",
        b"\0\0\0",
        b"\xff\xfe\xc0",
        b"[]",
        b"{}",
        b"{\"n\":9223372036854775808,\"l\":[],\"o\":{},\"f\":1.10}",
        b"\x91\x01\xc4",
        &[7; 70_000],
    ];
    for payload in payloads {
        let first = bed.running(&w, job("mail", payload)).await;
        assert_eq!(first.payload, payload);
        bed.settle(&w, &first, retry(0)).await;
        let second = bed.claim(&w, &["fast"], 1).await.remove(0);
        assert_eq!(second.payload, payload);
        bed.settle(&w, &second, dead("no")).await;
        assert_eq!(bed.job(&first.id).await.payload.unwrap(), payload);
        bed.queue.dead_replay(std::slice::from_ref(&first.id), "me", "").await.unwrap();
        let third = bed.claim(&w, &["fast"], 1).await.remove(0);
        assert_eq!(third.payload, payload);
        bed.settle(&w, &third, success()).await;
        let found = bed.job(&first.id).await;
        assert_eq!(found.payload_bytes, payload.len() as u64);
        assert_eq!(found.payload.unwrap(), payload);
    }
}

#[tokio::test]
async fn calls_that_make_no_sense_change_nothing() {
    let bed = Bed::new().await;
    let root = bed.queue.name().root();
    let nameless = WorkerIdentity { boot: String::new(), ..worker("w") };
    assert!(refusal(bed.queue.leave(&nameless).await).contains("identity"));
    for call in [
        vec!["FCALL", "lk_settle", "1", &root],
        vec!["FCALL", "lk_settle", "1", &root, "junk", "junk"],
        vec!["FCALL", "lk_claim", "1", &root, "junk", "", "junk"],
        vec!["FCALL", "lk_extend", "1", &root, "junk", "", ""],
        vec!["FCALL", "lk_sweep", "1", &root, "junk", "5"],
        vec!["FCALL", "lk_get", "1", &root],
        vec!["FCALL", "lk_cancel", "1", &root],
        vec!["FCALL", "lk_find", "1", &root, "", "", "", "0", ""],
        vec!["FCALL", "lk_dead_list", "1", &root, "", "ids", "x", ""],
        vec!["FCALL", "lk_dead_list", "1", &root, "", "all", "1", ""],
        vec!["FCALL", "lk_dead_list", "1", &root, "[]x", "ids", "1", ""],
        vec!["FCALL", "lk_dead_edit", "1", &root, "me", "why", "id"],
        vec!["FCALL", "lk_stats", "1", "elsewhere"],
        vec!["FCALL", "lk_destroy", "1", "elsewhere"],
        vec!["FCALL", "lk_configure", "1", &root, "{}", "cli", "u", "1", "1", "0"],
        vec!["FCALL", "lk_configure", "1", &root, "[", "cli", "u", "1", "1", "0"],
    ] {
        let error = bed.raw::<redis::Value>(&call).await.expect_err(&call.join(" "));
        assert!(error.code().is_some_and(|code| code.starts_with("LK")), "{call:?}: {error}");
    }
}

#[tokio::test]
async fn a_stale_word_does_not_silence_the_one_after_it() {
    let bed = Bed::new().await;
    let w = worker("w");
    let first = bed.running(&w, job("mail", "x")).await;
    bed.settle(&w, &first, Outcome::Release { why: "lost".into() }).await;
    let second = bed.claim(&w, &["fast"], 1).await.remove(0);
    let words =
        [settlement(&first, success()), settlement(&second, success()), settlement(&second, success())];
    let settled = bed.queue.settle(&w, &words).await.unwrap();
    assert_eq!(settled, [Settled::Stale, Settled::Done, Settled::Stale]);
}

#[tokio::test]
async fn age_counts_from_the_time_a_delayed_job_was_asked_for() {
    let bed = Bed::new().await;
    let w = worker("w");
    let id = bed.accept(with(job("mail", "x"), |o| o.delay = Some(20))).await;
    let due_ms = bed.job(&id).await.due_ms;
    for (attempt, outcome) in
        [(1, Outcome::Release { why: "drain".into() }), (2, retry(0)), (3, retry(0)), (4, success())]
    {
        let claimed = loop {
            if let Some(claimed) = bed.claim(&w, &["fast"], 1).await.pop() {
                break claimed;
            }
        };
        assert_eq!((claimed.attempt, claimed.enqueued_ms), (attempt, due_ms));
        bed.settle(&w, &claimed, outcome).await;
    }
    assert_eq!(bed.job(&id).await.enqueued_ms, due_ms - 20, "people see when it was enqueued");
}
