//! The state directory: a lock that only one `up` holds, and `up.json`, by which other commands find it.
//!
//! Whether a local mode runs is asked of the lock, which the kernel drops with its process, never of a pid.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use lanekeeper_queue::explain::PodView;
use lanekeeper_queue::types::Stats;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};

/// The running local mode as others see it: `up.json`, and what `--status-json` writes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpState {
    /// Process of `lanekeeper up`.
    pub(crate) pid: u32,
    /// URL of the default Redis; the file is readable by its owner only, since it may hold a password.
    pub(crate) redis: String,
    /// Policies are written and pools are looked after.
    pub(crate) ready: bool,
    /// `Starting`, `Running`, `Draining`, `Stopped`.
    pub(crate) phase: String,
    /// Last figures by `namespace/name`; absent figures could not be read.
    pub(crate) queues: BTreeMap<String, Option<Stats>>,
    /// Redis of the queues that have their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) queue_redis: BTreeMap<String, String>,
    /// Pools by `namespace/name`.
    pub(crate) pools: BTreeMap<String, PoolState>,
}

/// One pool in [`UpState`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PoolState {
    /// `namespace/name` of its queue.
    pub(crate) queue: String,
    /// Lanes it serves, in order.
    pub(crate) lanes: Vec<String>,
    /// Workers now.
    pub(crate) replicas: u32,
    /// Workers whose heartbeat was seen.
    pub(crate) ready: u32,
    /// Workers wanted.
    pub(crate) desired: u32,
    /// Most workers its policy allows.
    pub(crate) max: u32,
    /// Slots in use.
    pub(crate) busy: u32,
    /// A named constant: why `desired` is what it is.
    pub(crate) reason: String,
    /// The same in a sentence.
    pub(crate) message: String,
    /// Workers that do not come up, or do not stay up.
    pub(crate) problems: Vec<PodView>,
    /// The processes.
    pub(crate) workers: Vec<WorkerState>,
}

/// One worker process in [`UpState`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkerState {
    /// Name by which the queue knows it.
    pub(crate) name: String,
    /// Process id, also of its process group.
    pub(crate) pid: u32,
}

impl UpState {
    /// URL of the Redis that a queue lives in.
    pub(crate) fn redis_of(&self, queue: &str) -> &str {
        self.queue_redis.get(queue).unwrap_or(&self.redis)
    }
}

/// A state directory held by this process.
#[derive(Debug)]
pub(crate) struct StateDir {
    root: PathBuf,
    /// Held, not read: closing it lets the next `up` in.
    _lock: File,
}

/// What other commands find in a state directory.
#[derive(Debug)]
pub(crate) enum Found {
    /// A local mode runs.
    Running(Box<UpState>),
    /// One runs but has not said yet where.
    Starting,
    /// One ran and did not end in order.
    Stale,
    /// None.
    Absent,
}

impl StateDir {
    /// Makes the directory if it is not there and locks it.
    pub(crate) fn lock(root: &Path) -> Result<Self> {
        let cannot = |what: &str, error: std::io::Error| {
            Failure::invalid(format!("cannot {what} the state directory {}: {error}", root.display()))
                .advice("--state names another directory")
        };
        std::fs::create_dir_all(root.join("redis")).map_err(|error| cannot("create", error))?;
        let root = root.canonicalize().map_err(|error| cannot("find", error))?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(root.join("lock"))
            .map_err(|error| cannot("open the lock of", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held_by_another(&root, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(cannot("lock", error)),
        }
        let pid = std::process::id().to_string();
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(pid.as_bytes()))
            .map_err(|error| cannot("write to the lock of", error))?;
        Ok(Self { root, _lock: lock })
    }

    /// The directory's absolute path.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Replaces `up.json`.
    pub(crate) fn publish(&self, state: &UpState) -> Result<()> {
        write_atomically(&up_json(&self.root), state)
    }

    /// The local mode ends in order: nothing is left to find.
    pub(crate) fn retire(&self) {
        // Already gone is as good; anything else shows as a stale state later.
        let _ = std::fs::remove_file(up_json(&self.root));
    }
}

fn up_json(root: &Path) -> PathBuf {
    root.join("up.json")
}

fn held_by_another(root: &Path, lock: &mut File) -> Failure {
    let mut pid = String::new();
    // The pid is a help for people; the lock itself is what counts.
    let _ = lock.read_to_string(&mut pid);
    Failure::invalid(format!("a local mode already runs on {} (pid {})", root.display(), pid.trim()))
        .advice("stop it with Ctrl-C in its terminal, use its queues from here without any flag, or choose another directory with --state")
}

/// Looks for a local mode in a state directory.
pub(crate) fn find(root: &Path) -> Result<Found> {
    let path = up_json(root);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(Failure::invalid(format!("cannot read {}: {error}", path.display()))),
    };
    let running = File::open(root.join("lock"))
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)));
    match (running, text) {
        (true, Some(text)) => {
            serde_json::from_str(&text).map(|state| Found::Running(Box::new(state))).map_err(|error| {
                Failure::invalid(format!("{} is not what this version writes: {error}", path.display()))
            })
        }
        (true, None) => Ok(Found::Starting),
        (false, Some(_)) => Ok(Found::Stale),
        (false, None) => Ok(Found::Absent),
    }
}

/// Writes JSON so that a reader sees the old or the new document, never half of one; readable by its owner only.
pub(crate) fn write_atomically(path: &Path, value: &impl Serialize) -> Result<()> {
    let cannot =
        |error: &dyn std::fmt::Display| Failure::failed(format!("cannot write {}: {error}", path.display()));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = path.with_file_name(name);
    let text = serde_json::to_vec_pretty(value).map_err(|error| cannot(&error))?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&fresh).map_err(|error| cannot(&error))?;
    file.write_all(&text).map_err(|error| cannot(&error))?;
    std::fs::rename(&fresh, path).map_err(|error| cannot(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_with_the_pid_and_the_first_ones_end_frees_it() {
        let dir = tempfile::tempdir().unwrap();
        let held = StateDir::lock(dir.path()).unwrap();
        let refused = StateDir::lock(dir.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        drop(held);
        StateDir::lock(dir.path()).unwrap();
    }

    #[test]
    fn a_state_is_found_only_while_its_owner_lives() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(find(dir.path()).unwrap(), Found::Absent));
        let held = StateDir::lock(dir.path()).unwrap();
        assert!(matches!(find(dir.path()).unwrap(), Found::Starting));
        held.publish(&UpState { redis: "redis://x".into(), ..UpState::default() }).unwrap();
        assert!(matches!(find(dir.path()).unwrap(), Found::Running(s) if s.redis_of("a/b") == "redis://x"));
        drop(held);
        assert!(matches!(find(dir.path()).unwrap(), Found::Stale));
    }
}
