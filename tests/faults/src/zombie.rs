//! A worker without manners: it takes jobs, sends no heartbeat, and once each job is another's it claims success under its
//! old token. The real worker holds its tongue then, so this one shows that Redis refuses whatever it is told.

use std::time::{Duration, Instant};

use anyhow::Result;
use lanekeeper_queue::Queue;
use lanekeeper_queue::types::{Claimed, Held, Outcome, Settled};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::policy::LEASE_MS;

/// What became of the zombie's claims.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Haunting {
    /// Jobs it took and let go.
    pub taken: u64,
    /// Stale settlements sent.
    pub sent: u64,
    /// Refused.
    pub refused: u64,
    /// Accepted: must be none.
    pub accepted: u64,
}

/// Takes five jobs at a time until `stop`.
///
/// # Errors
/// Never for Redis being away: that is part of the run.
pub async fn haunt(zombie: Client, stop: CancellationToken) -> Result<Haunting> {
    let mut haunting = Haunting::default();
    while !stop.is_cancelled() {
        if let Ok(jobs) = zombie.claim(&["main"], 5).await {
            haunting.taken += jobs.len() as u64;
            for job in jobs {
                settle_when_superseded(&zombie, &job, &mut haunting).await;
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(haunting)
}

/// Says `success` about a job once it is another's, and counts the answer.
pub async fn settle_when_superseded(zombie: &Client, job: &Claimed, haunting: &mut Haunting) {
    let deadline = Instant::now() + Duration::from_millis(LEASE_MS * 10);
    while Instant::now() < deadline {
        if superseded(&zombie.queue, job).await {
            let lie = Outcome::Success { result: b"zombie".to_vec(), follow_ups: vec![] };
            // No answer is no verdict: only what Redis said counts.
            if let Ok(answers) = zombie.settle(&[Held { id: job.id.clone(), token: job.token }], &lie).await {
                haunting.sent += 1;
                match answers.first() {
                    Some(Settled::Stale) => haunting.refused += 1,
                    _ => haunting.accepted += 1,
                }
            }
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether the job's lease, or its end, is no longer under the zombie's token.
async fn superseded(queue: &Queue, job: &Claimed) -> bool {
    match queue
        .get(std::slice::from_ref(&job.id), false)
        .await
        .ok()
        .and_then(|mut found| found.pop().flatten())
    {
        Some(record) => match record.lease {
            Some(lease) => lease.token > job.token,
            None => record.history.iter().any(|attempt| attempt.started_ms >= job.claimed_ms),
        },
        None => false,
    }
}
