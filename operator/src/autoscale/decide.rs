//! The decision: pure, deterministic, no clock.

use super::reason::Reason;
use super::sample::{Sample, ScalePolicy};

/// How many replicas, and why.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Replicas to have.
    pub replicas: u32,
    /// The term that decided.
    pub reason: Reason,
    /// One sentence for people, with figures.
    pub message: String,
    /// What kept the figure from following the terms, if anything.
    pub limited_by: Option<LimitedBy>,
}

/// What kept replicas from following the terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub enum LimitedBy {
    /// `maxReplicas`.
    MaxReplicas,
    /// `minReplicas`.
    MinReplicas,
}

/// What a pool's decisions remember of earlier samples. Starts empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {}

/// Decides on the replicas of one pool. `now_ms` is monotonic.
#[must_use]
pub fn decide(_policy: &ScalePolicy, sample: &Sample, state: &State, _now_ms: u64) -> (Decision, State) {
    let decision = Decision {
        replicas: sample.replicas,
        reason: Reason::RedisUnreachable,
        message: String::new(),
        limited_by: None,
    };
    (decision, state.clone())
}
