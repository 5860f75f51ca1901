//! One seat of a pool: keeps one worker process running until it is told to stop.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::log::{self, LastLine};
use super::{HostEventKind, HostOptions, HostWorker, MARGIN, PoolSetup, Shared};
use crate::platform::{PoolRef, Problem, ProblemKind};

/// A worker that ran this long was no failed start.
const STABLE: Duration = Duration::from_secs(10);
/// Bounds of the pause before a worker is started again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// Waits after the signals that ask a worker to end at once.
const HURRY: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(3)];
/// So many failed starts in a row are a problem to show; one may be an accident.
const LOOP: u32 = 2;

/// What a seat has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    /// Keep running.
    No,
    /// End the worker gracefully.
    Drain,
    /// End it at once: it may hand its jobs back, but finish none.
    Kill,
}

/// Where a seat stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// About to start a process for the first time.
    New,
    /// Its process runs.
    Running { pid: u32 },
    /// Its process ended unasked, or could not be started; it will be started again.
    Down { kind: ProblemKind, message: String },
}

/// A seat.
pub(super) struct Seat {
    pool: PoolRef,
    name: String,
    setup: Arc<PoolSetup>,
    stop: watch::Sender<Stop>,
    inner: Mutex<Inner>,
}

struct Inner {
    phase: Phase,
    failures: u32,
}

/// A new worker's name: the pool's, and five characters that no two workers share by chance.
pub(super) fn name(pool: &str) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rng = rand::rng();
    let suffix: String = (0..5).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect();
    format!("{pool}-{suffix}")
}

impl Seat {
    pub(super) fn new(pool: PoolRef, name: String, setup: Arc<PoolSetup>) -> Self {
        let inner = Mutex::new(Inner { phase: Phase::New, failures: 0 });
        Self { pool, name, setup, stop: watch::Sender::new(Stop::No), inner }
    }

