//! Dead letters.

use serde::{Deserialize, Serialize};

use super::{Attempt, JobState};

/// What people decided about a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReviewState {
    /// Nothing yet.
    Open,
    /// Somebody saw it; it is still a dead letter.
    Acknowledged,
    /// It will not be replayed.
    Discarded,
}

impl ReviewState {
    /// The name as stored and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Discarded => "discarded",
        }
    }
}

/// The review of a dead letter. A replay ends it; who replayed a job, when and why stays in its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    /// What was decided.
    pub state: ReviewState,
    /// Who; absent while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When, server time ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Review {
    /// The review that a job's history tells of; none where the job is no dead letter.
    #[must_use]
    pub fn of(state: JobState, history: &[Attempt]) -> Option<Self> {
        let last = history.last();
        let told = |state, outcome| {
            let word = last.filter(|last| last.outcome == outcome);
            let why = word.and_then(|word| word.error.as_ref()).map(|error| error.message.clone());
            Self { state, by: word.map(|w| w.worker.clone()), at_ms: word.map(|w| w.ended_ms), why }
        };
        match state {
            JobState::Discarded => Some(told(ReviewState::Discarded, "discard")),
            JobState::Dead if last.is_some_and(|last| last.outcome == "acknowledge") => {
                Some(told(ReviewState::Acknowledged, "acknowledge"))
            }
            JobState::Dead => Some(Self { state: ReviewState::Open, by: None, at_ms: None, why: None }),
            _ => None,
        }
    }
}

/// What is done to dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadAct {
    /// Note that somebody saw them.
    Acknowledge,
    /// Take them out of the dead letters.
    Discard,
    /// Make them ready again, with all their tries.
    Replay,
}

impl DeadAct {
    /// The outcome of those to which it was done.
    #[must_use]
    pub fn done(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledged",
            Self::Discard => "discarded",
            Self::Replay => "replayed",
        }
    }
}

/// What a filter asked for that found dead letters, as far as that can change until something is done to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meant {
    /// In this review state; none: whatever nobody discarded.
    pub state: Option<ReviewState>,
    /// Dead (discarded ones: discarded) until then, ms, included.
    pub until_ms: u64,
}

impl Meant {
    /// As the library reads it.
    pub(crate) fn word(&self) -> String {
        let states = match self.state {
            None => "oa",
            Some(ReviewState::Open) => "o",
            Some(ReviewState::Acknowledged) => "a",
            Some(ReviewState::Discarded) => "d",
        };
        format!("{states} {}", self.until_ms)
    }
}

/// Which dead letters. Nothing set: all that nobody discarded, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadFilter {
    /// Of a lane, by the present policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// Of a job type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub job_type: Option<String>,
    /// Of one error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Of one review state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<ReviewState>,
    /// Dead (discarded ones: discarded) since then, ms.
    #[serde(rename = "since", skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// And until then, ms, included.
    #[serde(rename = "until", skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// Pattern of idempotency keys; `*` stands for anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Oldest first.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub oldest_first: bool,
}

impl DeadFilter {
    /// Those of a job type, or all.
    #[must_use]
    pub fn of_type(job_type: Option<&str>) -> Self {
        Self { job_type: job_type.map(str::to_owned), ..Self::default() }
    }
}

/// Page of ids. It may be short, even empty, though there is a cursor: a call looks at a bounded number of letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdPage {
    /// Ids.
    pub ids: Vec<String>,
    /// Pass back for the next page.
    pub cursor: Option<String>,
}

/// Dead letters of one type that died of one error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadGroup {
    /// Job type.
    #[serde(rename = "type")]
    pub job_type: String,
    /// The error.
    pub fingerprint: String,
    /// How many.
    pub count: u64,
    /// First death, server time ms.
    pub first_ms: u64,
    /// Last death, server time ms.
    pub last_ms: u64,
    /// Id of the last.
    pub example: String,
}
