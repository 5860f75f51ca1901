//! A change of a pool's template rolls its workers while jobs run.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lanekeeper_tests::{figures, scenario, wait};
use serde_json::json;

use crate::manifests;

/// Jobs a second during the rollout, and how long each runs.
const RATE: u32 = 20;
const JOB_SECONDS: &str = "0.5\n";
const LOAD: Duration = Duration::from_secs(40);

#[test]
fn a_rolling_update_under_load_loses_no_job_and_spends_no_try() {
    scenario::run("rollout", async |world| {
        world.apply(&manifests::sleepy("roll", "minReplicas: 3, maxReplicas: 3", "15s")).await?;
        let objects = world.objects();
        let jobs = world.jobs("roll").await?;
        let mut ids = vec![jobs.enqueue_when_ready("sleep", JOB_SECONDS).await?];
        wait::until_true("three workers are ready", Duration::from_secs(120), async || {
            let status = objects.deployment("roll").await?.status.context("no status yet")?;
            Ok(status.ready_replicas == Some(3))
        })
        .await?;
        let before = pod_names(&objects.pods("roll").await?);

        let started = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
        let mut patched = None;
        while started.elapsed() < LOAD {
            tick.tick().await;
            ids.push(jobs.enqueue("sleep", JOB_SECONDS).await?);
            if patched.is_none() && started.elapsed() > LOAD / 4 {
                let line = format!("-n {} patch workerpool roll --type merge -p", world.namespace);
                let patch = r#"{"spec":{"template":{"env":[{"name":"RELEASE","value":"2"}]}}}"#;
                world.cluster.kubectl(&format!("{line} {patch}")).await?.success()?;
                patched = Some(Instant::now());
            }
        }
        let patched = patched.context("the template was changed")?;
        wait::until_true("every worker is a new one", Duration::from_secs(120), async || {
            let now = pod_names(&objects.pods("roll").await?);
            let status = objects.deployment("roll").await?.status.context("no status yet")?;
            Ok(now.len() == 3
                && now.iter().all(|name| !before.contains(name))
                && status.ready_replicas == Some(3))
        })
        .await?;
        let rolled = patched.elapsed();
        let done = jobs.all_succeed(&ids, Duration::from_secs(120)).await?;

        let tries: u32 = done.iter().map(|job| job.tries).sum();
        let crashes: u32 = done.iter().map(|job| job.crashes).sum();
        let handed_back: u32 = done.iter().map(|job| job.attempts - 1).sum();
        figures::record(
            "rollout",
            &json!({
                "jobs": ids.len(), "succeeded": done.len(), "lost": 0, "tries_spent": tries, "crashes": crashes,
                "handed_back": handed_back, "rollout_s_at_most": rolled.as_secs_f64(),
            }),
        )?;
        ensure!(
            tries == 0 && crashes == 0,
            "{tries} tries and {crashes} crashes were spent on a rolling update"
        );
        Ok(())
    });
}

#[test]
fn a_long_job_is_handed_back_at_the_end_of_the_drain_time_for_free() {
    scenario::run("drain", async |world| {
        let manifest = manifests::sleepy("drain", "minReplicas: 1, maxReplicas: 2", "15s")
            .replace("drainTimeout: 30s", "drainTimeout: 2s");
        world.apply(&manifest).await?;
        let objects = world.objects();
        let jobs = world.jobs("drain").await?;
        let id = jobs.enqueue_when_ready("sleep", "12\n").await?;
        let worker = lease_holder(&jobs, &id).await?;
        world
            .cluster
            .kubectl(&format!("-n {} delete pod {worker} --wait=false", world.namespace))
            .await?
            .success()?;
        let done = jobs.all_succeed(&[id], Duration::from_secs(120)).await?;
        let job = &done[0];
        ensure!(job.attempts == 2 && job.tries == 0 && job.crashes == 0, "history is {:?}", job.history);
        ensure!(
            job.history[0].outcome == "release",
            "the first attempt was handed back: {:?}",
            job.history[0]
        );
        ensure!(job.history[1].worker != worker, "another worker did it");
        ensure!(!objects.pods("drain").await?.is_empty(), "minReplicas: 1 keeps a worker");
        Ok(())
    });
}

/// The worker, by its pod's name, that runs a job.
async fn lease_holder(jobs: &lanekeeper_tests::jobs::Jobs, id: &str) -> Result<String> {
    let ids = [id.to_owned()];
    wait::until("the job runs", Duration::from_secs(120), async || {
        Ok(jobs.get_all(&ids).await?.remove(0).lease.map(|lease| lease.worker))
    })
    .await
}

fn pod_names(pods: &[k8s_openapi::api::core::v1::Pod]) -> Vec<String> {
    pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect()
}
