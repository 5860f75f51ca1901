//! The workers under test: real processes of the real binary, killed and replaced.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// How to start a worker.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The `lanekeeper-worker` binary.
    pub binary: PathBuf,
    /// Redis it talks to.
    pub redis_url: String,
    /// `namespace/name`.
    pub queue: String,
    /// Slots.
    pub concurrency: u32,
    /// Directory for its log files.
    pub logs: PathBuf,
}

/// A fixed number of worker places, each with a live process.
pub struct Crew {
    recipe: Recipe,
    places: Vec<Child>,
    started: u64,
}

impl Crew {
    /// Starts `size` workers.
    pub fn start(recipe: Recipe, size: usize) -> Result<Self> {
        let mut crew = Self { recipe, places: Vec::new(), started: 0 };
        for _ in 0..size {
            let child = crew.spawn()?;
            crew.places.push(child);
        }
        Ok(crew)
    }

    fn spawn(&mut self) -> Result<Child> {
        self.started += 1;
        let name = format!("w{}", self.started);
        let log = std::fs::File::create(self.recipe.logs.join(format!("{name}.log")))?;
        Command::new(&self.recipe.binary)
            .arg("run")
            .env("LANEKEEPER_REDIS_URL", &self.recipe.redis_url)
            .env("LANEKEEPER_QUEUE", &self.recipe.queue)
            .env("LANEKEEPER_POOL", "faults")
            .env("LANEKEEPER_LANES", "main")
            .env("LANEKEEPER_CONCURRENCY", self.recipe.concurrency.to_string())
            .env("LANEKEEPER_WORKER_NAME", &name)
            .env("LANEKEEPER_NODE", "here")
            .env("LANEKEEPER_LISTEN", "off")
            .env("LANEKEEPER_DRAIN_TIMEOUT", "20s")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.recipe.binary.display()))
    }

    fn signal(&self, place: usize, signal: Signal) -> Result<()> {
        let pid = self.places[place].id().context("the worker has ended by itself")?;
        Ok(kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
    }

    /// SIGKILL, then a new worker in its place.
    pub async fn kill_and_replace(&mut self, place: usize) -> Result<()> {
        self.signal(place, Signal::SIGKILL)?;
        self.places[place].wait().await?;
        self.places[place] = self.spawn()?;
        Ok(())
    }

    /// SIGSTOP: the worker keeps its leases in mind and loses them in Redis.
    pub fn freeze(&self, place: usize) -> Result<()> {
        self.signal(place, Signal::SIGSTOP)
    }

    /// SIGCONT: the worker goes on where it stood and settles what is no longer its own.
    pub fn thaw(&self, place: usize) -> Result<()> {
        self.signal(place, Signal::SIGCONT)
    }

    /// Asks all to drain and waits for their clean end.
    pub async fn drain(mut self) -> Result<()> {
        for place in 0..self.places.len() {
            self.signal(place, Signal::SIGTERM)?;
        }
        for child in &mut self.places {
            let status = child.wait().await?;
            anyhow::ensure!(status.success(), "a drained worker ended with {status}");
        }
        Ok(())
    }

    /// Places.
    pub fn size(&self) -> usize {
        self.places.len()
    }
}
