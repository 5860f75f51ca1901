//! The events stream: what is told, in which order, and that it is bounded.

use super::common::*;
use lanekeeper_api::policy::Circuit;
use lanekeeper_queue::types::*;

fn told(events: &[Event]) -> Vec<(&str, &str)> {
    events.iter().map(|event| (event.kind.as_str(), event.name.as_deref().unwrap_or(""))).collect()
}

#[tokio::test]
async fn what_is_worth_a_look_is_told_once_and_in_order() {
    let bed =
        Bed::with(|policy| policy.lanes[0].circuit = Some(Circuit { failures: 2, probe_after_ms: 1 })).await;
    let w = worker("w");
    let first = bed.queue.events(None, 1000).await.unwrap();
    assert_eq!(told(&first), [("policy", "")]);
    let dead_id = bed.dead(job("report", "")).await;
    bed.queue.dead_replay(&[dead_id.clone()], "ada", "").await.unwrap();
    let lost = bed.claim(&w, &["slow"], 1).await.remove(0);
    bed.calm().await;
    bed.expire(&lost.id).await;
    assert_eq!(bed.queue.sweep(&worker("sweeper"), 10).await.unwrap().expired.len(), 1);
    for _ in 0..2 {
        let failed = bed.running(&w, job("mail", "")).await;
        bed.settle(&w, &failed, retry(60_000)).await;
    }
    let news = bed.queue.events(Some(&first[0].id), 1000).await.unwrap();
    let expected =
        [("dead", "report"), ("replayed", "report"), ("lease-expired", "report"), ("circuit-opened", "fast")];
    assert_eq!(told(&news), expected);
    assert_eq!(
        (news[0].job.as_deref(), news[0].detail.as_deref()),
        (Some(dead_id.as_str()), Some("PermanentError"))
    );
    assert_eq!(news[1].detail.as_deref(), Some("ada"));
    assert_eq!(news[2].detail.as_deref(), Some("w"), "the worker that lost it");
    assert!(news.windows(2).all(|pair| pair[0].at_ms <= pair[1].at_ms) && news[0].at_ms > 1_600_000_000_000);
    // A page at a time, without a gap.
    let mut last = first[0].id.clone();
    for one in &news {
        let page = bed.queue.events(Some(&last), 1).await.unwrap();
        assert_eq!(page, [one.clone()]);
        last = one.id.clone();
    }
    assert_eq!(bed.queue.events(Some(&last), 1).await.unwrap(), []);
    assert!(refusal(bed.queue.events(Some("yesterday"), 1).await).contains("the id of an event"));
}

#[tokio::test]
async fn the_stream_is_bounded_and_goes_with_the_queue() {
    let bed = Bed::new().await;
    let ids: Vec<String> = (0..200).map(|n| format!("job-{n}")).collect();
    for _ in 0..60 {
        let jobs: Vec<NewJob> =
            ids.iter().map(|id| with(job("mail", ""), |o| o.id = Some(id.clone()))).collect();
        bed.queue.enqueue(&jobs).await.unwrap();
        bed.queue.cancel(&ids, "ada").await.unwrap();
        // The ids are free for the next round.
        bed.poke(&["DEL", &bed.key("j"), &bed.key("a"), &bed.key("f:mail")]).await;
    }
    let length: usize = bed.raw(&["XLEN", &bed.key("e")]).await.unwrap();
    assert!((10_000..10_500).contains(&length), "{length} of 12,000");
    bed.queue.destroy().await.unwrap();
    assert_eq!(bed.raw::<usize>(&["EXISTS", &bed.key("e")]).await.unwrap(), 0);
}

#[tokio::test]
async fn an_entry_of_a_job_that_has_ended_is_no_job_that_cannot_be_read() {
    let bed = Bed::new().await;
    let w = worker("w");
    let done = bed.running(&w, job("mail", "x")).await;
    bed.settle(&w, &done, success()).await;
    bed.poke(&["ZADD", &bed.key("q:mail"), "1", &done.id]).await;
    assert!(bed.claim(&w, &["fast"], 1).await.is_empty());
    assert_eq!(bed.queue.stats().await.unwrap().damaged, 1);
    let events = bed.queue.events(None, 100).await.unwrap();
    assert!(!told(&events).iter().any(|(kind, _)| *kind == "damaged"), "{events:?}");
}

#[tokio::test]
async fn what_fails_all_the_time_is_told_once_a_minute() {
    let bed = Bed::still(|_| {}).await;
    bed.poke(&["SET", &bed.key("q:report"), "x"]).await;
    for (ms, times) in [(0, 1), (59_999, 1), (60_000, 2), (119_999, 2), (120_000, 3), (119_000, 4)] {
        bed.at(ms).await;
        bed.claim(&worker("w"), &["slow"], 1).await;
        let events = bed.queue.events(None, 100).await.unwrap();
        assert_eq!(
            told(&events).iter().filter(|(kind, _)| *kind == "damaged").count(),
            times,
            "after {ms} ms"
        );
    }
}
