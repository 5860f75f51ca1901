//! How this program reaches a queue.

use anyhow::Context;
use lanekeeper_queue::client::{Queue, RedisOptions};
use lanekeeper_queue::name::QueueName;

/// Connects to `namespace/name` in the Redis of this URL.
///
/// # Errors
/// When the name is not one, or Redis refuses.
pub async fn queue(redis: &str, name: &str) -> anyhow::Result<Queue> {
    let (namespace, queue) = name.split_once('/').context("a queue is named namespace/name")?;
    let options = RedisOptions { url: redis.to_owned(), ..RedisOptions::default() };
    Ok(Queue::connect(&options, QueueName::new(namespace, queue)).await?)
}
