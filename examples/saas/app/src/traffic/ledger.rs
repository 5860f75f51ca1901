//! What was asked of the queue and what it answered, one JSON line per job. The demo's accounting starts
//! here: a job counts as accepted when the reply said so, and not otherwise.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plan::Intent;
use crate::store::Error;

/// What the queue answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The job is the queue's to do.
    Accepted,
    /// Its key has an owner already.
    Duplicate,
    /// Refused; nothing was stored.
    Rejected,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What the queue answered.
    pub outcome: Outcome,
    /// The job's id, or that of the key's owner; absent when rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Job type.
    #[serde(rename = "type")]
    pub job_type: String,
    /// What the generator meant by it.
    pub intent: Intent,
    /// Why it was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The payload.
    pub payload: Value,
}

impl Entry {
    /// The id, if the queue accepted the job.
    #[must_use]
    pub fn accepted(&self) -> Option<&str> {
        if self.outcome == Outcome::Accepted { self.id.as_deref() } else { None }
    }
}

/// The file being written.
#[derive(Debug)]
pub struct Writer(BufWriter<std::fs::File>);

impl Writer {
    /// Starts an empty file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(path: &Path) -> Result<Self, Error> {
        Ok(Self(BufWriter::new(std::fs::File::create(path).map_err(Error::file(path))?)))
    }

    /// Writes lines and hands them to the system, so that they outlive a killed generator.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn append(&mut self, entries: &[Entry]) -> std::io::Result<()> {
        for entry in entries {
            serde_json::to_writer(&mut self.0, entry)?;
            self.0.write_all(b"\n")?;
        }
        self.0.flush()
    }
}

/// Reads a ledger.
///
/// # Errors
/// When the file is missing or a line is not one of a ledger.
pub fn read(path: &Path) -> Result<Vec<Entry>, Error> {
    let file = std::fs::File::open(path).map_err(Error::file(path))?;
    let entry = |line: std::io::Result<String>| Ok(serde_json::from_str(&line?)?);
    BufReader::new(file).lines().map(entry).collect::<std::io::Result<_>>().map_err(Error::file(path))
}
