//! Events with named reasons.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tracing::{debug, warn};

use super::call::CALL_TIMEOUT;

/// Reasons of Events.
pub mod reason {
    /// A policy landed in Redis.
    pub const POLICY_APPLIED: &str = "PolicyApplied";
    /// A spec cannot work.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// Workers' credentials were made.
    pub const CREDENTIALS_CREATED: &str = "CredentialsCreated";
    /// Redis refuses or does not answer.
    pub const REDIS_UNREACHABLE: &str = "RedisUnreachable";
    /// Redis may lose jobs: the queue starts none.
    pub const REDIS_UNSAFE: &str = "RedisUnsafe";
    /// Redis does not say whether it is safe.
    pub const REDIS_SAFETY_UNKNOWN: &str = "RedisSafetyUnknown";
    /// Someone else manages the queue's policy.
    pub const FOREIGN_OWNER: &str = "ForeignOwner";
    /// A queue or some of its lanes were paused.
    pub const PAUSED: &str = "Paused";
    /// No pause is left.
    pub const RESUMED: &str = "Resumed";
    /// No lane has been held back for long any more.
    pub const HOLD_ENDED: &str = "HoldEnded";
    /// A deleted queue waits until its workers have finished or handed back what they run.
    pub const WAITING_FOR_WORKERS: &str = "WaitingForWorkers";
    /// A deleted queue's jobs were kept in Redis.
    pub const DATA_RETAINED: &str = "DataRetained";
    /// A deleted queue's jobs were deleted.
    pub const DATA_DELETED: &str = "DataDeleted";
    /// A deleted queue was let go although Redis could not be cleaned up.
    pub const CLEANUP_SKIPPED: &str = "CleanupSkipped";
    /// A Deployment was made.
    pub const DEPLOYMENT_CREATED: &str = "DeploymentCreated";
    /// A pool does what it says again.
    pub const POOL_READY: &str = "PoolReady";
    /// Pods do not come up.
    pub const PODS_FAILING: &str = "PodsFailing";
    /// Replicas rose.
    pub const SCALED_UP: &str = "ScaledUp";
    /// Replicas fell.
    pub const SCALED_DOWN: &str = "ScaledDown";
    /// The last replica went.
    pub const SCALED_TO_ZERO: &str = "ScaledToZero";
    /// Any other reconcile that failed.
    pub const RECONCILE_FAILED: &str = "ReconcileFailed";
}

/// Writes Events. A failure to write one is logged and changes nothing else.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Events reported by `lanekeeper` on behalf of this instance.
    #[must_use]
    pub fn new(client: kube::Client, instance: &str) -> Self {
        let reporter = Reporter {
            controller: "lanekeeper.dev/operator".to_owned(),
            instance: Some(instance.to_owned()),
        };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Something went as it should.
    pub async fn normal(&self, about: &ObjectReference, reason: &str, action: &str, note: impl Into<String>) {
        self.publish(about, EventType::Normal, reason, action, note.into()).await;
    }

    /// Something needs a look.
    pub async fn warning(
        &self,
        about: &ObjectReference,
        reason: &str,
        action: &str,
        note: impl Into<String>,
    ) {
        self.publish(about, EventType::Warning, reason, action, note.into()).await;
    }

    async fn publish(
        &self,
        about: &ObjectReference,
        type_: EventType,
        reason: &str,
        action: &str,
        note: String,
    ) {
        debug!(object = ?about.name, reason, note, "event");
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(clip(note)),
            action: action.to_owned(),
            secondary: None,
        };
        match tokio::time::timeout(CALL_TIMEOUT, self.recorder.publish(&event, about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, reason, "cannot write an Event"),
            Err(_) => warn!(reason, "cannot write an Event: no answer"),
        }
    }
}

/// The API's bound of a note is 1 kB.
fn clip(mut note: String) -> String {
    const LIMIT: usize = 1000;
    if note.len() > LIMIT {
        let end = (0..=LIMIT).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
        note.truncate(end);
        note.push('…');
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_fits_into_a_kilobyte() {
        assert!(clip("é".repeat(2000)).len() <= 1024);
    }
}
