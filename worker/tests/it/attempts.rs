//! What goes from attempt to attempt, and into a running one: progress, checkpoints, snoozes, cancellations. For programs,
//! receivers and handlers in Rust alike.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use lanekeeper_api::policy::{ExecHandler as ExecPolicy, HttpHandler as HttpPolicy, QueuePolicy};
use lanekeeper_queue::types::{JobState, Progress};
use lanekeeper_worker::handler::exec::ExecHandler;
use lanekeeper_worker::handler::http::{Client, HttpHandler};
use lanekeeper_worker::handler::{Cause, Failure, Handler, JobContext, Running};
use tokio::sync::Semaphore;

use crate::common::{Bed, Obeys, Settings, done, eventually, policy, serve};

fn program(script: &str) -> ExecHandler {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    ExecHandler::new(ExecPolicy { command, env: BTreeMap::new(), permanent_exit_codes: vec![] })
}

fn receiver(address: std::net::SocketAddr) -> HttpHandler {
    let policy = HttpPolicy::to(format!("http://{address}/"));
    HttpHandler::new(Client::new().unwrap(), policy, "/nonexistent".as_ref())
}

/// Heartbeats five seconds apart: what comes sooner was brought by something else.
fn with_long_leases() -> QueuePolicy {
    let mut policy = policy();
    policy.lease_ms = 600_000;
    policy
}

/// Tells how far it is and waits; an attempt that was left a checkpoint succeeds with it.
struct Steps {
    gate: Arc<Semaphore>,
}

impl Handler for Steps {
    fn run<'a>(&'a self, job: &'a JobContext) -> Running<'a> {
        Box::pin(async move {
            if let Some(left) = job.checkpoint() {
                return Ok(lanekeeper_worker::handler::Answer::plain(left.to_vec()));
            }
            for done in 1..=3 {
                job.notes.progress(Progress {
                    done,
                    total: Some(3),
                    unit: "rows".into(),
                    ..Progress::default()
                });
                job.notes.checkpoint(format!("after {done}")).unwrap();
                self.gate.acquire().await.unwrap().forget();
            }
            job.notes.checkpoint("last word").unwrap();
            Err(Failure::transient("X", "again"))
        })
    }
}

