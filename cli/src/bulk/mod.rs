//! Many jobs from NDJSON: read, sent in batches, every line accounted for.
//!
//! A reading thread hands lines over a bounded channel; the sender takes what is there, up to a batch. So
//! batches fill under load, and a slow producer on standard input never waits for a batch to fill.

mod line;
mod read;
mod summary;

use std::path::Path;

use lanekeeper_queue::types::NewJob;
use tokio::sync::mpsc;

use crate::args::QueueArgs;
use crate::failure::{Failure, Result};
use crate::{out, target};
use line::Line;
use summary::Summary;

/// Jobs a call, as `lk_enqueue` bounds them.
const BATCH_JOBS: usize = 200;
/// Bytes a call; the library bounds 1 MiB, and options count too.
const BATCH_BYTES: usize = 768 * 1024;
const LINES_AHEAD: usize = 2 * BATCH_JOBS;

/// What to enqueue.
pub(crate) struct Bulk<'a> {
    /// The file, or `-`.
    pub(crate) file: &'a Path,
    /// Where rejected lines go.
    pub(crate) rejects: Option<&'a Path>,
    /// Lines to skip.
    pub(crate) skip: u64,
    /// Whether a program reads the summary.
    pub(crate) json: bool,
}

/// Enqueues every line; fails when one was rejected, after all others were sent.
pub(crate) async fn run(bulk: &Bulk<'_>, queue: &QueueArgs) -> Result<()> {
    let source = read::Source::open(bulk.file)?;
    let opened = target::open(queue).await?;
    let mut summary = Summary::new(bulk.rejects, bulk.skip, source.bytes())?;
    let (sender, mut lines) = mpsc::channel::<read::Raw>(LINES_AHEAD);
    let skip = bulk.skip;
    let reader = tokio::task::spawn_blocking(move || source.read(skip, &sender));
    let mut interrupt = out::interrupts()?;
    let mut taken = Vec::with_capacity(BATCH_JOBS);
    let interrupted = loop {
        taken.clear();
        tokio::select! {
            count = lines.recv_many(&mut taken, BATCH_JOBS) => if count == 0 { break false },
            _ = interrupt.recv() => break true,
        }
        if let Err(failure) = send(&opened, &taken, &mut summary).await {
            return Err(summary.stopped(failure, bulk));
        }
    };
    if interrupted {
        return Err(summary.stopped(Failure::failed("interrupted"), bulk));
    }
    let read = reader.await.map_err(|error| Failure::failed(format!("reading ended early: {error}")))?;
    if let Err(error) = read {
        let failure = Failure::invalid(format!("cannot read {}: {error}", bulk.file.display()));
        return Err(summary.stopped(failure, bulk));
    }
    summary.finish(bulk.json)
}

/// Sends what was taken in as many calls as its size needs.
async fn send(opened: &target::Opened, taken: &[read::Raw], summary: &mut Summary) -> Result<()> {
    let mut batch = Batch::default();
    for raw in taken {
        match Line::parse(&raw.text) {
            Err(problem) => {
                // Lines are counted in order, so what came before must be settled first.
                batch.flush(opened, summary).await?;
                summary.invalid(raw, &problem)?;
            }
            Ok(job) => {
                if batch.bytes + raw.text.len() > BATCH_BYTES {
                    batch.flush(opened, summary).await?;
                }
                batch.push(raw, job);
            }
        }
    }
    batch.flush(opened, summary).await
}

#[derive(Default)]
struct Batch<'a> {
    raws: Vec<&'a read::Raw>,
    jobs: Vec<NewJob>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    fn push(&mut self, raw: &'a read::Raw, job: NewJob) {
        self.bytes += raw.text.len();
        self.raws.push(raw);
        self.jobs.push(job);
    }

    async fn flush(&mut self, opened: &target::Opened, summary: &mut Summary) -> Result<()> {
        if self.jobs.is_empty() {
            return Ok(());
        }
        let answers = opened.queue.enqueue(&self.jobs).await.map_err(|error| opened.failure(&error))?;
        if answers.len() != self.jobs.len() {
            return Err(Failure::failed(format!(
                "{} jobs were sent and {} answered",
                self.jobs.len(),
                answers.len()
            )));
        }
        for (raw, answer) in self.raws.iter().zip(answers) {
            summary.answered(raw, &answer)?;
        }
        *self = Self::default();
        Ok(())
    }
}

/// Shows a problem of one line.
fn complain(number: u64, reason: &str, message: &str) {
    out::note(&format!("line {number}: rejected:{reason}: {message}"));
}
