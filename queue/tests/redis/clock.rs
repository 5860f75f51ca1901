//! What happens within one moment, and at the very edge of one: by a clock that stands still.

use super::common::*;
use lanekeeper_api::policy::{Circuit, Debounce, OnConflict};
use lanekeeper_queue::types::*;

#[tokio::test]
async fn ids_of_a_moment_that_has_records_already_step_aside() {
    let bed = Bed::still(|_| {}).await;
    let mut made = Vec::new();
    // The clock gives the same id again and again: the second call meets one record, the third two.
    for n in 0..3 {
        made.push(bed.accept(job("mail", [n])).await);
    }
    let twice = [job("mail", [3]), job("mail", [4])];
    for outcome in bed.queue.enqueue(&twice).await.unwrap() {
        let Enqueued::Accepted { id, .. } = outcome else { panic!("{outcome:?}") };
        made.push(id);
    }
    for (n, id) in made.iter().enumerate() {
        assert_eq!(bed.job(id).await.payload.unwrap(), [u8::try_from(n).unwrap()], "{made:?}");
    }
}

#[tokio::test]
async fn a_queue_of_the_same_name_made_in_the_same_moment_goes_by_its_own_policy() {
    let bed = Bed::still(|_| {}).await;
    bed.accept(job("mail", "x")).await;
    bed.queue.destroy().await.unwrap();
    let mut other = bed.policy.clone();
    other.max_payload = 10;
    let Configured::Applied { version } = bed.queue.configure(&other, false).await.unwrap() else { panic!() };
    assert_eq!(version, NOON_MS, "the version that the destroyed one had");
    let refused = bed.put(job("mail", "more than ten bytes")).await;
    assert!(
        matches!(&refused, Enqueued::Rejected { reason, .. } if reason == "payload-too-large"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_call_that_closes_a_circuit_takes_what_waited_for_it() {
    let bed =
        Bed::still(|policy| policy.lanes[0].circuit = Some(Circuit { failures: 1, probe_after_ms: 1_000 }))
            .await;
    let w = worker("w");
    for n in 0..5 {
        bed.accept(job("mail", [n])).await;
    }
    let first = bed.claim(&w, &["fast"], 1).await.remove(0);
    bed.settle(&w, &first, retry(60_000)).await;
    bed.at(999).await;
    assert!(bed.claim(&w, &["fast"], 9).await.is_empty());
    bed.at(1_000).await;
    let probe = bed.claim(&w, &["fast"], 9).await;
    assert_eq!(probe.len(), 1);
    let done = [settlement(&probe[0], success())];
    let (_, reply) = bed.queue.settle_and_claim(&w, &done, &want(&["fast"], 9)).await.unwrap();
    assert_eq!(reply.jobs.len(), 3);
}

#[tokio::test]
async fn the_first_checkpoint_of_a_queue_counts_in_the_call_that_brings_it() {
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let running = bed.running(&w, job("mail", "x")).await;
    let mut word = settlement(&running, retry(0));
    word.note = Some(Note { progress: None, checkpoint: Some(b"half".to_vec()) });
    let (_, reply) = bed.queue.settle_and_claim(&w, &[word], &want(&["fast"], 1)).await.unwrap();
    assert_eq!(reply.jobs[0].checkpoint.as_deref(), Some(b"half".as_slice()));
}

#[tokio::test]
async fn a_key_whose_time_is_over_stands_in_no_replays_way() {
    let bed = Bed::still(|policy| policy.job_types.get_mut("mail").unwrap().key_for_ms = 1_000).await;
    let keyed = || with(job("mail", "x"), |o| o.key = Some("k".into()));
    let w = worker("w");
    let mut discarded = Vec::new();
    for _ in 0..2 {
        let id = bed.dead(keyed()).await;
        bed.queue.dead_discard(&[id.clone()], "anna", "").await.unwrap();
        discarded.push(id);
    }
    let owner = bed.running(&w, keyed()).await;
    bed.settle(&w, &owner, success()).await;
    let replay = async |id: &String| {
        bed.queue.dead_replay(std::slice::from_ref(id), "anna", "").await.unwrap().remove(0).outcome
    };
    bed.at(999).await;
    assert_eq!(replay(&discarded[0]).await, "key-conflict");
    bed.at(1_000).await;
    assert_eq!(replay(&discarded[0]).await, "replayed");
    assert_eq!(replay(&discarded[1]).await, "key-conflict", "the first has it now");
    bed.queue.cancel(&[discarded[0].clone()], "ops").await.unwrap();
    // Of two that are replayed in one call the first gets it.
    let third = bed.dead(keyed()).await;
    bed.queue.dead_discard(&[third.clone()], "anna", "").await.unwrap();
    let both = bed.queue.dead_replay(&[discarded[1].clone(), third], "anna", "").await.unwrap();
    assert_eq!(both.iter().map(|one| one.outcome.as_str()).collect::<Vec<_>>(), ["replayed", "key-conflict"]);
}

#[tokio::test]
async fn what_falls_due_next_follows_the_jobs_that_are_replaced_and_called_off() {
    let bed = Bed::still(|policy| {
        policy.job_types.get_mut("mail").unwrap().on_conflict = OnConflict::Replace;
    })
    .await;
    let keyed = |ms: u64| with(job("mail", "x"), |o| (o.key, o.delay) = (Some("k".into()), Some(ms)));
    let next = async || bed.queue.stats().await.unwrap().next_due_ms.map(|at| at - NOON_MS);
    let first = bed.accept(keyed(1_000)).await;
    assert_eq!(next().await, Some(1_000));
    for ms in [5_000, 2_000] {
        assert!(matches!(bed.put(keyed(ms)).await, Enqueued::Replaced { .. }));
        assert_eq!(next().await, Some(ms));
    }
    let other = bed.accept(with(job("mail", "y"), |o| o.delay = Some(9_000))).await;
    bed.queue.cancel(&[first], "ops").await.unwrap();
    assert_eq!(next().await, Some(9_000));
    bed.queue.cancel(&[other], "ops").await.unwrap();
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn a_worker_is_live_for_three_leases_and_known_for_twenty() {
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    bed.beat(&w, &[]).await;
    bed.at(10).await;
    bed.beat(&w, &[]).await;
    let first = bed.queue.stats().await.unwrap().workers.remove(0);
    assert_eq!((first.started_ms, first.seen_ms), (NOON_MS, NOON_MS + 10));
    for (ms, live, known) in [
        (10 + 3 * LEASE_MS, 1, 1),
        (11 + 3 * LEASE_MS, 0, 1),
        (10 + 20 * LEASE_MS, 0, 1),
        (11 + 20 * LEASE_MS, 0, 0),
    ] {
        bed.at(ms).await;
        bed.queue.sweep(&worker("s"), 10).await.unwrap();
        assert_eq!(bed.queue.stats().await.unwrap().workers.len(), live, "after {ms} ms");
        assert_eq!(bed.raw::<usize>(&["HLEN", &bed.key("h")]).await.unwrap(), known, "after {ms} ms");
    }
}

#[tokio::test]
async fn tokens_of_one_moment_differ_whoever_gives_them() {
    let bed = Bed::still(|_| {}).await;
    let (w, s) = (worker("w"), worker("s"));
    let mut tokens = Vec::new();
    let first = bed.running(&w, job("mail", "1")).await;
    tokens.push(first.token);
    bed.expire(&first.id).await;
    bed.calm().await;
    let taken = bed.queue.sweep(&s, 10).await.unwrap().expired.remove(0);
    tokens.push(taken.job.token);
    bed.settle(&s, &taken.job, retry(0)).await;
    for _ in 0..2 {
        let again = bed.claim(&w, &["fast"], 1).await.remove(0);
        tokens.push(again.token);
        bed.beat(&w, &[&again]).await;
        bed.settle(&w, &again, Outcome::Release { why: "drain".into() }).await;
    }
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
}

#[tokio::test]
async fn a_job_that_is_replaced_goes_on_standing_where_it_stood() {
    let bed = Bed::still(|policy| {
        policy.job_types.get_mut("reset").unwrap().on_conflict = OnConflict::Replace;
        policy.job_types.get_mut("reset").unwrap().priority = 5;
    })
    .await;
    let keyed = |payload: &str| with(job("reset", payload), |options| options.key = Some("k".into()));
    bed.accept(keyed("old")).await;
    bed.at(10).await;
    bed.accept(job("mail", "other")).await;
    bed.at(20).await;
    assert!(matches!(bed.put(keyed("new")).await, Enqueued::Replaced { .. }));
    // Also by another one of its own call.
    bed.queue.enqueue(&[keyed("newer"), keyed("newest")]).await.unwrap();
    assert_eq!(sent(&bed.claim(&worker("w"), &["fast"], 2).await), ["newest", "other"]);
    // One that asks for a time gets it.
    bed.accept(with(keyed("first"), |options| options.key = Some("j".into()))).await;
    bed.at(30).await;
    bed.accept(job("mail", "other")).await;
    bed.put(with(keyed("asks"), |o| (o.key, o.delay) = (Some("j".into()), Some(10)))).await;
    bed.at(40).await;
    assert_eq!(sent(&bed.claim(&worker("w"), &["fast"], 2).await), ["other", "asks"]);
}

#[tokio::test]
async fn a_debounced_job_is_due_in_the_end_however_often_it_is_asked_for() {
    let bed = Bed::still(|policy| {
        let mail = policy.job_types.get_mut("mail").unwrap();
        mail.on_conflict = OnConflict::Replace;
        mail.debounce = Some(Debounce { wait_ms: 1_000, most_ms: 3_000 });
    })
    .await;
    bed.queue.pause("me", "", &["fast".into()]).await.unwrap();
    let mut id = None;
    for (at, due) in
        [(0, 1_000), (800, 1_800), (1_600, 2_600), (2_400, 3_000), (3_200, 3_000), (9_000, 3_000)]
    {
        bed.at(at).await;
        let keyed = with(job("mail", at.to_string()), |options| options.key = Some("k".into()));
        match bed.put(keyed).await {
            Enqueued::Accepted { id: new, .. } => id = Some(new),
            Enqueued::Replaced { .. } => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(bed.job(id.as_ref().unwrap()).await.due_ms, NOON_MS + due, "at {at}");
    }
}
