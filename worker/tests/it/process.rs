//! The worker's binary with its own handlers, killed, stopped and drained.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Bed, LEASE, eventually, exec, policy};
use lanekeeper_api::policy::QueuePolicy;
use lanekeeper_queue::types::JobState;
use rustix::process::{Pid, Signal, kill_process};

const BINARY: &str = env!("CARGO_BIN_EXE_lanekeeper-worker");

/// A worker process with its log in a file.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(bed: &Bed, dir: &Path, name: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_as(Command::new(BINARY), bed, dir, name, settings)
    }

    fn start_as(command: Command, bed: &Bed, dir: &Path, name: &str, settings: &[(&str, &str)]) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).unwrap();
        Self::spawn(command, bed, log, name, settings, file.into())
    }

    fn spawn(
        mut command: Command,
        bed: &Bed,
        log: PathBuf,
        name: &str,
        settings: &[(&str, &str)],
        stderr: Stdio,
    ) -> Self {
        let child = command
            .env("LANEKEEPER_REDIS_URL", bed.redis.url())
            .env("LANEKEEPER_QUEUE", bed.queue.name().to_string())
            .env("LANEKEEPER_LANES", "fast,slow")
            .env("LANEKEEPER_WORKER_NAME", name)
            .env("LANEKEEPER_LISTEN", "off")
            .env("LANEKEEPER_LOG", "debug,h2=info,hyper_util=info")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// A worker whose log goes into a pipe.
    fn start_piped(bed: &Bed, dir: &Path) -> Self {
        let log = dir.join("piped.log");
        std::fs::write(&log, "").unwrap();
        Self::spawn(Command::new(BINARY), bed, log, "piped", &[], Stdio::piped())
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    async fn logs(&self, text: &str) {
        eventually(&format!("the log says {text:?}"), async || self.log().contains(text)).await;
    }

    /// Waits for the end and gives the exit code.
    async fn ends(&mut self) -> Option<i32> {
        eventually("the worker ends", async || self.child.try_wait().unwrap().is_some()).await;
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), self.log());
        }
    }
}

/// A policy whose `mail` runs this script. `$D` is a folder of the test.
fn running(script: &str, dir: &Path) -> QueuePolicy {
    let mut policy = policy();
    let script = format!("D={}; {script}", dir.display());
    policy.job_types.get_mut("mail").unwrap().handler = exec(&["/bin/sh", "-c", &script]);
    policy
}

fn lines(dir: &Path, file: &str) -> usize {
    std::fs::read_to_string(dir.join(file)).unwrap_or_default().lines().count()
}

#[tokio::test]
async fn a_killed_workers_job_is_finished_by_another() {
    let dir = tempfile::tempdir().unwrap();
    // The first attempt hangs until its worker is killed, the second one finds its trace, goes on from what it left and ends.
    let script = r#"if [ -e $D/began ]; then echo second from "$LANEKEEPER_CHECKPOINT"; exit; fi
        echo '{"checkpoint": "row 500"}' >&3; echo $$ > $D/began; sleep 60"#;
    let bed = Bed::new(&running(script, dir.path())).await;
    let mut first = Process::start(&bed, dir.path(), "first", &[]);
    let ids = bed.enqueue("mail", &[b""]).await;
    eventually("the job runs", async || dir.path().join("began").exists()).await;
    eventually("its checkpoint came", async || bed.job(&ids[0]).await.checkpoint.is_some()).await;
    let second = Process::start(&bed, dir.path(), "second", &[]);
    first.signal(Signal::KILL);
    first.child.wait().unwrap();
    let killed = Instant::now();
    let job = bed.becomes(&ids[0], JobState::Succeeded).await;
    assert!(killed.elapsed() < LEASE * 3, "{:?}", killed.elapsed());
    assert_eq!((job.attempts, job.tries, job.crashes), (2, 0, 1));
    assert_eq!(job.history[0].worker, "first");
    assert_eq!(job.history[0].error.as_ref().unwrap().code, lanekeeper_queue::takeover::LEASE_EXPIRED);
    assert_eq!(
        (job.history[1].worker.as_str(), job.result.as_deref()),
        ("second", Some("second from row 500\n"))
    );
    drop(second);
    let left = std::fs::read_to_string(dir.path().join("began")).unwrap();
    let _ = rustix::process::kill_process_group(
        Pid::from_raw(left.trim().parse().unwrap()).unwrap(),
        Signal::KILL,
    );
}

