//! Policy fields: `defaults` for the queue, overridden by a lane, overridden by a job type, each replaced whole.

use std::borrow::Cow;
use std::fmt;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::endings::DeadLettersSpec;
use super::handler::HandlerSpec;
use crate::duration::{self, Duration};

/// Tries after the first when the backoff is exponential and no limit is written.
pub const DEFAULT_RETRY_LIMIT: u32 = 10;

/// Policy that holds where neither the job type nor its lane says otherwise.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyDefaults {
    /// Longest one attempt may run.
    #[serde(default = "default_timeout")]
    #[schemars(schema_with = "duration::positive")]
    pub timeout: Duration,
    /// When a failed attempt is tried again, and how often.
    #[serde(default)]
    pub retry: Retry,
    /// Age, counted from when the job first became due, after which a job is not tried again, whatever the tries
    /// left. It bounds every further try, also what spends none, and one that a pause, a hold or a backlog made to wait:
    /// beyond it the job is dead without being run, once its turn comes. A first try is never refused for its age, nor is
    /// the first after a replay, from which the age counts anew.
    #[serde(default = "default_give_up_after")]
    #[schemars(schema_with = "duration::positive")]
    pub give_up_after: Duration,
    /// Attempts that may be lost to crashes of a worker before the job is dead.
    #[serde(default = "default_crash_budget")]
    #[schemars(range(min = 1, max = 100))]
    pub crash_budget: u32,
    /// How long finished jobs stay readable.
    #[serde(default)]
    pub completed: Completed,
    /// What becomes of dead letters.
    #[serde(default, skip_serializing_if = "DeadLettersSpec::is_default")]
    pub dead: DeadLettersSpec,
    /// What runs the jobs. There is no default: every job type needs a handler, its own, its lane's or this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<HandlerSpec>,
}

/// Retries after the first try.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Tries after the first. Absent: with backoff.schedule the length of the list, else 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub limit: Option<u32>,
    /// Time between tries, before jitter.
    #[serde(default)]
    pub backoff: BackoffSpec,
    /// How the delay is spread, so that jobs which failed together do not come back together: none (the delay as it
    /// is), full (anything from nothing to the delay) or a percentage such as 10% (the delay more or less 10%).
    #[serde(default)]
    pub jitter: JitterSpec,
}

/// Time between tries: exactly one kind.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.exponential) != has(self.schedule)")
    .message("set exactly one kind of backoff: exponential or schedule"))]
pub struct BackoffSpec {
    /// min(first × factorⁿ, max) before retry n, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exponential: Option<Exponential>,
    /// One delay per retry, such as [1m, 5m, 15m]; beyond the list the last repeats. 0s means at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub schedule: Option<Vec<Duration>>,
}

/// Growing time between tries.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Exponential {
    /// Delay before the first retry.
    #[serde(default = "default_backoff_first")]
    #[schemars(schema_with = "duration::positive")]
    pub first: Duration,
    /// Growth per retry, at least 1.
    #[serde(default = "default_backoff_factor")]
    #[schemars(schema_with = "factor_schema")]
    pub factor: f64,
    /// Longest delay.
    #[serde(default = "default_backoff_max")]
    #[schemars(schema_with = "duration::positive")]
    pub max: Duration,
}

/// How long finished jobs stay readable: until either bound is met.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Completed {
    /// Most records kept per job type, and an eighth more, at most 100, between two sweeps; 0 keeps none.
    #[serde(default = "default_completed_keep")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub keep: u64,
    /// Longest time a record is kept.
    #[serde(default = "default_completed_for", rename = "for")]
    #[schemars(schema_with = "duration::positive")]
    pub for_: Duration,
}

/// How a delay is spread: `none`, `full` or a percentage such as `10%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JitterSpec {
    /// The delay as it is.
    None,
    /// Anything from nothing to the delay.
    #[default]
    Full,
    /// The delay, more or less this many percent; 1..=100.
    Percent(u8),
}

/// What the schema accepts as jitter.
pub const JITTER_PATTERN: &str = "^(none|full|([1-9][0-9]?|100)%)$";

impl fmt::Display for JitterSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Full => f.write_str("full"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Why a text is no jitter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no jitter: write none, full or a percentage from 1% to 100%")]
pub struct JitterError {
    text: String,
}

impl JitterSpec {
    /// Reads `none`, `full` or a percentage.
    ///
    /// # Errors
    /// The text does not match [`JITTER_PATTERN`].
    pub fn parse(text: &str) -> Result<Self, JitterError> {
        let percent = || {
            let digits = text.strip_suffix('%')?;
            let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
            digits.parse().ok().filter(|percent| plain && (1..=100).contains(percent))
        };
        match text {
            "none" => Ok(Self::None),
            "full" => Ok(Self::Full),
            _ => percent().map(Self::Percent).ok_or_else(|| JitterError { text: text.to_owned() }),
        }
    }
}

impl Serialize for JitterSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JitterSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for JitterSpec {
    fn schema_name() -> Cow<'static, str> {
        "Jitter".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": JITTER_PATTERN, "maxLength": 4 })
    }
}

/// `format: double` would be noise, and schemars has no bound for floats without it.
fn factor_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "number", "minimum": 1, "maximum": 100 })
}

impl Default for PolicyDefaults {
    fn default() -> Self {
        Self {
            timeout: default_timeout(),
            retry: Retry::default(),
            give_up_after: default_give_up_after(),
            crash_budget: default_crash_budget(),
            completed: Completed::default(),
            dead: DeadLettersSpec::default(),
            handler: None,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { limit: None, backoff: BackoffSpec::default(), jitter: JitterSpec::Full }
    }
}

impl Default for BackoffSpec {
    fn default() -> Self {
        Self { exponential: Some(Exponential::default()), schedule: None }
    }
}

impl Default for Exponential {
    fn default() -> Self {
        Self { first: default_backoff_first(), factor: default_backoff_factor(), max: default_backoff_max() }
    }
}

impl Default for Completed {
    fn default() -> Self {
        Self { keep: default_completed_keep(), for_: default_completed_for() }
    }
}

fn default_timeout() -> Duration {
    Duration::from_secs(5 * 60)
}

fn default_give_up_after() -> Duration {
    Duration::from_secs(7 * 24 * 3600)
}

fn default_crash_budget() -> u32 {
    3
}

fn default_backoff_first() -> Duration {
    Duration::from_secs(5)
}

fn default_backoff_factor() -> f64 {
    2.0
}

fn default_backoff_max() -> Duration {
    Duration::from_secs(3600)
}

fn default_completed_keep() -> u64 {
    1000
}

fn default_completed_for() -> Duration {
    Duration::from_secs(24 * 3600)
}
