//! A directory and a Redis per test, the binary, and a hand that works jobs off as a worker would.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use lanekeeper_queue::Queue;
use lanekeeper_queue::testing::TestRedis;
use lanekeeper_queue::types::{
    AttemptError, ClaimRequest, Claimed, DeadReason, EnqueueOptions, ErrorClass, Held, JobState, NewJob,
    Note, Outcome, Settlement, Spends, WorkerIdentity, WorkerInfo,
};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for anything that must happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The queue that most tests use: a lane of five seconds, a type with a key.
pub(crate) const QUEUE: &str = r#"
apiVersion: lanekeeper.dev/v1beta1
kind: JobQueue
metadata: {name: saas, namespace: apps}
spec:
  lanes:
  - name: fast
    startWithin: 5s
  - name: slow
    startWithin: 1h
  defaults:
    handler: {exec: {command: ["true"]}}
  jobTypes:
  - name: mail
    lane: fast
    key: "mail:{userId}"
  - name: report
    lane: slow
"#;

/// What a run of the binary left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails unless the exit code is this one.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails unless standard error has all of these.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is missing in stderr:\n{}", self.stderr);
        }
        self
    }

    /// Fails unless standard output has all of these.
    #[track_caller]
    pub(crate) fn prints(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stdout.contains(part), "`{part}` is missing in stdout:\n{}", self.stdout);
        }
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The binary in `dir`, with nothing of this machine's settings.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanekeeper"));
    command.current_dir(dir).env_clear().stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", dir).env("KUBECONFIG", dir.join("no-kubeconfig")).env("USER", "tester");
    command
}

/// Runs the binary in `dir`.
pub(crate) fn run(dir: &Path, args: &[&str]) -> Ran {
    command(dir).args(args).output().unwrap().into()
}

/// A Redis with the queue `apps/saas`, and a directory to run in.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) redis: TestRedis,
    pub(crate) queue: Queue,
}

impl World {
    /// A Redis and an empty directory.
    pub(crate) async fn empty() -> Self {
        let redis = TestRedis::start().await.unwrap();
        let queue = redis.queue("apps/saas").await.unwrap();
        Self { dir: tempfile::tempdir().unwrap(), redis, queue }
    }

    /// The same, with [`QUEUE`] applied.
    pub(crate) async fn new() -> Self {
        Self::with(QUEUE).await
    }

    /// The same, with this manifest applied.
    pub(crate) async fn with(manifest: &str) -> Self {
        let world = Self::empty().await;
        world.write("queue.yaml", manifest);
        world.run(&["apply", "-f", "queue.yaml"]).exits(0);
        world
    }

    /// Writes a file into the directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The binary, told of the Redis by its variable.
    pub(crate) fn command(&self) -> Command {
        let mut command = command(self.dir.path());
        command.env("LANEKEEPER_REDIS_URL", self.redis.url());
        command
    }