#[tokio::test]
async fn sigterm_lets_running_jobs_finish() {
    let dir = tempfile::tempdir().unwrap();
    let script = "touch $D/began; until [ -e $D/go ]; do sleep 0.05; done; echo finished";
    let bed = Bed::new(&running(script, dir.path())).await;
    let mut worker = Process::start(&bed, dir.path(), "worker", &[]);
    let ids = bed.enqueue("mail", &[b""]).await;
    eventually("the job runs", async || dir.path().join("began").exists()).await;
    worker.signal(Signal::TERM);
    worker.logs("draining").await;
    let later = bed.enqueue("mail", &[b""]).await;
    std::fs::write(dir.path().join("go"), "").unwrap();
    assert_eq!(worker.ends().await, Some(0));
    assert_eq!(bed.job(&ids[0]).await.result.as_deref(), Some("finished\n"));
    assert_eq!(bed.job(&later[0]).await.state, JobState::Ready);
    assert!(worker.log().contains("worker has drained"));
}

#[tokio::test]
async fn sigterm_stops_what_does_not_finish_and_costs_it_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap 'echo asked > $D/asked; exit 1' TERM; touch $D/began; while :; do sleep 0.05; done";
    let bed = Bed::new(&running(script, dir.path())).await;
    let mut worker = Process::start(&bed, dir.path(), "worker", &[("LANEKEEPER_DRAIN_TIMEOUT", "4s")]);
    let ids = bed.enqueue("mail", &[b""]).await;
    eventually("the job runs", async || dir.path().join("began").exists()).await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends().await, Some(0));
    assert_eq!(lines(dir.path(), "asked"), 1);
    let job = bed.job(&ids[0]).await;
    assert_eq!((job.state, job.tries, job.crashes, job.attempts), (JobState::Ready, 0, 0, 1));
    assert_eq!(job.history[0].outcome, "release");
}

#[tokio::test]
async fn a_second_signal_ends_a_worker_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap '' TERM; touch $D/began; while :; do sleep 0.05; done";
    let bed = Bed::new(&running(script, dir.path())).await;
    let mut worker = Process::start(&bed, dir.path(), "worker", &[("LANEKEEPER_DRAIN_TIMEOUT", "300s")]);
    let ids = bed.enqueue("mail", &[b""]).await;
    eventually("the job runs", async || dir.path().join("began").exists()).await;
    worker.signal(Signal::INT);
    worker.logs("draining").await;
    let began = Instant::now();
    worker.signal(Signal::INT);
    assert_eq!(worker.ends().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let job = bed.job(&ids[0]).await;
    assert_eq!((job.state, job.tries), (JobState::Ready, 0));
}

#[tokio::test]
async fn a_worker_frozen_beyond_its_lease_settles_nothing_when_it_thaws() {
    let dir = tempfile::tempdir().unwrap();
    // The frozen worker's program goes on and ends; its word comes too late.
    let script = "echo $LANEKEEPER_TOKEN >> $D/tokens; if [ $LANEKEEPER_ATTEMPT = 1 ]; then until [ -e $D/go ]; do sleep 0.05; done; echo old; else echo new; fi";
    let bed = Bed::new(&running(script, dir.path())).await;
    let frozen = Process::start(&bed, dir.path(), "frozen", &[]);
    let ids = bed.enqueue("mail", &[b""]).await;
    eventually("the job runs", async || lines(dir.path(), "tokens") == 1).await;
    frozen.signal(Signal::STOP);
    let other = Process::start(&bed, dir.path(), "other", &[]);
    let job = bed.becomes(&ids[0], JobState::Succeeded).await;
    assert_eq!((job.history[1].worker.as_str(), job.result.as_deref()), ("other", Some("new\n")));
    std::fs::write(dir.path().join("go"), "").unwrap();
    frozen.signal(Signal::CONT);
    eventually("the thawed worker learns of it", async || {
        let log = frozen.log();
        log.contains("this attempt's outcome was refused") || log.contains("\"outcome\":\"lost\"")
    })
    .await;
    let job = bed.job(&ids[0]).await;
    assert_eq!((job.state, job.result.as_deref(), job.attempts), (JobState::Succeeded, Some("new\n"), 2));
    let more = bed.enqueue("mail", &[b""]).await;
    bed.becomes(&more[0], JobState::Succeeded).await;
    drop(other);
}

