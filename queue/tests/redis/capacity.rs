//! How much a queue holds: what is refused, what never is, and what makes way.

use super::common::*;
use lanekeeper_api::policy::{Capacity, OnConflict};
use lanekeeper_queue::types::*;

fn of_jobs(jobs: u64) -> Option<Capacity> {
    Some(Capacity { jobs: Some(jobs), bytes: None })
}

fn refused(outcome: &Enqueued) -> &str {
    let Enqueued::Rejected { reason, message } = outcome else { panic!("taken: {outcome:?}") };
    assert_eq!(reason, "queue-full");
    message
}

#[tokio::test]
async fn a_full_queue_refuses_new_jobs_and_nothing_else() {
    let mut bed = Bed::with(|policy| {
        policy.capacity = of_jobs(3);
        policy.job_types.get_mut("mail").unwrap().on_conflict = OnConflict::Replace;
    })
    .await;
    let keyed = |payload: &str| with(job("mail", payload), |options| options.key = Some("k".into()));
    let first = bed.accept(keyed("1")).await;
    let five: Vec<NewJob> =
        (0..5).map(|n| with(job("reset", "x"), |o| o.key = Some(format!("r{}", n % 4)))).collect();
    let outcomes = bed.queue.enqueue(&five).await.unwrap();
    assert!(outcomes[..2].iter().all(|one| matches!(one, Enqueued::Accepted { .. })), "{outcomes:?}");
    assert!(
        refused(&outcomes[2]).ends_with("(dead letters: 0, discarded: 0), and its capacity is 3"),
        "{outcomes:?}"
    );
    refused(&outcomes[3]);
    assert!(
        matches!(&outcomes[4], Enqueued::Duplicate { .. }),
        "the twin of one that was taken: {outcomes:?}"
    );
    assert!(bed.queue.stats().await.unwrap().full);
    // What is there already answers as ever.
    let state = JobState::Ready;
    assert_eq!(bed.put(keyed("2")).await, Enqueued::Replaced { id: first.clone(), state });
    let taken = with(job("report", ""), |options| options.id = Some(first.clone()));
    assert_eq!(bed.put(taken).await, Enqueued::Duplicate { id: first.clone(), state });
    // A success brings its follow-ups, full or not.
    let w = worker("w");
    let claimed = bed.claim(&w, &["fast"], 1).await.remove(0);
    let follow_ups = vec![with(job("report", ""), |options| options.id = Some("next".into()))];
    let outcome = Outcome::Success { result: vec![], follow_ups };
    assert_eq!(bed.settle(&w, &claimed, outcome).await, Settled::Done);
    assert_eq!(bed.state("next").await, state);
    bed.change(|policy| policy.capacity = None).await;
    assert!(!bed.queue.stats().await.unwrap().full);
    bed.accept(job("mail", "")).await;
}

#[tokio::test]
async fn completed_records_make_way_of_every_type_before_anything_is_refused() {
    let mut bed = Bed::new().await;
    let w = worker("w");
    for kind in ["mail", "mail", "mail", "report", "mail", "mail", "mail", "report"] {
        let job = bed.running(&w, job(kind, "")).await;
        bed.settle(&w, &job, success()).await;
    }
    bed.dead(job("report", "dead")).await;
    bed.accept(job("mail", "waits")).await;
    bed.change(|policy| policy.capacity = of_jobs(7)).await;
    let sweep = bed.queue.sweep(&w, 200).await.unwrap();
    // Ten stand, nine tenths of seven may: three of six and one of two would be too many, so the first type gives three.
    assert_eq!((sweep.trimmed, bed.queue.stats().await.unwrap().records), (4, 6));
    let figures = |stats: Stats| {
        (stats.dead, stats.lanes.iter().flat_map(|lane| &lane.types).map(|t| t.ready).sum::<u64>())
    };
    assert_eq!(figures(bed.queue.stats().await.unwrap()), (1, 1), "what is not finished stays");
    // The enqueue does not wait for a sweep either, as long as there is something that may go.
    for left in [7, 7, 7, 7, 7] {
        bed.accept(job("mail", "")).await;
        assert_eq!(bed.queue.stats().await.unwrap().records, left);
    }
    refused(&bed.put(job("mail", "")).await);
}

