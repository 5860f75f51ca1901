//! How attempts end.

use serde::{Deserialize, Serialize};

use super::{NewJob, Note};

/// A worker's word on an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    /// Job id.
    pub id: String,
    /// Lease token.
    pub token: u64,
    /// The job's idempotency key, where the worker knows it. Absent, Redis looks it up: right, but dearer.
    pub key: Option<String>,
    /// How it ends.
    pub outcome: Outcome,
    /// Policy version that decided.
    pub policy_version: u64,
    /// What the handler told that no heartbeat brought yet; counts for nothing where the job ends.
    pub note: Option<Note>,
}

/// How an attempt ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done; the answer is kept with the record.
    Success {
        /// Handler's answer, at most 64 KiB.
        result: Vec<u8>,
        /// Jobs that the answer asks for, at most 100: stored together with the success, or neither is.
        follow_ups: Vec<NewJob>,
    },
    /// Failed, to be tried again after `delay_ms`.
    Retry {
        /// From now, ms.
        delay_ms: u64,
        /// What it costs.
        spends: Spends,
        /// What went wrong.
        error: AttemptError,
    },
    /// Failed for good: to the dead letters.
    Dead {
        /// Which bound or verdict ended it.
        reason: DeadReason,
        /// What went wrong last.
        error: AttemptError,
        /// What the last attempt cost.
        spends: Spends,
    },
    /// Handed back unfinished (drain, unknown type, a cancellation); ready at once in its old place, costs nothing.
    Release {
        /// Why, for the history.
        why: String,
    },
    /// Held for a while (`Retry-After`, an answer that says `snooze`); costs nothing.
    Snooze {
        /// From now, ms.
        delay_ms: u64,
        /// Why, for the history.
        why: String,
        /// What is held.
        holds: Holds,
    },
}

/// What a `Retry-After` holds back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holds {
    /// The job that got it.
    #[default]
    Job,
    /// All jobs of its concurrency key; the job alone where its type has none.
    Key,
    /// All jobs of its lane.
    Lane,
}

/// What an attempt costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spends {
    /// One of the tries.
    Try,
    /// One of the crash budget.
    Crash,
    /// Neither.
    Nothing,
}

/// What went wrong in an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptError {
    /// Class of the failure.
    pub class: ErrorClass,
    /// A named constant: `HttpStatus`, `Timeout`, `ExitCode`, `LeaseExpired`, …
    pub code: String,
    /// One or more sentences, at most 64 KiB.
    pub message: String,
}

/// Class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorClass {
    /// Worth another try.
    Transient,
    /// Another try cannot help.
    Permanent,
    /// The work may or may not have happened (time-out after sending, crash).
    Ambiguous,
}

impl ErrorClass {
    /// The name as stored and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// Which bound or verdict ended a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeadReason {
    /// The handler said so.
    PermanentError,
    /// No try is left.
    TriesExhausted,
    /// Too many attempts were lost to crashes.
    CrashBudgetExhausted,
    /// `giveUpAfter` has passed, or would have before the next try.
    GaveUp,
}

impl DeadReason {
    /// The name as stored and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PermanentError => "PermanentError",
            Self::TriesExhausted => "TriesExhausted",
            Self::CrashBudgetExhausted => "CrashBudgetExhausted",
            Self::GaveUp => "GaveUp",
        }
    }

    /// The reason of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::PermanentError, Self::TriesExhausted, Self::CrashBudgetExhausted, Self::GaveUp]
            .into_iter()
            .find(|reason| reason.name() == name)
    }
}

/// Result of one settlement, in request order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Recorded.
    Done,
    /// The lease is another's or gone; nothing changed.
    Stale,
    /// A follow-up job cannot be stored; nothing changed, the lease stands.
    Refused {
        /// What is wrong with which, for people.
        why: String,
    },
}
