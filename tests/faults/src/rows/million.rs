//! Row 20: every call of the library in a queue of a million jobs, by Redis' own clock of its commands.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use lanekeeper_queue::types::{
    AttemptError, ClaimRequest, DeadFilter, DeadReason, ErrorClass, Find, Held, JobState, NewJob, Outcome,
    Spends, WorkerInfo,
};

use super::{Cx, Report};
use crate::client::{Client, leases};
use crate::stage::{Stage, work};

/// Longest call, µs, of a thousand.
const MOST_US: f64 = 5_000.0;
/// A call that Redis would call busy takes a thousand times as long.
const ROUNDS: usize = 1_000;

pub(super) async fn play(cx: Cx) -> Result<Report> {
    let stage = Stage::new(&["--latency-tracking-info-percentiles", "99.9", "100"], |policy| {
        policy.lease_ms = 600_000;
    })
    .await?;
    let jobs = cx.size(1_000_000, 20_000);
    let rounds = cx.size(ROUNDS, 50);
    fill(&stage, jobs).await?;
    let worker = stage.client("worker");
    let mut calls = Calls { stage: &stage, worker, rounds, slow: BTreeMap::new() };
    calls.producers().await?;
    calls.workers().await?;
    calls.operators().await?;

    let mut report = Report::default();
    report.figure("jobs", jobs);
    report.figure("callsEach", rounds);
    for (call, (p999, most)) in &calls.slow {
        report.figure(&format!("{call}P999Us"), *p999);
        report.figure(&format!("{call}MostUs"), *most);
        report.aim(format!("{call}: p99.9 {p999:.0} µs, wanted under {MOST_US:.0}"), *p999 < MOST_US);
        report.must(format!("{call}: {most:.0} µs is BUSY"), *most < MOST_US * 1_000.0);
    }
    Ok(report)
}

/// Ready ones by far, and some in every other state.
async fn fill(stage: &Stage, jobs: usize) -> Result<()> {
    let some = jobs / 20;
    super::dead_letters::kill_jobs(stage, some).await?;
    let worker = stage.client("filler");
    put(stage, "s", some, 0).await?;
    let done = Outcome::Success { result: b"{}".to_vec(), follow_ups: vec![] };
    loop {
        let held = leases(&worker.claim(&["main"], 200).await?);
        if held.is_empty() {
            break;
        }
        worker.settle(&held, &done).await?;
    }
    put(stage, "l", some, 3_600_000).await?;
    put(stage, "r", jobs - 3 * some, 0).await
}

async fn put(stage: &Stage, prefix: &str, count: usize, delay: u64) -> Result<()> {
    for from in (0..count).step_by(200) {
        let jobs: Vec<NewJob> = (from..(from + 200).min(count))
            .map(|n| {
                let mut job = work(format!("{prefix}{n}"), 0, 0);
                job.options.delay = (delay > 0).then_some(delay);
                job
            })
            .collect();
        stage.queue.enqueue(&jobs).await?;
    }
    Ok(())
}

struct Calls<'a> {
    stage: &'a Stage,
    worker: Client,
    rounds: usize,
    /// By call: p99.9 and most, µs.
    slow: BTreeMap<&'static str, (f64, f64)>,
}

