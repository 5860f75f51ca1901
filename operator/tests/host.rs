//! The host platform with real processes.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use lanekeeper_operator::platform::conformance::{self, Subject};
use lanekeeper_operator::platform::host::{
    Host, HostEvent, HostEventKind, HostOptions, HostWorker, PoolSetup, WorkerCommand,
};
use lanekeeper_operator::platform::{Platform, PoolRef, ProblemKind, Scale, Scaled};
use tokio::sync::broadcast;

const DEADLINE: Duration = Duration::from_secs(20);
/// Ends at SIGTERM and when its standard input closes, as a worker does.
const WORKER: &str = "\
exec 3<&0
echo \"hello from $LANEKEEPER_WORKER_NAME\"
cat <&3 >/dev/null &
pid=$!
trap 'kill $pid; exit 0' TERM
wait $pid";

struct World {
    host: Host,
    dir: tempfile::TempDir,
    pool: PoolRef,
}

impl World {
    fn new(script: &str, drain_timeout: Duration) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let exe = dir.path().join("worker");
        std::fs::write(&exe, format!("#!/bin/sh\n{script}\n")).expect("the script can be written");
        std::fs::set_permissions(&exe, std::fs::Permissions::from_mode(0o755)).expect("and made executable");
        let host = Host::new(HostOptions {
            command: WorkerCommand { exe, args: vec!["worker".into()] },
            log_dir: dir.path().join("logs"),
            node: "test".into(),
        });
        let pool = PoolRef::new("apps", "fast");
        host.set_pool(&pool, PoolSetup { env: BTreeMap::new(), drain_timeout });
        Self { host, dir, pool }
    }

    async fn scale(&self, to: u32, idle: &[String]) {
        let seen = self.host.observe(&self.pool).await.expect("the pool exists");
        let scale = Scale { from: seen.replicas, to, version: None, idle: idle.to_vec() };
        assert_eq!(self.host.scale(&self.pool, &scale).await.expect("it scales"), Scaled::Done);
    }

    async fn until(&self, what: &str, there: impl Fn(&[HostWorker]) -> bool) -> Vec<HostWorker> {
        let start = Instant::now();
        loop {
            let workers = self.host.workers(&self.pool);
            if there(&workers) {
                return workers;
            }
            assert!(start.elapsed() < DEADLINE, "{what}: {workers:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn running(workers: &[HostWorker]) -> usize {
    workers.iter().filter(|w| w.pid.is_some() && !w.draining).count()
}

fn alive(pid: u32) -> bool {
    // A zombie that nobody has reaped yet is no process any more.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn gone(pid: u32) {
    let start = Instant::now();
    while alive(pid) {
        assert!(start.elapsed() < DEADLINE, "process {pid} still runs");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn event(
    events: &mut broadcast::Receiver<HostEvent>,
    wanted: impl Fn(&HostEventKind) -> bool,
) -> HostEvent {
    let next = async {
        loop {
            let event = events.recv().await.expect("the platform lives");
            if wanted(&event.what) {
                return event;
            }
        }
    };
    tokio::time::timeout(DEADLINE, next).await.expect("the event comes")
}

fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("not zero");
    rustix::process::kill_process(pid, signal).expect("it can be killed");
}

#[tokio::test]
async fn the_host_platform_conforms() {
    let world = World::new(WORKER, Duration::from_secs(5));
    let subject = Subject {
        pool: world.pool.clone(),
        missing: PoolRef::new("apps", "nobody"),
        starts_workers: true,
        deadline: DEADLINE,
    };
    conformance::run(&world.host, &subject).await.expect("it conforms");
}

#[tokio::test]
async fn a_killed_worker_is_started_again_under_its_name() {
    let world = World::new(WORKER, Duration::from_secs(5));
    let mut events = world.host.events();
    world.scale(1, &[]).await;
    let before = world.until("one runs", |w| running(w) == 1).await.remove(0);
    event(&mut events, |e| matches!(e, HostEventKind::Started(_))).await;
    kill(before.pid.expect("it runs"), rustix::process::Signal::KILL);
    let died = event(&mut events, |e| matches!(e, HostEventKind::Died(_))).await;
    assert_eq!(died.worker, before.name);
    let HostEventKind::Died(how) = died.what else { panic!("it died") };
    assert!(how.contains("killed by signal 9"), "{how}");
    let after = world.until("it runs again", |w| running(w) == 1 && w[0].pid != before.pid).await.remove(0);
    assert_eq!(after.name, before.name);
    world.host.drain().await;
}

#[tokio::test]
async fn a_worker_that_always_dies_is_a_problem_with_its_last_words() {
    let world = World::new("echo starting\necho 'no such queue' >&2\nexit 3", Duration::from_secs(5));
    world.scale(1, &[]).await;
    world.until("it has failed twice", |w| w.iter().any(|w| w.failures >= 2)).await;
    let start = Instant::now();
    let problem = loop {
        let seen = world.host.observe(&world.pool).await.expect("the pool exists");
        if let Some(problem) = seen.problems.into_iter().next() {
            assert_eq!(seen.replicas, 1);
            break problem;
        }
        assert!(start.elapsed() < DEADLINE, "no problem shown");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(problem.kind, ProblemKind::CrashLoop);
    assert!(problem.message.contains("exit code 3"), "{}", problem.message);
    assert!(problem.message.contains("no such queue") || problem.message.contains("starting"));
    world.host.drain().await;
}

#[tokio::test]
async fn a_missing_program_is_a_problem_at_once() {
    let world = World::new(WORKER, Duration::from_secs(5));
    std::fs::remove_file(world.dir.path().join("worker")).expect("it was there");
    let mut events = world.host.events();
    world.scale(1, &[]).await;
    let event = event(&mut events, |e| matches!(e, HostEventKind::NotStarted(_))).await;
    assert!(matches!(event.what, HostEventKind::NotStarted(why) if why.contains("No such file")));
    world.host.drain().await;
}

#[tokio::test]
async fn idle_workers_go_first() {
    let world = World::new(WORKER, Duration::from_secs(5));
    world.scale(4, &[]).await;
    let workers = world.until("four run", |w| running(w) == 4).await;
    let idle = vec![workers[0].name.clone(), workers[2].name.clone()];
    world.scale(2, &idle).await;
    let left = world.until("two are left", |w| w.len() == 2).await;
    let names: Vec<_> = left.iter().map(|w| &w.name).collect();
    assert_eq!(names, [&workers[1].name, &workers[3].name]);
    world.host.drain().await;
}

#[tokio::test]
async fn a_worker_that_does_not_drain_is_killed_with_its_children() {
    // A deaf worker with a child: only the whole group's end is an end.
    let world = World::new("trap '' TERM\nsleep 600 &\necho child $!\nwait\nsleep 600", Duration::ZERO);
    let mut events = world.host.events();
    world.scale(1, &[]).await;
    let pid = world.until("it runs", |w| running(w) == 1).await[0].pid.expect("it runs");
    let child = until_logged(world.dir.path(), "child ").await;
    world.host.kill();
    event(&mut events, |e| *e == HostEventKind::Killed).await;
    gone(pid).await;
    gone(child.parse().expect("a pid")).await;
}

/// The rest of the first logged line with that beginning.
async fn until_logged(dir: &Path, beginning: &str) -> String {
    let start = Instant::now();
    loop {
        let files = std::fs::read_dir(dir.join("logs/apps_fast")).into_iter().flatten().flatten();
        let text: String = files.filter_map(|f| std::fs::read_to_string(f.path()).ok()).collect();
        if let Some(line) = text.lines().find_map(|l| l.strip_prefix(beginning)) {
            return line.to_owned();
        }
        assert!(start.elapsed() < DEADLINE, "never logged: {beginning}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_changed_setup_replaces_the_workers() {
    let world = World::new(WORKER, Duration::from_secs(5));
    world.scale(2, &[]).await;
    let before = world.until("two run", |w| running(w) == 2).await;
    let env = BTreeMap::from([("LANEKEEPER_CONCURRENCY".to_owned(), "7".to_owned())]);
    world.host.set_pool(&world.pool, PoolSetup { env, drain_timeout: Duration::from_secs(5) });
    let after = world
        .until("two others run", |w| running(w) == 2 && w.len() == 2 && w.iter().all(|w| !before.contains(w)))
        .await;
    assert!(after.iter().all(|w| before.iter().all(|b| b.name != w.name)));
    assert_eq!(world.host.observe(&world.pool).await.expect("the pool exists").replicas, 2);
    world.host.drain().await;
}

#[tokio::test]
async fn output_lands_in_a_file_per_worker() {
    let world = World::new(WORKER, Duration::from_secs(5));
    world.scale(1, &[]).await;
    let name = world.until("it runs", |w| running(w) == 1).await[0].name.clone();
    assert_eq!(until_logged(world.dir.path(), "hello from ").await, name);
    world.host.drain().await;
}

#[test]
fn no_worker_outlives_the_platform() {
    let pid = {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let world = World::new(WORKER, Duration::from_secs(5));
            world.scale(1, &[]).await;
            let pid = world.until("it runs", |w| running(w) == 1).await[0].pid.expect("it runs");
            until_logged(world.dir.path(), "hello").await;
            pid
        })
        // The runtime ends here as in a process that dies: nobody sends a signal.
    };
    let start = Instant::now();
    while alive(pid) && start.elapsed() < DEADLINE {
        std::thread::yield_now();
    }
    assert!(!alive(pid), "process {pid} outlived its parent");
}
