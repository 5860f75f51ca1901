//! Waiting for work without polling.

use std::time::Duration;

use futures::StreamExt as _;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Value};

use crate::connection::RedisOptions;
use crate::error::{Error, Result};
use crate::name::QueueName;

/// Longest block. A token that is lost with a connection is put back by the next sweep.
const MAX_BLOCK: Duration = Duration::from_secs(20);
/// Shortest block that Redis is asked for; zero would mean for ever.
const MIN_BLOCK: Duration = Duration::from_millis(10);
/// How much later than Redis the client gives up.
const GRACE: Duration = Duration::from_secs(1);

/// Blocks on a connection of its own until a job of some lanes may be there.
pub struct Waker {
    client: Client,
    name: QueueName,
    conn: Option<MultiplexedConnection>,
}

impl Waker {
    /// Connects to the Redis of the queue.
    ///
    /// # Errors
    /// When the options are unusable or Redis cannot be reached.
    pub async fn connect(options: &RedisOptions, name: QueueName) -> Result<Self> {
        let mut waker = Self { client: options.client()?, name, conn: None };
        waker.conn = Some(waker.open().await?);
        Ok(waker)
    }

    /// Blocks at most `timeout` (and at most 20 s): true when a wake token of one of `lanes` was taken. Lanes earlier in the
    /// list go first. Dropping the future is safe: a token taken meanwhile is put back by the next sweep.
    ///
    /// # Errors
    /// When Redis cannot be reached; the next call connects anew.
    pub async fn wait(&mut self, lanes: &[String], timeout: Duration) -> Result<bool> {
        let timeout = timeout.clamp(MIN_BLOCK, MAX_BLOCK);
        if lanes.is_empty() {
            tokio::time::sleep(timeout).await;
            return Ok(false);
        }
        // Taken out for the time of the call, so that an abandoned or failed block never leaves a connection whose next
        // command would queue up behind it.
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.open().await?,
        };
        let mut block = redis::cmd("BLPOP");
        for lane in lanes {
            block.arg(self.name.wake_list(lane));
        }
        block.arg(timeout.as_secs_f64());
        match tokio::time::timeout(timeout + GRACE, block.query_async::<Value>(&mut conn)).await {
            Ok(Ok(reply)) => {
                self.conn = Some(conn);
                Ok(!matches!(reply, Value::Nil))
            }
            Ok(Err(error)) => Err(Error::from_redis(error)),
            Err(_) => Err(Error::Redis(redis::RedisError::from((
                redis::ErrorKind::Io,
                "no answer to a blocking wait in time",
            )))),
        }
    }

    async fn open(&self) -> Result<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(3)))
            .set_response_timeout(None);
        Ok(self.client.get_multiplexed_async_connection_with_config(&config).await?)
    }
}

/// Calls `heard` with every message of a channel, and once with none when it is subscribed: what was said before then is lost, as
/// is what is said after the connection ended, which is when this returns.
///
/// # Errors
/// When Redis cannot be reached or refuses the subscription.
pub async fn hear(
    options: &RedisOptions,
    channel: &str,
    mut heard: impl FnMut(Option<Vec<u8>>),
) -> Result<()> {
    let mut pubsub = options.client()?.get_async_pubsub().await?;
    pubsub.subscribe(channel).await?;
    heard(None);
    let mut messages = pubsub.on_message();
    while let Some(message) = messages.next().await {
        heard(Some(message.get_payload_bytes().to_vec()));
    }
    Ok(())
}
