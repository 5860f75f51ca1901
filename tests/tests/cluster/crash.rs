//! Workers that die without a word.

use std::time::Duration;

use anyhow::ensure;
use lanekeeper_tests::{scenario, wait};

use crate::manifests;

#[test]
fn a_job_whose_worker_is_killed_is_done_by_another() {
    scenario::run("crash", async |world| {
        world.apply(&manifests::sleepy("crash", "minReplicas: 2, maxReplicas: 2", "5s")).await?;
        let jobs = world.jobs("crash").await?;
        let ids = [jobs.enqueue_when_ready("sleep", "8\n").await?];
        let worker = wait::until("the job runs", Duration::from_secs(120), async || {
            Ok(jobs.get_all(&ids).await?.remove(0).lease.map(|lease| lease.worker))
        })
        .await?;
        world.cluster.kill_container(&world.namespace, &worker).await?;
        let done = jobs.all_succeed(&ids, Duration::from_secs(120)).await?;
        let job = &done[0];
        ensure!(job.attempts == 2 && job.tries == 0 && job.crashes == 1, "history is {:?}", job.history);
        let lost = job.history[0].error.as_ref().map(|error| error.code.as_str());
        ensure!(lost == Some("LeaseExpired"), "the first attempt's history says why: {:?}", job.history[0]);
        Ok(())
    });
}
