//! What was made to wait beyond `giveUpAfter`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lanekeeper_api::policy::{Handler, HttpHandler, OnThrottle};
use lanekeeper_queue::Queue;
use lanekeeper_queue::types::{DeadReason, Job, JobState};
use lanekeeper_worker::handler::{Answer, Failure};

use crate::common::{Bed, Peek, Settings, does, done, eventually, policy};

const LIVES_MS: u64 = 1_000;

/// A queue whose `mail` lives for a second.
async fn short_lived() -> Bed {
    let mut policy = policy();
    policy.job_types.get_mut("mail").unwrap().give_up_after_ms = LIVES_MS;
    Bed::new(&policy).await
}

async fn pause(queue: &Queue) {
    queue.pause("ops", "look", &["fast".to_owned()]).await.unwrap();
}

/// Resumes the lane once it has been paused for longer than a job lives.
async fn resume_late(bed: &Bed) {
    tokio::time::sleep(Duration::from_millis(LIVES_MS + 300)).await;
    bed.queue.resume("ops", &["fast".to_owned()]).await.unwrap();
}

/// Counts its runs, pauses the lane where the payload says so, and fails.
async fn fails(peek: Peek, runs: Arc<AtomicU32>, queue: Queue) -> Result<Answer, Failure> {
    runs.fetch_add(1, Ordering::SeqCst);
    if peek.payload == b"pause" {
        pause(&queue).await;
    }
    Err(Failure::transient("Busy", "come back"))
}

fn gave_up(job: &Job, tries: u32) {
    assert_eq!((job.dead_reason, job.tries), (Some(DeadReason::GaveUp), tries), "{job:?}");
    let error = job.history.last().unwrap().error.as_ref().unwrap();
    assert!(error.code == "GaveUp" && error.message.contains("not tried again"), "{error:?}");
    assert!(error.message.contains("giveUpAfter of"), "{error:?}");
}

#[tokio::test]
async fn a_further_try_that_a_pause_held_back_is_not_made_and_a_first_one_is() {
    let bed = short_lived().await;
    let runs = Arc::new(AtomicU32::new(0));
    let ran = || runs.load(Ordering::SeqCst);
    let (counted, queue) = (Arc::clone(&runs), bed.queue.clone());
    let handler = does(move |peek| fails(peek, Arc::clone(&counted), queue.clone()));
    let engine = bed.engine(Settings::default(), handler);
    // The first try is made although the job is old by then; it cannot be tried again.
    pause(&bed.queue).await;
    let ids = bed.enqueue("mail", &[b"first"]).await;
    resume_late(&bed).await;
    let job = bed.becomes(&ids[0], JobState::Dead).await;
    assert_eq!((job.dead_reason, job.tries, ran()), (Some(DeadReason::GaveUp), 1, 1));
    assert_eq!(job.history[0].error.as_ref().unwrap().code, "Busy");

    // The handler has the lane paused before it fails.
    let ids = bed.enqueue("mail", &[b"pause"]).await;
    eventually("its first try", async || bed.job(&ids[0]).await.tries == 1).await;
    resume_late(&bed).await;
    let job = bed.becomes(&ids[0], JobState::Dead).await;
    gave_up(&job, 1);
    assert_eq!((ran(), job.attempts), (2, 2), "the handler was not called again");

    // A replay gives all tries again, and the first of them is made at any age.
    pause(&bed.queue).await;
    bed.queue.dead_replay(&ids, "ops", "mended").await.unwrap();
    resume_late(&bed).await;
    let job = bed.becomes(&ids[0], JobState::Dead).await;
    assert_eq!((job.dead_reason, job.tries, ran()), (Some(DeadReason::GaveUp), 1, 3));
    assert_eq!(job.history.last().unwrap().error.as_ref().unwrap().code, "Busy");
    let text = engine.probe("/metrics").await.1;
    assert!(text.contains(r#"attempts_total{type="mail",outcome="dead"} 3"#), "{text}");
    engine.stop().await.unwrap();
}

/// Asks for more patience than a job has, whenever it is called with `busy`.
async fn throttles(peek: Peek) -> Result<Answer, Failure> {
    if peek.payload != b"busy" {
        return done();
    }
    let Failure::Retry { error, .. } = Failure::transient("Busy", "come back") else { unreachable!() };
    Err(Failure::Retry { error, retry_after: Some(Duration::from_millis(2 * LIVES_MS)) })
}

/// The job that is told to wait for longer than it lives, and the one behind it.
async fn after_a_throttle(on_throttle: OnThrottle) -> [Job; 2] {
    let mut policy = policy();
    let mail = policy.job_types.get_mut("mail").unwrap();
    mail.give_up_after_ms = LIVES_MS;
    mail.handler = Handler::Http(HttpHandler { on_throttle, ..HttpHandler::to("http://h/") });
    let bed = Bed::new(&policy).await;
    let ids = bed.enqueue("mail", &[b"busy", b"next"]).await;
    let engine = bed.engine(Settings { slots: 1, ..Settings::default() }, does(throttles));
    let next = bed.becomes(&ids[1], JobState::Succeeded).await;
    let told = bed.becomes(&ids[0], JobState::Dead).await;
    engine.stop().await.unwrap();
    [told, next]
}

#[tokio::test]
async fn a_lane_is_held_although_the_job_that_was_told_does_not_live_as_long() {
    let [told, next] = after_a_throttle(OnThrottle::Lane).await;
    let (asked_ms, went_ms) = (told.history[0].ended_ms, next.history[0].started_ms);
    assert!(went_ms >= asked_ms + 2 * LIVES_MS, "the lane waits: {asked_ms}, {went_ms}");
    assert_eq!((told.history[0].outcome.as_str(), told.history.len()), ("snooze", 2), "{told:?}");
    gave_up(&told, 0);
}

#[tokio::test]
async fn a_job_that_holds_nobody_else_is_given_up_at_once() {
    let [told, next] = after_a_throttle(OnThrottle::Job).await;
    assert_eq!((told.dead_reason, told.tries, told.attempts), (Some(DeadReason::GaveUp), 0, 1));
    assert!(next.history[0].started_ms < told.history[0].ended_ms + 2 * LIVES_MS);
}
