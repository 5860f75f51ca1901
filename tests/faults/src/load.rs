//! The producer: a steady stream of jobs with ids of its own, so that a call whose reply was lost can be repeated
//! until Redis says what became of it. A job counts as accepted only when a reply said so.

use std::time::Duration;

use lanekeeper_queue::client::RedisOptions;
use lanekeeper_queue::types::{EnqueueOptions, Enqueued, NewJob};
use lanekeeper_queue::{Queue, QueueName};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the replies said.
#[derive(Debug, Default)]
pub struct Accepted {
    /// Ids that a reply accepted, in order.
    pub ids: Vec<String>,
    /// Calls repeated because the reply was lost.
    pub repeated_calls: u64,
    /// Jobs that only the repeated call showed to be there already.
    pub found_by_repeat: u64,
}

/// Enqueues `rate` jobs per second until `stop`; publishes the number accepted so far.
pub async fn produce(
    options: RedisOptions,
    name: QueueName,
    rate: u64,
    seed: u64,
    progress: watch::Sender<u64>,
    stop: CancellationToken,
) -> anyhow::Result<Accepted> {
    let mut queue = connect(&options, &name, &stop).await?;
    let mut random = StdRng::seed_from_u64(seed);
    let mut accepted = Accepted::default();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let mut number = 0_u64;
    while !stop.is_cancelled() {
        tick.tick().await;
        let batch: Vec<NewJob> = (0..(rate / 50).max(1))
            .map(|_| {
                number += 1;
                job(&mut random, number)
            })
            .collect();
        let mut repeated = false;
        loop {
            match queue.enqueue(&batch).await {
                Ok(replies) => {
                    record(&mut accepted, &batch, &replies, repeated)?;
                    progress.send_replace(accepted.ids.len() as u64);
                    break;
                }
                Err(_lost) => {
                    accepted.repeated_calls += 1;
                    repeated = true;
                    queue = connect(&options, &name, &CancellationToken::new()).await?;
                }
            }
        }
    }
    Ok(accepted)
}

async fn connect(
    options: &RedisOptions,
    name: &QueueName,
    stop: &CancellationToken,
) -> anyhow::Result<Queue> {
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    loop {
        pause.tick().await;
        match Queue::connect(options, name.clone()).await {
            Ok(queue) => return Ok(queue),
            Err(error) if stop.is_cancelled() => return Err(error.into()),
            Err(_not_yet) => {}
        }
    }
}

/// Mostly short jobs, some long ones, some that fail once or twice before they succeed.
fn job(random: &mut StdRng, number: u64) -> NewJob {
    let ms =
        if random.random_ratio(1, 50) { random.random_range(500..2000) } else { random.random_range(10..60) };
    let fail = if random.random_ratio(1, 40) { random.random_range(1..=2) } else { 0 };
    NewJob {
        payload: format!(r#"{{"ms":{ms},"fail":{fail}}}"#).into_bytes(),
        options: EnqueueOptions {
            job_type: "work".into(),
            id: Some(format!("f{number}")),
            ..EnqueueOptions::default()
        },
    }
}

fn record(
    accepted: &mut Accepted,
    batch: &[NewJob],
    replies: &[Enqueued],
    repeated: bool,
) -> anyhow::Result<()> {
    anyhow::ensure!(replies.len() == batch.len(), "{} replies to {} jobs", replies.len(), batch.len());
    for reply in replies {
        match reply {
            Enqueued::Accepted { id, .. } => accepted.ids.push(id.clone()),
            Enqueued::Duplicate { id, .. } if repeated => {
                accepted.found_by_repeat += 1;
                accepted.ids.push(id.clone());
            }
            other => anyhow::bail!("a fresh id was answered with {other:?}"),
        }
    }
    Ok(())
}
