//! `enqueue --wait`: until the job ends.

use std::time::Duration;

use lanekeeper_queue::types::{Enqueued, Job, JobState};
use serde::Serialize;
use tokio::time::Instant;

use super::{gone, sentence};
use crate::away::Away;
use crate::commands::get::require_readable;
use crate::failure::{Failure, Result};
use crate::out;
use crate::present::job::detail;
use crate::target::Opened;

/// A job that was taken, to be waited for.
pub(super) struct Wait<'a> {
    pub(super) opened: &'a Opened,
    pub(super) enqueued: &'a Enqueued,
    pub(super) id: &'a str,
    /// The idempotency key that was given.
    pub(super) key: Option<&'a str>,
    /// Where the events ended before it was sent.
    pub(super) mark: &'a str,
    pub(super) deadline: Instant,
    pub(super) json: bool,
}

/// A job that has ended.
enum Ended {
    Kept(Box<Job>),
    /// Its record went with its end.
    Gone(JobState),
}

/// An end without a record, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Gone<'a> {
    id: &'a str,
    state: JobState,
    record_kept: bool,
}

impl Wait<'_> {
    /// Waits for the end of the job; fails unless it succeeds. Whatever ends the wait before, its id is told: in a note, and to
    /// programs in the document that they expect.
    pub(super) async fn ended(&self) -> Result<()> {
        let Self { opened, enqueued, id, .. } = self;
        let mut interrupt = out::interrupts()?;
        out::note(&sentence(enqueued));
        let mut seen = None;
        let ended = tokio::select! {
            ended = self.watch(&mut seen) => ended,
            _ = interrupt.recv() => Err(Failure::failed(format!("interrupted; job {id} stays in the queue"))
                .advice(format!("`lanekeeper get {id}` shows it, `lanekeeper cancel {id}` ends it"))),
        };
        if self.json && ended.is_err() {
            // The failure is what counts; a reader that went away does not change it.
            let _ = seen.map_or_else(|| out::json(enqueued), |job| out::json(&job));
        }
        match ended? {
            Ended::Kept(job) => verdict(&job, self.json),
            Ended::Gone(state) => self.verdict_without_record(opened, state),
        }
    }

    /// The end of the job; the job as it was seen last in `seen`.
    async fn watch(&self, seen: &mut Option<Job>) -> Result<Ended> {
        let Self { opened, id, .. } = self;
        let mut pause = Duration::from_millis(20);
        let mut away = Away::default();
        let mut unseen = false;
        loop {
            let late = Instant::now() >= self.deadline;
            match self.look(seen.as_ref(), unseen).await {
                Err(error) if !late && away.passes(opened, &error) => unseen = true,
                Err(error) => {
                    let standing = format!("job {id} was taken before; what became of it is not known");
                    return Err(opened.failure(&error).details([standing]));
                }
                Ok(Look::Ended(ended)) => return Ok(ended),
                Ok(Look::Lost(why)) => {
                    require_readable(opened, id).await?;
                    let message = format!("job {id} has no record any more, and how it ended is not known");
                    return Err(Failure::failed(message).details([why.to_owned()]));
                }
                Ok(Look::Waits(job)) => {
                    away.is_back();
                    unseen = false;
                    let state = seen.insert(*job).state.name();
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

    async fn look(&self, seen: Option<&Job>, unseen: bool) -> lanekeeper_queue::Result<Look> {
        let Self { opened, id, .. } = self;
        if let Some(job) = opened.queue.get(&[(*id).to_owned()], false).await?.into_iter().next().flatten() {
            return Ok(if is_over(job.state) {
                Look::Ended(Ended::Kept(Box::new(job)))
            } else {
                Look::Waits(Box::new(job))
            });
        }
        if opened.queue.damage(id).await?.is_some() {
            return Ok(Look::Lost("it cannot be read"));
        }
        if let Enqueued::Duplicate { state, .. } = self.enqueued
            && is_over(*state)
        {
            // Its end was told before the wait began.
            return Ok(Look::Ended(Ended::Gone(*state)));
        }
        let key = seen.and_then(|job| job.key.as_deref()).or(self.key);
        let fate = gone::fate(opened, id, key, self.mark, unseen).await?;
        Ok(fate.map_or_else(Look::Lost, |state| Look::Ended(Ended::Gone(state))))
    }

    fn verdict_without_record(&self, opened: &Opened, state: JobState) -> Result<()> {
        let id = self.id;
        if self.json {
            out::json(&Gone { id, state, record_kept: false })?;
        }
        let kept = format!("queue {} keeps no record of it any more", opened.queue.name());
        if state != JobState::Succeeded {
            return Err(Failure::failed(format!("job {id} is {}; {kept}", state.name())));
        }
        if !self.json {
            let why = "its type's `completed` bounds how many are kept, and for how long";
            out::print(&format!("job {id} succeeded; {kept}, so its result cannot be shown ({why})"))?;
        }
        Ok(())
    }
}

/// What one look at the job found.
enum Look {
    Waits(Box<Job>),
    Ended(Ended),
    /// No record, and no news that says how it ended; why not.
    Lost(&'static str),
}

fn is_over(state: JobState) -> bool {
    matches!(state, JobState::Succeeded | JobState::Dead | JobState::Cancelled | JobState::Discarded)
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
