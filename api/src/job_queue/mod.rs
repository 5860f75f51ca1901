//! `JobQueue`: one isolated job space in one Redis, with its lanes, job types and policies.

mod endings;
mod gates;
mod handler;
mod policy;
mod status;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use endings::{DeadLettersSpec, DebounceSpec, EnqueueSpec, OnConflictSpec, OnDeadSpec};
pub use gates::{
    CircuitSpec, ConcurrencyKeySpec, KeyRateLimitSpec, LimitBySpec, OnThrottleSpec, RateLimitSpec,
};
pub use handler::{ExecHandlerSpec, HandlerSpec, HttpHandlerSpec, SecretKeyRef, Signing};
pub use policy::{
    BackoffSpec, Completed, DEFAULT_RETRY_LIMIT, Exponential, JITTER_PATTERN, JitterError, JitterSpec,
    PolicyDefaults, Retry,
};
pub use status::{JobQueueStatus, LaneStatus};

use crate::duration::{self, Duration};
use crate::size::Size;

/// Most lanes in a queue.
pub const MAX_LANES: usize = 64;
/// Most job types in a queue.
pub const MAX_JOB_TYPES: usize = 256;

/// Background work of one team: its classes of jobs (lanes), what the jobs are (job types), what runs them and what
/// happens when they fail.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "lanekeeper.dev",
    version = "v1beta1",
    kind = "JobQueue",
    plural = "jobqueues",
    shortname = "jq",
    category = "lanekeeper",
    namespaced,
    status = "JobQueueStatus",
    derive = "PartialEq",
    doc = "Background work of one team: its lanes, job types, handlers and policies, in one Redis.",
    validation = Rule::new("self.metadata.name.size() <= 52")
        .message("metadata.name may have at most 52 characters, because other names are made from it"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Depth", type_ = "integer", json_path = ".status.depth", description = "Jobs that are due and wait"),
    printcolumn(name = "Oldest", type_ = "string", json_path = ".status.oldest", description = "How long the oldest due job has waited"),
    printcolumn(name = "Running", type_ = "integer", json_path = ".status.running"),
    printcolumn(name = "Dead", type_ = "integer", json_path = ".status.dead", description = "Dead letters"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.jobTypes.all(t, self.lanes.exists(l, l.name == t.lane))")
    .message("every jobTypes[].lane must be the name of one of spec.lanes: correct the name or add the lane"))]
#[x_kube(validation = Rule::new("has(self.defaults.handler) || self.jobTypes.all(t, has(t.handler) || \
    !self.lanes.exists(l, l.name == t.lane && !has(l.handler)))")
    .message("every job type needs a handler: set one on the job type, on its lane or in spec.defaults"))]
pub struct JobQueueSpec {
    /// Redis that holds the jobs. Absent: the operator's default Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisSpec>,
    /// What becomes of the jobs when this object is deleted: Retain leaves them in Redis, Delete removes them.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// A paused queue accepts jobs and starts none; what runs is finished.
    #[serde(default)]
    pub paused: bool,
    /// Largest payload accepted, at most 1Mi.
    #[serde(default = "default_max_payload")]
    #[x_kube(validation = Rule::new("quantity(self).isGreaterThan(quantity('0')) && quantity(self).compareTo(quantity('1Mi')) <= 0")
        .message("must be from 1 byte to 1Mi"))]
    pub max_payload: Size,
    /// How much the queue holds before it refuses new jobs with `queue-full`. Absent: as much as Redis takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<CapacitySpec>,
    /// How long a worker's right to a job lasts without renewal, from 1s to 10m. Workers renew it three times in that
    /// time; a job whose worker died is taken over after it.
    #[serde(default = "default_lease")]
    #[schemars(schema_with = "lease_schema")]
    pub lease: Duration,
    /// Policy that holds where neither the job type nor its lane says otherwise.
    #[serde(default)]
    pub defaults: PolicyDefaults,
    /// Classes of jobs, each with one latency promise.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub lanes: Vec<LaneSpec>,
    /// What the jobs are.
    #[serde(default)]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub job_types: Vec<JobTypeSpec>,
}

/// How much a queue holds. Both bounds count every job whose record stands: waiting, running, dead and completed. From nine
/// tenths on, completed records make way before their time; what was enqueued before is never touched, and follow-up jobs
/// of an answer are always taken.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.jobs) || has(self.bytes)").message("set jobs, bytes or both"))]
pub struct CapacitySpec {
    /// Most jobs, from 1 to 100000000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub jobs: Option<u64>,
    /// Most bytes of their records, at least 1Mi; estimated from what comes and from a sample every few seconds, and without Redis' own overhead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('1Mi')) >= 0").message("must be at least 1Mi"))]
    pub bytes: Option<Size>,
}

/// Which Redis, and as whom.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.adminSecretRef) || (!has(self.workerSecretRef) && !has(self.caSecretRef))")
    .message("workerSecretRef and caSecretRef belong to a Redis of your own: set adminSecretRef too"))]
pub struct RedisSpec {
    /// Secret key with the operator's URL (redis:// or rediss://). Absent: the operator's default Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_secret_ref: Option<SecretKeyRef>,
    /// Secret key with the workers' URL. Absent: the operator makes an ACL user for this queue and a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_secret_ref: Option<SecretKeyRef>,
    /// Secret key with the certificate authority (PEM) for rediss://. Absent: the usual public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// Work also on a Redis that may lose jobs (no persistence, or a maxmemory-policy that evicts).
    #[serde(default)]
    pub allow_unsafe: bool,
}

/// What becomes of a queue's jobs when its object is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeletionPolicy {
    /// Leave them in Redis.
    #[default]
    Retain,
    /// Remove them.
    Delete,
}

