//! A local mode of a test's own: the manifests, the process, and what can be seen of it from outside.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Ran, command, run, wait_for};

/// Short times, so that scaling shows within a test.
pub(crate) const MANIFEST: &str = r#"
apiVersion: lanekeeper.dev/v1beta1
kind: JobQueue
metadata: {name: saas, namespace: apps}
spec:
  lease: 2s
  lanes:
  - name: fast
    startWithin: 2s
  - name: unserved
    startWithin: 2s
  jobTypes:
  - name: touch
    lane: fast
    handler: {exec: {command: [tee, out]}}
  - name: sleep
    lane: fast
    handler: {exec: {command: [sleep, "3"]}}
  - name: forever
    lane: fast
    handler: {exec: {command: [sleep, "600"]}}
  - name: lost
    lane: unserved
    handler: {exec: {command: ["true"]}}
---
apiVersion: lanekeeper.dev/v1beta1
kind: WorkerPool
metadata: {name: pool, namespace: apps}
spec:
  queue: saas
  lanes: [{name: fast}]
  concurrency: 2
  drainTimeout: 5s
  scaling: {maxReplicas: 1, idleAfter: 1s}
"#;

/// A running local mode; killed, workers included, when a test fails halfway.
pub(crate) struct Up {
    pub(crate) child: Child,
    pub(crate) log: PathBuf,
}

impl Up {
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    pub(crate) fn start_with(dir: &Path, more: &[&str]) -> Self {
        let log = dir.join("up.log");
        let file = std::fs::File::create(&log).unwrap();
        let child = command(dir)
            .args(["up", "-f", "queue.yaml", "--status-json", "status.json"])
            .args(more)
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut up = Self { child, log };
        wait_for("a ready local mode", || {
            if let Some(status) = up.child.try_wait().unwrap() {
                panic!("up ended with {status}:\n{}", up.log());
            }
            let state = state(dir)?;
            (state["ready"] == true && state["pid"] == up.child.id()).then_some(())
        });
        up
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success()
        );
    }

    /// Waits for its end and answers the exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        wait_for("the end of `up`", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Ended in order is the usual case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory with the manifest; its private Redis ends with it.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("queue.yaml"), MANIFEST).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(self.path(), args)
    }

    pub(crate) fn enqueue(&self, args: &[&str]) -> String {
        let mut all = vec!["enqueue", "-o", "json"];
        all.extend(args);
        self.run(&all).exits(0).json()["id"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn because(&self, what: &str, cause: &str) {
        wait_for(&format!("{what}: {cause}"), || {
            (self.run(&["why", what, "-o", "json"]).json()["cause"] == cause).then_some(())
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Ok(port) = std::fs::read_to_string(self.path().join(".lanekeeper/redis/port")) else { return };
        // Refused when it has stopped, as it should have.
        let _ = Command::new("redis-cli")
            .args(["-p", port.trim(), "shutdown", "nosave"])
            .stderr(Stdio::null())
            .status();
    }
}

pub(crate) fn state(dir: &Path) -> Option<Value> {
    serde_json::from_str(&std::fs::read_to_string(dir.join("status.json")).ok()?).ok()
}

/// Worker processes of the pool, as published.
pub(crate) fn workers(dir: &Path) -> Vec<u64> {
    let state = state(dir).unwrap();
    let workers = state["pools"]["apps/pool"]["workers"].as_array().cloned().unwrap_or_default();
    workers.iter().map(|worker| worker["pid"].as_u64().unwrap()).collect()
}

/// Worker processes of the pool and their handlers, once so many are published: the claim may be seen before the worker is.
pub(crate) fn working(dir: &Path, count: usize) -> Vec<u64> {
    wait_for("the published worker and its handlers", || {
        let mut pids = workers(dir);
        pids.extend(pids.clone().into_iter().flat_map(children));
        (pids.len() == count).then_some(pids)
    })
}

pub(crate) fn lives(pid: u64) -> bool {
    // A zombie of a killed parent is gone for everybody but the table of processes.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}

/// Processes that a process has started.
pub(crate) fn children(pid: u64) -> Vec<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    children
        .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

pub(crate) fn redis_answers(dir: &Path) -> bool {
    let port = std::fs::read_to_string(dir.join(".lanekeeper/redis/port")).unwrap();
    std::net::TcpStream::connect(("127.0.0.1", port.trim().parse().unwrap())).is_ok()
}
