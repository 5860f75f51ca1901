//! What `lanekeeper up` tells of itself in its status file.

use std::collections::BTreeMap;
use std::path::Path;

use lanekeeper_queue::types::Stats;
use serde::Deserialize;

/// The status file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Status {
    /// Where the queues are.
    #[serde(default)]
    pub(super) redis: Option<String>,
    /// Policies are applied; jobs can be enqueued.
    #[serde(default)]
    pub(super) ready: bool,
    /// Figures by `namespace/name`.
    #[serde(default)]
    pub(super) queues: BTreeMap<String, Option<Stats>>,
    /// Pools by `namespace/name`.
    #[serde(default)]
    pub(super) pools: BTreeMap<String, Pool>,
}

/// One pool.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Pool {
    /// Workers that run.
    pub(super) replicas: u32,
    /// Workers that should.
    #[serde(default)]
    pub(super) desired: u32,
    /// Slots in use.
    #[serde(default)]
    pub(super) busy: u32,
    /// Lanes it works off.
    #[serde(default)]
    pub(super) lanes: Vec<String>,
    /// Why it has that many, in a sentence.
    #[serde(default)]
    pub(super) message: String,
    /// The workers.
    #[serde(default)]
    pub(super) workers: Vec<Worker>,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Worker {
    /// Its name in the queue.
    pub(super) name: String,
    /// Its process.
    #[serde(default)]
    pub(super) pid: Option<u32>,
}

/// Reads the file; `None` while it is not there.
pub(super) fn read(path: &Path) -> anyhow::Result<Option<Status>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
