//! What one call carries at most, and how the rest comes with the next.

use super::common::*;
use super::dead::*;
use lanekeeper_api::policy::{Capacity, OnDead};
use lanekeeper_queue::types::*;

#[tokio::test]
async fn letters_without_cards_are_read_a_bounded_step_at_a_time() {
    let bed = Bed::new().await;
    let mut all = Vec::new();
    for n in 0..30u8 {
        all.push(died(&bed, job("mail", vec![n; 100_000]), "no").await);
    }
    bed.poke(&["DEL", &bed.key("dc")]).await;
    let filter = DeadFilter { lane: Some("fast".into()), oldest_first: true, ..DeadFilter::default() };
    let first = bed.queue.dead_ids(&filter, 200, None).await.unwrap();
    assert!((10..13).contains(&first.ids.len()) && first.cursor.is_some(), "{}", first.ids.len());
    assert_eq!(ids_of(&bed, &filter, 200).await, all);
    // Small ones cost a thousand bytes each at least.
    let bed = Bed::new().await;
    many(&bed, "mail", "fast", 1_200, |_| "no".into()).await;
    bed.poke(&["DEL", &bed.key("dc")]).await;
    let mut calls = 0;
    let found = bed.queue.dead_groups(&filter, |_| calls += 1).await.unwrap();
    assert_eq!(found[0].count, 1_200);
    assert!(calls >= 3, "{calls} calls of at most 500 letters");
}

