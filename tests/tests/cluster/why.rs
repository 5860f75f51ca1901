//! `lanekeeper why`, for the causes that need a cluster: it answers with what to look at, in seconds.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lanekeeper_tests::scenario::{self, World};
use lanekeeper_tests::wait;

use crate::manifests;

/// How long a cause may take to show: the scheduler and the kubelet have to have spoken.
const SHOWS: Duration = Duration::from_secs(90);
/// How long one answer may take.
const ANSWERS: Duration = Duration::from_secs(10);

#[test]
fn why_names_pods_that_cannot_be_scheduled() {
    scenario::run("why-unschedulable", async |world| {
        let manifest = manifests::quick("stuck", 1, "5s").replace("cpu: 50m", "cpu: 640");
        let job = waiting_job(world, "stuck", &manifest).await?;
        answers(world, "stuck", &job, &["nschedulable", "Insufficient cpu"]).await?;
        let status = world.objects().condition("WorkerPool", "stuck", "Ready", "False", SHOWS).await?;
        ensure!(status.1.contains("Insufficient cpu"), "the condition says it too: {status:?}");
        Ok(())
    });
}

#[test]
fn why_names_an_image_that_cannot_be_pulled() {
    scenario::run("why-image", async |world| {
        let manifest = manifests::sleepy("stuck", "maxReplicas: 1", "15s")
            .replace("localhost/busybox:1", "localhost/absent:1");
        let job = waiting_job(world, "stuck", &manifest).await?;
        answers(world, "stuck", &job, &["localhost/absent:1"]).await
    });
}

#[test]
fn why_names_a_pool_at_its_maximum() {
    scenario::run("why-max", async |world| {
        let manifest =
            manifests::sleepy("full", "maxReplicas: 1", "15s").replace("concurrency: 10", "concurrency: 1");
        world.apply(&manifest).await?;
        let jobs = world.jobs("full").await?;
        let first = jobs.enqueue_when_ready("sleep", "60\n").await?;
        let second = jobs.enqueue("sleep", "1\n").await?;
        wait::until_true("the first job runs", Duration::from_secs(120), async || {
            Ok(jobs.get_all(std::slice::from_ref(&first)).await?[0].lease.is_some())
        })
        .await?;
        answers(world, "full", &second, &["maxReplicas", "1"]).await?;
        let holder =
            jobs.get_all(std::slice::from_ref(&first)).await?.remove(0).lease.map(|lease| lease.worker);
        answers(world, "full", &first, &["running", holder.as_deref().unwrap_or("a worker")]).await?;
        jobs.queue().cancel(&[first], "tests").await?;
        jobs.all_succeed(&[second], Duration::from_secs(60)).await?;
        Ok(())
    });
}

async fn waiting_job(world: &World, queue: &str, manifest: &str) -> Result<String> {
    world.apply(manifest).await?;
    let job_type = if manifest.contains("name: quick") { "quick" } else { "sleep" };
    world.jobs(queue).await?.enqueue_when_ready(job_type, "1\n").await
}

/// Asks about the job and about its lane, with nothing but the kubeconfig, until the answer has all of `words`.
async fn answers(world: &World, queue: &str, job: &str, words: &[&str]) -> Result<()> {
    let name = format!("{}/{queue}", world.namespace);
    let context = world.cluster.kubectl("config current-context").await?.success()?;
    for about in [job, "only"] {
        wait::until_true(&format!("`why {about}` says {words:?}"), SHOWS, async || {
            let asked = Instant::now();
            let said = world
                .cluster
                .lanekeeper(&["why", about, "--queue", &name, "--context", context.trim()])
                .await?;
            let all = format!("{}{}", said.out, said.err);
            ensure!(words.iter().all(|word| all.contains(word)), "`why {about}` says: {all}");
            ensure!(asked.elapsed() < ANSWERS, "the answer took {:?}", asked.elapsed());
            eprintln!("why {about}:\n{}", said.out);
            Ok(true)
        })
        .await?;
        if words.contains(&"running") {
            break; // a lane does not run
        }
    }
    Ok(())
}
