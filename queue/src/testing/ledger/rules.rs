//! What a queue promised: the parameters of the invariants.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The promises of one queue. What is absent is not judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rules {
    /// How long after its call an unanswered call may still take effect, ms: at least the clients' time-out and the longest stall
    /// of Redis. The default, for ever, is always right; the smaller, the more the ledger notices.
    pub late_ms: u64,
    /// By job type (I5).
    pub types: BTreeMap<String, TypeRules>,
    /// Within what jobs are first come, first served (I7).
    pub fifo: Option<FifoScope>,
    /// Shares of lanes (I8).
    pub fairness: Option<Fairness>,
    /// Rate limits by lane (I9).
    pub rates: BTreeMap<String, Rate>,
    /// Most live leases by lane (I11); one that a sweep took over still counts.
    pub caps: BTreeMap<String, u32>,
    /// How long keys are held (I10).
    pub keys: KeyRules,
    /// Whether an id may be used anew once its job succeeded or was cancelled, because retention forgets it (I13).
    pub ids_return: bool,
    /// Whether retention may have forgotten what succeeded or was cancelled (I1).
    pub trims: bool,
    /// When everything must have ended (I14).
    pub liveness: Option<Liveness>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            late_ms: u64::MAX,
            types: BTreeMap::new(),
            fifo: None,
            fairness: None,
            rates: BTreeMap::new(),
            caps: BTreeMap::new(),
            keys: KeyRules::default(),
            ids_return: true,
            trims: true,
            liveness: None,
        }
    }
}

/// Bounds on a job of one type, for each of its generations: from the enqueue or a replay to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TypeRules {
    /// Most attempts that may fail by the handler's word: the retry limit and one.
    pub max_attempts: u32,
    /// Most attempts that may be lost to crashes.
    pub crash_budget: u32,
}

/// Within what jobs of one priority are granted in the order in which they became due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FifoScope {
    /// Within a job type: holds also where workers bound how many jobs of a type they take.
    Type,
    /// Within a lane: only without such bounds.
    Lane,
}

/// Shares of lanes while all of them have jobs waiting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fairness {
    /// Weight by lane; only the ratios count.
    pub weights: BTreeMap<String, f64>,
    /// Grants over which a share is taken.
    pub window: usize,
    /// Most difference between a share and its due, both 0..=1.
    pub epsilon: f64,
    /// Most grants that pass a waiting lane by in a row.
    pub most_wait: usize,
}

/// A rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// Grants …
    pub limit: u64,
    /// … in any time this long, ms.
    pub per_ms: u64,
    /// Grants beyond the limit that an idle time earns.
    pub burst: u64,
}

/// How long a job holds its key beyond its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KeyRules {
    /// After a success, ms.
    pub after_success_ms: u64,
    /// While it is a dead letter.
    pub dead_hold: bool,
}

/// When everything must have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Liveness {
    /// When the last fault was healed, Redis time in ms.
    pub healed_ms: u64,
    /// Most time from then, or from when a job became due if that was later, to its end, ms.
    pub bound_ms: u64,
}