#[tokio::test]
async fn a_changed_policy_reaches_a_running_worker() {
    let dir = tempfile::tempdir().unwrap();
    let mut policy = running("echo old", dir.path());
    let bed = Bed::new(&policy).await;
    let _worker = Process::start(&bed, dir.path(), "worker", &[]);
    let ids = bed.enqueue("mail", &[b""]).await;
    assert_eq!(bed.becomes(&ids[0], JobState::Succeeded).await.result.as_deref(), Some("old\n"));
    policy.source.generation = 2;
    policy.job_types.get_mut("mail").unwrap().handler = exec(&["echo", "new"]);
    bed.configure(&policy).await;
    let ids = bed.enqueue("mail", &[b""]).await;
    assert_eq!(bed.becomes(&ids[0], JobState::Succeeded).await.result.as_deref(), Some("new\n"));
}

#[tokio::test]
async fn redis_may_crash_under_a_worker() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo $LANEKEEPER_JOB_ID >> $D/effects; sleep 0.05";
    let mut bed = Bed::new(&running(script, dir.path())).await;
    let mut worker = Process::start(&bed, dir.path(), "worker", &[("LANEKEEPER_CONCURRENCY", "4")]);
    let ids = bed.enqueue("mail", &[b"".as_slice(); 40]).await;
    // What the server has answered for a second is on disk: nothing of the enqueue may be lost from then on.
    eventually("the append-only file is written", async || {
        let mut conn = bed.queue.connection();
        let info: String = redis::cmd("INFO").arg("persistence").query_async(&mut conn).await.unwrap();
        info.contains("aof_pending_bio_fsync:0") && lines(dir.path(), "effects") >= 4
    })
    .await;
    bed.redis.kill();
    worker.logs("Redis does not answer").await;
    bed.restart_redis().await;
    for id in &ids {
        let job = bed.becomes(id, JobState::Succeeded).await;
        assert_eq!((job.tries, job.crashes), (0, 0), "{job:?}");
    }
    let outages = worker.log().matches("Redis does not answer").count();
    assert!(outages <= 2, "one line per outage, not {outages}");
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends().await, Some(0));
}

#[tokio::test]
async fn logs_name_the_job_and_hold_no_payload_and_no_password() {
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed::new(&running("cat; cat >&2; echo canary-of-the-program >&2; exit 1", dir.path())).await;
    let url = bed.redis.url().replace("redis://", "redis://default:canary-password@");
    let mut worker = Process::start(&bed, dir.path(), "worker", &[("LANEKEEPER_REDIS_URL", &url)]);
    // This Redis has no password, so a default user's is refused or ignored; either way it must not show.
    let ids = bed.enqueue("mail", &[b"canary-in-the-payload"]).await;
    eventually("something is logged", async || worker.log().contains("worker starts")).await;
    worker.signal(Signal::INT);
    worker.signal(Signal::INT);
    worker.ends().await;
    assert!(!worker.log().contains("canary"), "{}", worker.log());

    let mut worker = Process::start(&bed, dir.path(), "again", &[]);
    let job = bed.becomes(&ids[0], JobState::Dead).await;
    // The first worker may have begun the job before it was stopped.
    let last = job.history.last().unwrap().error.as_ref().unwrap();
    assert!(last.message.contains("canary-of-the-program"), "{last:?}");
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends().await, Some(0));
    assert!(
        worker.log().contains(&ids[0]) && worker.log().contains("\"outcome\":\"dead\""),
        "{}",
        worker.log()
    );
    assert!(!worker.log().contains("canary"), "{}", worker.log());
}

#[tokio::test]
async fn unusable_settings_end_a_worker_with_a_reason() {
    let bed = Bed::new(&policy()).await;
    let dir = tempfile::tempdir().unwrap();
    for (name, settings, reason) in [
        ("scheme", [("LANEKEEPER_REDIS_URL", "http://h")].as_slice(), "expected redis://"),
        ("ca", &[("LANEKEEPER_REDIS_CA_FILE", "/no/such/file")], "Redis CA file"),
        ("listen", &[("LANEKEEPER_LISTEN", "203.0.113.1:1")], "cannot listen"),
        ("lanes", &[("LANEKEEPER_QUEUE", "saas")], "<namespace>/<name>"),
    ] {
        let mut worker = Process::start(&bed, dir.path(), name, settings);
        assert_ne!(worker.ends().await, Some(0), "{name}");
        assert!(worker.log().contains(reason), "{name}: {}", worker.log());
    }
}