#[tokio::test]
async fn of_many_deaths_in_one_call_the_later_are_told_without_payload() {
    let mut bed = Bed::new().await;
    bed.change(|policy| {
        policy.job_types.get_mut("mail").unwrap().on_dead = Some(OnDead { r#type: "report".into() });
    })
    .await;
    let w = worker("w");
    let payload = format!("{{\"x\":\"{}\"}}", "x".repeat(200_000));
    bed.queue.enqueue(&vec![job("mail", &payload); 3]).await.unwrap();
    let running = bed.claim(&w, &["fast"], 3).await;
    let words: Vec<Settlement> = running.iter().map(|job| settlement(job, dead("no"))).collect();
    bed.queue.settle(&w, &words).await.unwrap();
    let told = bed.claim(&w, &["slow"], 9).await;
    let mut carried: Vec<bool> = told.iter().map(|news| news.payload.len() > 200_000).collect();
    carried.sort_unstable();
    assert_eq!(carried, [false, true, true]);
}

#[tokio::test]
async fn follow_ups_of_one_call_are_bounded_in_bytes() {
    let bed = Bed::new().await;
    let w = worker("w");
    bed.queue.enqueue(&vec![job("mail", "x"); 2]).await.unwrap();
    let running = bed.claim(&w, &["fast"], 2).await;
    let bringing = |job: &Claimed, count: usize| {
        let follow_ups = vec![self::job("report", vec![b'x'; 250_000]); count];
        settlement(job, Outcome::Success { result: vec![], follow_ups })
    };
    let refused = bed.queue.settle(&w, &[bringing(&running[0], 5), bringing(&running[1], 4)]).await;
    assert!(refusal(refused).contains("may enqueue 200 jobs"));
    assert_eq!(bed.raw::<u64>(&["HLEN", &bed.key("l")]).await.unwrap(), 2, "nothing changed");
    let settled = bed.queue.settle(&w, &[bringing(&running[0], 4), bringing(&running[1], 4)]).await.unwrap();
    assert_eq!(settled, [Settled::Done, Settled::Done]);
    assert_eq!(bed.raw::<u64>(&["ZCARD", &bed.key("q:report")]).await.unwrap(), 8);
}

#[tokio::test]
async fn an_answer_that_alone_asks_for_too_much_is_refused_alone() {
    let bed = Bed::new().await;
    let w = worker("w");
    bed.queue.enqueue_all(&vec![job("mail", "x"); 4]).await.unwrap();
    let claimed = bed.claim(&w, &["fast"], 4).await;
    let asking = |follow_ups| Outcome::Success { result: vec![], follow_ups };
    let many = |count: usize| asking(vec![job("report", "x"); count]);
    let large = asking(vec![job("report", vec![b'x'; 250_000]); 9]);
    let words: Vec<Settlement> = [many(101), many(1_000), large, many(100)]
        .into_iter()
        .zip(&claimed)
        .map(|(word, job)| settlement(job, word))
        .collect();
    let settled = bed.queue.settle(&w, &words).await.unwrap();
    for (settled, why) in settled.iter().zip(["this one has 101", "this one has 1000", "in 2097152 bytes"]) {
        assert!(matches!(settled, Settled::Refused { why: told } if told.contains(why)), "{settled:?}");
    }
    assert_eq!(settled[3], Settled::Done);
    assert_eq!(bed.state(&claimed[0].id).await, JobState::Running, "who settles decides");
    let reports: u64 = bed.raw(&["ZCARD", &bed.key("q:report")]).await.unwrap();
    assert_eq!(reports, 100);
}

#[tokio::test]
async fn a_queue_is_full_at_its_bounds_and_not_before() {
    let mut bed = Bed::new().await;
    let w = worker("w");
    let mut total = 0;
    for n in 0..10u8 {
        let running = bed.running(&w, job("mail", [n; 920])).await;
        bed.settle(&w, &running, success()).await;
        for key in ["j", "a"] {
            total += bed.raw::<u64>(&["HSTRLEN", &bed.key(key), &running.id]).await.unwrap();
        }
        total += running.id.len() as u64;
    }
    // As sweeps estimate: about a thousand bytes each.
    bed.poke(&["HSET", &bed.key("m"), "sz", &format!("{:.1}", total as f64 / 10.0)]).await;
    let some = |jobs, bytes| Some(Capacity { jobs, bytes });
    for (capacity, full, bytes) in [
        (some(Some(10), None), true, None),
        (some(Some(11), None), false, None),
        (some(None, Some(total)), true, Some(total)),
        (some(None, Some(total + 1)), false, Some(total)),
        (some(Some(10), Some(99_999)), true, Some(total)),
        (some(Some(11), Some(total)), true, Some(total)),
        (None, false, None),
    ] {
        bed.change(|policy| policy.capacity = capacity).await;
        let stats = bed.queue.stats().await.unwrap();
        assert_eq!((stats.full, stats.bytes), (full, bytes), "{capacity:?}");
    }
    // Finished records make way by bytes as well: as many as the new job needs.
    bed.change(|policy| policy.capacity = some(None, Some(total))).await;
    for (payload, left) in [(500, 10), (1_500, 9)] {
        bed.accept(job("mail", vec![b'x'; payload])).await;
        assert_eq!(bed.queue.stats().await.unwrap().records, left, "{payload}");
    }
    // Nothing but what waits is left of it in the end.
    while bed.raw::<u64>(&["ZCARD", &bed.key("f:mail")]).await.unwrap() > 0 {
        bed.accept(job("mail", vec![b'x'; 500])).await;
    }
    let refused = bed.put(job("mail", vec![b'x'; 5_000])).await;
    assert!(
        matches!(refused, Enqueued::Rejected { ref reason, .. } if reason == "queue-full"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_mean_size_of_records_follows_what_sweeps_see() {
    let mut bed = Bed::new().await;
    let mean = async |bed: &Bed| bed.raw::<Option<f64>>(&["HGET", &bed.key("m"), "sz"]).await.unwrap();
    let id = bed.accept(job("mail", vec![b'x'; 1_000])).await;
    bed.queue.sweep(&worker("s"), 10).await.unwrap();
    assert_eq!(mean(&bed).await, None, "nobody asks for bytes");
    bed.change(|policy| policy.capacity = Some(Capacity { jobs: None, bytes: Some(1 << 20) })).await;
    bed.queue.sweep(&worker("s"), 10).await.unwrap();
    let record: usize = bed.raw(&["HSTRLEN", &bed.key("j"), &id]).await.unwrap();
    let first = mean(&bed).await.unwrap();
    assert!((first - (record + id.len()) as f64).abs() < 0.1, "{first}");
    // The newest look counts for three tenths.
    bed.poke(&["HSET", &bed.key("m"), "sz", "11000"]).await;
    bed.queue.sweep(&worker("s"), 10).await.unwrap();
    let next = mean(&bed).await.unwrap();
    assert!((next - (0.7 * 11_000.0 + 0.3 * first)).abs() < 0.2, "{next}");
}

#[tokio::test]
async fn what_takes_anothers_place_needs_no_room() {
    let mut bed = Bed::new().await;
    let w = worker("w");
    for _ in 0..2 {
        let running = bed.running(&w, job("mail", "x")).await;
        bed.settle(&w, &running, success()).await;
    }
    let keyed = || with(job("reset", "x"), |o| o.key = Some("k".into()));
    bed.accept(keyed()).await;
    bed.change(|policy| {
        policy.capacity = Some(Capacity { jobs: Some(3), bytes: None });
        policy.job_types.get_mut("reset").unwrap().on_conflict = lanekeeper_api::policy::OnConflict::Replace;
    })
    .await;
    assert!(matches!(bed.put(keyed()).await, Enqueued::Replaced { .. }));
    assert_eq!(bed.queue.stats().await.unwrap().records, 3, "nothing made way");
}

#[tokio::test]
async fn a_lane_whose_first_job_did_not_fit_into_the_claim_keeps_its_line() {
    let bed = Bed::with(|policy| policy.max_payload = 1 << 20).await;
    for kind in ["mail", "mail", "mail", "report", "report"] {
        bed.accept(job(kind, vec![b'x'; 1 << 20])).await;
    }
    let w = worker("w");
    let first = bed.claim(&w, &["fast", "slow"], 10).await;
    assert_eq!(first.len(), 3);
    let second = bed.claim(&w, &["fast", "slow"], 10).await;
    assert_eq!(second.iter().map(|job| job.lane.as_str()).collect::<Vec<_>>(), ["slow", "slow"]);
}

#[tokio::test]
async fn a_full_reply_takes_nothing_of_the_lanes_behind() {
    let bed = Bed::with(|policy| policy.max_payload = 1 << 20).await;
    for _ in 0..4 {
        bed.accept(job("mail", vec![b'x'; 1 << 20])).await;
    }
    bed.accept(job("report", "small")).await;
    let lanes: Vec<String> =
        bed.claim(&worker("w"), &["fast", "slow"], 10).await.into_iter().map(|job| job.lane).collect();
    assert_eq!(lanes, ["fast"; 3], "what did not fit goes first the next time");
}
