//! Row 18: more dead letters than others keep. None is dropped, and all can be listed.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use lanekeeper_queue::types::{AttemptError, DeadFilter, DeadReason, ErrorClass, NewJob, Outcome, Spends};

use super::{Cx, Report};
use crate::client::leases;
use crate::stage::{Stage, work};

pub(super) async fn play(cx: Cx) -> Result<Report> {
    let mut stage = Stage::new(&[], |policy| policy.lease_ms = 60_000).await?;
    let wanted = cx.size(50_000, 2_000);
    kill_jobs(&stage, wanted).await?;
    for _ in 0..50 {
        stage.queue.sweep(&stage.client("sweeper").who, 200).await?;
    }
    let (mut listed, mut cursor, mut pages) = (BTreeSet::new(), None, 0_u64);
    loop {
        let page = stage.queue.dead_list(&DeadFilter::default(), 200, cursor.as_deref()).await?;
        pages += 1;
        listed.extend(page.jobs.into_iter().map(|job| job.id));
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    let counted = stage.queue.stats().await?.dead;
    stage.healed(Duration::ZERO);
    let judged = stage.judged(true).await?;
    let mut report = Report::default();
    report.figure("deadLetters", counted);
    report.figure("listed", listed.len());
    report.figure("pages", pages);
    report.must(format!("{counted} counted, {} listed of {wanted}", listed.len()), listed.len() == wanted);
    report.must(format!("{counted} counted of {wanted}"), counted == wanted as u64);
    report.judged(&judged);
    Ok(report)
}

/// Hands in jobs and lets each die of a permanent error.
pub(super) async fn kill_jobs(stage: &Stage, count: usize) -> Result<()> {
    let (producer, worker) = (stage.client("producer"), stage.client("worker"));
    let jobs: Vec<NewJob> = (0..count).map(|n| work(format!("d{n}"), 0, 0)).collect();
    producer.enqueue_all(&jobs).await?;
    let error =
        AttemptError { class: ErrorClass::Permanent, code: "Broken".into(), message: "told to die".into() };
    let dies = Outcome::Dead { reason: DeadReason::PermanentError, error, spends: Spends::Try };
    loop {
        let claimed = worker.claim(&["main"], 200).await?;
        if claimed.is_empty() {
            return Ok(());
        }
        worker.settle(&leases(&claimed), &dies).await?;
    }
}
