//! A program in its own process group, with its pipes.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{ChildStdin, Command};
use tokio::task::JoinHandle;

use super::report::DESCRIPTOR;
use super::tail::Tail;

/// How long output is still read after the group has ended. Only a process that left the group can hold the
/// pipes by then, and nobody waits for it.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How a program ended.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    /// How it began, where it was longer than what is kept.
    pub(super) stdout_head: Option<Vec<u8>>,
    pub(super) stderr: Vec<u8>,
}

/// A running program. Dropping it kills its group.
pub(super) struct Child {
    child: tokio::process::Child,
    group: Group,
    stdout: (Tail, JoinHandle<()>),
    stderr: (Tail, JoinHandle<()>),
    stdin: JoinHandle<()>,
}

impl Child {
    /// Starts the program and the tasks that serve its pipes.
    pub(super) fn spawn(mut command: Command, payload: Vec<u8>, report: OwnedFd) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // kill_on_drop reaps a program that outlives its attempt; the group is ours to kill.
        command.process_group(0).kill_on_drop(true);
        let report = FdMapping { parent_fd: report, child_fd: DESCRIPTOR };
        command.fd_mappings(vec![report]).map_err(io::Error::other)?;
        let mut child = command.spawn()?;
        // With it goes the worker's copy of the descriptor.
        drop(command);
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        let missing = || io::Error::other("a pipe is missing");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        let (out, err) = (Tail::default(), Tail::default());
        Ok(Self {
            stdin: tokio::spawn(feed(stdin, payload)),
            stdout: (out.clone(), tokio::spawn(out.drain(stdout))),
            stderr: (err.clone(), tokio::spawn(err.drain(stderr))),
            child,
            group,
        })
    }

    /// Waits for the program's end, ends its group and collects the output. Cancel-safe; the second call after an end
    /// would find no output.
    pub(super) async fn ended(&mut self) -> io::Result<Ended> {
        // While the program is an unreaped zombie its number cannot be given to another group, so this kill can
        // only meet what the program itself left behind.
        let status = if exited(self.group.0).await {
            self.group.signal(Signal::KILL);
            self.child.wait().await?
        } else {
            let status = self.child.wait().await?;
            self.group.signal(Signal::KILL);
            status
        };
        self.group.0 = None;
        let both = async { tokio::join!(finished(&mut self.stdout.1), finished(&mut self.stderr.1)) };
        let _ = tokio::time::timeout(LAST_WORDS, both).await;
        let ((stdout, stdout_head), (stderr, _)) = (self.stdout.0.take(), self.stderr.0.take());
        Ok(Ended { status, stdout, stdout_head, stderr })
    }

    /// SIGTERM to the group.
    pub(super) fn terminate(&self) {
        self.group.signal(Signal::TERM);
    }

    /// SIGKILL to the group.
    pub(super) fn kill(&self) {
        self.group.signal(Signal::KILL);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.group.signal(Signal::KILL);
        for pipe in [&self.stdin, &self.stdout.1, &self.stderr.1] {
            pipe.abort();
        }
    }
}

/// A process group that has not been reaped.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            // It fails only when the group is gone already.
            let _ = kill_process_group(pid, signal);
        }
    }
}

/// Writes the payload. A program may close its input early; that is its business.
async fn feed(mut stdin: ChildStdin, payload: Vec<u8>) {
    let _ = stdin.write_all(&payload).await;
    let _ = stdin.shutdown().await;
}

/// Waits for a task that may have been waited for before.
async fn finished(task: &mut JoinHandle<()>) {
    if !task.is_finished() {
        let _ = task.await;
    }
}

/// Waits until the process has exited, without reaping it; false where the system cannot tell.
#[cfg(target_os = "linux")]
async fn exited(pid: Option<Pid>) -> bool {
    use rustix::process::{PidfdFlags, pidfd_open};
    use tokio::io::{Interest, unix::AsyncFd};
    let Some(fd) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok()) else { return false };
    // Its successor is unsafe because of types that may lie about their descriptor; an OwnedFd owns its own.
    #[expect(deprecated, reason = "the safe constructor for an OwnedFd")]
    let Ok(fd) = AsyncFd::with_interest(fd, Interest::READABLE) else { return false };
    fd.readable().await.is_ok()
}

/// Without pidfds the group is signalled once the process has been reaped.
#[cfg(not(target_os = "linux"))]
async fn exited(_: Option<Pid>) -> bool {
    false
}
