//! A deleted queue goes from Kubernetes, and from Redis as its deletionPolicy says.

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, PostParams};
use lanekeeper_api::job_queue::JobQueue;
use serde_json::json;

use super::bed::{Bed, edit, eventually, when};
use super::manifests::{QUEUE, queue_with};

async fn ready(bed: &Bed) {
    bed.condition::<JobQueue>("saas", "Ready", "True", "PolicyApplied").await;
}

async fn gone(bed: &Bed) {
    eventually("the JobQueue is gone", async || {
        let left = bed.queue_object("saas").await;
        when(left.is_none(), left.map(|queue| queue.metadata.finalizers))
    })
    .await;
}

async fn users(bed: &Bed) -> Vec<String> {
    let mut connection = bed.queue("saas").await.connection();
    redis::cmd("ACL").arg("USERS").query_async(&mut connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn retain_keeps_the_jobs_and_takes_the_credentials() {
    let Some(bed) = Bed::new("retain").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(QUEUE).await;
    ready(&bed).await;
    bed.enqueue("saas", "mail").await;
    assert_eq!(users(&bed).await.len(), 2);
    bed.delete::<JobQueue>("saas").await;
    gone(&bed).await;
    bed.event("saas", "DataRetained").await;
    assert_eq!(users(&bed).await, ["default"]);
    assert!(bed.api::<Secret>().get_opt("saas-lanekeeper-worker").await.unwrap().is_none());
    let ready_jobs: u64 = bed.queue("saas").await.stats().await.unwrap().lanes[0].types[0].ready;
    assert_eq!(ready_jobs, 1);

    // A queue made again, a newer object, takes the jobs over.
    bed.apply(QUEUE).await;
    ready(&bed).await;
    let object = bed.queue_object("saas").await.unwrap();
    let (policy, _) = bed.queue("saas").await.policy().await.unwrap().unwrap();
    assert_eq!(Some(policy.source.uid), object.metadata.uid);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_stay_until_the_workers_have_gone() {
    let Some(bed) = Bed::new("farewell").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(QUEUE).await;
    ready(&bed).await;
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "worker", "labels": {
            "app.kubernetes.io/managed-by": "lanekeeper", "lanekeeper.dev/queue": "saas"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}
    }))
    .unwrap();
    bed.api::<Pod>().create(&PostParams::default(), &pod).await.unwrap();
    bed.delete::<JobQueue>("saas").await;
    bed.event("saas", "WaitingForWorkers").await;
    assert_eq!(users(&bed).await.len(), 2);
    assert!(bed.queue_object("saas").await.is_some());
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    bed.api::<Pod>().delete("worker", &at_once).await.unwrap();
    gone(&bed).await;
    assert_eq!(users(&bed).await, ["default"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_leaves_nothing_even_with_a_spec_that_became_invalid() {
    let Some(bed) = Bed::new("delete").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(&queue_with("deletionPolicy: Delete")).await;
    ready(&bed).await;
    bed.enqueue("saas", "mail").await;
    bed.apply(&queue_with("deletionPolicy: Delete").replace("http://mailer/jobs", "http://mailer:99999/"))
        .await;
    bed.condition::<JobQueue>("saas", "Ready", "False", "InvalidValue").await;
    bed.delete::<JobQueue>("saas").await;
    gone(&bed).await;
    bed.event("saas", "DataDeleted").await;
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("lk:*").query_async(&mut bed.queue("saas").await.connection()).await.unwrap();
    assert!(keys.is_empty(), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_someone_else_took_over_is_not_destroyed() {
    let Some(bed) = Bed::new("taken").await else { return };
    let operator = bed.operator("one").await;
    bed.apply(&queue_with("deletionPolicy: Delete")).await;
    ready(&bed).await;
    operator.stop().await;
    let queue = bed.queue("saas").await;
    let (mut policy, _) = queue.policy().await.unwrap().unwrap();
    policy.source.owner = "cli".to_owned();
    queue.configure(&policy, true).await.unwrap();
    bed.delete::<JobQueue>("saas").await;
    let _second = bed.operator("two").await;
    gone(&bed).await;
    assert_eq!(queue.policy().await.unwrap().unwrap().0.source.owner, "cli");
}

#[tokio::test(flavor = "multi_thread")]
async fn retain_does_not_wait_for_a_redis_for_ever() {
    let Some(mut bed) = Bed::new("retain-away").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(QUEUE).await;
    ready(&bed).await;
    bed.redis.kill();
    bed.delete::<JobQueue>("saas").await;
    bed.event_saying("saas", "RedisUnreachable", "cannot clean up").await;
    gone(&bed).await;
    bed.event("saas", "CleanupSkipped").await;
    assert!(bed.api::<Secret>().get_opt("saas-lanekeeper-worker").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_waits_for_redis_or_for_a_persons_word() {
    let Some(mut bed) = Bed::new("delete-away").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(&queue_with("deletionPolicy: Delete")).await;
    ready(&bed).await;
    bed.redis.kill();
    bed.delete::<JobQueue>("saas").await;
    bed.event_saying("saas", "RedisUnreachable", "lanekeeper.dev/force-delete=true").await;
    assert!(bed.queue_object("saas").await.is_some());
    let word = json!({"metadata": {"annotations": {"lanekeeper.dev/force-delete": "true"}}});
    edit(&bed.api::<JobQueue>(), "saas", word).await;
    gone(&bed).await;
}
