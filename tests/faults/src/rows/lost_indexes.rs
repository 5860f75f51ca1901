//! Row 13: each index of a queue with jobs in every state is deleted in turn. Sweeps put it back; nobody has to notice.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use lanekeeper_api::policy::{ConcurrencyKey, KeyPart, LanePolicy, QueuePolicy};
use lanekeeper_queue::testing::dump::keys_under;
use lanekeeper_queue::types::{AttemptError, DeadReason, ErrorClass, NewJob, Outcome, Spends, WorkerInfo};
use redis::aio::ConnectionManager;

use super::{Cx, Report};
use crate::client::{Client, leases};
use crate::stage::{Stage, work};

/// Longest repair.
const REPAIRED: Duration = Duration::from_secs(60);
/// What follows the queue's root in keys that are no index: records, pasts, leases, policy, counters and the like. A lost lease
/// is the loss of a right, not of an index.
const NO_INDEX: [&str; 8] = ["j", "a", "l", "p", "m", "c", "h", "g"];

pub(super) async fn play(cx: Cx) -> Result<Report> {
    let mut stage = Stage::new(&[], change).await?;
    stage.rules.fifo = None;
    let worker = stage.client("worker");
    let held = populate(&stage, &worker, cx.size(400, 60)).await?;
    // It serves an empty lane and sweeps, as any worker does.
    let crew = stage.crew_on(&cx, "idle", 1, 5)?;
    let beats = tokio::spawn(beat(worker.clone(), held));
    tokio::time::sleep(Duration::from_secs(1)).await;

    let mut conn = stage.queue.connection();
    let root = stage.queue.name().root();
    let mut report = Report::default();
    let (mut slowest, mut number) = (0, 0_u64);
    for key in keys_under(&mut conn, &root).await? {
        let suffix = &key[root.len() + 1..];
        let first = suffix.split(':').next().unwrap_or_default();
        if NO_INDEX.contains(&suffix)
            || first == "w"
            || (!cx.full && !["r", "d", "q", "s", "f"].contains(&first))
        {
            continue;
        }
        number += 1;
        let before = members(&mut conn, &key).await?;
        let _: redis::Value = redis::cmd("DEL").arg(&key).query_async(&mut conn).await?;
        let since = Instant::now();
        let mut back = false;
        while !back && since.elapsed() < REPAIRED {
            tokio::time::sleep(Duration::from_millis(50)).await;
            back = members(&mut conn, &key).await? == before;
        }
        let ms = u64::try_from(since.elapsed().as_millis())?;
        slowest = slowest.max(ms);
        report.figure(&format!("{suffix}RepairedMs"), if back { ms.into() } else { serde_json::Value::Null });
        report.must(format!("{suffix} ({} members) was not back after a minute", before.len()), back);
    }
    report.figure("indexesDeleted", number);
    report.figure("slowestRepairMs", slowest);
    beats.abort();
    crew.drain().await?;
    let judged = stage.judged(true).await?;
    report.judged(&judged);
    Ok(report)
}

fn change(policy: &mut QueuePolicy) {
    policy.lease_ms = 6_000;
    policy.job_types.values_mut().for_each(|entry| entry.key_for_ms = 3_600_000);
    policy.lanes.push(LanePolicy::new("idle", 10_000));
    let mut grouped = policy.job_types["work"].clone();
    grouped.concurrency_key =
        Some(ConcurrencyKey { key: vec![KeyPart::Path(vec!["v".into()])], limit: Some(1), rate_limit: None });
    policy.job_types.insert("grouped".into(), grouped);
}

/// Jobs in every state; the leases that are held.
async fn populate(stage: &Stage, worker: &Client, size: usize) -> Result<Vec<lanekeeper_queue::types::Held>> {
    let producer = stage.client("producer");
    let jobs =
        |prefix: &str| -> Vec<NewJob> { (0..size).map(|n| work(format!("{prefix}{n}"), 0, 0)).collect() };
    let error =
        AttemptError { class: ErrorClass::Permanent, code: "Broken".into(), message: "so be it".into() };
    for (prefix, outcome) in [
        ("done", Outcome::Success { result: vec![], follow_ups: vec![] }),
        ("dead", Outcome::Dead { reason: DeadReason::PermanentError, error, spends: Spends::Try }),
    ] {
        let mut keyed = jobs(prefix);
        keyed.iter_mut().step_by(2).for_each(|job| job.options.key = job.options.id.clone());
        producer.enqueue_all(&keyed).await?;
        loop {
            let held = leases(&worker.claim(&["main"], 100).await?);
            if held.is_empty() {
                break;
            }
            worker.settle(&held, &outcome).await?;
        }
    }
    let mut grouped = jobs("group");
    for (number, job) in grouped.iter_mut().enumerate() {
        job.options.job_type = "grouped".into();
        job.payload = format!(r#"{{"v":{}}}"#, number % 5).into_bytes();
    }
    producer.enqueue_all(&grouped).await?;
    producer.enqueue_all(&jobs("run")).await?;
    let mut held = Vec::new();
    while held.len() < size / 2 {
        held.extend(leases(&worker.claim(&["main"], 20).await?));
    }
    let mut waiting = jobs("wait");
    waiting.iter_mut().for_each(|job| job.options.key = job.options.id.clone());
    producer.enqueue_all(&waiting).await?;
    let mut later = jobs("later");
    later.iter_mut().for_each(|job| job.options.delay = Some(3_600_000));
    producer.enqueue_all(&later).await?;
    Ok(held)
}

/// Keeps the leases.
async fn beat(worker: Client, held: Vec<lanekeeper_queue::types::Held>) {
    let info = WorkerInfo {
        identity: worker.who.clone(),
        lanes: vec!["main".into()],
        slots: 1000,
        busy: 1000,
        draining: false,
        seen_ms: 0,
        started_ms: 0,
    };
    loop {
        // A beat that fails shows as a lease that is gone from its index.
        let _ = worker.queue.extend(&info, &held).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The members of a key, whatever it is.
async fn members(conn: &mut ConnectionManager, key: &str) -> Result<BTreeSet<String>> {
    let kind: String = redis::cmd("TYPE").arg(key).query_async(conn).await?;
    let mut ask = match kind.as_str() {
        "zset" => redis::cmd("ZRANGE"),
        "hash" => redis::cmd("HKEYS"),
        "set" => redis::cmd("SMEMBERS"),
        _ => return Ok(BTreeSet::new()),
    };
    ask.arg(key);
    if kind == "zset" {
        ask.arg(0).arg(-1);
    }
    Ok(ask.query_async(conn).await?)
}
