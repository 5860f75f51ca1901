//! The platform of Deployments, by itself.

use futures::channel::mpsc;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use lanekeeper_operator::kubernetes::platform::Kubernetes;
use lanekeeper_operator::kubernetes::stores::{Scope, Stores, Wakes};
use lanekeeper_operator::platform::conformance::{self, Subject};
use lanekeeper_operator::platform::{Platform, PlatformError, PoolRef, Scale, Scaled};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::bed::{Bed, edit, eventually, when};

async fn platform(bed: &Bed, stop: &CancellationToken) -> Kubernetes {
    let (queues, _) = mpsc::unbounded();
    let (pools, _) = mpsc::unbounded();
    let client = bed.server.operator();
    let scope = Scope::Namespace(bed.namespace.clone());
    let stores = Stores::start(&client, &scope, &Wakes { queues, pools }, stop);
    stores.filled().await.unwrap();
    Kubernetes::new(client, stores.deployments, stores.pods)
}

fn labels() -> Value {
    json!({"app.kubernetes.io/managed-by": "lanekeeper", "lanekeeper.dev/pool": "p"})
}

async fn deployment(bed: &Bed, replicas: i32) {
    let object: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "p-lanekeeper", "labels": labels()},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels()}, "template": {
            "metadata": {"labels": labels()}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}
    }))
    .unwrap();
    bed.api::<Deployment>().create(&PostParams::default(), &object).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_shows_at_once_and_an_outdated_one_changes_nothing() {
    let Some(bed) = Bed::new("scales").await else { return };
    let stop = CancellationToken::new();
    let _stop_at_end = stop.clone().drop_guard();
    let platform = platform(&bed, &stop).await;
    let pool = PoolRef::new(&bed.namespace, "p");
    assert!(matches!(platform.observe(&pool).await, Err(PlatformError::NoSuchPool(_))));
    deployment(&bed, 0).await;
    let first = eventually("the pool is seen", async || platform.observe(&pool).await).await;

    let up = Scale { from: 0, to: 3, version: first.version.clone(), idle: vec![] };
    assert_eq!(platform.scale(&pool, &up).await.unwrap(), Scaled::Done);
    let second = platform.observe(&pool).await.unwrap();
    assert_eq!(second.replicas, 3, "before the cache can have it");
    assert_eq!(platform.scale(&pool, &up).await.unwrap(), Scaled::Conflict);
    let again = Scale { from: 3, to: 2, version: second.version, idle: vec![] };
    assert_eq!(platform.scale(&pool, &again).await.unwrap(), Scaled::Done);
    assert_eq!(platform.observe(&pool).await.unwrap().replicas, 2);

    // Someone else writes: what was decided before is refused by the API server's resource version, whatever the cache shows.
    let decided = platform.observe(&pool).await.unwrap();
    edit(&bed.api::<Deployment>(), "p-lanekeeper", json!({"spec": {"replicas": 9}})).await;
    let late = Scale { from: 2, to: 0, version: decided.version, idle: vec![] };
    assert_eq!(platform.scale(&pool, &late).await.unwrap(), Scaled::Conflict);
    eventually("the foreign write is seen", async || {
        let now = platform.observe(&pool).await.unwrap().replicas;
        when(now == 9, now)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_pods_are_marked_before_replicas_go() {
    let Some(bed) = Bed::new("marks").await else { return };
    let stop = CancellationToken::new();
    let _stop_at_end = stop.clone().drop_guard();
    let platform = platform(&bed, &stop).await;
    let pool = PoolRef::new(&bed.namespace, "p");
    deployment(&bed, 2).await;
    for name in ["idle", "busy"] {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels()},
            "spec": {"containers": [{"name": "c", "image": "i"}]}
        }))
        .unwrap();
        bed.api::<Pod>().create(&PostParams::default(), &pod).await.unwrap();
    }
    let scale = eventually("the first to go is marked", async || {
        let seen = platform.observe(&pool).await.map_err(|error| error.to_string())?;
        let scale =
            Scale { from: seen.replicas, to: 1, version: seen.version, idle: vec!["idle".to_owned()] };
        let done = platform.scale(&pool, &scale).await.map_err(|error| error.to_string())?;
        let marked = cost(&bed, "idle").await;
        // Until the pods are in the cache there is nothing to mark: put it back and look again.
        if done == Scaled::Done && marked.is_none() {
            edit(&bed.api::<Deployment>(), "p-lanekeeper", json!({"spec": {"replicas": 2}})).await;
        }
        when(marked.is_some(), &marked).map(|()| scale)
    })
    .await;
    assert_eq!(scale.to, 1);
    assert_eq!(cost(&bed, "busy").await, None);
}

async fn cost(bed: &Bed, pod: &str) -> Option<String> {
    let pod = bed.api::<Pod>().get(pod).await.unwrap();
    pod.metadata.annotations?.get("controller.kubernetes.io/pod-deletion-cost").cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_pass_the_suite_that_child_processes_pass() {
    let Some(bed) = Bed::new("conforms").await else { return };
    let stop = CancellationToken::new();
    let _stop_at_end = stop.clone().drop_guard();
    let platform = platform(&bed, &stop).await;
    deployment(&bed, 0).await;
    let pool = PoolRef::new(&bed.namespace, "p");
    eventually("the pool is seen", async || platform.observe(&pool).await).await;
    let missing = PoolRef::new(&bed.namespace, "nobody");
    // No controller manager runs here, so no Deployment gets Pods.
    let subject =
        Subject { pool, missing, starts_workers: false, deadline: std::time::Duration::from_secs(20) };
    conformance::run(&platform, &subject).await.expect("it conforms");
}
