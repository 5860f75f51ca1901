//! Row 5: the machine loses its power, and with it what the file had not been synced with. Nobody can read from outside what
//! was synced, so the worst that `everysec` allows is made: the file is cut to its length of a good second before the kill,
//! or a few bytes into a command after that. With `always` an answered call is synced, so nothing is cut but a torn tail.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use lanekeeper_queue::testing::ledger::history::{Act, Fate};
use lanekeeper_queue::types::Outcome;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;

use super::{Cx, Report};
use crate::client::leases;
use crate::clock::now_ms;
use crate::load::{Load, produce};
use crate::stage::Stage;

/// How far back the file is cut, ms.
const UNSYNCED_MS: u64 = 1_200;
/// Most that may be lost.
const LOSS_MS: u64 = 2_000;

pub(super) async fn play(cx: Cx) -> Result<Report> {
    let mut report = Report::default();
    let mut random = StdRng::seed_from_u64(cx.seed);
    let rounds = cx.size(10, 1);
    for sync in ["everysec", "always"] {
        let (mut worst_ms, mut lost) = (0, 0);
        for round in 0..rounds {
            let loss = one(&cx, sync, random.random_range(0..60), &mut report)
                .await
                .with_context(|| format!("{sync}, round {round}"))?;
            worst_ms = worst_ms.max(loss.0);
            lost += loss.1;
        }
        let most_ms = if sync == "always" { 0 } else { LOSS_MS };
        report.figure(&format!("{sync}WorstLossMs"), worst_ms);
        report.figure(&format!("{sync}JobsLost"), lost);
        report.must(format!("{sync}: {worst_ms} ms of accepted jobs lost"), worst_ms <= most_ms);
    }
    report.figure("rounds", rounds);
    Ok(report)
}

/// Loads, kills, cuts, restarts; how far back the loss reaches in ms, and how many accepted jobs it took.
async fn one(cx: &Cx, sync: &str, torn: u64, report: &mut Report) -> Result<(u64, usize)> {
    let mut stage = Stage::new(&["--appendfsync", sync], |policy| policy.lease_ms = 2_000).await?;
    let stop = CancellationToken::new();
    let load = Load { rate: 400, seed: cx.seed, ms: (0, 5), mixed: false };
    let producer = tokio::spawn(produce(stage.client("producer"), stage.redis.options(), load, stop.clone()));
    let file = newest_file(&stage)?;
    let mut lengths = Vec::new();
    let until = now_ms() + UNSYNCED_MS * 2;
    let worker = stage.client("worker");
    while now_ms() < until {
        lengths.push((now_ms(), std::fs::metadata(&file)?.len()));
        let jobs = worker.claim(&["main"], 3).await?;
        worker.settle(&leases(&jobs), &Outcome::Success { result: vec![], follow_ups: vec![] }).await?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let killed_ms = now_ms();
    stage.redis.kill();
    let whole = std::fs::metadata(&file)?.len();
    let unsynced = lengths.iter().rfind(|(at_ms, _)| *at_ms + UNSYNCED_MS <= killed_ms);
    let synced = match unsynced.filter(|_| sync != "always") {
        // A few bytes of the next command made it too.
        Some((_, length)) => (length + torn).min(whole),
        None => whole,
    };
    std::fs::OpenOptions::new().write(true).open(&file)?.set_len(synced)?;
    // What was answered before the kill may be heard after it, but not after this.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let heard_ms = now_ms();
    stage.redis.restart().await?;
    stage.queue = stage.connect(&stage.redis.url()).await?;
    stage.tidied().await?;
    stop.cancel();
    producer.await??;

    // What may be undone was told to nobody for certain: the ledger hears of it as of lost replies.
    let told = stage.history.events();
    if sync != "always" {
        stage.history.unsettle(killed_ms - LOSS_MS, heard_ms);
    }
    let client = stage.client("after");
    while stage.left().await? > 0 {
        let sweeper = stage.client("sweeper");
        sweeper.queue.sweep(&sweeper.who, 200).await?;
        let jobs = client.claim(&["main"], 100).await?;
        client.settle(&leases(&jobs), &Outcome::Success { result: vec![], follow_ups: vec![] }).await?;
        if now_ms() > killed_ms + 30_000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stage.healed(Duration::from_secs(30));
    stage.rules.fifo = None;
    // What the start after this one makes of the torn end counts.
    stage.reread().await?;
    let judged = stage.judged(false).await?;
    report.judged(&judged);
    let there: HashSet<&str> = judged.holdings.jobs.iter().map(|job| job.id.as_str()).collect();
    let lost: Vec<u64> = told
        .iter()
        .filter(|event| event.fate == Fate::Ok && event.at_ms <= heard_ms)
        .filter(
            |event| matches!(&event.act, Act::Enqueue { job: Some(id), .. } if !there.contains(id.as_str())),
        )
        .map(|event| killed_ms.saturating_sub(event.at_ms))
        .collect();
    Ok((lost.iter().copied().max().unwrap_or(0), lost.len()))
}

/// The part of the append-only file that Redis writes now.
fn newest_file(stage: &Stage) -> Result<PathBuf> {
    let folder = stage.redis.folder().join("appendonlydir");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".incr.aof"));
    files.sort();
    files.pop().context("no append-only file")
}
