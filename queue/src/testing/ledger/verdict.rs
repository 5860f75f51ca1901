//! The ledger's answer.

use serde::Serialize;

use super::report::Violation;

/// The ledger's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Accepted jobs: a reply said so, or said that the job is there already.
    pub accepted: u64,
    /// Those that succeeded.
    pub succeeded: u64,
    /// Those in the dead letters.
    pub dead: u64,
    /// Those called off.
    pub cancelled: u64,
    /// Jobs whose handler answered success more than once: at-least-once delivery, not a violation.
    pub repeated_effects: u64,
    /// Attempts lost to crashes.
    pub crashes: u64,
    /// What must never happen; empty when all is well.
    pub violations: Vec<Violation>,
}
