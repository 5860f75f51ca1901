//! The operator's hand.

use serde::Serialize;

use super::{Job, JobState};

/// Answer to `configure`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub enum Configured {
    /// Written.
    #[serde(rename_all = "camelCase")]
    Applied {
        /// The new policy version.
        version: u64,
    },
    /// The same was there.
    #[serde(rename_all = "camelCase")]
    Unchanged {
        /// The policy version.
        version: u64,
    },
    /// A newer one was there; nothing was written.
    #[serde(rename_all = "camelCase")]
    Stale {
        /// Generation that is there.
        generation: i64,
    },
    /// Someone else manages this queue; nothing was written. `lanekeeper adopt` takes it over.
    #[serde(rename_all = "camelCase")]
    Foreign {
        /// That owner.
        owner: String,
    },
}

/// Bytes under a job's id that are no record or no past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What they should be.
    pub part: DamagedPart,
    /// The hash they stand in.
    pub key: String,
    /// How many.
    pub bytes: u64,
}

/// A part of a job in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamagedPart {
    /// What was enqueued.
    Record,
    /// What became of it since; the record is whole.
    Past,
}

/// Something that happened in a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Where to go on from.
    pub id: String,
    /// Server time, ms.
    pub at_ms: u64,
    /// `dead`, `cancelled`, `replayed`, `acknowledged`, `discarded`, `lease-expired`, `paused`, `resumed`, `held`, `circuit-opened`,
    /// `probe-failed`, `circuit-closed`, `policy`, `damaged` (a job that cannot be read, or without one a key at which
    /// calls fail), `news-lost` (of a death), `news-unkeyed` (they came, but without the keys of their job type),
    /// `follow-up-duplicate` (of a job that succeeded: another job stands for what its answer enqueued); later libraries may know more.
    pub kind: String,
    /// The job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The job's type, or the lane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why, or by whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Page of a dead-letter list or a find.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// Jobs, payloads left out.
    pub jobs: Vec<Job>,
    /// Pass back for the next page.
    pub cursor: Option<String>,
    /// Dead letters of the page of which no record can be read; a discard removes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

/// Which jobs to find.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Find {
    /// By idempotency key.
    pub key: Option<String>,
    /// By state.
    pub state: Option<JobState>,
    /// By job type.
    pub job_type: Option<String>,
    /// Most jobs on the page.
    pub limit: u32,
    /// From an earlier page.
    pub cursor: Option<String>,
}

/// An idempotency key that a job keeps after its success, and may keep for longer than its record is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptKey {
    /// The job that succeeded.
    pub id: String,
    /// Until when the key answers `duplicate`, server time ms; it may have passed.
    pub until_ms: u64,
}

/// Result of an act on one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Acted {
    /// Job id.
    pub id: String,
    /// `cancelled`, `cancelling` (running: its worker stops it), `acknowledged`, `discarded`, `replayed`, `not-found`,
    /// `wrong-state`, `key-conflict`, `payload-too-large`.
    pub outcome: String,
    /// State afterwards, or the state that stood in the way.
    pub state: Option<JobState>,
}

/// What became of one lane at a pause or a resume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Toggled {
    /// The lane; absent: the whole queue.
    pub lane: Option<String>,
    /// Whether this call changed it; false where it was so already.
    pub changed: bool,
}
