//! The demo as people start it: real Redis, real workers, real handlers; what it notices, and what it leaves behind.

#![allow(clippy::unwrap_used, reason = "a helper that fails must fail the test")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The lanekeeper program of the same build. Tests of the whole workspace have it by now; where only this crate's
/// tests are run and it was never built, it is built once.
fn lanekeeper() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = Path::new(env!("CARGO_BIN_EXE_saas-app")).with_file_name("lanekeeper");
        if !program.exists() {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--quiet", "-p", "lanekeeper"]).current_dir(env!("CARGO_MANIFEST_DIR"));
            if program.parent().unwrap().ends_with("release") {
                build.arg("--release");
            }
            assert!(build.status().unwrap().success(), "lanekeeper does not build");
        }
        assert!(program.exists(), "{} is not there", program.display());
        program
    })
}

struct Demo {
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Demo {
    fn start(seconds: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_saas-app"))
            .args(["demo", "--seconds", &seconds.to_string(), "--lanekeeper"])
            .arg(lanekeeper())
            .arg("--examples")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .arg("--summary")
            .arg(folder.path().join("summary.json"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { folder, child: Some(child) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("demo").join(name)
    }

    /// What a probe finds, tried until it finds something.
    async fn wait_for<T>(&self, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(found) = probe() {
                return found;
            }
            assert!(Instant::now() < deadline, "{what} did not come; logs: {}", self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Id of the first job that was accepted.
    async fn first_job(&self) -> String {
        let ledger = self.file("ledger.ndjson");
        self.wait_for("the first job", || {
            let text = std::fs::read_to_string(&ledger).ok()?;
            let entry: Value =
                serde_json::from_str(text.split_inclusive('\n').find(|line| line.ends_with('\n'))?).ok()?;
            entry["id"].as_str().map(str::to_owned)
        })
        .await
    }

    fn redis(&self) -> String {
        let status: Value =
            serde_json::from_slice(&std::fs::read(self.file("status.json")).unwrap()).unwrap();
        status["redis"].as_str().unwrap().to_owned()
    }

    fn logs(&self) -> String {
        ["up.log", "application.log"]
            .map(|name| std::fs::read_to_string(self.file(name)).unwrap_or_default())
            .join("\n")
    }

    async fn end(&mut self) -> Output {
        let child = self.child.take().unwrap();
        tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap()
    }

    /// Command lines of processes that still work in this demo's folder.
    fn left_behind(&self) -> Vec<String> {
        let folder = self.folder.path().to_str().unwrap();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let commands = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        commands
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| line.contains(folder))
            .collect()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // A failed assertion: the demo cleans up after itself when it is asked to stop.
            if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
                let _ = kill_process(pid, Signal::TERM);
                let _ = child.wait();
            }
        }
    }
}

#[tokio::test]
async fn a_job_deleted_by_hand_makes_the_demo_fail_and_is_named() {
    let mut demo = Demo::start(3);
    let victim = demo.first_job().await;
    let client = redis::Client::open(demo.redis()).unwrap();
    let mut conn = client.get_multiplexed_async_connection().await.unwrap();
    let gone: i64 =
        redis::cmd("HDEL").arg("lk:{apps/saas}:j").arg(&victim).query_async(&mut conn).await.unwrap();
    assert_eq!(gone, 1);
    drop(conn);
    let done = demo.end().await;
    let said = String::from_utf8_lossy(&done.stdout);
    assert_eq!(done.status.code(), Some(1), "{said} {}", demo.logs());
    let summary: Value =
        serde_json::from_slice(&std::fs::read(demo.folder.path().join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["unaccounted"], 1, "{summary:#}");
    assert_eq!(summary["unaccounted_ids"][0], victim.as_str());
    let problems = summary["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1, "nothing else is wrong: {problems:?}");
    let parts = ["completed", "waiting", "dead", "cancelled", "unaccounted"]
        .map(|name| summary[name].as_u64().unwrap());
    assert_eq!(summary["accepted"], parts.iter().sum::<u64>());
    assert!(said.contains("1 accepted jobs are unaccounted for"), "{said}");
    assert_eq!(demo.left_behind(), Vec::<String>::new());
}

#[tokio::test]
async fn an_interrupted_demo_leaves_no_process_behind() {
    let mut demo = Demo::start(60);
    demo.first_job().await;
    assert!(!demo.left_behind().is_empty(), "the application, lanekeeper up, Redis and workers are there");
    let pid = Pid::from_raw(demo.child.as_ref().unwrap().id().cast_signed()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let done = demo.end().await;
    assert_eq!(done.status.code(), Some(130), "{done:?}");
    assert_eq!(demo.left_behind(), Vec::<String>::new());
}

#[tokio::test]
async fn a_program_that_ends_early_ends_the_demo_with_its_last_words() {
    let mut demo = Demo::start(60);
    demo.first_job().await;
    let up = demo.left_behind().iter().position(|line| line.contains(" up -f "));
    assert!(up.is_some());
    let status: Value = serde_json::from_slice(&std::fs::read(demo.file("status.json")).unwrap()).unwrap();
    let up = i32::try_from(status["pid"].as_i64().unwrap()).unwrap();
    kill_process(Pid::from_raw(up).unwrap(), Signal::TERM).unwrap();
    let done = demo.end().await;
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("up ended"), "{said}");
    assert_eq!(demo.left_behind(), Vec::<String>::new());
}
