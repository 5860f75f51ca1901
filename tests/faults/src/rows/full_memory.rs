//! Row 8: Redis is full. Enqueues are refused in words, everything that makes room goes on, and then jobs are taken again.

use std::time::Duration;

use anyhow::Result;
use lanekeeper_queue::Error;
use lanekeeper_queue::types::{AttemptError, DeadReason, ErrorClass, NewJob, Outcome, Settled, Spends};

use super::{Cx, Report};
use crate::client::leases;
use crate::stage::{Stage, work};

pub(super) async fn play(cx: Cx) -> Result<Report> {
    let limit = if cx.full { "48mb" } else { "16mb" };
    let keep = |policy: &mut lanekeeper_api::policy::QueuePolicy| {
        policy.lease_ms = 60_000;
        policy.job_types.values_mut().for_each(|entry| entry.completed.keep = 10);
    };
    let mut stage = Stage::new(&["--maxmemory", limit], keep).await?;
    let (producer, worker) = (stage.client("producer"), stage.client("worker"));
    let mut report = Report::default();
    let (mut accepted, mut refusals) = (0_u64, 0);
    while refusals < 20 {
        let jobs: Vec<NewJob> = (0..50).map(|n| large(accepted + n)).collect();
        match producer.enqueue(&jobs).await {
            Ok(_) => accepted += 50,
            Err(Error::OutOfMemory(_)) => refusals += 1,
            Err(other) => anyhow::bail!("a full Redis was told as: {other}"),
        }
    }
    report.figure("accepted", accepted);
    report.figure("enqueuesRefused", refusals);

    // One in ten dies, one in ten is tried again, the others succeed; not one word may be refused.
    let done = Outcome::Success { result: b"{}".to_vec(), follow_ups: vec![] };
    let (mut words, mut dead) = (0_u64, 0_u64);
    loop {
        let jobs = worker.claim(&["main"], 100).await?;
        if jobs.is_empty() {
            break;
        }
        let held = leases(&jobs);
        let tenth = held.len() / 10;
        for (part, outcome) in [
            (&held[..tenth], died()),
            (&held[tenth..2 * tenth], Outcome::Retry { delay_ms: 0, spends: Spends::Try, error: failure() }),
            (&held[2 * tenth..], done.clone()),
        ] {
            let answers = worker.settle(part, &outcome).await?;
            words += answers.iter().filter(|answer| **answer == Settled::Done).count() as u64;
            report.must("a settlement was refused", answers.iter().all(|answer| *answer == Settled::Done));
        }
        dead += tenth as u64;
    }
    report.figure("settlementsDone", words);
    report.figure("deadLetters", dead);
    report.must("no dead letter was written", dead > 0);
    let again = producer.enqueue(&[work("after".into(), 0, 0)]).await;
    report.must(format!("drained, but not open again: {again:?}"), again.is_ok());
    let last = leases(&worker.claim(&["main"], 1).await?);
    worker.settle(&last, &done).await?;
    stage.healed(Duration::ZERO);
    let stats = stage.queue.stats().await?;
    report.must(format!("{} dead letters, not {dead}", stats.dead), stats.dead == dead);
    let left = stage.left().await?;
    report.must(format!("{left} jobs left"), left == 0);
    let judged = stage.judged(true).await?;
    report.judged(&judged);
    Ok(report)
}

fn large(number: u64) -> NewJob {
    NewJob { payload: vec![b'x'; 2_000], ..work(format!("m{number}"), 0, 0) }
}

fn failure() -> AttemptError {
    AttemptError { class: ErrorClass::Transient, code: "Failed".into(), message: "told to fail".into() }
}

fn died() -> Outcome {
    Outcome::Dead { reason: DeadReason::PermanentError, error: failure(), spends: Spends::Try }
}
