//! The programs that the demo starts, and the folder they work in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::process::Command;

use super::child::Child;
use super::overlay;
use crate::args::DemoArgs;

/// Marks a folder as the demo's own, to be emptied by the next.
const MARK: &str = ".saas-demo";
/// How long the programs may take to stop.
const GRACE: Duration = Duration::from_secs(20);

/// Everything that is running.
pub(super) struct Stage {
    folder: PathBuf,
    examples: PathBuf,
    lanekeeper: PathBuf,
    application: Option<Child>,
    up: Option<Child>,
}

impl Stage {
    /// Empties the demo's folder, and looks for what the demo needs.
    pub(super) fn prepare(args: &DemoArgs) -> anyhow::Result<Self> {
        let lanekeeper = std::path::absolute(&args.lanekeeper)?;
        anyhow::ensure!(
            lanekeeper.is_file(),
            "{} is not there: build it (cargo build -p lanekeeper) or name it with --lanekeeper",
            lanekeeper.display()
        );
        let beside = args.summary.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = std::path::absolute(beside.unwrap_or(Path::new(".")).join("demo"))?;
        empty(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self { folder, examples: args.examples.clone(), lanekeeper, application: None, up: None })
    }

    /// The folder of this run.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The application's data.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What was enqueued.
    pub(super) fn ledger(&self) -> PathBuf {
        self.folder.join("ledger.ndjson")
    }

    /// The status file of `lanekeeper up`.
    pub(super) fn status(&self) -> PathBuf {
        self.folder.join("status.json")
    }

    /// The lanekeeper program, for one command.
    pub(super) fn lanekeeper(&self) -> Command {
        let mut command = Command::new(&self.lanekeeper);
        command.kill_on_drop(true);
        command
    }

    /// Starts the application and answers its port.
    pub(super) async fn start_application(&mut self, seed: u64) -> anyhow::Result<u16> {
        let program = std::env::current_exe().context("path of this program")?;
        let port_file = self.folder.join("application.port");
        let mut command = Command::new(program);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--seed", &seed.to_string(), "--port-file"])
            .arg(&port_file)
            .arg("--data")
            .arg(self.data())
            .env("SAAS_WEBHOOK_SECRET", overlay::webhook_secret(&self.examples)?);
        let child = self.application.insert(Child::start("application", &mut command, &self.folder)?);
        let port = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            loop {
                ticks.tick().await;
                if let Some(port) =
                    std::fs::read_to_string(&port_file).ok().and_then(|text| text.parse().ok())
                {
                    return port;
                }
            }
        };
        tokio::select! {
            port = port => Ok(port),
            error = child.ended() => Err(error),
            () = tokio::time::sleep(Duration::from_secs(30)) => anyhow::bail!("the application did not start in 30 s"),
        }
    }

    /// Starts `lanekeeper up` over the example and its overlay.
    pub(super) fn start_up(&mut self, port: u16) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("path of this program")?;
        let filled = overlay::fill(&self.examples, port, &program, &self.data())?;
        let overlay = self.folder.join("overlay.yaml");
        std::fs::write(&overlay, filled).with_context(|| overlay.display().to_string())?;
        let mut command = Command::new(&self.lanekeeper);
        command.arg("up").arg("-f").arg(&self.examples).arg("--overlay").arg(overlay);
        command.arg("--state").arg(self.folder.join("state")).arg("--status-json").arg(self.status());
        self.up = Some(Child::start("up", &mut command, &self.folder)?);
        Ok(())
    }

    /// Resolves, with its last words, when a program ends that should go on.
    pub(super) async fn broken(&mut self) -> anyhow::Error {
        let (Some(application), Some(up)) = (&mut self.application, &mut self.up) else {
            return std::future::pending().await;
        };
        tokio::select! {
            error = application.ended() => error,
            error = up.ended() => error,
        }
    }

    /// Stops everything that was started: the workers first, their handlers after them.
    pub(super) async fn close(&mut self) {
        for child in [&mut self.up, &mut self.application].into_iter().flatten() {
            child.stop(GRACE).await;
        }
    }
}

/// Empties a folder that an earlier demo made; refuses any other that holds something.
fn empty(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        let ours = folder.join(MARK).exists() || std::fs::read_dir(folder)?.next().is_none();
        anyhow::ensure!(ours, "is in the way: it holds something that no demo made");
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(MARK), "emptied by the next demo\n")?;
    Ok(())
}