    /// Runs the binary.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.command().args(args).output().unwrap().into()
    }

    /// Runs the binary with this on standard input.
    pub(crate) fn run_with_input(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut child = self
            .command()
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let writer = std::thread::spawn(move || {
            // The child may have said what it had to say before reading everything.
            let _ = std::io::Write::write_all(&mut stdin, &input);
        });
        let ran = child.wait_with_output().unwrap().into();
        writer.join().unwrap();
        ran
    }

    /// Enqueues by the binary and answers the id.
    pub(crate) fn enqueue(&self, args: &[&str]) -> String {
        let mut all = vec!["enqueue", "-o", "json"];
        all.extend(args);
        self.run(&all).exits(0).json()["id"].as_str().unwrap().to_owned()
    }

    /// Takes one job as a worker would.
    pub(crate) async fn claim(&self, lane: &str) -> Claimed {
        let want = ClaimRequest { slots: 1, lanes: vec![lane.to_owned()], ..ClaimRequest::default() };
        let (_, mut reply) = self.queue.settle_and_claim(&worker(), &[], &want).await.unwrap();
        reply.jobs.remove(0)
    }

    /// Shows a worker alive.
    pub(crate) async fn heartbeat(&self, lanes: &[&str], slots: u32, busy: u32) {
        let info = WorkerInfo {
            identity: worker(),
            lanes: lanes.iter().map(ToString::to_string).collect(),
            slots,
            busy,
            draining: false,
            seen_ms: 0,
            started_ms: 0,
        };
        self.queue.extend(&info, &[]).await.unwrap();
    }

    /// Tells something of a job that is held.
    pub(crate) async fn tell(&self, job: &Claimed, note: Note) {
        let info = WorkerInfo {
            identity: worker(),
            lanes: vec![job.lane.clone()],
            slots: 1,
            busy: 1,
            draining: false,
            seen_ms: 0,
            started_ms: 0,
        };
        let held = [Held { id: job.id.clone(), token: job.token }];
        self.queue.extend_telling(&info, &held, &[(0, note)]).await.unwrap();
    }

    /// Settles a job.
    pub(crate) async fn settle(&self, job: &Claimed, outcome: Outcome) {
        let done = Settlement {
            id: job.id.clone(),
            token: job.token,
            key: job.key.clone(),
            outcome,
            policy_version: 1,
            note: None,
        };
        self.queue.settle(&worker(), &[done]).await.unwrap();
    }

    /// Enqueues a job and lets it die.
    pub(crate) async fn dead_letter(&self, job_type: &str, lane: &str, payload: &str) -> String {
        self.dead_letter_of(job_type, lane, payload, "no such user").await
    }

    /// The same, of this error.
    pub(crate) async fn dead_letter_of(
        &self,
        job_type: &str,
        lane: &str,
        payload: &str,
        message: &str,
    ) -> String {
        let id = self.enqueue(&[job_type, payload]);
        let job = self.claim(lane).await;
        assert_eq!(job.id, id);
        let outcome =
            Outcome::Dead { reason: DeadReason::PermanentError, error: error(message), spends: Spends::Try };
        self.settle(&job, outcome).await;
        id
    }
}

impl World {
    /// The state of a job.
    pub(crate) async fn state(&self, id: &str) -> JobState {
        self.queue.get(&[id.to_owned()], false).await.unwrap().remove(0).unwrap().state
    }

    /// Enqueues many jobs and lets them die; their ids.
    pub(crate) async fn many_dead(&self, job_type: &str, lane: &str, count: usize) -> Vec<String> {
        let options = EnqueueOptions { job_type: job_type.into(), ..EnqueueOptions::default() };
        let mut ids = Vec::new();
        while ids.len() < count {
            let jobs = vec![
                NewJob { payload: b"{}".to_vec(), options: options.clone() };
                (count - ids.len()).min(200)
            ];
            self.queue.enqueue(&jobs).await.unwrap();
            ids.extend(self.die(lane, 200).await);
        }
        ids
    }

    /// Lets jobs of a lane that wait die; their ids.
    pub(crate) async fn many_dead_again(&self, lane: &str, count: u64) -> Vec<String> {
        let mut ids = Vec::new();
        while (ids.len() as u64) < count {
            ids.extend(self.die(lane, count - ids.len() as u64).await);
        }
        ids
    }

    async fn die(&self, lane: &str, most: u64) -> Vec<String> {
        let slots = u32::try_from(most.min(200)).unwrap();
        let want = ClaimRequest { slots, lanes: vec![lane.to_owned()], ..ClaimRequest::default() };
        let (_, reply) = self.queue.settle_and_claim(&worker(), &[], &want).await.unwrap();
        let word = |job: &Claimed| Settlement {
            id: job.id.clone(),
            token: job.token,
            key: None,
            outcome: Outcome::Dead {
                reason: DeadReason::PermanentError,
                error: error("no such user"),
                spends: Spends::Try,
            },
            policy_version: 1,
            note: None,
        };
        self.queue.settle(&worker(), &reply.jobs.iter().map(word).collect::<Vec<_>>()).await.unwrap();
        reply.jobs.into_iter().map(|job| job.id).collect()
    }
}

/// The worker that tests are.
pub(crate) fn worker() -> WorkerIdentity {
    WorkerIdentity { name: "w-1".into(), boot: "b".into(), pool: "p".into(), node: "n-1".into() }
}

/// An error of a handler.
pub(crate) fn error(message: &str) -> AttemptError {
    AttemptError { class: ErrorClass::Permanent, code: "HttpStatus".into(), message: message.into() }
}

/// Waits until `what` holds.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "{what} did not happen within {DEADLINE:?}");
        std::thread::park_timeout(Duration::from_millis(25));
    }
}