/// A class of jobs with one latency promise.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LaneSpec {
    /// Name, unique in the queue.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The promise: the oldest due job starts within this.
    #[serde(default = "default_start_within")]
    #[schemars(schema_with = "duration::positive")]
    pub start_within: Duration,
    /// Jobs of a critical lane go before those of every other lane of a pool, whatever the pool's order, and every
    /// worker that serves the lane keeps one slot free of other work.
    #[serde(default)]
    pub critical: bool,
    /// Most jobs of the lane running at once, over all workers. Absent: no bound but the pools'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub concurrency: Option<u32>,
    /// How fast jobs of the lane may start, over all workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimitSpec>,
    /// Stops the lane by itself while what its jobs depend on fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit: Option<CircuitSpec>,
    /// Replaces defaults.timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration::positive")]
    pub timeout: Option<Duration>,
    /// Replaces defaults.retry as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Replaces defaults.giveUpAfter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration::positive")]
    pub give_up_after: Option<Duration>,
    /// Replaces defaults.crashBudget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub crash_budget: Option<u32>,
    /// Replaces defaults.completed as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<Completed>,
    /// Replaces defaults.dead as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<DeadLettersSpec>,
    /// Replaces defaults.handler as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<HandlerSpec>,
}

/// What a job is.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.debounce) || self.onConflict == 'Replace'")
    .message("debounce needs onConflict: Replace, for each job takes the place of the one before").field_path(".debounce"))]
pub struct JobTypeSpec {
    /// Name, unique in the queue; jobs are enqueued under it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?$"))]
    pub name: String,
    /// The lane its jobs stand in.
    #[schemars(length(min = 1, max = 63))]
    pub lane: String,
    /// The team to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?$"))]
    pub owner: Option<String>,
    /// 0 to 9, lower first. A level is worth ten times the lane's startWithin of waiting, at least 10m and at most 1h: so a
    /// job of low priority is passed only for so long. First come, first served within one.
    #[serde(default = "default_priority")]
    #[schemars(range(min = 0, max = 9))]
    pub priority: u8,
    /// Idempotency key, rendered from the JSON payload: text with placeholders such as email:{user.id}. A second job
    /// of the queue with the same key, of whatever type, is answered 'duplicate'. Absent: only the key that the caller
    /// gives, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "key_schema")]
    pub key: Option<String>,
    /// How long after success the key still answers 'duplicate', so that a request that is repeated does the work once. 0s:
    /// the key is free with the success. With onConflict: Replace write 0s, unless what is asked for after a success may
    /// be left undone for as long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "key_for_schema")]
    pub key_for: Option<Duration>,
    /// What becomes of a job whose key has an owner already. Replace takes the place of one that has not been started; what
    /// comes later, and for keyFor after the success, is a duplicate.
    #[serde(default)]
    pub on_conflict: OnConflictSpec,
    /// Jobs of one key that come close together become one, due once none has come for a while. Needs onConflict: Replace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debounce: Option<DebounceSpec>,
    /// What is enqueued when a job of this type dies, together with its death.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_dead: Option<OnDeadSpec>,
    /// Bounds for all jobs of this type that share a key. Keys take turns, however many jobs each has waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<ConcurrencyKeySpec>,
    /// Most jobs of this type running at once in one worker, for work bound to CPU or memory. Absent: no bound but
    /// the pool's concurrency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub per_worker: Option<u32>,
    /// Replaces the lane's timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration::positive")]
    pub timeout: Option<Duration>,
    /// Replaces the lane's retry as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Replaces the lane's giveUpAfter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration::positive")]
    pub give_up_after: Option<Duration>,
    /// Replaces the lane's crashBudget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub crash_budget: Option<u32>,
    /// Replaces the lane's completed as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<Completed>,
    /// Replaces the lane's dead as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<DeadLettersSpec>,
    /// Replaces the lane's handler as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<HandlerSpec>,
}

impl JobQueue {
    /// `namespace/name`, the name under which Redis and workers know the queue.
    #[must_use]
    pub fn queue_name(&self) -> String {
        let namespace = self.metadata.namespace.as_deref().unwrap_or("default");
        format!("{namespace}/{}", self.metadata.name.as_deref().unwrap_or_default())
    }

    /// The condition of that type, if the status has it.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_)
    }
}

fn default_max_payload() -> Size {
    Size::from_bytes(256 << 10)
}

fn default_lease() -> Duration {
    Duration::from_secs(15)
}

fn default_start_within() -> Duration {
    Duration::from_secs(60)
}

fn default_priority() -> u8 {
    5
}

/// `keyFor` where it is not written.
pub const DEFAULT_KEY_FOR: Duration = Duration::from_secs(24 * 3600);

/// Not written is not the same as its default, of which manifests are warned.
fn key_for_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = <Duration as JsonSchema>::json_schema(generator);
    schema.insert("default".to_owned(), DEFAULT_KEY_FOR.to_string().into());
    schema
}

/// CEL's own durations know no days, which no lease needs.
fn lease_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = <Duration as JsonSchema>::json_schema(generator);
    schema.insert(
        "x-kubernetes-validations".to_owned(),
        serde_json::json!([{
            "rule": "!self.contains('d') && duration(self) >= duration('1s') && duration(self) <= duration('10m')",
            "message": "a lease lasts from 1s to 10m",
        }]),
    );
    schema
}

fn key_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 512,
        "x-kubernetes-validations": [{
            "rule": r"self.matches('^([^{}]|[{][^{}.[:space:]]+([.][^{}.[:space:]]+)*[}])*$')",
            "message": "every { needs its }, and between them the path of a payload field, such as {user.id}",
        }],
    })
}
