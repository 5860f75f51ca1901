//! `examples/saas` as a user applies it: the application, the queue, the pools; real handlers, and cleanup.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lanekeeper_queue::types::JobState;
use lanekeeper_tests::cluster::Cluster;
use lanekeeper_tests::scenario::{self, World};
use lanekeeper_tests::{figures, objects, wait};
use serde_json::{Value, json};

const EACH: usize = 30;
const REPORTS: usize = 2;
const POOLS: [&str; 5] = ["user-fast", "user-medium", "outbound-webhooks", "batch-fast", "batch-slow"];

#[test]
fn the_saas_example_does_its_work_and_goes_without_a_trace() {
    // the example's manifests name their namespace
    scenario::run_in("apps", async |world| {
        for path in ["examples/saas/05-secret.yaml", "examples/saas/kubernetes/10-app.yaml", "examples/saas"]
        {
            world.cluster.kubectl(&format!("apply -f {path}")).await?.success()?;
        }
        let objects = world.objects();
        for condition in ["Ready", "RedisReachable", "RedisSafe"] {
            objects.condition("JobQueue", "saas", condition, "True", Duration::from_secs(120)).await?;
        }
        for pool in POOLS {
            // A small node has no room for a worker of every pool: whoever is idle makes way sooner than after two minutes.
            let sooner = format!(
                r#"-n apps patch workerpool {pool} --type merge -p {{"spec":{{"scaling":{{"idleAfter":"5s"}}}}}}"#
            );
            world.cluster.kubectl(&sooner).await?.success()?;
            objects.condition("WorkerPool", pool, "Ready", "True", Duration::from_secs(120)).await?;
            ensure!(objects.replicas(pool).await? == 0, "{pool} starts at zero");
        }
        world.cluster.kubectl("-n apps rollout status deployment/saas --timeout=120s").await?.success()?;

        let jobs = world.jobs("saas").await?;
        let mut ids = Vec::new();
        for (job_type, payloads) in workload() {
            ids.extend(jobs.enqueue_all(job_type, &payloads).await.with_context(|| job_type)?);
        }
        let states = finished(&jobs, &ids).await?;
        let effects = effects(&world.cluster).await?;
        figures::record(
            "saas",
            &json!({"jobs": ids.len(), "states": format!("{states:?}"), "effects": effects}),
        )?;

        ensure!(effects["mailsSent"] == effects["mailKeys"], "a mail went out twice: {effects}");
        for (effect, least) in [
            ("mailsSent", EACH),
            ("stripeEvents", EACH / 2),
            ("analyticsBatches", EACH / 2),
            ("thumbnails", EACH / 2),
        ] {
            ensure!(effects[effect].as_u64() >= Some(least as u64), "{effect} is below {least}: {effects}");
        }
        for pool in POOLS {
            let reasons = objects.event_reasons(pool).await?;
            ensure!(reasons.iter().any(|reason| reason == "ScaledUp"), "Events about {pool}: {reasons:?}");
        }
        leaves_nothing(world).await?;
        // deletionPolicy Retain: the jobs are still there for the next one of that name
        ensure!(jobs.get_all(&ids).await?.len() == ids.len(), "Retain keeps the jobs");
        jobs.queue().destroy().await?;
        Ok(())
    });
}

/// Payloads by type, as the application's own generator makes them.
fn workload() -> Vec<(&'static str, Vec<String>)> {
    let many = |count: usize, payload: &dyn Fn(usize) -> Value| {
        (0..count).map(|n| payload(n).to_string()).collect::<Vec<_>>()
    };
    let mail = |template: &'static str, vars: Value| {
        move |n: usize| {
            json!({
                "userId": n, "templateId": template, "eventId": format!("{template}-{n}"),
                "to": format!("user{n}@example.test"), "vars": vars,
            })
        }
    };
    let reset = mail("password-reset", json!({"name": "Ada", "link": "https://example.test/reset"}));
    let receipt = mail("receipt", json!({"name": "Ada", "amount": "12.00", "number": "R-1"}));
    vec![
        ("pdf-report", many(REPORTS, &|n| json!({"customerId": format!("c{n}"), "period": "2026-08"}))),
        (
            "analytics-sync",
            many(
                EACH,
                &|n| json!({"batchTimestamp": format!("2026-09-01T{:02}:{:02}:00Z", n / 4, n % 4 * 15), "events": {"login": n}}),
            ),
        ),
        (
            "webhook-delivery",
            many(
                EACH,
                &|n| json!({"eventId": format!("wh-{n}"), "customerId": format!("c{n}"), "type": "invoice.paid"}),
            ),
        ),
        (
            "stripe-event",
            many(
                EACH,
                &|n| json!({"eventId": format!("evt-{n}"), "type": "charge.succeeded", "customerId": format!("c{n}"), "amountCents": 100 + n}),
            ),
        ),
        ("receipt-email", many(EACH, &receipt)),
        ("password-reset", many(EACH, &reset)),
        ("image-thumbnail", many(EACH, &|n| json!({"imageId": format!("img-{n}"), "size": 64}))),
    ]
}

/// Waits until no job waits for its first attempt and most have succeeded; the example's handlers fail some on
/// purpose, and its backoffs are minutes.
async fn finished(
    jobs: &lanekeeper_tests::jobs::Jobs,
    ids: &[String],
) -> Result<std::collections::BTreeMap<JobState, usize>> {
    wait::until("the saas jobs are done or wait for a retry", Duration::from_secs(300), async || {
        let states = jobs.states(ids).await?;
        let count = |state| states.get(&state).copied().unwrap_or_default();
        let under_way = count(JobState::Ready) + count(JobState::Running);
        ensure!(under_way == 0 && count(JobState::Succeeded) * 10 >= ids.len() * 7, "states are {states:?}");
        Ok(Some(states))
    })
    .await
}

/// What the application says it has done.
async fn effects(cluster: &Cluster) -> Result<Value> {
    let out = cluster
        .kubectl("get --raw /api/v1/namespaces/apps/services/saas:http/proxy/effects")
        .await?
        .success()?;
    Ok(serde_json::from_str(&out)?)
}

/// Deleting the queue and the pools takes their Deployments, pods, budgets and credentials with them.
async fn leaves_nothing(world: &World) -> Result<()> {
    world.cluster.kubectl("-n apps delete workerpools,jobqueues --all --timeout=120s").await?.success()?;
    wait::until_true("what the operator made is gone", Duration::from_secs(120), async || {
        let line = "-n apps get deployments,pods,poddisruptionbudgets,secrets -l app.kubernetes.io/managed-by=lanekeeper -o name";
        let left = world.cluster.kubectl(line).await?.success()?;
        ensure!(left.trim().is_empty(), "left: {left}");
        Ok(true)
    })
    .await?;
    let kept = objects::Objects::new(&world.cluster, "apps").deployments().get("saas").await;
    ensure!(kept.is_ok(), "the application's own Deployment is none of the operator's business");
    Ok(())
}
