//! Row 11: every reply of Redis takes half a second longer, one in twenty ends its connection instead. Nobody may lose a lease
//! for that.

use std::time::Duration;

use anyhow::Result;
use lanekeeper_queue::RedisOptions;
use lanekeeper_queue::takeover::LEASE_EXPIRED;
use tokio_util::sync::CancellationToken;

use super::{Cx, Report};
use crate::load::{Load, produce};
use crate::proxy::{Proxy, Weather};
use crate::stage::Stage;

pub(super) async fn play(cx: Cx) -> Result<Report> {
    let mut stage = Stage::new(&[], |policy| policy.lease_ms = 15_000).await?;
    let proxy = Proxy::start(stage.redis.port()).await?;
    let crew = stage.crew_by(&cx, proxy.url(), 3, 20)?;
    let stop = CancellationToken::new();
    let load = Load { rate: 50, seed: cx.seed, ms: (10, 3_000), mixed: false };
    let far = stage.client("producer").on(stage.connect(&proxy.url()).await?);
    let producer = tokio::spawn(produce(far, RedisOptions::new(proxy.url()), load, stop.clone()));
    crate::storm::leases_held(&stage, 10).await?;
    proxy.set(Weather { delay: Duration::from_millis(500), resets: 50, ..Weather::default() });
    tokio::time::sleep(Duration::from_secs(cx.size(60, 15) as u64)).await;
    stop.cancel();
    let produced = producer.await??;
    let (resets, replies) = proxy.cuts();
    proxy.set(Weather::default());
    stage.healed(Duration::from_secs(90));
    stage.drained(Duration::from_secs(90)).await?;
    crew.drain().await?;
    let judged = stage.judged(false).await?;

    let attempts = || judged.holdings.jobs.iter().flat_map(|job| &job.history);
    let code = |attempt: &&lanekeeper_queue::types::Attempt| {
        attempt.error.as_ref().is_some_and(|error| error.code == LEASE_EXPIRED)
    };
    let expired = attempts().filter(code).count();
    let handed_back = attempts().filter(|attempt| attempt.outcome == "release").count();
    let mut report = Report::default();
    report.figure("jobs", produced.jobs);
    report.figure("replies", replies);
    report.figure("connectionsReset", resets);
    report.figure("enqueuesRepeated", produced.repeated_calls);
    report.figure("claimsHandedBackAfterALostReply", handed_back);
    report.figure("leasesExpired", expired);
    report.must(format!("{expired} leases expired although their workers lived"), expired == 0);
    report.must("no connection was reset", resets > 0);
    report.judged(&judged);
    Ok(report)
}
