//! Row 3: the call happens, its reply never arrives, and the connection is gone. Clients do then what Lanekeeper's own do:
//! producers repeat the call under the same ids, workers ask for the leases they hold, settlements are repeated.

use std::sync::Arc;

use anyhow::Result;
use lanekeeper_queue::types::{Enqueued, Outcome, Settled};
use lanekeeper_queue::{Queue, QueueName};

use super::{Cx, Report};
use crate::client::{Client, leases};
use crate::proxy::{Proxy, Weather};
use crate::stage::{Stage, work};

/// Clients at once.
const CLIENTS: usize = 8;

/// The way through the failing network.
struct Way {
    proxy: Proxy,
    name: QueueName,
}

impl Way {
    /// A fresh connection: the last one was cut.
    async fn far(&self, client: &Client) -> Result<Client> {
        let options = lanekeeper_queue::RedisOptions::new(self.proxy.url());
        Ok(client.on(Queue::connect(&options, self.name.clone()).await?))
    }
}

pub(super) async fn play(cx: Cx) -> Result<Report> {
    let mut stage = Stage::new(&[], |policy| policy.lease_ms = 60_000).await?;
    let each = cx.size(1000, 400) / CLIENTS;
    let name = stage.queue.name().clone();
    let way = Arc::new(Way { proxy: Proxy::start(stage.redis.port()).await?, name });
    let mut report = Report::default();

    way.proxy.set(Weather { cut: Some("lk_enqueue"), ..Weather::default() });
    let found = each_client(&stage, &way, |way, client| enqueues(way, client, each)).await?;
    report.figure("enqueueRepliesCut", way.proxy.cuts().0);
    report.figure("foundByRepeat", found);

    way.proxy.set(Weather { cut: Some("lk_claim"), ..Weather::default() });
    let before = way.proxy.cuts().0;
    let recovered: u64 = each_client(&stage, &way, |way, client| claims(way, client, each)).await?;
    report.figure("claimRepliesCut", way.proxy.cuts().0 - before);
    report.figure("leasesRecovered", recovered);
    let wanted = (each * CLIENTS) as u64;
    report.must(format!("{recovered} of {wanted} leases recovered"), recovered == wanted);
    let more: Vec<_> = (0..wanted).map(|n| work(format!("s{n}"), 0, 0)).collect();
    stage.client("producer").enqueue_all(&more).await?;

    way.proxy.set(Weather { cut: Some("lk_settle"), ..Weather::default() });
    let before = way.proxy.cuts().0;
    let stale = each_client(&stage, &way, |way, client| settles(way, client, each)).await?;
    report.figure("settleRepliesCut", way.proxy.cuts().0 - before);
    report.figure("repeatedSettlementsAnsweredStale", stale);

    stage.healed(std::time::Duration::ZERO);
    let left = stage.left().await?;
    report.must(format!("{left} jobs left"), left == 0);
    report.must(format!("{found} of {wanted} enqueues were found"), found == wanted);
    let judged = stage.judged(true).await?;
    let ids = judged.holdings.jobs.len() as u64;
    report.must(format!("{ids} jobs for {} ids", 2 * wanted), ids == 2 * wanted);
    report.must("a job succeeded twice or never", judged.verdict.succeeded == 2 * wanted);
    report.judged(&judged);
    Ok(report)
}

async fn each_client<F, W>(stage: &Stage, way: &Arc<Way>, act: F) -> Result<u64>
where
    F: Fn(Arc<Way>, Client) -> W,
    W: Future<Output = Result<u64>> + Send + 'static,
{
    let acts = (0..CLIENTS).map(|n| tokio::spawn(act(way.clone(), stage.client(&format!("c{n}")))));
    let mut sum = 0;
    for act in acts.collect::<Vec<_>>() {
        sum += act.await??;
    }
    Ok(sum)
}

fn done() -> Outcome {
    Outcome::Success { result: b"{}".to_vec(), follow_ups: vec![] }
}

/// How many of the jobs the repeated call found there already.
async fn enqueues(way: Arc<Way>, client: Client, each: usize) -> Result<u64> {
    let mut found = 0;
    for number in 0..each {
        let job = [work(format!("{}-{number}", client.who.name), 0, 0)];
        let lost = way.far(&client).await?.enqueue(&job).await;
        anyhow::ensure!(lost.is_err(), "the reply was to be cut: {lost:?}");
        found += u64::from(matches!(client.enqueue(&job).await?[..], [Enqueued::Duplicate { .. }]));
    }
    Ok(found)
}

/// Every reply to a claim is lost: the worker asks what it holds and does that.
async fn claims(way: Arc<Way>, client: Client, each: usize) -> Result<u64> {
    let mut recovered = 0;
    for _ in 0..each {
        let lost = way.far(&client).await?.claim(&["main"], 1).await;
        anyhow::ensure!(lost.is_err(), "the reply was to be cut");
        let held = client.recover().await?;
        recovered += held.len() as u64;
        client.settle(&held, &done()).await?;
    }
    Ok(recovered)
}

/// Every reply to a settlement is lost: the worker says it again.
async fn settles(way: Arc<Way>, client: Client, each: usize) -> Result<u64> {
    let mut stale = 0;
    for _ in 0..each {
        let held = leases(&client.claim(&["main"], 1).await?);
        anyhow::ensure!(held.len() == 1, "no job is left to settle");
        let lost = way.far(&client).await?.settle(&held, &done()).await;
        anyhow::ensure!(lost.is_err(), "the reply was to be cut: {lost:?}");
        stale += u64::from(client.settle(&held, &done()).await?[..] == [Settled::Stale]);
    }
    Ok(stale)
}
