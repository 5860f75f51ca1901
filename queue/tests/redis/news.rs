//! Every kind of event, with what it is about.

use super::common::*;
use lanekeeper_api::policy::{Circuit, OnDead};
use lanekeeper_queue::types::*;

/// What was told since the event with this id: (kind, name, detail).
async fn since(bed: &Bed, last: &mut Option<String>) -> Vec<(String, String, String)> {
    let events = bed.queue.events(last.as_deref(), 1_000).await.unwrap();
    *last = events.last().map(|event| event.id.clone()).or(last.take());
    let text = |part: Option<String>| part.unwrap_or_default();
    events.into_iter().map(|event| (event.kind, text(event.name), text(event.detail))).collect()
}

fn told(events: &[(String, String, String)]) -> Vec<(&str, &str, &str)> {
    events.iter().map(|(kind, name, detail)| (kind.as_str(), name.as_str(), detail.as_str())).collect()
}

#[tokio::test]
async fn every_word_on_a_dead_letter_and_every_cancellation_is_told() {
    let bed = Bed::new().await;
    let w = worker("w");
    let mut last = None;
    assert_eq!(since(&bed, &mut last).await.len(), 1);
    let id = bed.dead(job("mail", "x")).await;
    bed.queue.dead_ack(&[id.clone()], "ada", "seen").await.unwrap();
    bed.queue.dead_discard(&[id.clone()], &"é".repeat(100), "").await.unwrap();
    bed.queue.dead_replay(&[id.clone()], "bob", "").await.unwrap();
    bed.queue.cancel(&[id.clone()], "eve").await.unwrap();
    bed.queue.cancel(&[bed.accept(job("report", "y")).await], "").await.unwrap();
    let running = bed.running(&w, job("mail", "z")).await;
    bed.queue.cancel(&[running.id.clone()], "eve").await.unwrap();
    bed.settle(&w, &running, retry(0)).await;
    let long = "é".repeat(64);
    assert_eq!(
        told(&since(&bed, &mut last).await),
        [
            ("dead", "mail", "PermanentError"),
            ("acknowledged", "mail", "ada"),
            ("discarded", "mail", long.as_str()),
            ("replayed", "mail", "bob"),
            ("cancelled", "mail", "eve"),
            ("cancelled", "report", "someone"),
            ("cancelled", "mail", "eve"),
        ]
    );
}

#[tokio::test]
async fn every_change_of_a_gate_is_told_once() {
    let bed = Bed::still(|policy| {
        policy.lanes[0].circuit = Some(Circuit { failures: 2, probe_after_ms: 1_000 });
    })
    .await;
    let w = worker("w");
    let mut last = None;
    since(&bed, &mut last).await;
    for _ in 0..2 {
        bed.queue.pause("ada", "vendor", &[]).await.unwrap();
    }
    for _ in 0..2 {
        bed.queue.resume("bob", &[]).await.unwrap();
    }
    let lane = ["fast".to_owned()];
    bed.queue.pause("ada", "", &lane).await.unwrap();
    bed.queue.resume("ada", &lane).await.unwrap();
    let news = since(&bed, &mut last).await;
    let pauses = [
        ("paused", "", "ada: vendor"),
        ("resumed", "", "bob"),
        ("paused", "fast", "ada: "),
        ("resumed", "fast", "ada"),
    ];
    assert_eq!(told(&news), pauses);

    bed.queue.enqueue(&vec![job("mail", "x"); 8]).await.unwrap();
    let running = bed.claim(&w, &["fast"], 5).await;
    let held = |delay_ms| Outcome::Snooze { delay_ms, why: "429".into(), holds: Holds::Lane };
    bed.settle(&w, &running[0], held(500)).await;
    assert_eq!(told(&since(&bed, &mut last).await), [("held", "fast", "Retry-After")]);
    bed.settle(&w, &running[1], held(700)).await;
    assert_eq!(since(&bed, &mut last).await, [], "the same hold, made longer");
    bed.settle(&w, &running[2], retry(60_000)).await;
    assert_eq!(since(&bed, &mut last).await, []);
    bed.settle(&w, &running[3], retry(60_000)).await;
    assert_eq!(told(&since(&bed, &mut last).await), [("circuit-opened", "fast", "")]);
    bed.settle(&w, &running[4], retry(60_000)).await;
    bed.at(1_000).await;
    let probe = bed.claim(&w, &["fast"], 5).await;
    bed.settle(&w, &probe[0], retry(60_000)).await;
    assert_eq!(told(&since(&bed, &mut last).await), [("probe-failed", "fast", "")]);
    bed.at(3_000).await;
    let probe = bed.claim(&w, &["fast"], 5).await;
    bed.settle(&w, &probe[0], success()).await;
    assert_eq!(told(&since(&bed, &mut last).await), [("circuit-closed", "fast", "")]);
    let next = bed.claim(&w, &["fast"], 1).await;
    bed.settle(&w, &next[0], success()).await;
    assert_eq!(since(&bed, &mut last).await, [], "it is closed");
}

#[tokio::test]
async fn news_of_a_death_that_cannot_be_brought_are_told_as_lost() {
    let mut bed = Bed::new().await;
    bed.change(|policy| {
        policy.job_types.get_mut("mail").unwrap().on_dead = Some(OnDead { r#type: "nope".into() });
    })
    .await;
    let mut last = None;
    since(&bed, &mut last).await;
    bed.dead(job("mail", "{}")).await;
    let news = since(&bed, &mut last).await;
    let lost = ("news-lost", "mail", "onDead: a job of type nope cannot be made of it");
    assert_eq!(told(&news), [lost, ("dead", "mail", "PermanentError")]);
    bed.change(|policy| {
        policy.job_types.get_mut("mail").unwrap().on_dead = Some(OnDead { r#type: "report".into() });
    })
    .await;
    bed.dead(job("mail", "{}")).await;
    let kinds: Vec<_> = since(&bed, &mut last).await.into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds, ["policy", "dead"], "nothing is lost now");
}
