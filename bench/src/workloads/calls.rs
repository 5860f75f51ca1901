//! Every call with very many jobs in the queue, by the client's clock and by the server's.

use std::time::Instant;

use anyhow::{Result, ensure};
use lanekeeper_bench::jobs::{PAD, accepted, job};
use lanekeeper_bench::policy::{JOB_TYPE, LANE};
use lanekeeper_bench::produce;
use lanekeeper_queue::types::{
    AttemptError, ClaimRequest, Claimed, DeadReason, ErrorClass, Find, Held, JobState, NewJob, Outcome,
    Settled, Settlement, Spends, WorkerIdentity, WorkerInfo,
};
use lanekeeper_queue::{MAX_BATCH, MAX_JOBS_PER_CALL, Queue};

use super::at;
use crate::ours::Bench;
use crate::report::{Measured, Report};
use crate::slowlog;

/// Jobs of the small queue that the claim is compared with.
const FEW: usize = 1000;
/// Jobs on a page of `find` and `dead_list`.
const PAGE: u32 = 50;
/// Expired leases or due jobs that one sweep takes, as the worker asks for.
const SWEEP: u32 = 100;
const RANKS: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// `calls` calls of each function with about `jobs` waiting jobs (`calls`/4 of those that carry batches).
pub(crate) async fn measure(jobs: usize, calls: usize, report: &mut Report) -> Result<()> {
    let many = calls.min(jobs / 10).max(1);
    let batches = (calls / 4).min(jobs / 10 / MAX_BATCH).max(1);
    let bench = Bench::start().await?;
    slowlog::note_all(&mut bench.connection()).await?;

    produce::bulk(&bench.queue, FEW, PAD).await?;
    let mut not_shown = Report::default();
    let small = Run::new(&bench, FEW, &mut not_shown).claim(FEW / 2, 1).await?;
    bench.flush().await?;

    produce::bulk(&bench.queue, jobs, PAD).await?;
    let mut run = Run::new(&bench, jobs, report);
    run.enqueue(many, 1).await?;
    run.enqueue(batches, MAX_JOBS_PER_CALL).await?;
    run.read(many).await?;
    let large = run.claim(many, 1).await?;
    run.claim(batches, MAX_BATCH).await?;
    run.sweep(batches).await?;
    run.dead_list(many).await?;
    let ratio = Measured { ours: large, raw: small, raw_name: "1,000 waiting" };
    run.report.add(&format!("claim of one job, server p50, {jobs} waiting"), "ms", ratio);
    Ok(())
}

struct Run<'a> {
    bench: &'a Bench,
    worker: WorkerIdentity,
    /// Jobs in the queue, for the rows.
    jobs: usize,
    report: &'a mut Report,
}

impl<'a> Run<'a> {
    fn new(bench: &'a Bench, jobs: usize, report: &'a mut Report) -> Self {
        let (name, boot) = ("calls".into(), "calls".into());
        let worker = WorkerIdentity { name, boot, pool: String::new(), node: "here".into() };
        Self { bench, worker, jobs, report }
    }

    fn queue(&self) -> Queue {
        self.bench.queue.clone()
    }

    /// Makes `n` calls of a function one after another and adds their figures; answers the server's median, ms.
    async fn time(
        &mut self,
        name: &str,
        function: &str,
        n: usize,
        mut call: impl AsyncFnMut(usize) -> Result<()>,
    ) -> Result<f64> {
        let mut conn = self.bench.connection();
        slowlog::reset(&mut conn).await?;
        let mut client = Vec::with_capacity(n);
        for i in 0..n {
            let started = Instant::now();
            call(i).await?;
            client.push(started.elapsed().as_secs_f64() * 1e3);
        }
        client.sort_by(f64::total_cmp);
        let server = slowlog::durations(&mut conn, function).await?;
        for (whose, figures) in [("client", &client), ("server", &server)] {
            for (rank_name, rank) in RANKS {
                let row = format!("{} jobs: {name}, {whose} {rank_name}", self.jobs);
                self.report.add_alone(&row, "ms", at(figures, rank));
            }
        }
        Ok(at(&server, 0.5))
    }

    async fn enqueue(&mut self, n: usize, batch: usize) -> Result<()> {
        let queue = self.queue();
        let jobs: Vec<NewJob> = (0..batch).map(|i| job(i, 0.0, PAD)).collect();
        let call = async |_| accepted(&queue.enqueue(&jobs).await?);
        self.time(&of("enqueue", batch), "lk_enqueue", n, call).await?;
        Ok(())
    }

    async fn read(&mut self, n: usize) -> Result<()> {
        let queue = self.queue();
        let stats = async |_| {
            let stats = queue.stats().await?;
            ensure!(!stats.lanes.is_empty(), "stats without a lane");
            Ok(())
        };
        self.time("stats", "lk_stats", n, stats).await?;

        let (mut cursor, mut ids) = (None, Vec::new());
        let find = async |_| {
            let state = Some(JobState::Ready);
            let page =
                queue.find(&Find { state, limit: PAGE, cursor: cursor.take(), ..Find::default() }).await?;
            ids.extend(page.jobs.first().map(|job| job.id.clone()));
            cursor = page.cursor;
            Ok(())
        };
        self.time(&of("find, page", PAGE as usize), "lk_find", n, find).await?;

        ensure!(!ids.is_empty(), "no job was found");
        let get = async |i: usize| {
            let found = queue.get(&[ids[i % ids.len()].clone()], true).await?;
            ensure!(matches!(found.as_slice(), [Some(_)]), "a job that was found is not there");
            Ok(())
        };
        self.time("get", "lk_get", n, get).await?;
        Ok(())
    }

