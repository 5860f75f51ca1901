//! `Retry-After` that holds more than the job that got it.

use std::time::Duration;

use lanekeeper_api::policy::{ConcurrencyKey, Handler, HttpHandler, KeyPart, OnThrottle, QueuePolicy};
use lanekeeper_queue::types::{Job, JobState};
use lanekeeper_worker::handler::{Answer, Failure};

use crate::common::{Bed, Peek, Settings, does, done, policy};

/// `mail` by an `http` handler that holds this; keys are rendered from `v`.
fn holding(on_throttle: OnThrottle) -> QueuePolicy {
    let mut policy = policy();
    let mail = policy.job_types.get_mut("mail").unwrap();
    mail.handler = Handler::Http(HttpHandler { on_throttle, ..HttpHandler::to("http://h/") });
    mail.concurrency_key =
        Some(ConcurrencyKey { key: vec![KeyPart::Path(vec!["v".into()])], limit: Some(9), rate_limit: None });
    policy
}

/// Throttles the first attempt of the payload that says so.
async fn throttles(peek: Peek) -> Result<Answer, Failure> {
    if peek.attempt > 1 || !peek.payload.ends_with(b"\"busy\":1}") {
        return done();
    }
    let Failure::Retry { error, .. } = Failure::transient("Busy", "come back") else { unreachable!() };
    Err(Failure::Retry { error, retry_after: Some(Duration::from_secs(1)) })
}

/// Of the keys a, a and b the first job is throttled, by a worker of one slot; the three jobs once they have succeeded.
async fn after_a_throttle(on_throttle: OnThrottle) -> [Job; 3] {
    let bed = Bed::new(&holding(on_throttle)).await;
    let payloads: [&[u8]; 3] = [br#"{"v":"a","busy":1}"#, br#"{"v":"a"}"#, br#"{"v":"b"}"#];
    let ids = bed.enqueue("mail", &payloads).await;
    let engine = bed.engine(Settings { slots: 1, ..Settings::default() }, does(throttles));
    let mut jobs = Vec::new();
    for id in &ids {
        jobs.push(bed.becomes(id, JobState::Succeeded).await);
    }
    engine.stop().await.unwrap();
    jobs.try_into().unwrap()
}

/// When the throttled attempt ended, and when the others began.
fn times([throttled, same, other]: &[Job; 3]) -> (u64, u64, u64) {
    assert_eq!((throttled.tries, throttled.attempts), (0, 2), "it costs no try");
    assert!(same.attempts == 1 && other.attempts == 1, "nobody else was sent to be throttled");
    (throttled.history[0].ended_ms, same.history[0].started_ms, other.history[0].started_ms)
}

#[tokio::test]
async fn of_its_key_holds_the_jobs_of_that_key_alone() {
    let (throttled, same, other) = times(&after_a_throttle(OnThrottle::Key).await);
    assert!(same >= throttled + 1000, "the same key waits: {throttled}, {same}");
    assert!(other < same, "the other key goes on: {other}, {same}");
}

#[tokio::test]
async fn of_its_lane_holds_every_job_of_the_lane() {
    let (throttled, same, other) = times(&after_a_throttle(OnThrottle::Lane).await);
    assert!(same >= throttled + 1000 && other >= throttled + 1000, "{throttled}, {same}, {other}");
}

#[tokio::test]
async fn of_the_job_holds_nobody_else() {
    let jobs = after_a_throttle(OnThrottle::Job).await;
    let (_, same, other) = times(&jobs);
    let again = jobs[0].history[1].started_ms;
    assert!(same < again && other < again, "{same}, {other}, {again}");
}
