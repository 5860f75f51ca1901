//! Row 14: a job whose handler kills its worker, each time. It dies for good after its crash budget, and the others' work goes
//! on meanwhile.

use std::time::{Duration, Instant};

use anyhow::Result;
use lanekeeper_api::policy::{ExecHandler, Handler};
use lanekeeper_queue::types::{DeadReason, EnqueueOptions, JobState, NewJob};

use super::{Cx, Report};
use crate::clock::now_ms;
use crate::crew::Crew;
use crate::stage::{Stage, work};

/// Crashes that a poisoned job may cost.
const BUDGET: u32 = 3;
/// Least share of the throughput that the others keep.
const SHARE: f64 = 0.8;

pub(super) async fn play(cx: Cx) -> Result<Report> {
    let mut stage = Stage::new(&[], |policy| {
        let mut poison = policy.job_types["work"].clone();
        poison.crash_budget = BUDGET;
        let command = ["/bin/sh", "-c", "kill -9 $PPID"].map(String::from).to_vec();
        poison.handler =
            Handler::Exec(ExecHandler { command, env: Default::default(), permanent_exit_codes: vec![] });
        policy.job_types.insert("poison".into(), poison);
        policy.job_types.get_mut("work").expect("it is there").crash_budget = 50;
    })
    .await?;
    let producer = stage.client("producer");
    let seconds = cx.size(25, 10) as u64;
    // Enough for all slots at all times, each job longer than what a call costs.
    let jobs: Vec<NewJob> = (0..seconds * 2 * 900).map(|n| work(format!("f{n}"), 100, 0)).collect();
    producer.enqueue_all(&jobs).await?;
    let mut crew = stage.crew(&cx, 6, 10)?;
    crate::storm::leases_held(&stage, 50).await?;

    let calm = measured(&mut crew, seconds).await?;
    let poisons: Vec<NewJob> = (0..cx.size(8, 2)).map(|n| poison(format!("poison{n}"))).collect();
    producer.enqueue_all(&poisons).await?;
    let ill = measured(&mut crew, seconds).await?;
    let ids: Vec<String> = (0..poisons.len()).map(|n| format!("poison{n}")).collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        crew.revive()?;
        let jobs = stage.queue.get(&ids, false).await?;
        let dead = jobs.iter().flatten().filter(|job| job.state == JobState::Dead).count();
        if dead == ids.len() || Instant::now() > deadline {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stage.healed(Duration::from_secs(120));
    stage.drained(Duration::from_secs(100)).await?;
    crew.revive()?;
    crew.drain().await?;
    // Handlers of the other type write nothing down, but none of them ever succeeds.
    let judged = stage.judged(false).await?;

    let done = |(from, to): (u64, u64)| {
        judged.calls.iter().filter(|call| call.effect.success && (from..to).contains(&call.at_ms)).count()
    };
    let (before, during) = (done(calm), done(ill));
    let share = during as f64 / before.max(1) as f64;
    let mut report = Report::default();
    report.figure("jobsPerSecondBefore", before as f64 / seconds as f64);
    report.figure("jobsPerSecondWithPoison", during as f64 / seconds as f64);
    report.figure("share", (share * 1000.0).round() / 1000.0);
    report.figure("poisonedJobs", ids.len());
    for job in judged.holdings.jobs.iter().filter(|job| ids.contains(&job.id)) {
        let right = job.dead_reason == Some(DeadReason::CrashBudgetExhausted) && job.crashes == BUDGET;
        report.must(format!("{}: {:?} after {} crashes", job.id, job.dead_reason, job.crashes), right);
    }
    report.aim(format!("{:.0} % of the throughput, wanted 80 %", share * 100.0), share >= SHARE);
    report.judged(&judged);
    Ok(report)
}

/// Lets workers work, and die, for a while: from when to when, ms.
async fn measured(crew: &mut Crew, seconds: u64) -> Result<(u64, u64)> {
    let from = now_ms();
    while now_ms() < from + seconds * 1000 {
        crew.revive()?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok((from, from + seconds * 1000))
}

fn poison(id: String) -> NewJob {
    let options = EnqueueOptions { job_type: "poison".into(), id: Some(id), ..EnqueueOptions::default() };
    NewJob { payload: b"{}".to_vec(), options }
}
