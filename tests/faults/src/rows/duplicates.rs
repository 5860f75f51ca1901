//! Row 15: many clients hand the same job in at once, by key and by id.

use std::collections::BTreeSet;

use anyhow::Result;
use lanekeeper_queue::types::{EnqueueOptions, Enqueued, NewJob};

use super::{Cx, Report};
use crate::stage::Stage;

const CLIENTS: usize = 32;

pub(super) async fn play(_cx: Cx) -> Result<Report> {
    let stage = Stage::new(&[], |_| {}).await?;
    let each = 10_000_usize.div_ceil(CLIENTS);
    let mut report = Report::default();
    for by in ["key", "id"] {
        let mut tasks = Vec::new();
        for number in 0..CLIENTS {
            let client = stage.client(&format!("c{number}")).on(stage.connect(&stage.redis.url()).await?);
            tasks.push(tokio::spawn(async move {
                let mut answers = Vec::with_capacity(each);
                for _ in 0..each {
                    answers.extend(client.enqueue(&[same(by)]).await?);
                }
                anyhow::Ok(answers)
            }));
        }
        let (mut accepted, mut duplicates, mut ids) = (0_u64, 0_u64, BTreeSet::new());
        for task in tasks {
            for answer in task.await?? {
                match answer {
                    Enqueued::Accepted { id, .. } => {
                        accepted += 1;
                        ids.insert(id);
                    }
                    Enqueued::Duplicate { id, .. } => {
                        duplicates += 1;
                        ids.insert(id);
                    }
                    other => anyhow::bail!("{other:?}"),
                }
            }
        }
        report.figure(&format!("acceptedBy{by}"), accepted);
        report.figure(&format!("duplicatesBy{by}"), duplicates);
        report
            .must(format!("{accepted} accepted, {} ids by {by}", ids.len()), accepted == 1 && ids.len() == 1);
    }
    let judged = stage.judged(true).await?;
    report.must("more than one job each", judged.holdings.jobs.len() == 2);
    report.judged(&judged);
    Ok(report)
}

fn same(by: &str) -> NewJob {
    let (id, key) = if by == "id" { (Some("the-one".into()), None) } else { (None, Some("the one".into())) };
    NewJob {
        payload: b"{}".to_vec(),
        options: EnqueueOptions { job_type: "work".into(), id, key, ..EnqueueOptions::default() },
    }
}