#[tokio::test]
async fn a_handler_in_rust_tells_and_is_told() {
    let bed = Bed::new(&with_long_leases()).await;
    let gate = Arc::new(Semaphore::new(0));
    let engine = bed.engine(Settings::default(), Steps { gate: Arc::clone(&gate) });
    let ids = bed.enqueue("mail", &[b""]).await;
    for done in 1..=3 {
        // Brought by a heartbeat of its own, long before the next one would be due.
        let began = Instant::now();
        eventually("its progress shows", async || {
            bed.job(&ids[0]).await.progress.is_some_and(|p| p.done == done)
        })
        .await;
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        gate.add_permits(1);
    }
    let job = bed.becomes(&ids[0], JobState::Succeeded).await;
    assert_eq!(
        job.result.as_deref(),
        Some("last word"),
        "what no heartbeat brought came with the settlement"
    );
    assert_eq!((job.attempts, job.progress, job.checkpoint), (2, None, None));
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn telling_often_costs_one_heartbeat_a_second() {
    let bed = Bed::new(&with_long_leases()).await;
    struct Talks;
    impl Handler for Talks {
        fn run<'a>(&'a self, job: &'a JobContext) -> Running<'a> {
            Box::pin(async move {
                for done in 0..300 {
                    job.notes.progress(Progress { done, ..Progress::default() });
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                done()
            })
        }
    }
    let engine = bed.engine(Settings::default(), Talks);
    let ids = bed.enqueue("mail", &[b"".as_slice(); 5]).await;
    for id in &ids {
        bed.becomes(id, JobState::Succeeded).await;
    }
    let client = redis::Client::open(bed.redis.url()).unwrap();
    let mut admin = client.get_multiplexed_async_connection().await.unwrap();
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut admin).await.unwrap();
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_fcall:calls=")).unwrap();
    let calls: u64 = calls.split(',').next().unwrap().parse().unwrap();
    // Five jobs that tell a hundred times a second each, for three seconds: were each telling a call, there would be 1500.
    assert!(calls < 60, "{calls}");
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_program_reports_on_descriptor_3_and_gets_its_checkpoint_back() {
    let bed = Bed::new(&with_long_leases()).await;
    let script = r#"
        if [ -n "$LANEKEEPER_CHECKPOINT" ]; then echo "from $LANEKEEPER_CHECKPOINT"; exit 0; fi
        echo '{"progress": {"done": 1, "total": 4, "unit": "files", "message": "reading"}}' >&"$LANEKEEPER_REPORT_FD"
        echo 'not json' >&3
        echo '{"checkpoint": "page 7"}' >&3
        echo '{"checkpoint": "of the answer"}'
        exit 75"#;
    let engine = bed.engine(Settings::default(), program(script));
    let ids = bed.enqueue("mail", &[b""]).await;
    let job = bed.becomes(&ids[0], JobState::Succeeded).await;
    assert_eq!((job.attempts, job.result.as_deref()), (2, Some("from page 7\n")));
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_receiver_gets_its_checkpoint_back() {
    let bed = Bed::new(&policy()).await;
    let answer = |headers: HeaderMap| async move {
        match headers.get("lanekeeper-checkpoint").map(|left| left.to_str().unwrap().to_owned()) {
            None => (StatusCode::SERVICE_UNAVAILABLE, r#"{"checkpoint": "row 9"}"#.to_owned()),
            Some(left) => (StatusCode::OK, left),
        }
    };
    let server = serve(Router::new().route("/", post(answer))).await;
    let engine = bed.engine(Settings::default(), receiver(server));
    let ids = bed.enqueue("mail", &[b""]).await;
    let job = bed.becomes(&ids[0], JobState::Succeeded).await;
    assert_eq!((job.tries, job.result.as_deref()), (1, Some("cm93IDk=")));
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn snoozes_cost_no_try_and_are_bounded() {
    let mut policy = policy();
    policy.job_types.get_mut("mail").unwrap().retry.limit = 0;
    policy.job_types.get_mut("report").unwrap().give_up_after_ms = 30_000;
    let bed = Bed::new(&policy).await;
    let script = r#"
        case "$LANEKEEPER_TYPE" in report) echo '{"snooze": "1h", "reason": "never"}'; exit 0;; esac
        if [ "$LANEKEEPER_ATTEMPT" = 3 ]; then echo "got $LANEKEEPER_CHECKPOINT"; exit 0; fi
        echo "{\"snooze\": \"1s\", \"reason\": \"still renders\", \"checkpoint\": \"op-$LANEKEEPER_ATTEMPT\"}""#;
    let engine = bed.engine(Settings::default(), program(script));
    let ids = bed.enqueue("mail", &[b""]).await;
    let job = bed.becomes(&ids[0], JobState::Succeeded).await;
    assert_eq!((job.attempts, job.tries, job.crashes), (3, 0, 0));
    assert_eq!(job.result.as_deref(), Some("got op-2\n"));
    let error = job.history[0].error.as_ref().unwrap();
    assert_eq!((job.history[0].outcome.as_str(), error.code.as_str()), ("snooze", "Snoozed"));
    assert_eq!(error.message, "still renders");
    assert!(job.history[1].started_ms >= job.history[0].ended_ms + 1_000);
    // Beyond giveUpAfter there is nothing to wait for.
    let ids = bed.enqueue("report", &[b""]).await;
    let job = bed.becomes(&ids[0], JobState::Dead).await;
    assert_eq!(job.dead_reason.map(|reason| reason.name()), Some("GaveUp"));
    let message = &job.history[0].error.as_ref().unwrap().message;
    assert!(message.starts_with("it was to wait for 1h and is given up after"), "{message}");
    assert!(message.ends_with("\nnever"), "{message}");
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_receiver_snoozes_with_its_answer() {
    let bed = Bed::new(&policy()).await;
    let answer = |headers: HeaderMap| async move {
        if headers["lanekeeper-attempt"] == "1" { r#"{"snooze": 1000}"# } else { "rendered" }
    };
    let server = serve(Router::new().route("/", post(answer))).await;
    let engine = bed.engine(Settings::default(), receiver(server));
    let ids = bed.enqueue("mail", &[b""]).await;
    let job = bed.becomes(&ids[0], JobState::Succeeded).await;
    assert_eq!((job.attempts, job.tries, job.result.as_deref()), (2, 0, Some("rendered")));
    engine.stop().await.unwrap();
}

/// Cancels the job right after a heartbeat, the next of which is five seconds away; how long it took to end.
async fn cancelled_at_once(bed: &Bed, id: &str) -> Duration {
    let seen = async || bed.queue.stats().await.unwrap().workers[0].seen_ms;
    let before = seen().await;
    eventually("a heartbeat", async || seen().await > before).await;
    let began = Instant::now();
    bed.queue.cancel(&[id.to_owned()], "ops").await.unwrap();
    let job = bed.becomes(id, JobState::Cancelled).await;
    let error = job.history[0].error.as_ref().unwrap();
    assert_eq!((job.history[0].outcome.as_str(), error.message.as_str()), ("cancel", "cancelled by ops"));
    began.elapsed()
}

const AT_ONCE: Duration = Duration::from_millis(2_500);

#[tokio::test]
async fn a_handler_in_rust_is_stopped_at_once() {
    let bed = Bed::new(&with_long_leases()).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let engine = bed.engine(Settings::default(), Obeys { seen: Arc::clone(&seen) });
    let ids = bed.enqueue("mail", &[b""]).await;
    bed.becomes(&ids[0], JobState::Running).await;
    let took = cancelled_at_once(&bed, &ids[0]).await;
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(*seen.lock().unwrap(), [Cause::Cancelled]);
    engine.stop().await.unwrap();
}

fn alive(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file).unwrap_or_default();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[tokio::test]
async fn a_program_gets_sigterm_at_once_and_its_group_goes_with_it() {
    let bed = Bed::new(&with_long_leases()).await;
    let dir = tempfile::tempdir().unwrap();
    let (ready, pid, told) = (dir.path().join("ready"), dir.path().join("pid"), dir.path().join("told"));
    let script = format!(
        "sh -c 'trap \"\" TERM; echo $$ > {pid}; while :; do sleep 1; done' & trap 'touch {told}; exit 0' TERM; touch {ready}; \
         while :; do sleep 0.1; done",
        pid = pid.display(),
        told = told.display(),
        ready = ready.display()
    );
    let engine = bed.engine(Settings::default(), program(&script));
    let ids = bed.enqueue("mail", &[b""]).await;
    eventually("the program runs", async || ready.exists() && alive(&pid)).await;
    let took = cancelled_at_once(&bed, &ids[0]).await;
    assert!(took < AT_ONCE, "{took:?}");
    assert!(told.exists(), "it was asked before it was killed");
    eventually("what it left behind is gone", async || !alive(&pid)).await;
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_request_is_aborted_at_once() {
    struct Gone(Arc<Semaphore>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.add_permits(1);
        }
    }
    let bed = Bed::new(&with_long_leases()).await;
    let gone = Arc::new(Semaphore::new(0));
    let dropped = Arc::clone(&gone);
    let hangs = move || {
        let gone = Gone(Arc::clone(&dropped));
        async move {
            std::future::pending::<()>().await;
            drop(gone);
        }
    };
    let server = serve(Router::new().route("/", post(hangs))).await;
    let engine = bed.engine(Settings::default(), receiver(server));
    let ids = bed.enqueue("mail", &[b""]).await;
    bed.becomes(&ids[0], JobState::Running).await;
    let took = cancelled_at_once(&bed, &ids[0]).await;
    assert!(took < AT_ONCE, "{took:?}");
    eventually("the receiver sees its connection close", async || gone.available_permits() == 1).await;
    engine.stop().await.unwrap();
}
