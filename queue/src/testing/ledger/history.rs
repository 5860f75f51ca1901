//! What clients did to jobs and what they know of the outcome.
//!
//! A client writes its call down before it sends it, and the reply before it acts on it (see [`super::read`] for the
//! lines). So a killed client leaves at most calls whose outcome is unknown, and nobody acts on what nobody wrote down.

use serde::{Deserialize, Serialize};

use crate::types::Spends;

/// One act of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Who: a worker's boot nonce, or the name of another client.
    pub client: String,
    /// Redis time, ms: of the reply; for a lost one the latest that the client knew when it called (at least that of the
    /// grant it speaks of), so it happened no earlier.
    pub at_ms: u64,
    /// What the client was told.
    pub fate: Fate,
    /// What it did.
    pub act: Act,
}

/// What a client knows of the outcome of its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fate {
    /// Accepted.
    Ok,
    /// Refused: nothing changed.
    Refused,
    /// The reply was lost: it may have happened or not.
    Unknown,
}

/// How an attempt ended, by the word of its settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", content = "spends", rename_all = "camelCase")]
pub enum Ending {
    /// Done.
    Success,
    /// To be tried again.
    Retry(Spends),
    /// To the dead letters.
    Dead(Spends),
    /// Handed back; costs nothing.
    Release,
    /// Held for a while; costs nothing.
    Snooze,
}

/// What was done to a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Act {
    /// A job was handed in; accepted when `Ok`.
    Enqueue {
        /// Its id; absent when the queue was to choose it and the reply was lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<String>,
        /// Job type.
        job_type: String,
        /// Lane of the type.
        lane: String,
        /// 0..=9, lower first.
        priority: u8,
        /// Idempotency key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// Digest of the payload ([`super::digest`]).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payload: Option<u64>,
        /// Due, ms: the time of the call unless a later one was asked for.
        due_ms: u64,
        /// The queue's sequence number, to tell jobs of the same millisecond apart; 0 when unknown: either order is right.
        #[serde(default)]
        seq: u64,
    },
    /// An enqueue was told that this job holds the id or key already.
    Duplicate {
        /// The owner.
        job: String,
    },
    /// A claim or sweep whose reply was lost: nobody knows whether it leased something. Only its `Unknown` counts.
    Claim,
    /// A claim leased a job to the client.
    Grant {
        /// Job id.
        job: String,
        /// Token of the lease.
        token: u64,
        /// 1 for the first attempt.
        attempt: u32,
        /// Lane it was taken from.
        lane: String,
        /// When the lease expires unless extended, ms.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_ms: Option<u64>,
        /// Digest of the payload that came with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payload: Option<u64>,
    },
    /// A sweep took an expired lease over for the client.
    Takeover {
        /// Job id.
        job: String,
        /// Token of the new lease.
        token: u64,
        /// When the new lease expires, ms.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_ms: Option<u64>,
    },
    /// The end of an attempt.
    Settle {
        /// Job id.
        job: String,
        /// Token of the lease.
        token: u64,
        /// How it ended.
        ending: Ending,
    },
    /// A lease was renewed.
    Extend {
        /// Job id.
        job: String,
        /// Token of the lease.
        token: u64,
        /// When it expires now, ms.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_ms: Option<u64>,
    },
    /// A job was called off.
    Cancel {
        /// Job id.
        job: String,
        /// Whether it ran, so that its worker must stop it; absent when the reply was lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        running: Option<bool>,
    },
    /// A dead job was made ready again, with all its tries.
    Replay {
        /// Job id.
        job: String,
        /// Who did it and why, as the audit has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        audit: Option<String>,
    },
    /// A dead letter was deleted with its record.
    Remove {
        /// Job id.
        job: String,
        /// Who did it and why, as the audit has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        audit: Option<String>,
    },
}

impl Act {
    /// The job it speaks of, if it is known.
    #[must_use]
    pub fn job(&self) -> Option<&str> {
        match self {
            Self::Enqueue { job, .. } => job.as_deref(),
            Self::Claim => None,
            Self::Duplicate { job }
            | Self::Grant { job, .. }
            | Self::Takeover { job, .. }
            | Self::Settle { job, .. }
            | Self::Extend { job, .. }
            | Self::Cancel { job, .. }
            | Self::Replay { job, .. }
            | Self::Remove { job, .. } => Some(job),
        }
    }

    /// The token it speaks of, if it has one.
    #[must_use]
    pub fn token(&self) -> Option<u64> {
        match self {
            Self::Grant { token, .. }
            | Self::Takeover { token, .. }
            | Self::Settle { token, .. }
            | Self::Extend { token, .. } => Some(*token),
            _ => None,
        }
    }

    /// Its name in sentences.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Enqueue { .. } => "enqueue",
            Self::Duplicate { .. } => "duplicate",
            Self::Claim => "claim",
            Self::Grant { .. } => "grant",
            Self::Takeover { .. } => "takeover",
            Self::Settle { .. } => "settlement",
            Self::Extend { .. } => "extension",
            Self::Cancel { .. } => "cancellation",
            Self::Replay { .. } => "replay",
            Self::Remove { .. } => "removal",
        }
    }

    /// Acts of one token within the same millisecond happened in this order.
    pub(super) fn rank(&self) -> u64 {
        match self {
            Self::Extend { .. } => 1,
            Self::Settle { .. } => 2,
            _ => 0,
        }
    }
}