impl Calls<'_> {
    async fn producers(&mut self) -> Result<()> {
        for (name, batch) in [("enqueue", 1), ("enqueue200", 200)] {
            self.start().await?;
            for round in 0..self.rounds / if batch > 1 { 5 } else { 1 } {
                let jobs: Vec<NewJob> =
                    (0..batch).map(|n| work(format!("{name}-{round}-{n}"), 0, 0)).collect();
                self.stage.queue.enqueue(&jobs).await?;
            }
            self.stop(name).await?;
        }
        Ok(())
    }

    async fn workers(&mut self) -> Result<()> {
        let queue = self.stage.queue.clone();
        let done = Outcome::Success { result: b"{}".to_vec(), follow_ups: vec![] };
        let retry = Outcome::Retry { delay_ms: 60_000, spends: Spends::Try, error: failure() };
        let dead =
            Outcome::Dead { reason: DeadReason::PermanentError, error: failure(), spends: Spends::Try };
        let names = [
            ("claim", "settle", 1, done),
            ("claim200", "settle200", 200, retry),
            ("claim20", "settle20Dead", 20, dead),
        ];
        for (claim, settle, slots, outcome) in names {
            let mut held = Vec::new();
            let rounds = self.rounds / if slots == 200 { 5 } else { 1 };
            self.start().await?;
            for _ in 0..rounds {
                let want = ClaimRequest { slots, lanes: vec!["main".into()], ..ClaimRequest::default() };
                let (_, reply) = queue.settle_and_claim(&self.worker.who, &[], &want).await?;
                held.push(leases(&reply.jobs));
            }
            self.stop(claim).await?;
            if slots == 20 {
                self.extend(&held).await?;
            }
            self.start().await?;
            for leases in &held {
                self.worker.settle(leases, &outcome).await?;
            }
            self.stop(settle).await?;
        }
        self.start().await?;
        for _ in 0..self.rounds {
            queue.sweep(&self.worker.who, 100).await?;
        }
        self.stop("sweep").await
    }

    async fn extend(&mut self, held: &[Vec<Held>]) -> Result<()> {
        let info = WorkerInfo {
            identity: self.worker.who.clone(),
            lanes: vec!["main".into()],
            slots: 1000,
            busy: 1000,
            draining: false,
            seen_ms: 0,
            started_ms: 0,
        };
        let all: Vec<Held> = held.iter().flatten().take(1000).cloned().collect();
        self.start().await?;
        for _ in 0..self.rounds {
            self.stage.queue.extend(&info, &all).await?;
        }
        self.stop("extend1000").await
    }

    async fn operators(&mut self) -> Result<()> {
        let queue = self.stage.queue.clone();
        let rounds = self.rounds;
        macro_rules! timed {
            ($name:literal, |$round:ident| $call:expr) => {
                self.start().await?;
                for $round in 0..rounds {
                    $call.await?;
                }
                self.stop($name).await?;
            };
        }
        let find = |state| Find { state: Some(state), limit: 100, ..Find::default() };
        timed!("stats", |_round| queue.stats());
        timed!("get", |round| queue.get(&[format!("r{round}")], true));
        timed!("position", |round| queue.position(&format!("r{}", round + 100_000)));
        timed!("findReady", |_round| queue.find(&find(JobState::Ready)));
        timed!("findSucceeded", |_round| queue.find(&find(JobState::Succeeded)));
        let all = DeadFilter::default();
        timed!("deadList", |_round| queue.dead_list(&all, 100, None));
        timed!("deadReplay", |round| queue.dead_replay(&[format!("d{round}")], "ops", ""));
        timed!("deadDiscard", |round| queue.dead_discard(&[format!("d{}", round + 1500)], "ops", ""));
        timed!("cancel", |round| queue.cancel(&[format!("l{round}")], "ops"));
        timed!("leasesOf", |_round| queue.leases_of(&self.worker.who));
        Ok(())
    }

    async fn start(&self) -> Result<()> {
        let mut reset = redis::cmd("CONFIG");
        Ok(reset.arg("RESETSTAT").query_async(&mut self.stage.queue.connection()).await?)
    }

    /// Reads how long the calls since `start` took.
    async fn stop(&mut self, name: &'static str) -> Result<()> {
        let mut ask = redis::cmd("INFO");
        let text: String = ask.arg("latencystats").query_async(&mut self.stage.queue.connection()).await?;
        let line = text
            .lines()
            .find(|line| line.contains("usec_fcall"))
            .with_context(|| format!("{name}: no figures"))?;
        let figure = |name: &str| -> Result<f64> {
            let after = line.split(name).nth(1).with_context(|| format!("{line}: no {name}"))?;
            Ok(after.trim_start_matches('=').split(',').next().unwrap_or_default().trim().parse()?)
        };
        self.slow.insert(name, (figure("p99.9")?, figure("p100")?));
        Ok(())
    }
}

fn failure() -> AttemptError {
    AttemptError { class: ErrorClass::Transient, code: "Failed".into(), message: "told to fail".into() }
}
