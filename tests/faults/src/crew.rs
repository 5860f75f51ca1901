//! The workers under test: real processes of the real binary, killed and replaced.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::clock::now_ms;

/// How to start a worker.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The `lanekeeper-worker` binary.
    pub binary: PathBuf,
    /// Redis it talks to.
    pub redis_url: String,
    /// `namespace/name`.
    pub queue: String,
    /// Lanes it serves.
    pub lanes: &'static str,
    /// Slots.
    pub concurrency: u32,
    /// Directory for its log files.
    pub logs: PathBuf,
}

/// A fixed number of worker places, each with a live process.
pub struct Crew {
    recipe: Recipe,
    places: Vec<(String, Child)>,
    started: u64,
    /// Who was killed, and when, ms.
    pub killed: Vec<(String, u64)>,
}

impl Crew {
    /// Starts `size` workers.
    pub fn start(recipe: Recipe, size: usize) -> Result<Self> {
        let mut crew = Self { recipe, places: Vec::new(), started: 0, killed: Vec::new() };
        for _ in 0..size {
            let worker = crew.spawn()?;
            crew.places.push(worker);
        }
        Ok(crew)
    }

    fn spawn(&mut self) -> Result<(String, Child)> {
        self.started += 1;
        let name = format!("w{}", self.started);
        let log = std::fs::File::create(self.recipe.logs.join(format!("{name}.log")))?;
        let child = Command::new(&self.recipe.binary)
            .arg("run")
            .env("LANEKEEPER_REDIS_URL", &self.recipe.redis_url)
            .env("LANEKEEPER_QUEUE", &self.recipe.queue)
            .env("LANEKEEPER_POOL", "faults")
            .env("LANEKEEPER_LANES", self.recipe.lanes)
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
            .with_context(|| format!("starting {}", self.recipe.binary.display()))?;
        Ok((name, child))
    }

    fn signal(&self, place: usize, signal: Signal) -> Result<()> {
        let pid = self.places[place].1.id().context("the worker has ended by itself")?;
        Ok(kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
    }

    /// SIGKILL, then a new worker in its place.
    pub async fn kill_and_replace(&mut self, place: usize) -> Result<()> {
        self.signal(place, Signal::SIGKILL)?;
        self.killed.push((self.places[place].0.clone(), now_ms()));
        self.places[place].1.wait().await?;
        self.places[place] = self.spawn()?;
        Ok(())
    }

    /// Starts a new worker wherever one has ended, as a Deployment would; how many had.
    pub fn revive(&mut self) -> Result<usize> {
        let mut gone = 0;
        for place in 0..self.places.len() {
            if self.places[place].1.try_wait()?.is_some() {
                self.places[place] = self.spawn()?;
                gone += 1;
            }
        }
        Ok(gone)
    }

    /// SIGSTOP: the worker keeps its leases in mind and loses them in Redis.
    pub fn freeze(&self, place: usize) -> Result<()> {
        self.signal(place, Signal::SIGSTOP)
    }

    /// SIGCONT: the worker goes on where it stood and settles what is no longer its own.
    pub fn thaw(&self, place: usize) -> Result<()> {
        self.signal(place, Signal::SIGCONT)
    }

    /// Process id of the worker in this place.
    pub fn pid(&self, place: usize) -> Option<u32> {
        self.places[place].1.id()
    }

    /// Asks all to drain and waits for their clean end.
    pub async fn drain(mut self) -> Result<()> {
        for place in 0..self.places.len() {
            if let Some(pid) = self.pid(place) {
                until_it_heeds_sigterm(pid).await?;
            }
            self.signal(place, Signal::SIGTERM)?;
        }
        for (name, child) in &mut self.places {
            let status = child.wait().await?;
            anyhow::ensure!(status.success(), "worker {name} ended its drain with {status}");
        }
        Ok(())
    }

    /// Places.
    pub fn size(&self) -> usize {
        self.places.len()
    }
}

/// A worker that was started a moment ago may not have asked for the signal yet, and would end by it.
async fn until_it_heeds_sigterm(pid: u32) -> Result<()> {
    let heeds = || -> Option<bool> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim();
        Some(u64::from_str_radix(caught, 16).ok()? >> (Signal::SIGTERM as i32 - 1) & 1 == 1)
    };
    for _ in 0..1_000 {
        if heeds().unwrap_or(true) {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    anyhow::bail!("worker process {pid} does not heed SIGTERM after 10 s")
}
