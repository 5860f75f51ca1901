//! `up`: the local mode, from the first job to the last process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use lanekeeper_queue::testing::TestRedis;

use crate::support::{Ran, command, run, wait_for};

/// Short times, so that scaling shows within a test.
const MANIFEST: &str = r#"
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
struct Up {
    child: Child,
    log: PathBuf,
}

impl Up {
    fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    fn start_with(dir: &Path, more: &[&str]) -> Self {
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

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success()
        );
    }

    /// Waits for its end and answers the exit code.
    fn ended(&mut self) -> Option<i32> {
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
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("queue.yaml"), MANIFEST).unwrap();
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, args: &[&str]) -> Ran {
        run(self.path(), args)
    }

    fn enqueue(&self, args: &[&str]) -> String {
        let mut all = vec!["enqueue", "-o", "json"];
        all.extend(args);
        self.run(&all).exits(0).json()["id"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn because(&self, what: &str, cause: &str) {
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

fn state(dir: &Path) -> Option<Value> {
    serde_json::from_str(&std::fs::read_to_string(dir.join("status.json")).ok()?).ok()
}

/// Worker processes of the pool, as published.
fn workers(dir: &Path) -> Vec<u64> {
    let state = state(dir).unwrap();
    let workers = state["pools"]["apps/pool"]["workers"].as_array().cloned().unwrap_or_default();
    workers.iter().map(|worker| worker["pid"].as_u64().unwrap()).collect()
}

/// Worker processes of the pool and their handlers, once so many are published: the claim may be seen before the worker is.
fn working(dir: &Path, count: usize) -> Vec<u64> {
    wait_for("the published worker and its handlers", || {
        let mut pids = workers(dir);
        pids.extend(pids.clone().into_iter().flat_map(children));
        (pids.len() == count).then_some(pids)
    })
}

fn lives(pid: u64) -> bool {
    // A zombie of a killed parent is gone for everybody but the table of processes.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}

/// Processes that a process has started.
fn children(pid: u64) -> Vec<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    children
        .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

fn redis_answers(dir: &Path) -> bool {
    let port = std::fs::read_to_string(dir.join(".lanekeeper/redis/port")).unwrap();
    std::net::TcpStream::connect(("127.0.0.1", port.trim().parse().unwrap())).is_ok()
}

#[test]
fn from_the_first_job_to_an_orderly_end_and_on_from_there() {
    let place = Place::new();
    let mut up = Up::start(place.path());
    assert!(workers(place.path()).is_empty(), "nothing waits, nothing runs");
    place
        .run(&["enqueue", "touch", r#"{"a":1}"#, "--wait", "--timeout", "30s"])
        .exits(0)
        .prints(&["succeeded", r#"{"a":1}"#]);
    wait_for("the worker that ran it", || (!workers(place.path()).is_empty()).then_some(()));
    place.run(&["status"]).exits(0).prints(&["queue apps/saas", "apps/pool", "touch"]);
    place.run(&["status", "saas"]).exits(0);
    place
        .run(&["status", "nosuch"])
        .exits(4)
        .says(&["no queue default/nosuch in the local mode", "apps/saas"]);
    wait_for("no worker once idle", || workers(place.path()).is_empty().then_some(()));
    let later = place.enqueue(&["touch", "{}", "--delay", "1h"]);
    let running = place.enqueue(&["sleep", "{}"]);
    wait_for("the running job", || place.run(&["get", &running]).stdout.contains("running on").then_some(()));
    let pids = working(place.path(), 2);
    up.signal("-INT");
    assert_eq!(up.ended(), Some(0), "{}", up.log());
    assert!(up.log().contains("draining: 1 worker left, 1 job running"), "{}", up.log());
    assert!(up.log().contains("draining") && up.log().contains("private Redis stopped"), "{}", up.log());
    assert!(pids.iter().all(|pid| !lives(*pid)) && !redis_answers(place.path()), "a process was left behind");
    place.run(&["status"]).exits(2).says(&["no local mode runs"]);

    let mut up = Up::start(place.path());
    place.run(&["get", &later]).exits(0).prints(&["scheduled"]);
    place.run(&["get", &running]).exits(0).prints(&["succeeded"]);
    up.signal("-TERM");
    assert_eq!(up.ended(), Some(0), "{}", up.log());
}

#[test]
fn a_killed_local_mode_leaves_no_worker_and_the_next_one_picks_its_redis_up() {
    let place = Place::new();
    let up = Up::start(place.path());
    let id = place.enqueue(&["forever", "{}"]);
    wait_for("the running job", || place.run(&["get", &id]).stdout.contains("running on").then_some(()));
    let pids = working(place.path(), 2);
    up.signal("-KILL");
    wait_for("the end of every worker", || pids.iter().all(|pid| !lives(*pid)).then_some(()));
    place.run(&["status"]).exits(3).says(&["not running; it was killed"]);
    assert!(redis_answers(place.path()));
    let mut up = Up::start(place.path());
    assert!(up.log().contains("picked up"), "{}", up.log());
    place.run(&["get", &id]).exits(0);
    place.run(&["cancel", &id]).exits(0);
    up.signal("-INT");
    assert_eq!(up.ended(), Some(0), "{}", up.log());
    assert!(!redis_answers(place.path()));
}

#[test]
fn a_second_signal_ends_at_once() {
    let place = Place::new();
    let mut up = Up::start(place.path());
    let id = place.enqueue(&["forever", "{}"]);
    wait_for("the running job", || place.run(&["get", &id]).stdout.contains("running on").then_some(()));
    let pids = working(place.path(), 2);
    up.signal("-INT");
    wait_for("draining", || up.log().contains("draining").then_some(()));
    up.signal("-INT");
    assert_eq!(up.ended(), Some(0), "{}", up.log());
    assert!(up.log().contains("stopped at once"), "{}", up.log());
    assert!(pids.iter().all(|pid| !lives(*pid)) && !redis_answers(place.path()));
}

#[test]
fn a_killed_redis_is_started_again_with_what_it_had() {
    let place = Place::new();
    let mut up = Up::start(place.path());
    let id = place.enqueue(&["touch", "{}", "--delay", "1h"]);
    let redis: Vec<u64> = children(u64::from(up.child.id()));
    // Written within a second: the append-only file is synced that often.
    wait_for("the synced file", || {
        let sizes = std::fs::read_dir(place.path().join(".lanekeeper/redis/appendonlydir")).unwrap();
        sizes
            .filter_map(Result::ok)
            .any(|file| {
                std::fs::read(file.path())
                    .is_ok_and(|bytes| bytes.windows(id.len()).any(|window| window == id.as_bytes()))
            })
            .then_some(())
    });
    for pid in redis {
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    }
    wait_for("Redis again", || up.log().contains("started again").then_some(()));
    place.run(&["get", &id]).exits(0).prints(&["scheduled"]);
    place.run(&["enqueue", "touch", "{}", "--wait", "--timeout", "30s"]).exits(0);
    up.signal("-INT");
    assert_eq!(up.ended(), Some(0), "{}", up.log());
    assert!(!redis_answers(place.path()));
}

#[test]
fn a_state_directory_has_one_local_mode() {
    let place = Place::new();
    let mut up = Up::start(place.path());
    let refused = place.run(&["up", "-f", "queue.yaml"]).exits(2);
    refused.says(&["already runs", &format!("pid {}", up.child.id())]);
    up.signal("-INT");
    assert_eq!(up.ended(), Some(0));
}

#[test]
fn why_knows_pools_in_the_local_mode() {
    let place = Place::new();
    let mut up = Up::start(place.path());
    place.because("pool/pool", "Idle");
    let lost = place.enqueue(&["lost", "{}"]);
    place.because(&lost, "NoPool");
    for _ in 0..2 {
        place.enqueue(&["forever", "{}"]);
    }
    let waiting = place.enqueue(&["touch", "{}"]);
    place.because(&waiting, "PoolAtMax");
    place.because("fast", "PoolAtMax");
    place.because("pool", "PoolAtMax");
    place.run(&["why", "pool/nosuch"]).exits(4);
    up.signal("-INT");
    up.signal("-INT");
    assert!(up.ended().is_some());
}

#[test]
fn changed_manifests_are_taken_over_and_broken_ones_are_not() {
    let place = Place::new();
    let mut up = Up::start(place.path());
    place.run(&["enqueue", "added", "{}"]).exits(1);
    std::fs::write(
        place.path().join("queue.yaml"),
        MANIFEST.replace("name: lost", "name: lost\n    lanne: x"),
    )
    .unwrap();
    wait_for("a told problem", || up.log().contains("lanne").then_some(()));
    std::fs::write(place.path().join("queue.yaml"), MANIFEST.replace("name: lost", "name: added")).unwrap();
    wait_for("the new type", || (place.run(&["enqueue", "added", "{}"]).code == 0).then_some(()));
    up.signal("-INT");
    assert_eq!(up.ended(), Some(0), "{}", up.log());
}

#[test]
fn what_cannot_start_says_why() {
    let place = Place::new();
    std::fs::write(
        place.path().join("queue.yaml"),
        MANIFEST.replace("lanes: [{name: fast}]", "lanes: [{name: fsat}]"),
    )
    .unwrap();
    place.run(&["up", "-f", "queue.yaml"]).exits(2).says(&["queue.yaml:", "fsat"]);
    std::fs::write(place.path().join("queue.yaml"), MANIFEST).unwrap();
    let without =
        command(place.path()).args(["up", "-f", "queue.yaml"]).env("PATH", "/nowhere").output().unwrap();
    Ran::from(without).exits(2).says(&["redis-server is not installed", "--redis"]);
    place
        .run(&["up", "-f", "queue.yaml", "--redis", "redis://127.0.0.1:1"])
        .exits(3)
        .says(&["cannot reach redis://127.0.0.1:1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_may_lose_jobs_is_told_closed_and_reopened() {
    let redis =
        TestRedis::start_with(&["--appendonly", "no", "--maxmemory-policy", "allkeys-lru"]).await.unwrap();
    let place = Place::new();
    let mut up = Up::start_with(place.path(), &["--redis", &redis.url()]);
    wait_for("the warning", || up.log().contains("may lose jobs").then_some(()));
    let log = up.log();
    for part in [&redis.url(), "appendonly yes", "allkeys-lru", "closed to workers", "allowUnsafe"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(log.contains("apps/saas  policy version "), "told before anyone could listen: {log}");
    let waiting = place.enqueue(&["touch", "{}"]);
    let set = |name: &'static str, value: &'static str| {
        let options = redis.options();
        async move {
            let mut conn = options.connect().await.unwrap();
            redis::cmd("CONFIG").arg(&["SET", name, value]).exec_async(&mut conn).await.unwrap();
        }
    };
    set("maxmemory-policy", "noeviction").await;
    set("appendonly", "yes").await;
    wait_for("the open queue", || up.log().contains("open to workers again").then_some(()));
    wait_for("the job", || place.run(&["get", &waiting]).stdout.contains("succeeded").then_some(()));
    up.signal("-INT");
    assert_eq!(up.ended(), Some(0), "{}", up.log());
}

#[test]
fn jobs_that_nothing_will_run_any_more_are_told() {
    let place = Place::new();
    let queue = MANIFEST.split("---").next().unwrap();
    let both = format!("{MANIFEST}---{}", queue.replace("name: saas", "name: other"));
    std::fs::write(place.path().join("queue.yaml"), &both).unwrap();
    let mut up = Up::start(place.path());
    place.enqueue(&["lost", "{}", "-q", "apps/saas"]);
    place.enqueue(&["touch", "{}", "-q", "apps/other"]);
    place.enqueue(&["touch", "{}", "-q", "apps/other", "--delay", "1h"]);
    let without = MANIFEST.replace("name: lost", "name: added");
    std::fs::write(place.path().join("queue.yaml"), without).unwrap();
    for warning in [
        "1 job of type `lost` waits in apps/saas, which no longer has that type",
        "2 jobs wait in apps/other, which is in no manifest any more",
    ] {
        wait_for(warning, || up.log().contains(warning).then_some(()));
    }
    up.signal("-INT");
    assert_eq!(up.ended(), Some(0), "{}", up.log());
}
