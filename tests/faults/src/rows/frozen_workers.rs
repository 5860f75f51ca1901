//! Row 2: workers stop beyond their leases, peers finish their jobs, then they go on. Real workers hold their tongue about most
//! of what they lost, so a hundred leases are held by a client without manners, which claims success for each. Then workers freeze
//! that are idle, and to whom jobs may be handed that they do not hear of.

use std::time::Duration;

use anyhow::Result;

use super::storm::count_stale;
use super::{Cx, Report};
use crate::client::Client;
use crate::crew::Crew;
use crate::policy::LEASE_MS;
use crate::stage::{Stage, work};
use crate::zombie::{Haunting, settle_when_superseded};

/// Workers that freeze, of six.
const FROZEN: usize = 3;
/// Jobs that come while they are idle.
const IDLE_JOBS: usize = 100;

/// Freezes workers that wait for jobs, and lets jobs come one by one; how many of them nobody did until half a lease later.
async fn freeze_idle(stage: &Stage, crew: &Crew, producer: &Client) -> Result<u64> {
    for place in 0..FROZEN {
        crew.freeze(place)?;
    }
    for n in 0..IDLE_JOBS {
        producer.enqueue_all(&[work(format!("i{n}"), 1, 0)]).await?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(LEASE_MS / 2)).await;
    let waited = stage.left().await?;
    for place in 0..FROZEN {
        crew.thaw(place)?;
    }
    Ok(waited)
}

pub(super) async fn play(cx: Cx) -> Result<Report> {
    let mut stage = Stage::new(&[], |_| {}).await?;
    let wanted = cx.size(100, 20);
    let producer = stage.client("producer");
    let jobs: Vec<_> = (0..wanted).map(|n| work(format!("z{n}"), 10, 0)).collect();
    producer.enqueue_all(&jobs).await?;
    let zombie = stage.client("zombie");
    let mut taken = Vec::new();
    while taken.len() < wanted {
        taken.extend(zombie.claim(&["main"], 10).await?);
    }
    // The peers that finish, and those that freeze with jobs of their own.
    let crew = stage.crew(&cx, 6, 20)?;
    let long: Vec<_> = (0..wanted).map(|n| work(format!("f{n}"), 3_000, 0)).collect();
    producer.enqueue_all(&long).await?;
    crate::storm::leases_held(&stage, (taken.len() + wanted / 2) as u64).await?;
    for place in 0..FROZEN {
        crew.freeze(place)?;
    }
    let mut haunting = Haunting { taken: taken.len() as u64, ..Haunting::default() };
    for job in &taken {
        settle_when_superseded(&zombie, job, &mut haunting).await;
    }
    tokio::time::sleep(Duration::from_millis(LEASE_MS)).await;
    for place in 0..FROZEN {
        crew.thaw(place)?;
    }
    stage.drained(Duration::from_secs(60)).await?;
    let waited = freeze_idle(&stage, &crew, &producer).await?;
    stage.healed(Duration::from_secs(60));
    stage.drained(Duration::from_secs(60)).await?;
    crew.drain().await?;
    let late = count_stale(stage.folder.path())?;
    let judged = stage.judged(false).await?;

    let mut report = Report::default();
    report.figure("staleSent", haunting.sent);
    report.figure("staleRefused", haunting.refused);
    report.figure("lateSettlementsOfWorkers", late);
    report.figure("heldByFrozenIdleWorkers", waited);
    report.must(
        format!("{waited} of {IDLE_JOBS} jobs waited for {FROZEN} idle workers that were frozen"),
        waited <= 5 * FROZEN as u64,
    );
    report.figure("attemptsLostWithFrozenWorkers", judged.verdict.crashes);
    let all = haunting.refused == wanted as u64 && haunting.accepted == 0;
    report.must(format!("{} of {wanted} stale settlements refused", haunting.refused), all);
    report.judged(&judged);
    Ok(report)
}
