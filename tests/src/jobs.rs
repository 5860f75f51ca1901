//! A queue as applications see it: enqueued by `FCALL`, looked at through the typed client.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lanekeeper_queue::client::RedisOptions;
use lanekeeper_queue::types::{Job, JobState, Stats};
use lanekeeper_queue::{Queue, QueueName};
use redis::Value;

use crate::cluster::{Cluster, Forward};
use crate::{release, wait};

/// The most pairs that one call may carry.
const BATCH: usize = 200;

/// One queue in the release's Redis.
pub struct Jobs {
    queue: Queue,
    root: String,
    _forward: Forward,
}

impl Jobs {
    /// Connects to `namespace/name`, which needs no policy yet.
    ///
    /// # Errors
    /// When the release's Redis cannot be reached.
    pub async fn connect(cluster: &Cluster, namespace: &str, name: &str) -> Result<Self> {
        let (forward, url) = release::redis(cluster).await?;
        let name = QueueName::new(namespace, name);
        let options = RedisOptions { url, ..RedisOptions::default() };
        let queue = wait::until("a connection to Redis", Duration::from_secs(60), async || {
            Ok(Some(Queue::connect(&options, name.clone()).await?))
        })
        .await?;
        Ok(Self { queue, root: name.root(), _forward: forward })
    }

    /// The typed client.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Enqueues one job and returns its id.
    ///
    /// # Errors
    /// When it is not accepted.
    pub async fn enqueue(&self, job_type: &str, payload: &str) -> Result<String> {
        let ids = self.enqueue_all(job_type, std::slice::from_ref(&payload.to_owned())).await?;
        ids.into_iter().next().context("one pair, one reply")
    }

    /// Enqueues jobs of one type and returns their ids, in order.
    ///
    /// # Errors
    /// When one is not accepted.
    pub async fn enqueue_all(&self, job_type: &str, payloads: &[String]) -> Result<Vec<String>> {
        let options = serde_json::json!({"type": job_type}).to_string();
        let mut ids = Vec::with_capacity(payloads.len());
        for batch in payloads.chunks(BATCH) {
            let mut call = redis::cmd("FCALL");
            call.arg("lk_enqueue").arg(1).arg(&self.root);
            for payload in batch {
                call.arg(&options).arg(payload);
            }
            let replies: Vec<Vec<Value>> = call.query_async(&mut self.queue.connection()).await?;
            ensure!(replies.len() == batch.len(), "{} replies for {} pairs", replies.len(), batch.len());
            for reply in replies {
                ids.push(accepted(&reply)?);
            }
        }
        Ok(ids)
    }

    /// Enqueues one job as soon as the queue has a policy.
    ///
    /// # Errors
    /// When the policy does not come within two minutes.
    pub async fn enqueue_when_ready(&self, job_type: &str, payload: &str) -> Result<String> {
        wait::until("a policy in Redis", Duration::from_secs(120), async || {
            Ok(Some(self.enqueue(job_type, payload).await?))
        })
        .await
    }

    /// The queue's figures.
    ///
    /// # Errors
    /// When Redis cannot be read.
    pub async fn stats(&self) -> Result<Stats> {
        Ok(self.queue.stats().await?)
    }

    /// The jobs of those ids; a job that Redis does not know is an error, for that is a lost job.
    ///
    /// # Errors
    /// When one is missing or Redis cannot be read.
    pub async fn get_all(&self, ids: &[String]) -> Result<Vec<Job>> {
        let mut jobs = Vec::with_capacity(ids.len());
        for batch in ids.chunks(BATCH) {
            for (id, job) in batch.iter().zip(self.queue.get(batch, false).await?) {
                jobs.push(job.with_context(|| format!("job {id} was accepted and is nowhere"))?);
            }
        }
        Ok(jobs)
    }

    /// How many of those jobs are in which state.
    ///
    /// # Errors
    /// As for [`Self::get_all`].
    pub async fn states(&self, ids: &[String]) -> Result<BTreeMap<JobState, usize>> {
        let mut states = BTreeMap::new();
        for job in self.get_all(ids).await? {
            *states.entry(job.state).or_default() += 1;
        }
        Ok(states)
    }

    /// Waits until every one of those jobs has succeeded, and returns them.
    ///
    /// # Errors
    /// When one is lost or dead, or time is up.
    pub async fn all_succeed(&self, ids: &[String], limit: Duration) -> Result<Vec<Job>> {
        let what = format!("{} jobs succeeded", ids.len());
        wait::until_true(&what, limit, async || {
            let states = self.states(ids).await?;
            let done = states.get(&JobState::Succeeded).copied().unwrap_or_default();
            if done < ids.len() {
                bail!("states are {states:?}");
            }
            Ok(true)
        })
        .await?;
        self.get_all(ids).await
    }
}

/// The id of an accepted job.
fn accepted(reply: &[Value]) -> Result<String> {
    let text = |value: &Value| redis::from_redis_value_ref::<String>(value).unwrap_or_default();
    let [id, outcome, state] = reply else { bail!("a reply of three parts was expected: {reply:?}") };
    match text(outcome).as_str() {
        "queued" | "scheduled" => Ok(text(id)),
        other => bail!("not accepted: {other}: {}", text(state)),
    }
}
