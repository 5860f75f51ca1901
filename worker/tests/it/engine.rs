//! The engine with handlers of the test's own, against a real Redis.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::{Bed, Counts, Obeys, Settings, does, done, eventually, policy};
use lanekeeper_queue::client::Waker;
use lanekeeper_queue::types::{DeadReason, Find, JobState};
use lanekeeper_worker::handler::{Answer, Cause, Failure, Notes, code};

#[tokio::test]
async fn a_job_succeeds_and_keeps_its_answer() {
    let bed = Bed::new(&policy()).await;
    let engine = bed.engine(
        Settings::default(),
        does(|peek| async move { Ok(Answer::plain([b"got ", peek.payload.as_slice()].concat())) }),
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
    bed.queue.cancel(&ids, "ops").await.unwrap();
    let job = bed.becomes(&ids[0], JobState::Cancelled).await;
    assert_eq!(job.history[0].outcome, "cancel");
    assert_eq!(*seen.lock().unwrap(), [Cause::Cancelled]);
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_long_lease_does_not_keep_a_worker_from_hearing_of_a_cancellation() {
    let mut policy = policy();
    policy.lease_ms = 600_000;
    let bed = Bed::new(&policy).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let engine = bed.engine(Settings::default(), Obeys { seen: Arc::clone(&seen) });
    let ids = bed.enqueue("mail", &[b""]).await;
    bed.becomes(&ids[0], JobState::Running).await;
    bed.queue.cancel(&ids, "ops").await.unwrap();
    bed.becomes(&ids[0], JobState::Cancelled).await;
    assert_eq!(*seen.lock().unwrap(), [Cause::Cancelled]);
    engine.stop().await.unwrap();
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
async fn a_token_that_a_limited_worker_cannot_use_goes_to_another() {
    let mut policy = policy();
    policy.job_types.get_mut("report").unwrap().per_worker = Some(1);
    let bed = Bed::new(&policy).await;
    let client = redis::Client::open(bed.redis.url()).unwrap();
    let mut admin = client.get_multiplexed_async_connection().await.unwrap();
    let mut blocked = async || {
        let info: String = redis::cmd("INFO").arg("clients").query_async(&mut admin).await.unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("blocked_clients:")).unwrap();
        line.trim().parse::<u32>().unwrap()
    };
    let counts = Counts::new();
    let limited = bed.engine(Settings::default(), Arc::clone(&counts));
    bed.enqueue("report", &[b""]).await;
    eventually("a report runs", async || counts.running.load(Ordering::SeqCst) == 1).await;
    // It blocks first, so that the token goes to it.
    eventually("the limited worker waits", async || blocked().await == 1).await;
    let mut idle = Waker::connect(&bed.redis.options(), bed.queue.name().clone()).await.unwrap();
    let waiting = tokio::spawn(async move { idle.wait(&["slow".to_owned()], Duration::from_secs(2)).await });
    eventually("both wait", async || blocked().await == 2).await;
    bed.enqueue("report", &[b""]).await;
    assert!(waiting.await.unwrap().unwrap(), "the idle worker is woken");

    // Nobody takes it from here on: the limited worker does not pass it to and fro.
    let looks = async || {
        let text = limited.probe("/metrics").await.1;
        let name = "lanekeeper_worker_claim_duration_seconds_count ";
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse::<u64>().unwrap()
    };
    let (before, began) = (looks().await, Instant::now());
    eventually("it has looked again", async || looks().await > before).await;
    eventually("some time has passed", async || began.elapsed() > Duration::from_secs(3)).await;
    let after = looks().await;
    // Redis puts a token back twice a second, a few of those go on to nobody and come back; to and fro it would be ten a second.
    assert!(after - before < 16, "{} looks in three seconds", after - before);
    counts.gate.add_permits(2);
    limited.stop().await.unwrap();
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
    policy.job_types.insert("new".into(), crate::common::job_type("fast"));
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

#[tokio::test]
async fn an_answer_brings_follow_up_jobs_and_one_that_cannot_be_stored_is_a_death_with_its_reason() {
    let bed = Bed::new(&policy()).await;
    let engine = bed.engine(
        Settings::default(),
        does(|peek| async move {
            match peek.payload.as_slice() {
                b"parent" => Answer::parse(
                    br#"{"enqueue": [{"type": "report", "payload": [1.10]}], "result": "ok"}"#.to_vec(),
                    true,
                    &Notes::default(),
                    0,
                ),
                b"wrong" => Answer::parse(
                    br#"{"enqueue": [{"type": "nope", "payload": 1}]}"#.to_vec(),
                    true,
                    &Notes::default(),
                    0,
                ),
                payload => Ok(Answer::plain(payload.to_vec())),
            }
        }),
    );
    let ids = bed.enqueue("mail", &[b"parent", b"wrong"]).await;
    let parent = bed.becomes(&ids[0], JobState::Succeeded).await;
    assert_eq!(parent.result.as_deref(), Some("\"ok\""));
    eventually("the follow-up job is done", async || {
        let find = Find {
            state: Some(JobState::Succeeded),
            job_type: Some("report".into()),
            limit: 5,
            ..Find::default()
        };
        bed.queue.find(&find).await.unwrap().jobs.iter().any(|job| job.result.as_deref() == Some("[1.10]"))
    })
    .await;
    let wrong = bed.becomes(&ids[1], JobState::Dead).await;
    assert_eq!((wrong.attempts, wrong.dead_reason), (1, Some(DeadReason::PermanentError)));
    let error = wrong.history[0].error.clone().unwrap();
    assert_eq!(error.code, code::FOLLOW_UP_REFUSED);
    assert!(error.message.contains("unknown-type"), "{}", error.message);
    engine.stop().await.unwrap();
}
