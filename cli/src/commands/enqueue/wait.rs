//! `enqueue --wait`: until the job ends.

use std::time::Duration;

use lanekeeper_queue::types::{Enqueued, Job, JobState};
use tokio::time::Instant;

use super::sentence;
use crate::away::Away;
use crate::commands::get::missing;
use crate::failure::{Failure, Result};
use crate::out;
use crate::present::job::detail;
use crate::target::Opened;

/// Waits for the end of a job that was taken; fails unless it succeeds. Whatever ends the wait before, its id is told: in a note,
/// and to programs in the document that they expect.
pub(super) async fn ended(
    opened: &Opened,
    enqueued: &Enqueued,
    id: &str,
    deadline: Instant,
    json: bool,
) -> Result<()> {
    let mut interrupt = out::interrupts()?;
    out::note(&sentence(enqueued));
    let mut seen = None;
    let ended = tokio::select! {
        ended = watch(opened, id, deadline, &mut seen) => ended,
        _ = interrupt.recv() => Err(Failure::failed(format!("interrupted; job {id} stays in the queue"))
            .advice(format!("`lanekeeper get {id}` shows it, `lanekeeper cancel {id}` ends it"))),
    };
    if json && ended.is_err() {
        // The failure is what counts; a reader that went away does not change it.
        let _ = seen.map_or_else(|| out::json(enqueued), |job| out::json(&job));
    }
    verdict(&ended?, json)
}

/// The job once it has ended; as it was seen last in `seen`.
async fn watch(opened: &Opened, id: &str, deadline: Instant, seen: &mut Option<Job>) -> Result<Job> {
    let mut pause = Duration::from_millis(20);
    let mut away = Away::default();
    loop {
        let late = Instant::now() >= deadline;
        match opened.queue.get(&[id.to_owned()], false).await {
            Err(error) if !late && away.passes(opened, &error) => {}
            Err(error) => {
                let standing = format!("job {id} was taken before; what became of it is not known");
                return Err(opened.failure(&error).details([standing]));
            }
            Ok(found) => {
                away.is_back();
                let Some(job) = found.into_iter().next().flatten() else {
                    return Err(missing(opened, id).await);
                };
                if matches!(
                    job.state,
                    JobState::Succeeded | JobState::Dead | JobState::Cancelled | JobState::Discarded
                ) {
                    return Ok(job);
                }
                let state = seen.insert(job).state.name();
                if late {
                    return Err(Failure::failed(format!("job {id} did not end in time: it is {state}"))
                        .advice(format!("`lanekeeper why {id}` says why")));
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

fn verdict(job: &Job, json: bool) -> Result<()> {
    let now_ms = job.finished_ms.unwrap_or(job.due_ms);
    if json {
        out::json(job)?;
    } else {
        out::print(&detail(job, now_ms))?;
    }
    if job.state == JobState::Succeeded {
        return Ok(());
    }
    Err(Failure::failed(format!("job {} is {}", job.id, job.state.name())))
}
