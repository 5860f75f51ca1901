//! Gates: what may hold due jobs back, by lane and by concurrency key.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::{self, Duration};

/// How fast jobs may start, by the generic cell rate algorithm.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitSpec {
    /// Jobs that may start per time.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub limit: u32,
    /// The time for which the limit counts, at most 31d.
    #[schemars(schema_with = "duration::positive")]
    pub per: Duration,
    /// Most jobs that may start at once after a quiet time. Absent: as many as limit; 1 spreads them evenly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
}

/// When a lane stops by itself.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CircuitSpec {
    /// Failed attempts in a row that open the circuit. A success starts the count anew, and so does a permanent failure,
    /// which speaks of the job alone.
    #[schemars(range(min = 1, max = 1000))]
    pub failures: u32,
    /// Time until one job probes whether it works again. Every failed probe doubles it, up to 5m or this, whichever is
    /// longer; a success closes the circuit, a permanent failure does not.
    #[serde(default = "default_probe_after")]
    #[schemars(schema_with = "duration::positive")]
    pub probe_after: Duration,
}

/// Bounds for all jobs of the type that share a key, such as those of one customer.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.limit) || has(self.rateLimit)")
    .message("a concurrency key without a bound holds nothing back: set limit, rateLimit or both"))]
pub struct ConcurrencyKeySpec {
    /// The key, rendered from the JSON payload: text with placeholders such as customer:{customerId}.
    #[schemars(schema_with = "super::key_schema")]
    pub key: String,
    /// Most jobs of one key running at once, over all workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub limit: Option<u32>,
    /// How fast jobs of one key may start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<KeyRateLimitSpec>,
}

/// How fast jobs of one key may start, by the generic cell rate algorithm.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KeyRateLimitSpec {
    /// Jobs that may start per time.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub limit: u32,
    /// The time for which the limit counts, at most 31d.
    #[schemars(schema_with = "duration::positive")]
    pub per: Duration,
    /// Most jobs that may start at once after a quiet time. Absent: as many as limit; 1 spreads them evenly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
    /// Other limits for some keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<LimitBySpec>,
}

/// Limits that depend on what the payload says, such as a customer's plan.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LimitBySpec {
    /// Path of the payload field, such as customer.plan. The last job of a key that was enqueued decides.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^{}.\s]+(\.[^{}.\s]+)*$"))]
    pub field: String,
    /// Limits by the field's value, true and false as "true" and "false"; other values have the limit above. A burst grows
    /// with its limit.
    #[schemars(extend("minProperties" = 1))]
    #[schemars(extend("maxProperties" = 64))]
    #[schemars(extend("additionalProperties" = {"type": "integer", "format": "int32", "minimum": 1, "maximum": 1_000_000}))]
    #[x_kube(validation = Rule::new("self.size() > 0").message("name at least one value and its limit, as in {premium: 1000}"))]
    pub limits: BTreeMap<String, u32>,
}

/// What a Retry-After holds back.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnThrottleSpec {
    /// The job that got it.
    #[default]
    Job,
    /// All jobs of its concurrency key.
    Key,
    /// All jobs of its lane.
    Lane,
}

fn default_probe_after() -> Duration {
    Duration::from_secs(10)
}
