//! Row 16: payloads at the edges of what is taken, and one that is absurd.

use anyhow::Result;
use lanekeeper_queue::types::{Enqueued, NewJob};

use super::{Cx, Report};
use crate::stage::{Stage, work};

/// Most that Redis and a worker may have had resident, MiB.
const RESIDENT_MIB: u64 = 256;
const ABSURD: usize = 100 * 1024 * 1024;

pub(super) async fn play(cx: Cx) -> Result<Report> {
    let mut stage = Stage::new(&[], |_| {}).await?;
    let crew = stage.crew(&cx, 1, 5)?;
    let limit = usize::try_from(stage.policy.max_payload)?;
    let producer = stage.client("producer");
    let mut report = Report::default();
    for (id, bytes, taken) in [("none", 0, true), ("limit", limit, true), ("above", limit + 1, false)] {
        let job = NewJob { payload: vec![b' '; bytes], ..work(id.into(), 0, 0) };
        let answer = producer.enqueue(&[job]).await?.remove(0);
        let right = match &answer {
            Enqueued::Accepted { .. } => taken,
            Enqueued::Rejected { reason, .. } => !taken && reason == "payload-too-large",
            _ => false,
        };
        report.figure(&format!("bytes{bytes}"), format!("{answer:?}").split(' ').next().unwrap_or_default());
        report.must(format!("{bytes} bytes: {answer:?}"), right);
    }
    // Lanekeeper's own client does not even send it; somebody else's would.
    let absurd = NewJob { payload: vec![b' '; ABSURD], ..work("absurd".into(), 0, 0) };
    let own = stage.queue.enqueue_all(std::slice::from_ref(&absurd)).await?.remove(0);
    let told = matches!(&own, Enqueued::Rejected { reason, .. } if reason == "payload-too-large");
    report.must(format!("100 MB by our client: {own:?}"), told);
    let raw = stage.queue.enqueue(&[absurd]).await;
    let refused = match &raw {
        Ok(answers) => matches!(answers[..], [Enqueued::Rejected { .. }]),
        Err(error) => matches!(error, lanekeeper_queue::Error::Refused(_)),
    };
    let sentence = format!("{raw:?}");
    report.figure("bytes104857600", sentence.chars().take(160).collect::<String>());
    report.must(format!("100 MB by another client: {sentence}"), refused);
    stage.healed(std::time::Duration::from_secs(20));
    stage.drained(std::time::Duration::from_secs(20)).await?;
    for (who, pid) in [("redis", stage.redis.pid()), ("worker", crew.pid(0))] {
        let mib = most_resident_mib(pid.unwrap_or(0))?;
        report.figure(&format!("{who}PeakResidentMib"), mib);
        report.must(format!("{who} had {mib} MiB resident"), mib <= RESIDENT_MIB);
    }
    crew.drain().await?;
    let judged = stage.judged(true).await?;
    report.must("not exactly two jobs were taken", judged.verdict.succeeded == 2);
    report.judged(&judged);
    Ok(report)
}

/// The most memory that a process ever had resident.
fn most_resident_mib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    Ok(line.split_whitespace().next().unwrap_or("0").parse::<u64>()? / 1024)
}
