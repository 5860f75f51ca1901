//! A program that the demo starts and must stop.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Command;

/// A running program, in a process group of its own: Ctrl-C reaches the demo alone, which stops its
/// children in order.
pub(super) struct Child {
    name: &'static str,
    log: PathBuf,
    child: tokio::process::Child,
}

impl Child {
    /// Starts it, with its output in a log file.
    pub(super) fn start(name: &'static str, command: &mut Command, folder: &Path) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", command.as_std().get_program().to_string_lossy()))?;
        Ok(Self { name, log, child })
    }

    /// Resolves when it ends, which it should not do by itself: the error tells its last words.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        let how = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(15)..].join("\n  ");
        anyhow::anyhow!("{} ended ({how}); its last words:\n  {last}", self.name)
    }

    /// Asks it to stop, and ends its whole process group when it does not within the grace time.
    pub(super) async fn stop(&mut self, grace: Duration) {
        let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) else { return };
        let _ = kill_process(pid, Signal::TERM);
        if tokio::time::timeout(grace, self.child.wait()).await.is_err() {
            tracing::warn!("{} did not stop within {grace:?}: killed", self.name);
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = self.child.wait().await;
        }
    }
}

/// `kill -9`.
pub(super) fn kill_now(pid: u32) -> anyhow::Result<()> {
    let pid = Pid::from_raw(pid.cast_signed()).context("0 is no process")?;
    kill_process(pid, Signal::KILL).context("kill -9")
}
