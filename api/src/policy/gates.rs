//! What may hold due jobs back: rates, circuits, concurrency keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::KeyPart;

/// How fast jobs may start: the generic cell rate algorithm, `limit` per `per_ms`, of which `burst` may come at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Jobs per `per_ms`, at least 1.
    pub limit: u32,
    /// The time for which `limit` counts.
    pub per_ms: u64,
    /// Most that may start at once after a pause; absent: `limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Other limits by what the payload says. Only concurrency keys look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<LimitBy>,
}

/// Limits by the value of a payload field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitBy {
    /// Path into the JSON payload, split at the dots.
    pub path: Vec<String>,
    /// Limits by value, rendered as keys are: `%` and `:` escaped.
    pub limits: BTreeMap<String, u32>,
}

/// A lane that stops by itself when its dependency fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Circuit {
    /// Failed attempts in a row that open it.
    pub failures: u32,
    /// Time until one job probes; doubled by every failed probe.
    pub probe_after_ms: u64,
}

/// Jobs of a type that share a key form a group, which has bounds of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConcurrencyKey {
    /// The template, parsed.
    pub key: Vec<KeyPart>,
    /// Most jobs of one key running at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// How fast jobs of one key may start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// What a `Retry-After` holds back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnThrottle {
    /// The job that got it.
    #[default]
    Job,
    /// All jobs of its concurrency key.
    Key,
    /// All jobs of its lane.
    Lane,
}

impl OnThrottle {
    /// Whether it is the job alone.
    #[must_use]
    pub fn is_job(&self) -> bool {
        *self == Self::Job
    }
}
