//! Conditions of both kinds, after the Kubernetes API conventions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::time::meta_time;

/// Types of conditions.
pub mod kind {
    /// The object does what it says.
    pub const READY: &str = "Ready";
    /// Its Redis answers.
    pub const REDIS_REACHABLE: &str = "RedisReachable";
    /// Its Redis persists and does not evict.
    pub const REDIS_SAFE: &str = "RedisSafe";
    /// Something is under way.
    pub const PROGRESSING: &str = "Progressing";
    /// It, or some of its lanes, starts no jobs because the spec or a person says so.
    pub const PAUSED: &str = "Paused";
    /// What a lane depends on has held it back for long.
    pub const HELD: &str = "Held";
    /// `spec.capacity` is used up: new jobs are refused.
    pub const FULL: &str = "Full";
    /// The autoscaler follows the load.
    pub const SCALING_ACTIVE: &str = "ScalingActive";
    /// `minReplicas` or `maxReplicas` keeps replicas from following the load.
    pub const SCALING_LIMITED: &str = "ScalingLimited";
    /// `startWithin` cannot be kept from zero replicas.
    pub const PROMISE_AT_RISK: &str = "PromiseAtRisk";
}

/// Reasons of conditions; a reason is a constant, the message has the particulars.
pub mod reason {
    /// All is as it should be.
    pub const AS_EXPECTED: &str = "AsExpected";
    /// The spec cannot work; the message names the field.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// A Secret that the spec names is not there, or lacks the key.
    pub const SECRET_MISSING: &str = "SecretMissing";
    /// A Secret that the spec names holds something else than expected.
    pub const SECRET_INVALID: &str = "SecretInvalid";
    /// The spec names no Redis and the operator has no default.
    pub const NO_DEFAULT_REDIS: &str = "NoDefaultRedis";
    /// Redis refuses or does not answer.
    pub const REDIS_UNREACHABLE: &str = "RedisUnreachable";
    /// Redis refused a command that is needed.
    pub const REDIS_REFUSED: &str = "RedisRefused";
    /// Redis answers.
    pub const REDIS_ANSWERS: &str = "RedisAnswers";
    /// Redis may lose jobs.
    pub const REDIS_UNSAFE: &str = "RedisUnsafe";
    /// Redis may lose jobs, and the spec accepts that.
    pub const REDIS_UNSAFE_ALLOWED: &str = "RedisUnsafeAllowed";
    /// Redis persists and does not evict.
    pub const REDIS_SAFE: &str = "RedisSafe";
    /// Redis does not say.
    pub const UNKNOWN: &str = "Unknown";
    /// Someone else manages the queue's policy.
    pub const FOREIGN_OWNER: &str = "ForeignOwner";
    /// Redis holds the policy of a later generation or a newer object.
    pub const NEWER_POLICY: &str = "NewerPolicy";
    /// The policy is in Redis.
    pub const POLICY_APPLIED: &str = "PolicyApplied";
    /// Something is being changed.
    pub const APPLYING: &str = "Applying";
    /// Changes are done.
    pub const COMPLETE: &str = "Complete";
    /// `spec.paused`.
    pub const PAUSED_BY_SPEC: &str = "PausedBySpec";
    /// Someone paused the queue.
    pub const PAUSED_BY_HAND: &str = "PausedByHand";
    /// Someone paused lanes.
    pub const LANES_PAUSED: &str = "LanesPaused";
    /// A lane is held by `Retry-After`.
    pub const RETRY_AFTER: &str = "RetryAfter";
    /// A lane's attempts fail one after another.
    pub const CIRCUIT_OPEN: &str = "CircuitOpen";
    /// No lane has been held back for long.
    pub const NOT_HELD: &str = "NotHeld";
    /// The queue holds as much as it may.
    pub const CAPACITY_REACHED: &str = "CapacityReached";
    /// The queue has room for more jobs.
    pub const HAS_ROOM: &str = "HasRoom";
    /// Not paused.
    pub const NOT_PAUSED: &str = "NotPaused";
    /// The JobQueue that a pool names is not there.
    pub const QUEUE_NOT_FOUND: &str = "QueueNotFound";
    /// The JobQueue that a pool names has no policy in Redis yet.
    pub const QUEUE_NOT_READY: &str = "QueueNotReady";
    /// The JobQueue is going away.
    pub const QUEUE_DELETED: &str = "QueueDeleted";
    /// Another object has the name that the Deployment needs.
    pub const NAME_TAKEN: &str = "NameTaken";
    /// The API server refused an object made from the spec.
    pub const REFUSED: &str = "Refused";
    /// Pods do not come up; the message says why.
    pub const PODS_FAILING: &str = "PodsFailing";
    /// Pods are starting or stopping.
    pub const ROLLING: &str = "Rolling";
    /// The autoscaler decides.
    pub const AUTOSCALING: &str = "Autoscaling";
    /// `scaling.mode: Manual`.
    pub const MANUAL: &str = "Manual";
    /// The autoscaler has not looked at this pool yet.
    pub const NOT_STARTED: &str = "NotStarted";
    /// `maxReplicas` holds replicas down.
    pub const MAX_REPLICAS: &str = "MaxReplicas";
    /// `minReplicas` holds replicas up.
    pub const MIN_REPLICAS: &str = "MinReplicas";
    /// Replicas are between the bounds.
    pub const WITHIN_BOUNDS: &str = "WithinBounds";
    /// A worker takes longer to start than a lane promises.
    pub const STARTS_TOO_SLOWLY: &str = "StartsTooSlowly";
    /// The promises can be kept.
    pub const PROMISE_HOLDS: &str = "PromiseHolds";
}

