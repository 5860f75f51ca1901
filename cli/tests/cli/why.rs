//! `why`: one test per cause that needs no cluster.

use lanekeeper_queue::types::{AttemptError, ErrorClass, Note, Outcome, Progress, Spends};

use crate::support::{QUEUE, World, error, wait_for};

impl World {
    /// Asks, and fails unless this is the cause.
    #[track_caller]
    fn because(&self, what: &str, cause: &str) -> serde_json::Value {
        let answer = self.run(&["why", what, "-o", "json"]).exits(0).json();
        assert_eq!(answer["cause"], cause, "{answer}");
        self.run(&["why", what]).exits(0).prints(&[cause]);
        answer
    }
}

fn transient() -> AttemptError {
    AttemptError { class: ErrorClass::Transient, ..error("try later") }
}

#[tokio::test]
async fn a_job_that_is_not_due() {
    let world = World::new().await;
    let id = world.enqueue(&["report", "{}", "--delay", "1h"]);
    let answer = world.because(&id, "NotDue");
    assert_eq!((answer["kind"].as_str(), answer["job"]["state"].as_str()), (Some("job"), Some("scheduled")));
}

#[tokio::test]
async fn a_job_of_a_paused_queue() {
    let world = World::with(&QUEUE.replace("spec:", "spec:\n  paused: true")).await;
    let id = world.enqueue(&["report", "{}"]);
    world.because(&id, "Paused");
    world.because("slow", "Paused");
}

#[tokio::test]
async fn a_job_that_no_worker_takes() {
    let world = World::new().await;
    let id = world.enqueue(&["report", "{}"]);
    world.because(&id, "NoWorker");
    world.because("lane/slow", "NoWorker");
}

#[tokio::test]
async fn a_job_behind_others_and_the_next_one() {
    let world = World::new().await;
    let first = world.enqueue(&["report", "{}", "--priority", "1"]);
    let second = world.enqueue(&["report", "{}"]);
    world.heartbeat(&["slow"], 4, 0).await;
    world.because(&first, "Next");
    let answer = world.because(&second, "BehindOthers");
    assert!(answer["sentence"].as_str().unwrap().contains("1 job of lane slow goes first"), "{answer}");
}

#[tokio::test]
async fn a_job_while_every_slot_is_busy() {
    let world = World::new().await;
    for _ in 0..4 {
        world.enqueue(&["report", "{}"]);
        world.claim("slow").await;
    }
    let id = world.enqueue(&["report", "{}"]);
    world.heartbeat(&["slow"], 4, 4).await;
    world.because(&id, "SlotsBusy");
}

#[tokio::test]
async fn a_job_whose_type_is_at_its_per_worker_bound() {
    let bounded = "lane: slow\n    perWorker: 1";
    let world = World::with(
        &QUEUE.replace("- name: report\n    lane: slow", &format!("- name: report\n    {bounded}")),
    )
    .await;
    world.enqueue(&["report", "{}"]);
    world.claim("slow").await;
    let id = world.enqueue(&["report", "{}"]);
    world.heartbeat(&["slow"], 4, 1).await;
    let answer = world.because(&id, "TypeAtPerWorker");
    let sentence = answer["sentence"].as_str().unwrap();
    assert!(sentence.contains("perWorker of 1: 1 job of it running in 1 worker"), "{sentence}");
    world.because("slow", "TypeAtPerWorker");
}

#[tokio::test]
async fn a_job_that_a_worker_runs() {
    let world = World::new().await;
    let id = world.enqueue(&["report", "{}"]);
    world.claim("slow").await;
    let answer = world.because(&id, "Leased");
    assert!(answer["sentence"].as_str().unwrap().contains("w-1 on n-1"), "{answer}");
}

#[tokio::test]
async fn a_job_that_waits_for_its_next_try_shows_its_attempts() {
    let world = World::new().await;
    let id = world.enqueue(&["report", "{}"]);
    let job = world.claim("slow").await;
    let retry = Outcome::Retry { delay_ms: 3_600_000, spends: Spends::Try, error: transient() };
    world.settle(&job, retry).await;
    world.because(&id, "RetryScheduled");
    world.run(&["why", &id]).exits(0).prints(&["HttpStatus: try later", "ATTEMPT", "w-1", "retry"]);
}

#[tokio::test]
async fn a_job_that_its_handler_holds() {
    let world = World::new().await;
    let id = world.enqueue(&["report", "{}"]);
    let job = world.claim("slow").await;
    world
        .settle(
            &job,
            Outcome::Snooze {
                delay_ms: 60_000,
                why: "Retry-After: 60".into(),
                holds: lanekeeper_queue::types::Holds::Job,
            },
        )
        .await;
    world.because(&id, "Held");
}

