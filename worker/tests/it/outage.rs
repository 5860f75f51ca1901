//! What crashes, blocked handlers and lost Redis cost: nothing but time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::common::{Bed, Blocks, Counts, LEASE, Settings, does, done, eventually, identity, policy};
use lanekeeper_queue::types::{ClaimRequest, JobState};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_keeps_its_lease_and_stops_no_other_job() {
    let bed = Bed::new(&policy()).await;
    let (release, gate) = std::sync::mpsc::channel();
    let engine = bed.engine(Settings::default(), Blocks { gate: Mutex::new(gate) });
    // Another worker sweeps, as one always does.
    let sweeper = bed
        .engine(Settings { name: "w2", lanes: &["none"], ..Settings::default() }, does(|_| async { done() }));
    let blocked = bed.enqueue("mail", &[b"block"]).await;
    bed.becomes(&blocked[0], JobState::Running).await;
    let began = Instant::now();
    while began.elapsed() < LEASE * 3 {
        let ids = bed.enqueue("mail", &[b"quick"]).await;
        bed.becomes(&ids[0], JobState::Succeeded).await;
        assert_eq!(bed.job(&blocked[0]).await.state, JobState::Running);
        assert_eq!(engine.probe("/livez").await.0, 200);
    }
    release.send(()).unwrap();
    let job = bed.becomes(&blocked[0], JobState::Succeeded).await;
    assert_eq!((job.attempts, job.crashes), (1, 0));
    sweeper.stop().await.unwrap();
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_crashed_workers_job_is_taken_over_and_the_crash_is_counted() {
    let bed = Bed::new(&policy()).await;
    let ids = bed.enqueue("mail", &[b""]).await;
    let gone = identity("gone");
    let want = ClaimRequest { slots: 1, lanes: vec!["fast".into()], ..ClaimRequest::default() };
    let (_, claim) = bed.queue.settle_and_claim(&gone, &[], &want).await.unwrap();
    assert_eq!(claim.jobs.len(), 1);
    let engine = bed.engine(Settings::default(), does(|_| async { done() }));
    let job = bed.becomes(&ids[0], JobState::Succeeded).await;
    assert_eq!((job.tries, job.crashes, job.attempts), (0, 1, 2));
    assert_eq!(job.history[0].worker, "gone");
    assert_eq!(job.history[0].error.as_ref().unwrap().code, lanekeeper_queue::takeover::LEASE_EXPIRED);
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn results_outlive_a_redis_outage() {
    let mut bed = Bed::new(&policy()).await;
    let counts = Counts::new();
    let engine = bed.engine(Settings::default(), Arc::clone(&counts));
    let ids = bed.enqueue("mail", &[b"".as_slice(); 5]).await;
    eventually("five jobs run", async || counts.running.load(Ordering::SeqCst) == 5).await;
    bed.redis.stop().await.unwrap();
    counts.gate.add_permits(5);
    eventually("the handlers are done", async || counts.running.load(Ordering::SeqCst) == 0).await;
    eventually("the outage is noticed", async || engine.metrics.redis_errors.get() > 0).await;
    assert_eq!(engine.probe("/livez").await.0, 200);
    bed.restart_redis().await;
    for id in &ids {
        let job = bed.becomes(id, JobState::Succeeded).await;
        assert_eq!((job.attempts, job.crashes), (1, 0), "the outage cost nothing");
    }
    let more = bed.enqueue("mail", &[b""]).await;
    counts.gate.add_permits(1);
    bed.becomes(&more[0], JobState::Succeeded).await;
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_worker_may_start_before_redis_and_before_the_policy() {
    let mut bed = Bed::new(&policy()).await;
    bed.queue.destroy().await.unwrap();
    bed.redis.stop().await.unwrap();
    let engine = bed.engine(Settings::default(), does(|_| async { done() }));
    eventually("the outage is noticed", async || engine.metrics.redis_errors.get() > 0).await;
    assert_eq!((engine.probe("/livez").await.0, engine.probe("/readyz").await.0), (200, 503));
    bed.restart_redis().await;
    eventually("it waits for the policy", async || engine.probe("/readyz").await.1.contains("no policy"))
        .await;
    bed.configure(&policy()).await;
    let ids = bed.enqueue("mail", &[b""]).await;
    bed.becomes(&ids[0], JobState::Succeeded).await;
    assert_eq!(engine.probe("/readyz").await.0, 200);
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_deleted_queue_leaves_the_worker_waiting_for_a_policy() {
    let bed = Bed::new(&policy()).await;
    let counts = Counts::new();
    let engine = bed.engine(Settings::default(), Arc::clone(&counts));
    bed.enqueue("mail", &[b""]).await;
    eventually("the job runs", async || counts.running.load(Ordering::SeqCst) == 1).await;
    bed.queue.destroy().await.unwrap();
    counts.gate.add_permits(2);
    eventually("it waits for a policy", async || engine.probe("/readyz").await.1.contains("no policy")).await;
    let mut again = policy();
    again.source.created_ms = 2;
    bed.queue.configure(&again, true).await.unwrap();
    let ids = bed.enqueue("mail", &[b""]).await;
    bed.becomes(&ids[0], JobState::Succeeded).await;
    engine.stop().await.unwrap();
}

/// The queue is there: what its jobs came to must not be thrown away as that of a deleted one is.
#[tokio::test]
async fn results_outlive_a_policy_version_that_cannot_be_read() {
    let bed = Bed::new(&policy()).await;
    let counts = Counts::new();
    let engine = bed.engine(Settings::default(), Arc::clone(&counts));
    let ids = bed.enqueue("mail", &[b"".as_slice(); 3]).await;
    eventually("three jobs run", async || counts.running.load(Ordering::SeqCst) == 3).await;
    let meta = format!("{}:m", bed.queue.name().root());
    redis::cmd("HSET").arg(&[&*meta, "v", "abc"]).exec_async(&mut bed.queue.connection()).await.unwrap();
    counts.gate.add_permits(3);
    eventually("the handlers are done", async || counts.running.load(Ordering::SeqCst) == 0).await;
    eventually("the damage is noticed", async || engine.metrics.redis_errors.get() > 0).await;
    bed.queue.configure(&policy(), false).await.unwrap();
    for id in &ids {
        assert_eq!(bed.becomes(id, JobState::Succeeded).await.attempts, 1);
    }
    engine.stop().await.unwrap();
}