    /// Claims, extends and settles, `n` calls each; every tenth job becomes a dead letter. Answers the claim's median.
    async fn claim(&mut self, n: usize, batch: usize) -> Result<f64> {
        let (queue, worker) = (self.queue(), self.worker.clone());
        let want = ClaimRequest {
            slots: u32::try_from(batch)?,
            lanes: vec![LANE.into()],
            ..ClaimRequest::default()
        };
        let mut claimed: Vec<Vec<Claimed>> = Vec::with_capacity(n);
        let claim = async |_| {
            let (_, reply) = queue.settle_and_claim(&worker, &[], &want).await?;
            ensure!(reply.jobs.len() == batch, "{} of {batch} jobs were claimed", reply.jobs.len());
            claimed.push(reply.jobs);
            Ok(())
        };
        let median = self.time(&of("claim", batch), "lk_claim", n, claim).await?;

        let info = info(&worker, batch);
        let held: Vec<Vec<Held>> = claimed.iter().map(|jobs| jobs.iter().map(held).collect()).collect();
        let extend = async |i: usize| {
            let reply = queue.extend(&info, &held[i]).await?;
            ensure!(reply.lost.is_empty(), "leases are lost");
            Ok(())
        };
        self.time(&of("extend", batch), "lk_extend", n, extend).await?;

        let done: Vec<Vec<Settlement>> = claimed.into_iter().enumerate().map(settlements).collect();
        let settle = async |i: usize| {
            let settled = queue.settle(&worker, &done[i]).await?;
            ensure!(settled.iter().all(|s| *s == Settled::Done), "a settlement is stale");
            Ok(())
        };
        self.time(&of("settle", batch), "lk_settle", n, settle).await?;
        Ok(median)
    }

    /// Sweeps that find jobs to promote.
    async fn sweep(&mut self, n: usize) -> Result<()> {
        let queue = self.queue();
        let later: Vec<NewJob> = (0..SWEEP as usize)
            .map(|i| {
                let mut job = job(i, 0.0, PAD);
                job.options.delay = Some(1);
                job
            })
            .collect();
        for _ in 0..n {
            accepted(&queue.enqueue(&later).await?)?;
        }
        let (worker, mut promoted) = (self.worker.clone(), 0);
        let sweep = async |_| {
            promoted += queue.sweep(&worker, SWEEP).await?.promoted;
            Ok(())
        };
        self.time("sweep of 100 due jobs", "lk_sweep", n, sweep).await?;
        ensure!(promoted > 0, "the sweeps found nothing to do");
        Ok(())
    }

    async fn dead_list(&mut self, n: usize) -> Result<()> {
        let queue = self.queue();
        let mut cursor: Option<String> = None;
        let list = async |_| {
            let page = queue
                .dead_list(
                    &lanekeeper_queue::types::DeadFilter::of_type(Some(JOB_TYPE)),
                    PAGE,
                    cursor.as_deref(),
                )
                .await?;
            ensure!(!page.jobs.is_empty() || cursor.is_some(), "there is no dead letter");
            cursor = page.cursor;
            Ok(())
        };
        self.time(&of("dead_list, page", PAGE as usize), "lk_dead_list", n, list).await?;
        Ok(())
    }
}

fn of(name: &str, batch: usize) -> String {
    format!("{name} of {batch}")
}

fn info(worker: &WorkerIdentity, busy: usize) -> WorkerInfo {
    let slots = u32::try_from(busy).unwrap_or(u32::MAX);
    WorkerInfo {
        identity: worker.clone(),
        lanes: vec![LANE.into()],
        slots,
        busy: slots,
        draining: false,
        seen_ms: 0,
        started_ms: 0,
    }
}

fn held(job: &Claimed) -> Held {
    Held { id: job.id.clone(), token: job.token }
}

fn settlements((call, jobs): (usize, Vec<Claimed>)) -> Vec<Settlement> {
    let settle = |(i, job): (usize, Claimed)| Settlement {
        id: job.id,
        token: job.token,
        key: job.key,
        outcome: if (call + i) % 10 == 0 {
            dead()
        } else {
            Outcome::Success { result: Vec::new(), follow_ups: Vec::new() }
        },
        policy_version: 1,
        note: None,
    };
    jobs.into_iter().enumerate().map(settle).collect()
}

fn dead() -> Outcome {
    let error =
        AttemptError { class: ErrorClass::Permanent, code: "Bench".into(), message: "every tenth".into() };
    Outcome::Dead { reason: DeadReason::PermanentError, error, spends: Spends::Try }
}
