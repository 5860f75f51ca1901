//! The engine with handlers of the test's own, against a real Redis.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Bed, LEASE, Settings, does, done, eventually, identity, policy};
use lanekeeper_queue::types::{ClaimRequest, DeadReason, JobState};
use lanekeeper_worker::Error;
use lanekeeper_worker::handler::{Answer, Cause, Failure, Handler, JobContext, Running, code};
use tokio::sync::Semaphore;

#[tokio::test]
async fn a_job_succeeds_and_keeps_its_answer() {
    let bed = Bed::new(&policy()).await;
    let engine = bed.engine(
        Settings::default(),
        does(|peek| async move { Ok(Answer { result: [b"got ", peek.payload.as_slice()].concat() }) }),
    );
    let ids = bed.enqueue("mail", &[b"one", b"two"]).await;
    let job = bed.becomes(&ids[0], JobState::Succeeded).await;
    assert_eq!(job.result.as_deref(), Some("got one"));
    assert_eq!((job.attempts, job.history[0].outcome.as_str()), (1, "success"));
    assert_eq!((job.history[0].worker.as_str(), job.history[0].node.as_str()), ("w1", "node"));
    assert_eq!(bed.becomes(&ids[1], JobState::Succeeded).await.result.as_deref(), Some("got two"));
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn an_idle_worker_starts_a_job_at_once() {
    let bed = Bed::new(&policy()).await;
    let engine = bed.engine(Settings::default(), does(|_| async { done() }));
    eventually("the worker is ready", async || engine.probe("/readyz").await.0 == 200).await;
    for _ in 0..5 {
        let ids = bed.enqueue("mail", &[b""]).await;
        let job = bed.becomes(&ids[0], JobState::Succeeded).await;
        let waited = job.history[0].started_ms - job.enqueued_ms;
        assert!(waited < 500, "{waited} ms");
    }
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_failure_is_tried_again_until_it_succeeds_or_the_tries_are_spent() {
    let bed = Bed::new(&policy()).await;
    let engine = bed.engine(
        Settings::default(),
        does(|peek| async move {
            if peek.payload == b"second" && peek.attempt == 2 {
                done()
            } else {
                Err(Failure::transient("Nope", "not yet"))
            }
        }),
    );
    let ids = bed.enqueue("mail", &[b"second", b"never"]).await;
    let job = bed.becomes(&ids[0], JobState::Succeeded).await;
    assert_eq!((job.attempts, job.tries, job.history[0].outcome.as_str()), (2, 1, "retry"));
    assert_eq!(job.history[0].error.as_ref().unwrap().code, "Nope");
    let job = bed.becomes(&ids[1], JobState::Dead).await;
    assert_eq!((job.attempts, job.dead_reason), (3, Some(DeadReason::TriesExhausted)));
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_permanent_failure_goes_to_the_dead_letters_at_once() {
    let bed = Bed::new(&policy()).await;
    let engine =
        bed.engine(Settings::default(), does(|_| async { Err(Failure::permanent("Bad", "no such user")) }));
    let ids = bed.enqueue("mail", &[b""]).await;
    let job = bed.becomes(&ids[0], JobState::Dead).await;
    assert_eq!((job.attempts, job.dead_reason), (1, Some(DeadReason::PermanentError)));
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn retry_after_holds_the_job_and_costs_no_try() {
    let bed = Bed::new(&policy()).await;
    let engine = bed.engine(
        Settings::default(),
        does(|peek| async move {
            if peek.attempt > 1 {
                return done();
            }
            let Failure::Retry { error, .. } = Failure::transient("Busy", "come back") else {
                unreachable!()
            };
            Err(Failure::Retry { error, retry_after: Some(Duration::from_secs(1)) })
        }),
    );
    let ids = bed.enqueue("mail", &[b""]).await;
    let job = bed.becomes(&ids[0], JobState::Succeeded).await;
    assert_eq!((job.tries, job.attempts, job.history[0].outcome.as_str()), (0, 2, "snooze"));
    assert!(job.history[1].started_ms - job.history[0].ended_ms >= 1000);
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_panic_costs_only_its_job() {
    let bed = Bed::new(&policy()).await;
    let engine = bed.engine(
        Settings::default(),
        does(|peek| async move {
            assert!(peek.payload != b"panic", "this job panics");
            done()
        }),
    );
    let ids = bed.enqueue("mail", &[b"panic", b"fine"]).await;
    bed.becomes(&ids[1], JobState::Succeeded).await;
    let job = bed.becomes(&ids[0], JobState::Dead).await;
    assert_eq!(job.history[0].error.as_ref().unwrap().code, code::PANICKED);
    let more = bed.enqueue("mail", &[b"fine"]).await;
    bed.becomes(&more[0], JobState::Succeeded).await;
    engine.stop().await.unwrap();
}

/// Waits until told to stop and says why; a success when nobody stops it within `limit`.
struct Obeys {
    seen: Arc<Mutex<Vec<Cause>>>,
}

impl Handler for Obeys {
    fn run<'a>(&'a self, job: &'a JobContext) -> Running<'a> {
        Box::pin(async move {
            let cause = job.stop.requested().await;
            self.seen.lock().unwrap().push(cause);
            Err(Failure::ambiguous(
                if cause == Cause::Timeout { code::TIMEOUT } else { code::STOPPED },
                cause.as_str(),
            ))
        })
    }
}

#[tokio::test]
async fn the_engine_enforces_timeouts() {
    let mut policy = policy();
    policy.job_types.get_mut("mail").unwrap().timeout_ms = 200;
    policy.job_types.get_mut("mail").unwrap().retry.limit = 0;
    let bed = Bed::new(&policy).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let engine = bed.engine(Settings::default(), Obeys { seen: Arc::clone(&seen) });
    let ids = bed.enqueue("mail", &[b""]).await;
    let job = bed.becomes(&ids[0], JobState::Dead).await;
    assert_eq!(job.history[0].error.as_ref().unwrap().code, code::TIMEOUT);
    assert_eq!(*seen.lock().unwrap(), [Cause::Timeout]);
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_handler_that_ignores_its_timeout_is_dropped() {
    let mut policy = policy();
    policy.job_types.get_mut("mail").unwrap().timeout_ms = 200;
    policy.job_types.get_mut("mail").unwrap().retry.limit = 0;
    let bed = Bed::new(&policy).await;
    let engine = bed.engine(Settings::default(), does(|_| std::future::pending()));
    let ids = bed.enqueue("mail", &[b""]).await;
    let job = bed.becomes(&ids[0], JobState::Dead).await;
    assert_eq!(job.history[0].error.as_ref().unwrap().code, code::TIMEOUT);
    assert_eq!(job.crashes, 0);
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_running_job_can_be_cancelled() {
    let bed = Bed::new(&policy()).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let engine = bed.engine(Settings::default(), Obeys { seen: Arc::clone(&seen) });
    let ids = bed.enqueue("mail", &[b""]).await;
    bed.becomes(&ids[0], JobState::Running).await;
    bed.queue.cancel(&ids).await.unwrap();
    let job = bed.becomes(&ids[0], JobState::Cancelled).await;
    assert_eq!(job.history[0].outcome, "cancel");
    assert_eq!(*seen.lock().unwrap(), [Cause::Cancelled]);
    engine.stop().await.unwrap();
}

/// Counts how many run at once, by type.
struct Counts {
    running: AtomicUsize,
    most: AtomicUsize,
    gate: Semaphore,
}

impl Counts {
    fn new() -> Arc<Self> {
        Arc::new(Self { running: AtomicUsize::new(0), most: AtomicUsize::new(0), gate: Semaphore::new(0) })
    }
}

impl Handler for Counts {
    fn run<'a>(&'a self, _: &'a JobContext) -> Running<'a> {
        Box::pin(async move {
            let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            self.running.fetch_sub(1, Ordering::SeqCst);
            done()
        })
    }
}

#[tokio::test]
async fn no_more_jobs_run_than_slots_and_no_more_of_a_type_than_per_worker() {
    let mut policy = policy();
    policy.job_types.get_mut("report").unwrap().per_worker = Some(2);
    let bed = Bed::new(&policy).await;
    let counts = Counts::new();
    let engine = bed.engine(Settings { slots: 5, ..Settings::default() }, Arc::clone(&counts));
    bed.enqueue("report", &[b"".as_slice(); 10]).await;
    eventually("two reports run", async || counts.running.load(Ordering::SeqCst) == 2).await;
    bed.enqueue("mail", &[b"".as_slice(); 10]).await;
    eventually("all slots are taken", async || counts.running.load(Ordering::SeqCst) == 5).await;
    let stats = bed.queue.stats().await.unwrap();
    let running = |lane: usize| stats.lanes[lane].types[0].running;
    assert_eq!((running(0), running(1)), (3, 2));
    counts.gate.add_permits(20);
    eventually("everything is done", async || {
        let stats = bed.queue.stats().await.unwrap();
        stats.lanes.iter().all(|lane| lane.types[0].succeeded_total == 10)
    })
    .await;
    assert_eq!(counts.most.load(Ordering::SeqCst), 5);
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn lanes_are_served_in_strict_order() {
    let bed = Bed::new(&policy()).await;
    let slow = bed.enqueue("report", &[b"".as_slice(); 3]).await;
    let fast = bed.enqueue("mail", &[b"".as_slice(); 3]).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&order);
    let engine = bed.engine(
        Settings { slots: 1, ..Settings::default() },
        does(move |peek| {
            seen.lock().unwrap().push(peek.id);
            async { done() }
        }),
    );
    eventually("everything is done", async || order.lock().unwrap().len() == 6).await;
    assert_eq!(*order.lock().unwrap(), [fast, slow].concat());
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_jobs_are_all_done_in_few_calls() {
    let bed = Bed::new(&policy()).await;
    let count = 4000;
    bed.enqueue("mail", &vec![b"x".as_slice(); count]).await;
    let engine = bed.engine(Settings { slots: 200, ..Settings::default() }, does(|_| async { done() }));
    eventually("everything is done", async || {
        bed.queue.stats().await.unwrap().lanes[0].types[0].succeeded_total == count as u64
    })
    .await;
    assert_eq!(engine.metrics.claimed.get(), count as u64);
    let text = engine.probe("/metrics").await.1;
    let line =
        text.lines().find(|l| l.starts_with("lanekeeper_worker_claim_duration_seconds_count")).unwrap();
    let calls: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(calls < 200, "{calls} calls for {count} jobs");
    assert!(text.contains(r#"attempts_total{type="mail",outcome="success"} 4000"#), "{text}");
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_changed_policy_is_in_force_without_a_restart() {
    let mut policy = policy();
    let bed = Bed::new(&policy).await;
    let engine = bed.engine(
        Settings::default(),
        does(|peek| async move {
            if peek.payload == b"fail" { Err(Failure::transient("Nope", "no")) } else { done() }
        }),
    );
    let ids = bed.enqueue("mail", &[b""]).await;
    bed.becomes(&ids[0], JobState::Succeeded).await;

    policy.source.generation = 2;
    policy.job_types.get_mut("mail").unwrap().retry.limit = 0;
    policy.job_types.insert("new".into(), common::job_type("fast"));
    let version = bed.configure(&policy).await;
    let ids = bed.enqueue("new", &[b""]).await;
    bed.becomes(&ids[0], JobState::Succeeded).await;
    let ids = bed.enqueue("mail", &[b"fail"]).await;
    let job = bed.becomes(&ids[0], JobState::Dead).await;
    assert_eq!((job.attempts, job.history[0].policy_version), (1, version));
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_paused_queue_starts_nothing_until_it_is_resumed() {
    let mut policy = policy();
    policy.paused = true;
    let bed = Bed::new(&policy).await;
    let engine = bed.engine(Settings::default(), does(|_| async { done() }));
    let ids = bed.enqueue("mail", &[b""]).await;
    eventually("the worker has looked", async || engine.probe("/readyz").await.0 == 200).await;
    assert_eq!(bed.job(&ids[0]).await.state, JobState::Ready);
    policy.source.generation = 2;
    policy.paused = false;
    bed.configure(&policy).await;
    bed.becomes(&ids[0], JobState::Succeeded).await;
    engine.stop().await.unwrap();
}

/// Blocks its thread until the test lets go.
struct Blocks {
    gate: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Handler for Blocks {
    fn run<'a>(&'a self, job: &'a JobContext) -> Running<'a> {
        if job.job.payload == b"block" {
            let _ = self.gate.lock().unwrap().recv_timeout(Duration::from_secs(30));
        }
        Box::pin(async { done() })
    }
}

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
    assert_eq!(job.history[0].error.as_ref().unwrap().code, code::LEASE_EXPIRED);
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
    assert!(began.elapsed() < drain + Duration::from_secs(10), "{:?}", began.elapsed());
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
