//! Uninstalling the release, and coming back.

use std::time::Duration;

use anyhow::ensure;
use lanekeeper_tests::{release, scenario};

use crate::manifests;

#[test]
fn an_uninstall_keeps_definitions_and_jobs_and_a_reinstall_goes_on() {
    scenario::run("uninstall", async |world| {
        world.apply(&manifests::quick("kept", 1, "5s")).await?;
        let objects = world.objects();
        let jobs = world.jobs("kept").await?;
        let done = jobs.enqueue_when_ready("quick", "{}").await?;
        jobs.all_succeed(std::slice::from_ref(&done), Duration::from_secs(120)).await?;
        objects.at_zero("kept", Duration::from_secs(60)).await?;
        // a job for the future, so that something waits through it all
        let later = later(&jobs).await?;

        let args =
            ["uninstall", release::NAME, "--namespace", release::NAMESPACE, "--wait", "--timeout", "3m"];
        world.cluster.helm(&args).await?.success()?;
        let definitions = world
            .cluster
            .kubectl("get crd jobqueues.lanekeeper.dev workerpools.lanekeeper.dev -o name")
            .await?;
        definitions.success()?;
        objects.custom("JobQueue", "kept").await?;
        objects.custom("WorkerPool", "kept").await?;

        release::install(&world.cluster).await?;
        objects.condition("JobQueue", "kept", "Ready", "True", Duration::from_secs(120)).await?;
        let again = world.jobs("kept").await?;
        let known = again.get_all(&[done, later]).await?;
        ensure!(known.len() == 2, "both jobs are still known");
        let next = again.enqueue("quick", "{}").await?;
        again.all_succeed(&[next], Duration::from_secs(120)).await?;
        Ok(())
    });
}

/// Enqueues a job that is due in an hour.
async fn later(jobs: &lanekeeper_tests::jobs::Jobs) -> anyhow::Result<String> {
    use lanekeeper_queue::types::{EnqueueOptions, Enqueued, NewJob};
    let options =
        EnqueueOptions { job_type: "quick".to_owned(), delay: Some(3_600_000), ..EnqueueOptions::default() };
    let replies = jobs.queue().enqueue(&[NewJob { payload: b"{}".to_vec(), options }]).await?;
    match replies.as_slice() {
        [Enqueued::Accepted { id, .. }] => Ok(id.clone()),
        other => anyhow::bail!("not accepted: {other:?}"),
    }
}