#[tokio::test]
async fn bytes_are_estimated_by_sweeps_and_bound_the_queue() {
    let mut bed =
        Bed::with(|policy| policy.capacity = Some(Capacity { jobs: None, bytes: Some(1 << 20) })).await;
    let large = |n: usize| job("mail", vec![b'x'; n]);
    for _ in 0..20 {
        bed.accept(large(50_000)).await;
    }
    let bytes = bed.queue.stats().await.unwrap().bytes.unwrap();
    assert!((1_000_000..1_010_000).contains(&bytes), "what came is known before anybody looks: {bytes}");
    bed.queue.sweep(&worker("w"), 200).await.unwrap();
    let bytes = bed.queue.stats().await.unwrap().bytes.unwrap();
    assert!((1_000_000..1_010_000).contains(&bytes), "{bytes}");
    assert!(refused(&bed.put(large(100_000)).await).contains("its capacity is 1048576"));
    bed.accept(large(1_000)).await;
    bed.change(|policy| policy.capacity = None).await;
    bed.accept(large(100_000)).await;
}

#[tokio::test]
async fn large_jobs_after_small_ones_fill_the_queue_before_anybody_looks() {
    let mut bed = Bed::new().await;
    bed.queue.enqueue(&vec![job("mail", "x"); 200]).await.unwrap();
    bed.change(|policy| policy.capacity = Some(Capacity { jobs: None, bytes: Some(1 << 20) })).await;
    let mut taken = 0;
    let message = loop {
        match bed.put(job("mail", vec![b'x'; 100_000])).await {
            Enqueued::Accepted { .. } => taken += 1,
            Enqueued::Rejected { reason, message } if reason == "queue-full" => break message,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(taken, 10, "{message}");
    // One call as well: by what it brings itself, and what it brought counts for the next.
    let batch = vec![job("mail", vec![b'x'; 1_000]); 60];
    let put = bed.queue.enqueue(&batch).await.unwrap();
    let taken = put.iter().filter(|one| matches!(one, Enqueued::Accepted { .. })).count();
    assert!((36..44).contains(&taken), "{taken}");
    let bytes = bed.queue.stats().await.unwrap().bytes.unwrap();
    assert!((1_040_000..1_048_577).contains(&bytes), "{bytes}");
}

#[tokio::test]
async fn what_takes_the_place_of_a_smaller_job_counts_for_what_it_brings() {
    let bed = Bed::with(|policy| {
        policy.capacity = Some(Capacity { jobs: None, bytes: Some(1 << 20) });
        policy.job_types.get_mut("mail").unwrap().on_conflict = OnConflict::Replace;
    })
    .await;
    let keyed =
        |n: usize, size: usize| with(job("mail", vec![b'x'; size]), |o| o.key = Some(format!("k{n}")));
    let replaced = |outcome: &Enqueued| matches!(outcome, Enqueued::Replaced { .. });
    bed.queue.enqueue(&(0..100).map(|n| keyed(n, 10)).collect::<Vec<_>>()).await.unwrap();
    let mut taken = 0;
    for n in 0..100 {
        let outcome = bed.put(keyed(n, 200_000)).await;
        if replaced(&outcome) {
            taken += 1;
        } else {
            assert!(refused(&outcome).contains("its capacity is 1048576"));
        }
    }
    assert_eq!(taken, 5, "a sixth is a million and some");
    let bytes = bed.queue.stats().await.unwrap().bytes.unwrap();
    assert!((1_000_000..1_020_000).contains(&bytes), "known before anybody looks: {bytes}");
    // What is no larger always fits, and room that it leaves is room.
    assert!(replaced(&bed.put(keyed(0, 200_000)).await));
    assert!(replaced(&bed.put(keyed(99, 10)).await));
    assert!(replaced(&bed.put(keyed(0, 10)).await));
    let bytes = bed.queue.stats().await.unwrap().bytes.unwrap();
    assert!((800_000..820_000).contains(&bytes), "{bytes}");
    let two = bed.queue.enqueue(&[keyed(50, 200_000), keyed(51, 200_000)]).await.unwrap();
    assert!(replaced(&two[0]), "{two:?}");
    refused(&two[1]);
}

#[tokio::test]
async fn one_job_too_large_for_an_empty_queue_does_not_let_others_in_beyond_its_bytes() {
    let bed = Bed::with(|policy| policy.capacity = Some(Capacity { jobs: None, bytes: Some(2_000) })).await;
    refused(&bed.put(job("mail", [b'x'; 3_000])).await);
    let mut taken = 0;
    while let Enqueued::Accepted { .. } = bed.put(job("mail", [b'x'; 500])).await {
        taken += 1;
        assert!(taken < 9, "4,500 bytes in a queue of 2,000");
    }
    assert_eq!(taken, 3);
}

#[tokio::test]
async fn a_bound_in_bytes_that_comes_later_counts_what_is_there() {
    let mut bed = Bed::with(|policy| policy.capacity = of_jobs(100)).await;
    for _ in 0..4 {
        bed.accept(job("mail", "x".repeat(300))).await;
    }
    bed.change(|policy| policy.capacity = Some(Capacity { jobs: None, bytes: Some(1_000) })).await;
    refused(&bed.put(job("mail", "x".repeat(300))).await);
}

#[tokio::test]
async fn small_completed_records_make_way_for_no_more_than_they_took() {
    const BYTES: u64 = 200_000;
    let bed = Bed::with(|policy| {
        policy.capacity = Some(Capacity { jobs: None, bytes: Some(BYTES) });
        policy.job_types.get_mut("mail").unwrap().completed.keep = 1_000;
    })
    .await;
    let w = worker("w");
    for _ in 0..4 {
        bed.queue.enqueue(&vec![job("mail", "{}"); 200]).await.unwrap();
        let running = bed.claim(&w, &["fast"], 200).await;
        let ended: Vec<_> = running.iter().map(|job| settlement(job, success())).collect();
        bed.queue.settle(&w, &ended).await.unwrap();
    }
    for _ in 0..20 {
        // They see what success added to the records.
        bed.queue.sweep(&w, 100).await.unwrap();
    }
    let mut refused = 0;
    while refused < 5 {
        let large = bed.put(job("mail", vec![b'x'; 10_000])).await;
        refused += u32::from(matches!(large, Enqueued::Rejected { .. }));
    }
    let mut bytes = 0;
    for key in ["j", "a"] {
        let values: Vec<Vec<u8>> = bed.raw(&["HVALS", &bed.key(key)]).await.unwrap();
        bytes += values.iter().map(|value| value.len() as u64 + 14).sum::<u64>();
    }
    assert!((BYTES / 2..BYTES * 11 / 10).contains(&bytes), "{bytes} of {BYTES}");
}

#[tokio::test]
async fn what_comes_and_goes_leaves_nothing_in_the_estimate() {
    let bed = Bed::with(|policy| {
        policy.capacity = Some(Capacity { jobs: None, bytes: Some(100_000_000) });
        policy.job_types.get_mut("mail").unwrap().completed.keep = 20;
    })
    .await;
    let w = worker("w");
    for n in 0..400 {
        let size = if n % 20 == 0 { 30_000 } else { 10 };
        let running = bed.running(&w, job("mail", vec![b'x'; size])).await;
        bed.settle(&w, &running, success()).await;
    }
    let mut bytes = 0;
    for key in ["j", "a"] {
        let values: Vec<Vec<u8>> = bed.raw(&["HVALS", &bed.key(key)]).await.unwrap();
        bytes += values.iter().map(|value| value.len() as u64 + 14).sum::<u64>();
    }
    let estimate = bed.queue.stats().await.unwrap().bytes.unwrap();
    assert!((bytes / 2..bytes * 2).contains(&estimate), "{estimate} in place of {bytes}");
}

#[tokio::test]
async fn the_last_record_that_goes_leaves_an_estimate_that_is_a_number() {
    let bed = Bed::still(|policy| {
        policy.capacity = Some(Capacity { jobs: None, bytes: Some(1 << 20) });
        policy.job_types.get_mut("mail").unwrap().completed.for_ms = 1_000;
    })
    .await;
    let w = worker("w");
    let running = bed.running(&w, job("mail", vec![b'x'; 100])).await;
    bed.settle(&w, &running, success()).await;
    // It sees what success added to the record.
    bed.queue.sweep(&w, 100).await.unwrap();
    bed.at(5_000).await;
    for _ in 0..3 {
        bed.queue.sweep(&w, 100).await.unwrap();
    }
    assert_eq!(bed.queue.stats().await.unwrap().records, 0);
    bed.accept(job("mail", vec![b'x'; 1_000])).await;
    let bytes = bed.queue.stats().await.unwrap().bytes.unwrap();
    assert!((1_000..1_200).contains(&bytes), "{bytes}");
}

#[tokio::test]
async fn records_smaller_than_most_make_way_until_there_is_room() {
    let mut bed = Bed::with(|policy| {
        policy.capacity = Some(Capacity { jobs: None, bytes: Some(1 << 20) });
        policy.job_types.get_mut("mail").unwrap().completed.keep = 1_000;
    })
    .await;
    let w = worker("w");
    for n in 0..100 {
        let size = if n < 80 { 150 } else { 2_500 };
        let running = bed.running(&w, job("mail", vec![b'x'; size])).await;
        bed.settle(&w, &running, success()).await;
    }
    let bytes = bed.queue.stats().await.unwrap().bytes.unwrap();
    bed.change(|policy| policy.capacity = Some(Capacity { jobs: None, bytes: Some(bytes) })).await;
    bed.accept(job("mail", vec![b'x'; 2_000])).await;
    assert!(bed.queue.stats().await.unwrap().records > 80, "no more than had to");
}
