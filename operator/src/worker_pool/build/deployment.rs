//! The Deployment of a pool.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{ValidatedPool, container, grace_seconds, metadata, pod_labels, selector, volumes};
use crate::kubernetes::names;

/// The Deployment, without `replicas`.
pub(super) fn deployment(pool: &ValidatedPool) -> Deployment {
    Deployment {
        metadata: metadata(pool),
        spec: Some(DeploymentSpec {
            selector: selector(pool),
            strategy: Some(strategy()),
            revision_history_limit: Some(3),
            template: PodTemplateSpec { metadata: Some(pod_metadata(pool)), spec: Some(pod_spec(pool)) },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// A new worker is ready before an old one drains: a rollout takes no slot away from a lane's promise, and what the old one
/// runs is finished or handed back without costing a try.
fn strategy() -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_unavailable: Some(IntOrString::Int(0)),
            max_surge: Some(IntOrString::String("25%".to_owned())),
        }),
    }
}

fn pod_metadata(pool: &ValidatedPool) -> ObjectMeta {
    let mut annotations = pool.template.annotations.clone();
    annotations.insert(names::CREDENTIALS_CHECKSUM.to_owned(), pool.credentials.checksum.clone());
    ObjectMeta { labels: Some(pod_labels(pool)), annotations: Some(annotations), ..ObjectMeta::default() }
}

fn pod_spec(pool: &ValidatedPool) -> PodSpec {
    let template = &pool.template;
    PodSpec {
        init_containers: container::init(pool).map(|container| vec![container]),
        containers: vec![container::worker(pool)],
        volumes: Some(volumes::volumes(pool)),
        termination_grace_period_seconds: Some(grace_seconds(pool)),
        service_account_name: Some(
            template.service_account_name.clone().unwrap_or_else(|| names::deployment(&pool.name)),
        ),
        automount_service_account_token: Some(false),
        // Services of the namespace must not leak into the environment of handlers.
        enable_service_links: Some(false),
        // Programs of exec handlers may leave children behind. As the first process the worker would inherit them and
        // never wait for them; so that they do not pile up as zombies, the pod's pause container is the first.
        share_process_namespace: Some(true),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        image_pull_secrets: some_if_any(&template.image_pull_secrets),
        node_selector: (!template.node_selector.is_empty()).then(|| template.node_selector.clone()),
        tolerations: some_if_any(&template.tolerations),
        affinity: template.affinity.clone(),
        topology_spread_constraints: some_if_any(&spread(pool)),
        priority_class_name: template.priority_class_name.clone(),
        ..PodSpec::default()
    }
}

/// A constraint without a selector would count no pods: it means the pool's own.
fn spread(pool: &ValidatedPool) -> Vec<TopologySpreadConstraint> {
    let mut constraints = pool.template.topology_spread_constraints.clone();
    for constraint in &mut constraints {
        constraint.label_selector.get_or_insert_with(|| selector(pool));
    }
    constraints
}

fn some_if_any<T: Clone>(items: &[T]) -> Option<Vec<T>> {
    (!items.is_empty()).then(|| items.to_vec())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{LocalObjectReference, Toleration};
    use lanekeeper_api::worker_pool::LaneOrder;
    use std::collections::BTreeMap;

    use super::super::tests::pool;
    use super::*;

    fn pod_of(deployment: Deployment) -> PodSpec {
        deployment.spec.unwrap().template.spec.unwrap()
    }

    #[test]
    fn replicas_are_left_to_the_scaler() {
        let applied = serde_json::to_value(deployment(&pool())).unwrap();
        assert!(applied["spec"].get("replicas").is_none());
        assert_eq!(applied["kind"], "Deployment");
        assert_eq!(applied["apiVersion"], "apps/v1");
    }

    #[test]
    fn pods_are_restricted() {
        let pod = pod_of(deployment(&pool()));
        let context = pod.security_context.unwrap();
        assert_eq!(context.run_as_non_root, Some(true));
        assert_eq!(context.seccomp_profile.unwrap().type_, "RuntimeDefault");
        assert_eq!(pod.automount_service_account_token, Some(false));
        assert_eq!(pod.service_account_name.as_deref(), Some("interactive-lanekeeper"));
        assert_eq!(pod.termination_grace_period_seconds, Some(75));
    }

    #[test]
    fn what_handlers_leave_behind_is_reaped_by_the_pause_container() {
        assert_eq!(pod_of(deployment(&pool())).share_process_namespace, Some(true));
    }

    #[test]
    fn changed_credentials_roll_the_pool() {
        let mut other = pool();
        other.credentials.checksum = "c2".to_owned();
        assert_ne!(deployment(&pool()).spec, deployment(&other).spec);
    }

    #[test]
    fn another_order_or_other_weights_roll_the_pool() {
        let order = ValidatedPool { order: LaneOrder::Deadline, ..pool() };
        let weights = ValidatedPool { lanes: "user-fast:5,user-medium:3".to_owned(), ..pool() };
        for other in [order, weights] {
            assert_ne!(deployment(&pool()).spec, deployment(&other).spec);
        }
    }

    #[test]
    fn template_fields_pass_through() {
        let mut pool = pool();
        pool.template.node_selector = BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]);
        pool.template.tolerations =
            vec![Toleration { key: Some("spot".to_owned()), ..Toleration::default() }];
        pool.template.priority_class_name = Some("low".to_owned());
        pool.template.image_pull_secrets = vec![LocalObjectReference { name: "pull".to_owned() }];
        pool.template.annotations = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let built = deployment(&pool);
        let metadata = built.spec.clone().unwrap().template.metadata.unwrap();
        assert_eq!(metadata.annotations.unwrap()["a"], "b");
        let pod = pod_of(built);
        assert_eq!(pod.node_selector.unwrap()["disk"], "ssd");
        assert_eq!(pod.tolerations.unwrap()[0].key.as_deref(), Some("spot"));
        assert_eq!(pod.priority_class_name.as_deref(), Some("low"));
        assert_eq!(pod.image_pull_secrets.unwrap()[0].name, "pull");
    }

    #[test]
    fn a_spread_constraint_counts_the_pools_own_pods() {
        let mut pool = pool();
        pool.template.topology_spread_constraints = vec![TopologySpreadConstraint {
            max_skew: 1,
            topology_key: "zone".to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            ..TopologySpreadConstraint::default()
        }];
        let pod = pod_of(deployment(&pool));
        let constraint = &pod.topology_spread_constraints.unwrap()[0];
        assert_eq!(constraint.label_selector.as_ref().unwrap(), &selector(&pool));
    }
}