#[tokio::test]
async fn progress_and_checkpoints_are_shown_with_their_age() {
    let world = World::new().await;
    let id = world.enqueue(&["report", "{}"]);
    let job = world.claim("slow").await;
    let progress = Progress { done: 3, total: Some(4), unit: "files".into(), message: "reading".into() };
    world.tell(&job, Note { progress: Some(progress), checkpoint: Some(b"page 3".to_vec()) }).await;
    world
        .run(&["why", &id])
        .exits(0)
        .prints(&["3 of 4 files (75 %), reading, told", "checkpoint of 6 bytes"]);
    world.run(&["get", &id]).exits(0).prints(&["3 of 4 files (75 %), reading", "6 B, left"]);
    let json = world.run(&["get", &id, "-o", "json"]).exits(0).json();
    let text = json.to_string();
    for part in ["\"toldMs\":", "\"leftMs\":", "\"total\":4", "\"bytes\":6"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    world.run(&["cancel", &id]).exits(0).prints(&["cancelling"]);
    world.run(&["why", &id]).exits(0).prints(&["cancellation was asked for by lanekeeper CLI"]);
    world.settle(&job, Outcome::Release { why: "cancelled".into() }).await;
    world.run(&["why", &id]).exits(0).prints(&["was cancelled by lanekeeper CLI"]);
}

#[tokio::test]
async fn a_dead_a_done_and_a_cancelled_job() {
    let world = World::new().await;
    let dead = world.dead_letter("report", "slow", "{}").await;
    let answer = world.because(&dead, "Dead");
    assert!(answer["advice"].as_str().unwrap().contains("dead replay"), "{answer}");
    let done = world.enqueue(&["report", "{}"]);
    let job = world.claim("slow").await;
    world.settle(&job, Outcome::Success { result: vec![], follow_ups: vec![] }).await;
    world.because(&done, "Succeeded");
    let cancelled = world.enqueue(&["report", "{}"]);
    world.run(&["cancel", &cancelled]).exits(0);
    world.because(&cancelled, "Cancelled");
}

#[tokio::test]
async fn a_job_whose_type_the_policy_no_longer_has() {
    let world = World::new().await;
    let id = world.enqueue(&["report", "{}"]);
    world.write("queue.yaml", QUEUE.split("  - name: report").next().unwrap());
    world.run(&["apply", "-f", "queue.yaml"]).exits(0).says(&["warning", "1 job of type `report`"]);
    world.because(&id, "UnknownType");
}

#[tokio::test]
async fn an_unknown_job_lane_or_pool() {
    let world = World::new().await;
    world
        .run(&["why", "nosuch"])
        .exits(4)
        .prints(&["Unknown"])
        .says(&["no job, lane, pool or type `nosuch`"]);
    let answer = world.run(&["why", "lane/nosuch", "-o", "json"]).exits(4).json();
    assert_eq!((answer["cause"].as_str(), answer["kind"].as_str()), (Some("Unknown"), Some("lane")));
    world.run(&["why", "pool/nosuch"]).exits(2).says(&["cannot be seen", "--context"]);
}

#[tokio::test]
async fn a_quiet_lane() {
    let world = World::new().await;
    world.because("slow", "Idle");
    assert_eq!(world.because("report", "Idle")["subject"], "slow", "a type means its lane");
}

#[tokio::test]
async fn gates_of_lanes_and_keys_are_named() {
    let keyed = "- name: report\n    lane: slow\n    concurrencyKey: {key: 'customer:{c}', limit: 1}";
    let world = World::with(&QUEUE.replace("- name: report\n    lane: slow", keyed)).await;
    let ids: Vec<String> = (0..2).map(|_| world.enqueue(&["report", r#"{"c":7}"#])).collect();
    world.claim("slow").await;
    world.heartbeat(&["slow"], 4, 1).await;
    let answer = world.because(&ids[1], "KeyAtLimit");
    let sentence = answer["sentence"].as_str().unwrap();
    assert!(sentence.contains("Its key customer:7 is at its limit of 1"), "{sentence}");
    // The lane is not said to work where what it could start may not go; for a moment that cannot be known.
    wait_for("the lane's cause", || {
        let answer = world.run(&["why", "slow", "-o", "json"]).exits(0).json();
        (answer["cause"] == "KeyAtLimit" && answer["sentence"].as_str()?.contains(&ids[1])).then_some(())
    });
    world.run(&["pause", "apps/saas", "--lane", "slow", "--why", "vendor is down"]).exits(0);
    let answer = world.because(&ids[1], "Paused");
    let sentence = answer["sentence"].as_str().unwrap();
    assert!(
        sentence.contains("Lane slow was paused by tester") && sentence.contains("vendor is down"),
        "{sentence}"
    );
}
