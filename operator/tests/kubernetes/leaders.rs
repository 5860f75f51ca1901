//! Two operators that both believe to lead do no harm.

use lanekeeper_api::job_queue::JobQueue;
use lanekeeper_api::worker_pool::WorkerPool;
use serde_json::json;

use super::bed::{Bed, edit, eventually, when};
use super::manifests::{POOL, QUEUE};

#[tokio::test(flavor = "multi_thread")]
async fn two_leaders_agree() {
    let Some(bed) = Bed::new("leaders").await else { return };
    let (_one, _two) = (bed.operator("one").await, bed.operator("two").await);
    bed.apply(QUEUE).await;
    bed.apply(POOL).await;
    bed.condition::<JobQueue>("saas", "Ready", "True", "PolicyApplied").await;
    bed.condition::<WorkerPool>("workers", "Ready", "True", "AsExpected").await;
    for _ in 0..20 {
        bed.enqueue("saas", "mail").await;
    }
    eventually("the pool rises", async || {
        let now = bed.replicas("workers").await;
        when(now > Some(0), now)
    })
    .await;
    // Several rounds of both, each woken by a change: whatever they fought over would move from round to round.
    let look = async || {
        let generation = bed.deployment("workers").await.unwrap().metadata.generation;
        let (_, version) = bed.queue("saas").await.policy().await.unwrap().unwrap();
        let password = bed.secret_value("saas-lanekeeper-worker", "password").await.unwrap();
        (generation, version, password)
    };
    let (_, version, password) = look().await;
    for round in 0..3 {
        let touch = json!({"metadata": {"annotations": {"round": round.to_string()}}});
        edit(&bed.api::<JobQueue>(), "saas", touch.clone()).await;
        edit(&bed.api::<WorkerPool>(), "workers", touch).await;
    }
    bed.apply(&QUEUE.replace("timeout: 10s", "timeout: 20s")).await;
    eventually("the new policy is in force", async || {
        let (policy, version) = bed.queue("saas").await.policy().await.unwrap().unwrap();
        when(policy.job_types["mail"].timeout_ms == 20_000, (policy, version))
    })
    .await;
    eventually("the new grace period is there", async || {
        let pod = bed.deployment("workers").await.unwrap().spec.unwrap().template.spec.unwrap();
        when(pod.termination_grace_period_seconds == Some(35), pod.termination_grace_period_seconds)
    })
    .await;
    let after = look().await;
    assert!(after.1 > version, "one new policy");
    assert_eq!(after.2, password, "the password stays");
    assert!(bed.replicas("workers").await > Some(0), "the replicas stay");
}
