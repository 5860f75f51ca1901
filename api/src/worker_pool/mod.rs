//! `WorkerPool`: how a queue's lanes are worked off, and by how many workers.

mod status;
mod template;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use status::WorkerPoolStatus;
pub use template::{ImagePullPolicy, PodTemplate, PoolVolume};

use crate::duration::{self, Duration};

/// Workers for some lanes of one queue, scaled from what waits and how long it has waited.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "lanekeeper.dev",
    version = "v1beta1",
    kind = "WorkerPool",
    plural = "workerpools",
    shortname = "wp",
    category = "lanekeeper",
    namespaced,
    status = "WorkerPoolStatus",
    derive = "PartialEq",
    doc = "Workers for some lanes of one queue, scaled from what waits and how long it has waited.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    validation = Rule::new("self.metadata.name.size() <= 52")
        .message("metadata.name may have at most 52 characters, because other names are made from it"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desired"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Busy", type_ = "integer", json_path = ".status.busy", description = "Slots in use"),
    printcolumn(name = "Oldest", type_ = "string", json_path = ".status.oldest", description = "How long the oldest due job has waited"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", description = "Why that many workers"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.replicas) || self.scaling.mode == 'Manual'")
    .message("replicas counts only with scaling.mode Manual: set that mode, or remove replicas and set scaling.minReplicas and maxReplicas"))]
#[x_kube(validation = Rule::new("self.order == 'Weighted' || self.lanes.all(l, l.weight == 1)")
    .message("lanes[].weight counts only with order Weighted: set that order, or remove the weights"))]
pub struct WorkerPoolSpec {
    /// The JobQueue, in the same namespace. It cannot be changed: create another pool instead.
    #[schemars(length(min = 1, max = 52), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("queue cannot be changed: create another WorkerPool and delete this one"))]
    pub queue: String,
    /// Lanes to take jobs from.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub lanes: Vec<PoolLane>,
    /// Which lane goes first. Strict: in the order written; a lane is served when all before it are empty. Weighted:
    /// every lane gets its share of the slots by its weight, and the share of an empty lane goes to the others.
    /// Deadline: the lane whose oldest job is closest to the end of its startWithin. Critical lanes go before all
    /// others in any order.
    #[serde(default)]
    pub order: LaneOrder,
    /// Slots per worker: jobs one worker runs at once.
    #[serde(default = "default_concurrency")]
    #[schemars(range(min = 1, max = 1000))]
    pub concurrency: u32,
    /// How the number of workers is found.
    #[serde(default)]
    pub scaling: Scaling,
    /// Workers, with scaling.mode Manual only; kubectl scale, an HPA or KEDA may write it. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<i32>,
    /// Time that running jobs get when a worker must go. Absent: the longest timeout in the pool's lanes, at most 15m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration::positive")]
    pub drain_timeout: Option<Duration>,
    /// Pod fields of the workers.
    #[serde(default)]
    pub template: PodTemplate,
}

/// A lane a pool takes jobs from.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PoolLane {
    /// Name of the lane in the queue.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Share of the lane with order Weighted: of lanes that all have jobs waiting, one of weight 6 starts twice as many
    /// as one of weight 3.
    #[serde(default = "default_weight")]
    #[schemars(range(min = 1, max = 100))]
    pub weight: u32,
}

/// Which lane goes first.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LaneOrder {
    /// In the order written; a lane is served when all before it are empty.
    #[default]
    Strict,
    /// Every lane by its weight; the share of an empty lane goes to the others.
    Weighted,
    /// The lane whose oldest due job is closest to the end of its startWithin, or furthest beyond it.
    Deadline,
}

impl LaneOrder {
    /// As manifests and the workers' settings write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Weighted => "Weighted",
            Self::Deadline => "Deadline",
        }
    }
}

/// How the number of workers is found.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas")
    .message("minReplicas must not be above maxReplicas: lower the one or raise the other"))]
pub struct Scaling {
    /// Auto: from the waiting jobs and their ages. Manual: spec.replicas counts.
    #[serde(default)]
    pub mode: ScalingMode,
    /// Fewest workers.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub min_replicas: i32,
    /// Most workers.
    #[serde(default = "default_max_replicas")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// Age of the oldest due job that scaling aims at. Absent: half of the tightest startWithin among the lanes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration::positive")]
    pub oldest_age: Option<Duration>,
    /// Second target: due jobs per worker. Absent: only the age counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub depth_per_replica: Option<u32>,
    /// Quiet time before the last worker goes.
    #[serde(default = "default_idle_after")]
    pub idle_after: Duration,
}

/// Who decides on the number of workers.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScalingMode {
    /// Lanekeeper, from the waiting jobs and their ages.
    #[default]
    Auto,
    /// Whoever writes spec.replicas: a person, an HPA, KEDA.
    Manual,
}

impl WorkerPool {
    /// `namespace/name`.
    #[must_use]
    pub fn pool_name(&self) -> String {
        format!("{}/{}", self.namespace_or_default(), self.metadata.name.as_deref().unwrap_or_default())
    }

    /// `namespace/name` of the queue it works for.
    #[must_use]
    pub fn queue_name(&self) -> String {
        format!("{}/{}", self.namespace_or_default(), self.spec.queue)
    }

    /// The condition of that type, if the status has it.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_)
    }

    fn namespace_or_default(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or("default")
    }
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            mode: ScalingMode::Auto,
            min_replicas: 0,
            max_replicas: default_max_replicas(),
            oldest_age: None,
            depth_per_replica: None,
            idle_after: default_idle_after(),
        }
    }
}

fn default_weight() -> u32 {
    1
}

fn default_concurrency() -> u32 {
    10
}

fn default_max_replicas() -> i32 {
    10
}

fn default_idle_after() -> Duration {
    Duration::from_secs(120)
}
