//! Row 12: the clock of Redis jumps an hour forth and back under real workers. It may cost time, never a job. Workers read no
//! wall clock at all (`SystemTime::now` stands in `clock.rs` files only, and the worker has none), so theirs cannot matter.
//!
//! The library reads a clock that this row sets. Times of such a run tell no order, so the ledger judges it by the final
//! records and the handlers' log alone (I1 to I4, I14), by tokens.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use lanekeeper_queue::library_source;
use lanekeeper_queue::testing::clock;
use lanekeeper_queue::testing::dump::dump;
use lanekeeper_queue::testing::ledger::history::{Act, Fate};
use lanekeeper_queue::testing::ledger::{Evidence, check};
use tokio_util::sync::CancellationToken;

use super::{Cx, Report};
use crate::clock::now_us;
use crate::load::{Load, produce};
use crate::stage::Stage;
use crate::zombie::haunt;

const HOUR_US: i64 = 3_600_000_000;

pub(super) async fn play(cx: Cx) -> Result<Report> {
    let mut stage = Stage::new(&[], |policy| {
        for entry in policy.job_types.values_mut() {
            // An hour that was jumped over is no reason to trim or to give up.
            entry.completed.for_ms = 604_800_000;
            entry.give_up_after_ms = 604_800_000;
        }
    })
    .await?;
    let source = clock::with_test_clock(library_source()).map_err(anyhow::Error::msg)?;
    let mut conn = stage.queue.connection();
    clock::load(&mut conn, &source).await?;
    tick(&mut conn, 0, Duration::ZERO).await?;
    let crew = stage.crew(&cx, 3, 20)?;
    let stop = CancellationToken::new();
    let load = Load { rate: 100, seed: cx.seed, ms: (10, 300), mixed: true };
    let producer = tokio::spawn(produce(stage.client("producer"), stage.redis.options(), load, stop.clone()));
    let zombie = tokio::spawn(haunt(stage.client("zombie"), stop.clone()));
    let jumps = [0, HOUR_US, 0, -HOUR_US, 0, HOUR_US, -HOUR_US, 0];
    for offset in jumps.iter().take(cx.size(8, 5)) {
        tick(&mut conn, *offset, Duration::from_secs(5)).await?;
    }
    stop.cancel();
    let produced = producer.await??;
    let draining = async {
        let haunting = zombie.await??;
        let drained = stage.drained(Duration::from_secs(60)).await?;
        crew.drain().await?;
        anyhow::Ok((haunting, drained))
    };
    // What was put off to a time that the clock left again is due when the clock is there for good.
    let mut steady = stage.queue.connection();
    let (haunting, drained) = tokio::select! {
        drained = draining => drained?,
        ticked = tick(&mut steady, HOUR_US + 60_000_000, Duration::from_secs(110)) => {
            ticked?;
            anyhow::bail!("nothing ended within two minutes after the last jump");
        }
    };
    let holdings = dump(&stage.queue, false).await?;
    let accepted = stage.history.events().into_iter().filter_map(|event| match event.act {
        Act::Enqueue { job, .. } if event.fate == Fate::Ok => job,
        Act::Duplicate { job } => Some(job),
        _ => None,
    });
    let calls = stage.effects.finish().await?;
    let evidence = Evidence {
        accepted: accepted.collect(),
        effects: calls.into_iter().map(|call| call.effect).collect(),
        jobs: holdings.jobs.into_iter().map(|job| (job.id.clone(), job)).collect::<HashMap<_, _>>(),
        succeeded_total: holdings.dump.succeeded_total.unwrap_or(0),
    };
    let verdict = check(&evidence);

    let mut report = Report::default();
    report.figure("jumps", cx.size(8, 5) - 1);
    report.figure("jobs", produced.jobs);
    report.figure("staleRefused", haunting.refused);
    report.figure("attemptsLostToTheJumps", verdict.crashes);
    report.must("a stale settlement was accepted", haunting.accepted == 0);
    report.must("not drained within a minute after the last jump", drained);
    report.must(crate::court::describe(&verdict), verdict.violations.is_empty());
    report.ledger = Some(verdict);
    Ok(report)
}

/// Lets the clock run for a while, this far from the true time.
async fn tick(conn: &mut redis::aio::ConnectionManager, offset_us: i64, long: Duration) -> Result<()> {
    let until = tokio::time::Instant::now() + long;
    loop {
        clock::set(conn, now_us().saturating_add_signed(offset_us)).await?;
        if tokio::time::Instant::now() >= until {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
