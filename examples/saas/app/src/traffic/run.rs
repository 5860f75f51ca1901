//! Enqueues a plan, each job at its time, and keeps what the queue answered.

use std::collections::BTreeMap;
use std::time::Duration;

use lanekeeper_queue::client::{Error, Queue};
use lanekeeper_queue::types::{EnqueueOptions, Enqueued, NewJob};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ledger::{Entry, Outcome, Writer};
use super::plan::Planned;

/// Jobs in one call.
const BATCH: usize = 100;
/// How long a Redis that does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(15);

/// How far the traffic is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Jobs planned in all.
    pub planned: usize,
    /// Jobs offered so far.
    pub offered: usize,
    /// Of those, accepted.
    pub accepted: usize,
    /// Of those, answered `duplicate`.
    pub duplicates: usize,
    /// Of those, refused.
    pub rejected: usize,
}

/// Why the traffic stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The queue could not be reached, or refused the whole call.
    #[error(transparent)]
    Queue(#[from] Error),
    /// The ledger could not be written.
    #[error("ledger: {0}")]
    Ledger(#[from] std::io::Error),
}

/// Enqueues the plan. Cancelled, it stops after the call that is under way.
///
/// # Errors
/// [`Stopped`]; the ledger holds every answer so far.
pub async fn run(
    queue: &Queue,
    run: &str,
    plan: &[Planned],
    ledger: &mut Writer,
    progress: &watch::Sender<Progress>,
    cancel: &CancellationToken,
) -> Result<Progress, Stopped> {
    let start = Instant::now();
    progress.send_modify(|p| *p = Progress { planned: plan.len(), ..Progress::default() });
    let mut next = 0;
    while next < plan.len() && !cancel.is_cancelled() {
        let due = plan[next..].partition_point(|job| Duration::from_millis(job.at_ms) <= start.elapsed());
        if due == 0 {
            let at = start + Duration::from_millis(plan[next].at_ms);
            tokio::select! {
                () = tokio::time::sleep_until(at) => continue,
                () = cancel.cancelled() => break,
            }
        }
        let batch = &plan[next..next + due.min(BATCH)];
        let jobs: Vec<NewJob> =
            batch.iter().enumerate().map(|(n, job)| new_job(run, next + n, job)).collect();
        let (replies, retried) = enqueue(queue, &jobs).await?;
        let entries: Vec<Entry> = batch
            .iter()
            .zip(&jobs)
            .zip(replies)
            .map(|((job, new), reply)| entry(job, new, reply, retried))
            .collect();
        ledger.append(&entries)?;
        next += batch.len();
        progress.send_modify(|p| count(p, &entries));
    }
    Ok(progress.borrow().clone())
}

fn new_job(run: &str, number: usize, job: &Planned) -> NewJob {
    NewJob {
        payload: job.payload.to_string().into_bytes(),
        options: EnqueueOptions {
            job_type: job.job_type.to_owned(),
            // An id of our own makes the call repeatable: a lost reply costs no certainty.
            id: Some(format!("{run}-{number}")),
            delay: job.delay_ms,
            meta: BTreeMap::from([("source".to_owned(), "saas-traffic".to_owned())]),
            ..EnqueueOptions::default()
        },
    }
}

/// The replies, and whether an earlier call may have stored the jobs without our hearing of it.
async fn enqueue(queue: &Queue, jobs: &[NewJob]) -> Result<(Vec<Enqueued>, bool), Error> {
    let deadline = Instant::now() + PATIENCE;
    let mut retried = false;
    loop {
        match queue.enqueue(jobs).await {
            Ok(replies) => return Ok((replies, retried)),
            Err(Error::Redis(error)) if is_passing(&error) && Instant::now() < deadline => {
                tracing::warn!(%error, "Redis does not answer, asking again");
                retried = true;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_passing(error: &redis::RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
}

fn entry(job: &Planned, new: &NewJob, reply: Enqueued, retried: bool) -> Entry {
    let (outcome, id, reason) = match reply {
        Enqueued::Accepted { id, .. } | Enqueued::Replaced { id, .. } => (Outcome::Accepted, Some(id), None),
        // Our own id: the call before, whose reply was lost, stored it.
        Enqueued::Duplicate { id, .. } if retried && new.options.id.as_ref() == Some(&id) => {
            (Outcome::Accepted, Some(id), None)
        }
        Enqueued::Duplicate { id, .. } => (Outcome::Duplicate, Some(id), None),
        Enqueued::Rejected { reason, message } => {
            (Outcome::Rejected, None, Some(format!("{reason}: {message}")))
        }
    };
    Entry {
        outcome,
        id,
        job_type: job.job_type.to_owned(),
        intent: job.intent,
        reason,
        payload: job.payload.clone(),
    }
}

fn count(progress: &mut Progress, entries: &[Entry]) {
    progress.offered += entries.len();
    for entry in entries {
        match entry.outcome {
            Outcome::Accepted => progress.accepted += 1,
            Outcome::Duplicate => progress.duplicates += 1,
            Outcome::Rejected => progress.rejected += 1,
        }
    }
}
