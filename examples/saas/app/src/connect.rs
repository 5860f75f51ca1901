//! How this program reaches a queue.

use lanekeeper_queue::client::{Queue, RedisOptions};
use lanekeeper_queue::name::QueueName;

/// Connects to `namespace/name` in the Redis of this URL.
///
/// # Errors
/// When the name is not one, or Redis refuses.
pub async fn queue(redis: &str, name: &str) -> anyhow::Result<Queue> {
    let name: QueueName = name.parse().map_err(anyhow::Error::msg)?;
    Ok(Queue::connect(&RedisOptions::new(redis), name).await?)
}
