//! A WorkerPool becomes a Deployment whose replicas only the scaler writes.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, ResourceExt};
use lanekeeper_api::job_queue::JobQueue;
use lanekeeper_api::worker_pool::WorkerPool;
use serde_json::json;

use super::bed::{Bed, edit, eventually, when};
use super::manifests::{MANUAL_POOL, POOL, QUEUE};

const RECONCILER: &str = "lanekeeper/reconciler";
const AUTOSCALER: &str = "lanekeeper/autoscaler";

async fn deployed(bed: &Bed) -> Deployment {
    bed.condition::<WorkerPool>("workers", "Ready", "True", "AsExpected").await;
    bed.deployment("workers").await.unwrap()
}

fn owners_of_replicas(deployment: &Deployment) -> Vec<String> {
    let owned = deployment.managed_fields().iter().filter(|entry| {
        entry.fields_v1.as_ref().is_some_and(|fields| fields.0["f:spec"].get("f:replicas").is_some())
    });
    owned.map(|entry| entry.manager.clone().unwrap_or_default()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_starts_at_zero_and_rises_by_the_scalers_hand() {
    let Some(bed) = Bed::new("rises").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(POOL).await;
    bed.condition::<WorkerPool>("workers", "Ready", "False", "QueueNotFound").await;
    assert!(bed.deployment("workers").await.is_none());

    bed.apply(QUEUE).await;
    let deployment = deployed(&bed).await;
    assert_eq!(deployment.spec.as_ref().unwrap().replicas, Some(0));
    assert_eq!(owners_of_replicas(&deployment), [AUTOSCALER]);
    bed.event("workers", "DeploymentCreated").await;

    for _ in 0..20 {
        bed.enqueue("saas", "mail").await;
    }
    eventually("the pool rises", async || {
        let replicas = bed.replicas("workers").await;
        when(replicas > Some(0), replicas)
    })
    .await;
    bed.event("workers", "ScaledUp").await;
    let risen = bed.deployment("workers").await.unwrap();
    assert_eq!(owners_of_replicas(&risen), [AUTOSCALER]);
    let scaled = risen.managed_fields().iter().find(|entry| entry.subresource.as_deref() == Some("scale"));
    assert_eq!(scaled.and_then(|entry| entry.manager.as_deref()), Some(AUTOSCALER));

    // The reconciler applies what it owns and leaves the replicas alone.
    edit(&bed.api::<WorkerPool>(), "workers", json!({"spec": {"template": {"image": "app:2"}}})).await;
    eventually("the new image is there", async || {
        let deployment = bed.deployment("workers").await.unwrap();
        let pod = deployment.spec.as_ref().unwrap().template.spec.clone().unwrap();
        when(pod.containers[0].image.as_deref() == Some("app:2") && pod.init_containers.is_some(), pod)
    })
    .await;
    let edited = bed.deployment("workers").await.unwrap();
    assert!(edited.spec.as_ref().unwrap().replicas > Some(0));
    assert_eq!(owners_of_replicas(&edited), [AUTOSCALER]);
    let applied = edited.managed_fields().iter().any(|entry| entry.manager.as_deref() == Some(RECONCILER));
    assert!(applied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_someone_deletes_or_bends_is_put_right() {
    let Some(bed) = Bed::new("repairs").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(QUEUE).await;
    bed.apply(POOL).await;
    let before = deployed(&bed).await;
    bed.delete::<Deployment>("workers-lanekeeper").await;
    eventually("it is made anew, at zero", async || {
        let now = bed.deployment("workers").await;
        let replicas = now.as_ref().and_then(|now| now.spec.as_ref()?.replicas);
        let anew = now.is_some_and(|now| now.metadata.uid != before.metadata.uid);
        when(anew && replicas == Some(0), (anew, replicas))
    })
    .await;
    let bent = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}});
    edit(&bed.api::<Deployment>(), "workers-lanekeeper", bent).await;
    eventually("the grace period is back", async || {
        let deployment = bed.deployment("workers").await.unwrap();
        let pod = deployment.spec.unwrap().template.spec.unwrap();
        when(pod.termination_grace_period_seconds == Some(25), pod.termination_grace_period_seconds)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_wanted_goes() {
    let Some(bed) = Bed::new("prunes").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(QUEUE).await;
    bed.apply(POOL).await;
    deployed(&bed).await;
    let name = "workers-lanekeeper";
    assert!(bed.api::<PodDisruptionBudget>().get_opt(name).await.unwrap().is_some());
    assert!(bed.api::<ServiceAccount>().get_opt(name).await.unwrap().is_some());
    let change = json!({"spec": {"scaling": {"maxReplicas": 1}, "template": {"serviceAccountName": "mine"}}});
    edit(&bed.api::<WorkerPool>(), "workers", change).await;
    eventually("budget and account are gone", async || {
        let budget = bed.api::<PodDisruptionBudget>().get_opt(name).await.unwrap().is_some();
        let account = bed.api::<ServiceAccount>().get_opt(name).await.unwrap().is_some();
        when(!budget && !account, (budget, account))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_scale_is_respected_in_manual_mode() {
    let Some(bed) = Bed::new("manual").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(QUEUE).await;
    bed.apply(MANUAL_POOL).await;
    deployed(&bed).await;
    for replicas in [3, 1] {
        // What `kubectl scale wp workers --replicas N` sends.
        let scale = json!({"spec": {"replicas": replicas}});
        let params = PatchParams { field_manager: Some("kubectl".to_owned()), ..PatchParams::default() };
        bed.api::<WorkerPool>().patch_scale("workers", &params, &Patch::Merge(&scale)).await.unwrap();
        eventually("the Deployment follows", async || {
            let now = bed.replicas("workers").await;
            when(now == Some(replicas), now)
        })
        .await;
    }
    bed.condition::<WorkerPool>("workers", "ScalingActive", "False", "Manual").await;
    let scale = bed.api::<WorkerPool>().get_scale("workers").await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(1));
    assert!(scale.status.unwrap().selector.is_some_and(|selector| selector.contains("workers")));
}

#[tokio::test(flavor = "multi_thread")]
async fn obstacles_are_named() {
    let Some(bed) = Bed::new("obstacles").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(QUEUE).await;
    bed.apply(&POOL.replace("lanes: [{name: fast}]", "lanes: [{name: fsat}]")).await;
    let said = bed.condition::<WorkerPool>("workers", "Ready", "False", "UnknownLane").await;
    assert!(said.message.contains("spec.lanes[0].name"), "{}", said.message);
    bed.event("workers", "UnknownLane").await;

    let theirs = json!({"metadata": {"name": "workers-lanekeeper"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let theirs: Deployment = serde_json::from_value(theirs).unwrap();
    bed.api::<Deployment>().create(&PostParams::default(), &theirs).await.unwrap();
    bed.apply(POOL).await;
    bed.condition::<WorkerPool>("workers", "Ready", "False", "NameTaken").await;
    let left = bed.deployment("workers").await.unwrap();
    assert_eq!(left.spec.unwrap().replicas, Some(1), "someone else's is not touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_cannot_start_show_in_the_pool() {
    let Some(bed) = Bed::new("pods").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(QUEUE).await;
    bed.apply(MANUAL_POOL).await;
    let deployment = deployed(&bed).await;
    let labels = deployment.spec.unwrap().template.metadata.unwrap().labels.unwrap();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "workers-1", "labels": labels},
        "spec": {"containers": [{"name": "worker", "image": "i"}]}
    }))
    .unwrap();
    bed.api::<Pod>().create(&PostParams::default(), &pod).await.unwrap();
    let status = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient memory."}]}});
    bed.api::<Pod>()
        .patch_status("workers-1", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
    let said = bed.condition::<WorkerPool>("workers", "Ready", "False", "PodsFailing").await;
    assert!(said.message.contains("Insufficient memory"), "{}", said.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_credentials_roll_the_pool() {
    let Some(bed) = Bed::new("rolls").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(QUEUE).await;
    bed.apply(POOL).await;
    let checksum = |deployment: &Deployment| {
        let metadata = deployment.spec.as_ref().unwrap().template.metadata.clone().unwrap();
        metadata.annotations.unwrap()["lanekeeper.dev/credentials-checksum"].clone()
    };
    let before = checksum(&deployed(&bed).await);
    bed.delete::<k8s_openapi::api::core::v1::Secret>("saas-lanekeeper-worker").await;
    eventually("a new password rolls the pool", async || {
        let now = checksum(&bed.deployment("workers").await.unwrap());
        when(now != before, now)
    })
    .await;
}

async fn rises_after_a_restart(bed: &Bed) {
    let _second = bed.operator("two").await;
    assert_eq!(bed.replicas("workers").await, Some(0));
    for _ in 0..20 {
        bed.enqueue("saas", "mail").await;
    }
    eventually("the pool rises", async || {
        let replicas = bed.replicas("workers").await;
        when(replicas > Some(0), replicas)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_starts_over_an_invalid_queue_scales_by_the_last_good_policy() {
    let Some(bed) = Bed::new("last-good").await else { return };
    let first = bed.operator("one").await;
    bed.apply(QUEUE).await;
    bed.apply(POOL).await;
    deployed(&bed).await;
    bed.apply(&QUEUE.replace("http://mailer/jobs", "http://mailer:99999/jobs")).await;
    bed.condition::<JobQueue>("saas", "Ready", "False", "InvalidValue").await;
    first.stop().await;
    rises_after_a_restart(&bed).await;
    bed.condition::<WorkerPool>("workers", "Ready", "False", "QueueNotReady").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_whose_change_is_refused_scales_the_deployment_that_is_there() {
    let Some(bed) = Bed::new("refused").await else { return };
    let first = bed.operator("one").await;
    bed.apply(QUEUE).await;
    bed.apply(POOL).await;
    deployed(&bed).await;
    let wrong = json!({"spec": {"template": {"tolerations": [{"key": "a", "operator": "Wrong"}]}}});
    edit(&bed.api::<WorkerPool>(), "workers", wrong).await;
    bed.condition::<WorkerPool>("workers", "Ready", "False", "Refused").await;
    first.stop().await;
    rises_after_a_restart(&bed).await;
    bed.condition::<WorkerPool>("workers", "Ready", "False", "Refused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_a_queue_that_is_gone_are_sent_home() {
    let Some(bed) = Bed::new("home").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(QUEUE).await;
    bed.apply(MANUAL_POOL).await;
    deployed(&bed).await;
    edit(&bed.api::<WorkerPool>(), "workers", json!({"spec": {"replicas": 2}})).await;
    eventually("two workers", async || {
        let now = bed.replicas("workers").await;
        when(now == Some(2), now)
    })
    .await;
    bed.delete::<JobQueue>("saas").await;
    eventually("no workers", async || {
        let now = bed.replicas("workers").await;
        when(now == Some(0), now)
    })
    .await;
    bed.condition::<WorkerPool>("workers", "Ready", "False", "QueueNotFound").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_that_does_not_fit_stalls_no_other() {
    let Some(bed) = Bed::new("misfit").await else { return };
    bed.apply(QUEUE).await;
    bed.apply(&POOL.replace("name: workers", "name: misfit")).await;
    // As if a later version's schema allowed more than this operator's types; the other tests write numbers there.
    let definitions: Api<CustomResourceDefinition> = Api::all(bed.client.clone());
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/desired";
    let loosen = json!([{"op": "replace", "path": path, "value": {"x-kubernetes-int-or-string": true}}]);
    let patch = Patch::Json::<()>(serde_json::from_value(loosen).unwrap());
    definitions.patch("workerpools.lanekeeper.dev", &PatchParams::default(), &patch).await.unwrap();
    let status = json!({"status": {"desired": "many"}});
    let resource = ApiResource::erase::<WorkerPool>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(bed.client.clone(), &bed.namespace, &resource);
    eventually("the odd figure is there", async || {
        api.patch_status("misfit", &PatchParams::default(), &Patch::Merge(&status)).await.map(drop)
    })
    .await;
    bed.api::<WorkerPool>().get("misfit").await.expect_err("it does not fit");
    let _operator = bed.operator("one").await;
    bed.apply(POOL).await;
    deployed(&bed).await;
    eventually("the one that does not fit is told so", async || {
        let raw = api.get("misfit").await.unwrap();
        let conditions = raw.data["status"]["conditions"].to_string();
        when(conditions.contains("does not fit"), conditions)
    })
    .await;
}