/// `status` of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `True`.
    True,
    /// `False`.
    False,
    /// `Unknown`.
    Unknown,
}

impl Status {
    /// As the API spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// What a condition says; times and generation are added by [`merge`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Says {
    /// One of [`kind`].
    pub kind: &'static str,
    /// Status.
    pub status: Status,
    /// One of [`reason`], or another named constant.
    pub reason: String,
    /// One or more sentences for people.
    pub message: String,
}

impl Says {
    /// A condition.
    #[must_use]
    pub fn new(
        kind: &'static str,
        status: impl Into<Status>,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, status: status.into(), reason: reason.into(), message: message.into() }
    }
}

/// The new list of conditions: in the order of `said`, `lastTransitionTime` moved only where the status changed.
/// Conditions that are no longer said go.
#[must_use]
pub fn merge(old: &[Condition], said: &[Says], generation: i64, wall_ms: u64) -> Vec<Condition> {
    said.iter()
        .map(|says| {
            let before = old.iter().find(|c| c.type_ == says.kind && c.status == says.status.as_str());
            Condition {
                type_: says.kind.to_owned(),
                status: says.status.as_str().to_owned(),
                reason: says.reason.clone(),
                message: clip(&says.message),
                observed_generation: Some(generation),
                last_transition_time: before
                    .map_or_else(|| meta_time(wall_ms), |c| c.last_transition_time.clone()),
            }
        })
        .collect()
}

/// The API's bound of a message is 32 KiB; people stop reading long before.
fn clip(message: &str) -> String {
    const LIMIT: usize = 2000;
    match message.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

/// The status of a condition in a list.
#[must_use]
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    conditions.iter().any(|c| c.type_ == kind && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: Status, message: &str) -> Says {
        Says::new(kind::READY, status, reason::AS_EXPECTED, message)
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let first = merge(&[], &[ready(Status::True, "a")], 1, 1_000);
        let second = merge(&first, &[ready(Status::True, "b")], 2, 60_000);
        assert_eq!(second[0].last_transition_time, first[0].last_transition_time);
        assert_eq!((second[0].message.as_str(), second[0].observed_generation), ("b", Some(2)));
        let third = merge(&second, &[ready(Status::False, "c")], 2, 120_000);
        assert_ne!(third[0].last_transition_time, first[0].last_transition_time);
    }

    #[test]
    fn what_is_no_longer_said_goes() {
        let first = merge(&[], &[ready(Status::True, "a")], 1, 0);
        assert!(merge(&first, &[], 1, 0).is_empty());
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        assert_eq!(clip(&"é".repeat(3000)).chars().count(), 2001);
    }
}
