//! Row 17: payloads are bytes. They come back as they went in: from the claim, by HTTP, from the dead letters, after a replay.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use lanekeeper_queue::testing::ledger::digest;
use lanekeeper_queue::types::{AttemptError, DeadReason, ErrorClass, JobState, NewJob, Outcome, Spends};

use super::{Cx, Report};
use crate::client::leases;
use crate::stage::{Stage, work};

fn payloads() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "",
        "{",
        "[]",
        "{}",
        "[[],{}]",
        "null",
        "9223372036854775808",
        r#"{"n":9223372036854775808}"#,
        "1e400",
        "{\"a\":1,\"a\":2}",
        "\"\\ud800\"",
        "{\"ms\":0} ",
        "\u{feff}{}",
        "NaN",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    all.extend([vec![0], vec![0; 1000], vec![0xff, 0xfe, 0, 0x80], b"a\0b".to_vec(), b"\xc3\x28".to_vec()]);
    all.extend([b"*1\r\n$4\r\nPING\r\n".to_vec(), (0..=255).collect(), vec![0x94, 1, 0xa1, b'x']]);
    all
}

pub(super) async fn play(cx: Cx) -> Result<Report> {
    let mut stage = Stage::new(&[], |policy| policy.lease_ms = 60_000).await?;
    let (producer, worker, ops) = (stage.client("producer"), stage.client("worker"), stage.client("ops"));
    let wanted: HashMap<String, Vec<u8>> =
        payloads().into_iter().enumerate().map(|(n, payload)| (format!("p{n}"), payload)).collect();
    let jobs: Vec<NewJob> = wanted
        .iter()
        .map(|(id, payload)| NewJob { payload: payload.clone(), ..work(id.clone(), 0, 0) })
        .collect();
    producer.enqueue_all(&jobs).await?;
    let mut report = Report::default();
    report.figure("payloads", wanted.len());
    let mut changed = |place: &str, id: &str, seen: &[u8]| {
        let same = wanted.get(id).is_some_and(|payload| payload == seen);
        report.must(format!("{id} came back changed from {place}"), same);
    };
    let error =
        AttemptError { class: ErrorClass::Permanent, code: "Odd".into(), message: "\u{1f9ea}".into() };
    let dies = Outcome::Dead { reason: DeadReason::PermanentError, error, spends: Spends::Try };
    for round in ["its first claim", "its claim after a replay"] {
        let claimed = worker.claim(&["main"], 200).await?;
        anyhow::ensure!(claimed.len() == wanted.len(), "{} of {} claimed", claimed.len(), wanted.len());
        claimed.iter().for_each(|job| changed(round, &job.id, &job.payload));
        worker.settle(&leases(&claimed), &dies).await?;
        let ids: Vec<String> = wanted.keys().cloned().collect();
        for job in stage.queue.get(&ids, true).await?.into_iter().flatten() {
            anyhow::ensure!(job.state == JobState::Dead, "{} is {:?}", job.id, job.state);
            changed("the dead letters", &job.id, job.payload.as_deref().unwrap_or_default());
        }
        let replayed = ops.replay(&ids).await?;
        anyhow::ensure!(replayed.iter().all(|acted| acted.outcome == "replayed"), "{replayed:?}");
    }
    // The third time a real worker has them, by HTTP.
    let crew = stage.crew(&cx, 1, 10)?;
    stage.healed(Duration::from_secs(30));
    stage.drained(Duration::from_secs(30)).await?;
    crew.drain().await?;
    let judged = stage.judged(true).await?;
    for job in &judged.holdings.jobs {
        changed("the end", &job.id, job.payload.as_deref().unwrap_or_default());
    }
    let digests: std::collections::HashSet<u64> = wanted.values().map(|payload| digest(payload)).collect();
    let by_http: std::collections::HashSet<u64> = judged.calls.iter().map(|call| call.payload).collect();
    report.must("a payload changed on its way by HTTP", digests == by_http);
    report.must("not all succeeded", judged.verdict.succeeded == wanted.len() as u64);
    report.judged(&judged);
    Ok(report)
}
