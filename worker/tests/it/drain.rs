//! How a worker ends: finishing, handing back, at once.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::{Bed, Blocks, Counts, Settings, does, eventually, policy};
use lanekeeper_queue::types::JobState;
use lanekeeper_worker::Error;

#[tokio::test]
async fn a_drain_lets_running_jobs_finish_and_takes_no_more() {
    let bed = Bed::new(&policy()).await;
    let counts = Counts::new();
    let engine = bed.engine(Settings { slots: 2, ..Settings::default() }, Arc::clone(&counts));
    let ids = bed.enqueue("mail", &[b"".as_slice(); 3]).await;
    eventually("two jobs run", async || counts.running.load(Ordering::SeqCst) == 2).await;
    engine.shutdown.drain.cancel();
    eventually("the drain shows", async || {
        bed.queue.stats().await.unwrap().workers.iter().any(|worker| worker.draining && worker.busy == 2)
    })
    .await;
    assert_eq!(engine.probe("/readyz").await.0, 503);
    counts.gate.add_permits(10);
    engine.stop().await.unwrap();
    for id in &ids[..2] {
        assert_eq!(bed.job(id).await.state, JobState::Succeeded);
    }
    assert_eq!(bed.job(&ids[2]).await.state, JobState::Ready);
    assert!(bed.queue.stats().await.unwrap().workers.is_empty(), "the worker has left");
}

#[tokio::test]
async fn a_drain_hands_back_what_does_not_finish_in_time() {
    let bed = Bed::new(&policy()).await;
    let drain = Duration::from_secs(2);
    let engine = bed.engine(Settings { drain, ..Settings::default() }, does(|_| std::future::pending()));
    let ids = bed.enqueue("mail", &[b""]).await;
    bed.becomes(&ids[0], JobState::Running).await;
    let began = Instant::now();
    engine.stop().await.unwrap();
    assert!(began.elapsed() >= drain / 2 && began.elapsed() <= drain, "{:?}", began.elapsed());
    let job = bed.job(&ids[0]).await;
    assert_eq!((job.state, job.tries, job.crashes), (JobState::Ready, 0, 0));
    assert_eq!(job.history[0].outcome, "release");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_stage_hands_back_at_once_even_what_blocks() {
    let bed = Bed::new(&policy()).await;
    let (release, gate) = std::sync::mpsc::channel();
    let engine = bed.engine(
        Settings { drain: Duration::from_secs(300), ..Settings::default() },
        Blocks { gate: Mutex::new(gate) },
    );
    let ids = bed.enqueue("mail", &[b"block"]).await;
    bed.becomes(&ids[0], JobState::Running).await;
    engine.shutdown.escalate();
    engine.shutdown.escalate();
    let began = Instant::now();
    engine.stop().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(bed.job(&ids[0]).await.state, JobState::Ready);
    drop(release);
}

#[tokio::test]
async fn a_drain_during_an_outage_ends_in_time_and_says_what_is_left() {
    let mut bed = Bed::new(&policy()).await;
    let counts = Counts::new();
    let drain = Duration::from_secs(2);
    let engine = bed.engine(Settings { drain, ..Settings::default() }, Arc::clone(&counts));
    bed.enqueue("mail", &[b""]).await;
    eventually("the job runs", async || counts.running.load(Ordering::SeqCst) == 1).await;
    bed.redis.stop().await.unwrap();
    counts.gate.add_permits(1);
    let began = Instant::now();
    let error = engine.stop().await.unwrap_err();
    assert!(matches!(error, Error::Unsettled(1)), "{error}");
    assert!(began.elapsed() < drain + Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_worker_that_never_reached_redis_ends_as_asked() {
    let mut bed = Bed::new(&policy()).await;
    bed.redis.stop().await.unwrap();
    let engine = bed.engine(Settings::default(), does(|_| std::future::pending()));
    eventually("the outage is noticed", async || engine.metrics.redis_errors.get() > 0).await;
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn an_idle_worker_leaves_no_trace() {
    let bed = Bed::new(&policy()).await;
    let engine = bed.engine(Settings::default(), does(|_| std::future::pending()));
    eventually("it shows", async || bed.queue.stats().await.unwrap().workers.len() == 1).await;
    engine.stop().await.unwrap();
    assert!(bed.queue.stats().await.unwrap().workers.is_empty());
}
