//! Builds the objects of a pool from one validated struct. Pure: no client, no clock.

mod container;
mod deployment;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lanekeeper_api::policy::SecretKey;
use lanekeeper_api::worker_pool::{LaneOrder, PodTemplate};

use crate::kubernetes::names;

/// Time after the drain for handing back what did not finish, closing connections and exiting.
const EXIT_MARGIN: Duration = Duration::from_secs(15);

/// Everything that decides how a pool's objects look.
#[derive(Debug, Clone)]
pub struct ValidatedPool {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The WorkerPool as the owner of its objects.
    pub owner: OwnerReference,
    /// Name of the queue, without the namespace.
    pub queue: String,
    /// Lanes with their weights, as workers read them.
    pub lanes: String,
    /// Which lane goes first.
    pub order: LaneOrder,
    /// Slots per worker.
    pub concurrency: u32,
    /// Time that running jobs get when a worker must go.
    pub drain_timeout: Duration,
    /// Most replicas there may be.
    pub max_replicas: u32,
    /// Pod fields the user gave.
    pub template: PodTemplate,
    /// How workers reach Redis.
    pub credentials: Credentials,
    /// Secrets with signing keys of handlers in the pool's lanes.
    pub signing_secrets: BTreeSet<String>,
    /// The generic worker image.
    pub worker_image: WorkerImage,
}

/// How workers reach Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Secret key with the workers' URL.
    pub url: SecretKey,
    /// Secret key with the certificate authority, for `rediss://`.
    pub ca: Option<SecretKey>,
    /// Changes when the contents do.
    pub checksum: String,
}

/// The generic worker image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerImage {
    /// Reference.
    pub image: String,
    /// `imagePullPolicy`; absent: Kubernetes' own default.
    pub pull_policy: Option<String>,
}

/// The objects of a pool. What is `None` should not exist.
#[derive(Debug, Clone, PartialEq)]
pub struct Resources {
    /// Without `replicas`: the scaler owns that field.
    pub deployment: Deployment,
    /// Absent where the template names one.
    pub service_account: Option<ServiceAccount>,
    /// Absent where there is one replica at most: a budget could only stand in the way of a node's drain.
    pub disruption_budget: Option<PodDisruptionBudget>,
}

/// Builds the objects of a pool.
#[must_use]
pub fn build(pool: &ValidatedPool) -> Resources {
    Resources {
        deployment: deployment::deployment(pool),
        service_account: pool.template.service_account_name.is_none().then(|| service_account(pool)),
        disruption_budget: (pool.max_replicas > 1).then(|| disruption_budget(pool)),
    }
}

/// Metadata of every object of a pool.
fn metadata(pool: &ValidatedPool) -> ObjectMeta {
    ObjectMeta {
        name: Some(names::deployment(&pool.name)),
        namespace: Some(pool.namespace.clone()),
        labels: Some(names::pool_labels(&pool.name, &pool.queue)),
        owner_references: Some(vec![pool.owner.clone()]),
        ..ObjectMeta::default()
    }
}

fn selector(pool: &ValidatedPool) -> LabelSelector {
    LabelSelector { match_labels: Some(names::selector(&pool.name)), match_expressions: None }
}

/// An account of the pool's own, so that no right granted to the namespace's default account reaches handlers.
fn service_account(pool: &ValidatedPool) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(pool),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// A node's drain takes a quarter of the workers at a time; each drains its jobs before it goes.
fn disruption_budget(pool: &ValidatedPool) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(pool),
        spec: Some(PodDisruptionBudgetSpec {
            selector: Some(selector(pool)),
            max_unavailable: Some(IntOrString::String("25%".to_owned())),
            // A worker that does not come up holds no job and must not hold up a drain.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

/// Seconds a pod gets from SIGTERM to SIGKILL.
fn grace_seconds(pool: &ValidatedPool) -> i64 {
    let drain = pool.drain_timeout.as_millis().div_ceil(1000);
    i64::try_from(drain).unwrap_or(i64::MAX / 2) + i64::try_from(EXIT_MARGIN.as_secs()).unwrap_or(0)
}

/// Labels of the pods: the user's, and the operator's on top.
fn pod_labels(pool: &ValidatedPool) -> BTreeMap<String, String> {
    let mut labels = pool.template.labels.clone();
    labels.extend(names::pool_labels(&pool.name, &pool.queue));
    labels
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A pool as `validate` would make it, generic image.
    pub(in super::super) fn pool() -> ValidatedPool {
        ValidatedPool {
            namespace: "apps".to_owned(),
            name: "interactive".to_owned(),
            owner: OwnerReference {
                api_version: "lanekeeper.dev/v1beta1".to_owned(),
                kind: "WorkerPool".to_owned(),
                name: "interactive".to_owned(),
                uid: "u-1".to_owned(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            },
            queue: "saas".to_owned(),
            lanes: "user-fast:6,user-medium:3".to_owned(),
            order: LaneOrder::Weighted,
            concurrency: 20,
            drain_timeout: Duration::from_secs(60),
            max_replicas: 10,
            template: PodTemplate::default(),
            credentials: Credentials {
                url: SecretKey { name: "saas-lanekeeper-worker".to_owned(), key: "url".to_owned() },
                ca: None,
                checksum: "c1".to_owned(),
            },
            signing_secrets: BTreeSet::new(),
            worker_image: WorkerImage { image: "worker:1".to_owned(), pull_policy: None },
        }
    }

    #[test]
    fn every_object_is_owned_and_labelled() {
        let built = build(&pool());
        let (account, budget) = (built.service_account.unwrap(), built.disruption_budget.unwrap());
        for metadata in [built.deployment.metadata, account.metadata, budget.metadata] {
            assert_eq!(metadata.name.as_deref(), Some("interactive-lanekeeper"));
            assert_eq!(metadata.owner_references.unwrap()[0].uid, "u-1");
            assert_eq!(metadata.labels.unwrap()["app.kubernetes.io/managed-by"], "lanekeeper");
        }
    }

    #[test]
    fn a_named_service_account_is_used_and_none_is_made() {
        let mut pool = pool();
        pool.template.service_account_name = Some("mine".to_owned());
        let built = build(&pool);
        assert!(built.service_account.is_none());
        let spec = built.deployment.spec.unwrap().template.spec.unwrap();
        assert_eq!(spec.service_account_name.as_deref(), Some("mine"));
        assert_eq!(spec.automount_service_account_token, Some(false));
    }

    #[test]
    fn a_pool_of_one_has_no_disruption_budget() {
        let single = ValidatedPool { max_replicas: 1, ..pool() };
        assert!(build(&single).disruption_budget.is_none());
    }

    #[test]
    fn the_grace_period_covers_the_drain() {
        let odd = ValidatedPool { drain_timeout: Duration::from_millis(1500), ..pool() };
        assert_eq!(grace_seconds(&odd), 17);
    }

    #[test]
    fn the_operators_labels_win() {
        let mut pool = pool();
        pool.template.labels.insert("app.kubernetes.io/instance".to_owned(), "other".to_owned());
        pool.template.labels.insert("team".to_owned(), "a".to_owned());
        let labels = pod_labels(&pool);
        assert_eq!(labels["app.kubernetes.io/instance"], "interactive");
        assert_eq!(labels["team"], "a");
    }
}
