//! Where every accepted job stands: each id of the ledger, looked up in the queue.

use std::collections::{BTreeMap, HashMap};

use lanekeeper_queue::client::{Error, Queue};
use lanekeeper_queue::types::{Job, JobState};
use serde::{Deserialize, Serialize};

use crate::traffic::ledger::{Entry, Outcome};

/// Ids in one call.
const BATCH: usize = 100;

/// Jobs by where they stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The queue said it took them.
    pub accepted: u64,
    /// Done.
    pub completed: u64,
    /// Not due, due or running.
    pub waiting: u64,
    /// In the dead letters.
    pub dead: u64,
    /// Called off.
    pub cancelled: u64,
    /// The queue knows nothing of them: lost.
    pub unaccounted: u64,
}

impl Counts {
    fn add(&mut self, job: Option<&Job>) {
        self.accepted += 1;
        match job.map(|job| job.state) {
            Some(JobState::Succeeded) => self.completed += 1,
            Some(JobState::Scheduled | JobState::Ready | JobState::Running) => self.waiting += 1,
            Some(JobState::Dead | JobState::Discarded) => self.dead += 1,
            Some(JobState::Cancelled) => self.cancelled += 1,
            None => self.unaccounted += 1,
        }
    }
}

/// The account of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Every job.
    #[serde(flatten)]
    pub all: Counts,
    /// Answered `duplicate`: not accepted, nothing stored.
    pub duplicates: u64,
    /// Refused: nothing stored.
    pub rejected: u64,
    /// The same by job type.
    pub by_type: BTreeMap<String, Counts>,
    /// Ids that the queue knows nothing of.
    pub unaccounted_ids: Vec<String>,
}

/// Looks ids up; one that is absent from the answer is unknown to the queue.
///
/// # Errors
/// When the queue cannot be read.
pub async fn look_up(queue: &Queue, ids: &[String]) -> Result<HashMap<String, Job>, Error> {
    let mut found = HashMap::new();
    for batch in ids.chunks(BATCH) {
        let jobs = queue.get(batch, false).await?;
        found.extend(batch.iter().cloned().zip(jobs).filter_map(|(id, job)| Some((id, job?))));
    }
    Ok(found)
}

/// Adds the ledger up against what the queue knows.
#[must_use]
pub fn account(ledger: &[Entry], jobs: &HashMap<String, Job>) -> Account {
    let mut account = Account::default();
    for entry in ledger {
        match entry.outcome {
            Outcome::Duplicate => account.duplicates += 1,
            Outcome::Rejected => account.rejected += 1,
            Outcome::Accepted => {
                let id = entry.id.clone().unwrap_or_default();
                let job = jobs.get(&id);
                account.all.add(job);
                account.by_type.entry(entry.job_type.clone()).or_default().add(job);
                if job.is_none() {
                    account.unaccounted_ids.push(id);
                }
            }
        }
    }
    account
}