    pub(super) fn pool(&self) -> &PoolRef {
        &self.pool
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn phase(&self) -> Phase {
        self.inner().phase.clone()
    }

    /// It has been asked to go.
    pub(super) fn leaving(&self) -> bool {
        *self.stop.borrow() != Stop::No
    }

    /// Tells it to go; never takes back an earlier or stronger word.
    pub(super) fn stop(&self, stop: Stop) {
        self.stop.send_if_modified(|present| {
            let stronger = stop > *present;
            *present = stop.max(*present);
            stronger
        });
    }

    pub(super) fn shown(&self) -> HostWorker {
        let inner = self.inner();
        let pid = if let Phase::Running { pid } = inner.phase { Some(pid) } else { None };
        HostWorker { name: self.name.clone(), pid, draining: self.leaving(), failures: inner.failures }
    }

    pub(super) fn problem(&self) -> Option<Problem> {
        let inner = self.inner();
        let Phase::Down { kind, message } = &inner.phase else { return None };
        if *kind == ProblemKind::CrashLoop && inner.failures < LOOP {
            return None;
        }
        Some(Problem { worker: self.name.clone(), kind: *kind, message: message.clone() })
    }

    /// Runs the worker, again and again, until the seat has to go.
    pub(super) async fn keep(&self, options: &HostOptions, shared: &Shared) {
        let mut stop = self.stop.subscribe();
        while !self.leaving() {
            let started = Instant::now();
            let (kind, message) = match self.run(options, shared, &mut stop).await {
                Ok(None) => return,
                Ok(Some(how)) => {
                    shared.tell(self, HostEventKind::Died(how.clone()));
                    (ProblemKind::CrashLoop, how)
                }
                Err(error) => {
                    let program = options.command.exe.display();
                    let message = format!("cannot start {program}: {error}");
                    shared.tell(self, HostEventKind::NotStarted(message.clone()));
                    (ProblemKind::CannotStart, message)
                }
            };
            let failures = {
                let mut inner = self.inner();
                inner.failures = if started.elapsed() >= STABLE { 1 } else { inner.failures + 1 };
                inner.phase = Phase::Down { kind, message };
                inner.failures
            };
            shared.bump();
            tokio::select! {
                () = tokio::time::sleep(pause(failures)) => {}
                _ = stop.wait_for(|s| *s != Stop::No) => {}
            }
        }
    }

    /// One process from start to end. `None`: it ended because it was asked to.
    async fn run(
        &self,
        options: &HostOptions,
        shared: &Shared,
        stop: &mut watch::Receiver<Stop>,
    ) -> std::io::Result<Option<String>> {
        let mut child = self.command(options).spawn()?;
        let pid = child.id().unwrap_or_default();
        // Held to the end of this function: `wait` would close it, and the worker would take that for our death.
        let _pipe = child.stdin.take();
        let last = log::pump(&mut child, &options.log_dir, &self.pool, &self.name);
        self.inner().phase = Phase::Running { pid };
        shared.bump();
        shared.tell(self, HostEventKind::Started(pid));
        let unasked = tokio::select! {
            status = child.wait() => Some(status?),
            _ = stop.wait_for(|s| *s != Stop::No) => None,
        };
        match unasked {
            Some(status) => Ok(Some(self.obituary(status, last).await)),
            None => {
                self.end(&mut child, shared, stop).await?;
                Ok(None)
            }
        }
    }

    fn command(&self, options: &HostOptions) -> Command {
        let mut command = Command::new(&options.command.exe);
        command.args(&options.command.args);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("LANEKEEPER_") {
                command.env_remove(key);
            }
        }
        command
            .env("LANEKEEPER_NODE", &options.node)
            .envs(&self.setup.env)
            .env("LANEKEEPER_POOL", &self.pool.name)
            .env("LANEKEEPER_WORKER_NAME", &self.name)
            // The worker drains when this pipe closes: it must not outlive us, however we end.
            .env("LANEKEEPER_PARENT_PIPE", "stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C goes to the whole foreground group; when workers stop is decided here.
            .process_group(0);
        command
    }

    /// SIGTERM; when it must go at once or its drain timeout has long passed, SIGKILL to the whole group.
    async fn end(
        &self,
        child: &mut Child,
        shared: &Shared,
        stop: &mut watch::Receiver<Stop>,
    ) -> std::io::Result<()> {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        terminate(pid);
        let ended = tokio::select! {
            status = child.wait() => Some(status.map(|_| true)?),
            _ = stop.wait_for(|s| *s == Stop::Kill) => None,
            () = tokio::time::sleep(self.setup.drain_timeout + MARGIN) => Some(false),
        };
        let ended = match ended {
            Some(ended) => ended,
            None => hurry(child, pid).await?,
        };
        if ended {
            shared.tell(self, HostEventKind::Left);
            return Ok(());
        }
        if let Some(pid) = pid {
            // An error means that it has just ended.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        child.wait().await?;
        shared.tell(self, HostEventKind::Killed);
        Ok(())
    }

    /// How it ended, with the last line it wrote.
    async fn obituary(&self, status: ExitStatus, last: LastLine) -> String {
        match last.read().await {
            Some(line) => format!("{}: {line}", describe(status)),
            None => format!("{}; it wrote nothing", describe(status)),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks a worker that already drains to end at once: at the second signal it stops its handlers, which stand in
/// process groups of their own that we do not know, and hands their jobs back. True when it has ended in time.
async fn hurry(child: &mut Child, pid: Option<Pid>) -> std::io::Result<bool> {
    // The first of the two may have been sent this very moment, and signals that wait are not counted.
    for patience in HURRY {
        terminate(pid);
        if let Ok(status) = tokio::time::timeout(patience, child.wait()).await {
            return status.map(|_| true);
        }
    }
    Ok(false)
}

fn terminate(pid: Option<Pid>) {
    if let Some(pid) = pid {
        // An error means that it has just ended.
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// `exit code 3`, `killed by signal 9`.
fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Doubles with every failed start in a row.
fn pause(failures: u32) -> Duration {
    BACK_OFF.0.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(BACK_OFF.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound() {
        assert_eq!(pause(1), Duration::from_millis(200));
        assert_eq!(pause(3), Duration::from_millis(800));
        assert_eq!(pause(60), BACK_OFF.1);
    }

    #[test]
    fn a_stronger_word_is_never_taken_back() {
        let seat = Seat::new(PoolRef::new("a", "b"), "b-1".into(), Arc::default());
        seat.stop(Stop::Kill);
        seat.stop(Stop::Drain);
        assert_eq!(*seat.stop.borrow(), Stop::Kill);
    }
}