#[tokio::test]
async fn programs_cannot_read_the_workers_environment() {
    let root = rustix::process::geteuid().is_root();
    let dir = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let bed = Bed::new(&running("tr '\\0' '\\n' < /proc/$PPID/environ && echo read", dir.path())).await;
    // Root reads everything; as anybody else the same user's programs must not.
    let binary = dir.path().join("lanekeeper-worker");
    lanekeeper_copy(&binary);
    let mut command = Command::new(if root { Path::new("setpriv") } else { &binary });
    if root {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
    }
    let _worker = Process::start_as(command, &bed, dir.path(), "worker", &[]);
    let ids = bed.enqueue("mail", &[b""]).await;
    let job = bed.becomes(&ids[0], JobState::Dead).await;
    let message = &job.history[0].error.as_ref().unwrap().message;
    assert!(message.contains("Permission denied"), "{message}");
}

/// Copies the worker with its own sub-command.
fn lanekeeper_copy(destination: &Path) {
    let output = Command::new(BINARY).arg("copy").arg(destination).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_copy_runs_like_the_original() {
    let dir = tempfile::tempdir().unwrap();
    lanekeeper_copy(dir.path());
    let output = Command::new(dir.path().join("lanekeeper-worker")).arg("--version").output().unwrap();
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).starts_with("lanekeeper-worker ")
    );
    let nowhere = Command::new(BINARY).args(["copy", "/no/such/dir/x"]).output().unwrap();
    assert!(!nowhere.status.success());
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("/no/such/dir/x"));
}

#[tokio::test]
async fn http_jobs_are_signed_held_and_settled_by_the_binary() {
    use axum::http::{HeaderMap, StatusCode};
    use lanekeeper_api::policy::{Handler, HttpHandler, SecretKey};
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("mailer")).unwrap();
    std::fs::write(dir.path().join("mailer/hmac"), "a-secret-of-at-least-24-bytes").unwrap();
    // Throttles the first attempt, wants a signature and the trace on the second.
    let receive = |headers: HeaderMap, body: String| async move {
        let get = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        if get("lanekeeper-attempt") == "1" {
            return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], String::new());
        }
        let answer = format!("{} {} {}", get("idempotency-key"), get("traceparent"), body);
        let signed = get("webhook-signature").starts_with("v1,") && !get("webhook-id").is_empty();
        (if signed { StatusCode::OK } else { StatusCode::FORBIDDEN }, [("x", "y")], answer)
    };
    let server = crate::common::serve(axum::Router::new().route("/jobs", axum::routing::post(receive))).await;
    let mut policy = policy();
    policy.job_types.get_mut("mail").unwrap().handler = Handler::Http(HttpHandler {
        signing: Some(SecretKey { name: "mailer".into(), key: "hmac".into() }),
        ..HttpHandler::to(format!("http://{server}/jobs"))
    });
    let bed = Bed::new(&policy).await;
    let secrets = dir.path().to_string_lossy().into_owned();
    let _worker = Process::start(&bed, dir.path(), "worker", &[("LANEKEEPER_SECRETS_DIR", &secrets)]);
    let job = lanekeeper_queue::types::NewJob {
        payload: b"{}".to_vec(),
        options: lanekeeper_queue::types::EnqueueOptions {
            job_type: "mail".into(),
            key: Some("k1".into()),
            id: Some("job-1".into()),
            meta: [("traceparent".into(), "00-aa-bb-01".into())].into(),
            ..Default::default()
        },
    };
    bed.queue.enqueue(&[job]).await.unwrap();
    let job = bed.becomes("job-1", JobState::Succeeded).await;
    assert_eq!(job.result.as_deref(), Some("k1 00-aa-bb-01 {}"));
    assert_eq!((job.tries, job.attempts, job.history[0].outcome.as_str()), (0, 2, "snooze"));
}

#[tokio::test]
async fn a_dead_log_collector_stops_no_worker() {
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed::new(&running("exit 1", dir.path())).await;
    let mut worker = Process::start_piped(&bed, dir.path());
    // Nobody reads the log any more: every further line fails.
    drop(worker.child.stderr.take());
    let ids = bed.enqueue("mail", &[b""]).await;
    bed.becomes(&ids[0], JobState::Dead).await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends().await, Some(0));
}
