//! What the operator reports of a queue.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator reports of a queue. Figures are written on a change of meaning or at most every 15 s; the
/// fast ones are metrics. A figure that could not be read is absent, never zero.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct JobQueueStatus {
    /// What holds now: Ready, RedisReachable, RedisSafe, Progressing, Paused, Held, Full.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The metadata.generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Version of the policy in Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_version: Option<u64>,
    /// Jobs that are due and wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u64>,
    /// How long the oldest due job has waited, for people, such as 12s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    /// The same in seconds, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_seconds: Option<u64>,
    /// Jobs that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<u64>,
    /// Dead letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<u64>,
    /// The same by lane.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub lanes: Vec<LaneStatus>,
}

/// Figures of one lane.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct LaneStatus {
    /// The lane.
    pub name: String,
    /// Jobs that are due and wait.
    #[serde(default)]
    pub depth: u64,
    /// Jobs not due yet, retries included.
    #[serde(default)]
    pub scheduled: u64,
    /// How long the oldest due job has waited, such as 12s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    /// Jobs that run.
    #[serde(default)]
    pub running: u64,
    /// Dead letters.
    #[serde(default)]
    pub dead: u64,
}
