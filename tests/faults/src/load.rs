//! The producer: a steady stream of jobs with ids of its own, so that a call whose reply was lost can be repeated until
//! Redis says what became of it.

use std::time::Duration;

use lanekeeper_queue::types::NewJob;
use lanekeeper_queue::{Queue, QueueName, RedisOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::stage::work;

/// What is produced.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Jobs per second.
    pub rate: u64,
    /// Repeats an earlier run's jobs.
    pub seed: u64,
    /// What the handlers spend on a job, ms: least and most.
    pub ms: (u64, u64),
    /// Whether some jobs are long and some fail at first.
    pub mixed: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Produced {
    /// Jobs handed in.
    pub jobs: u64,
    /// Calls repeated because the reply was lost.
    pub repeated_calls: u64,
}

/// Enqueues until `stop`; every job is accepted in the end.
///
/// # Errors
/// When a connection cannot be made any more.
pub async fn produce(
    client: Client,
    options: RedisOptions,
    load: Load,
    stop: CancellationToken,
) -> anyhow::Result<Produced> {
    let mut client = client;
    let name = client.queue.name().clone();
    let mut random = StdRng::seed_from_u64(load.seed);
    let mut produced = Produced::default();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while !stop.is_cancelled() {
        tick.tick().await;
        let batch: Vec<NewJob> = (0..(load.rate / 50).max(1))
            .map(|_| {
                produced.jobs += 1;
                job(&mut random, load, produced.jobs)
            })
            .collect();
        while client.enqueue(&batch).await.is_err() {
            produced.repeated_calls += 1;
            client = client.on(connect(&options, &name).await?);
        }
    }
    Ok(produced)
}

/// A connection, as soon as there is one.
async fn connect(options: &RedisOptions, name: &QueueName) -> anyhow::Result<Queue> {
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        pause.tick().await;
        match Queue::connect(options, name.clone()).await {
            Ok(queue) => return Ok(queue),
            Err(error) if tokio::time::Instant::now() > deadline => return Err(error.into()),
            Err(_not_yet) => {}
        }
    }
}

/// Mixed: mostly short jobs, some long ones, some that fail once or twice before they succeed.
fn job(random: &mut StdRng, load: Load, number: u64) -> NewJob {
    let (least, most) = load.ms;
    let long = load.mixed && random.random_ratio(1, 50);
    let ms = if long { random.random_range(500..2000) } else { random.random_range(least..=most) };
    let fail = if load.mixed && random.random_ratio(1, 40) { random.random_range(1..=2) } else { 0 };
    work(format!("f{number}"), ms, fail)
}
