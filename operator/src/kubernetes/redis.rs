//! Connections to Redis, shared by queues that use the same server in the same way.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use lanekeeper_queue::client::RedisOptions;
use lanekeeper_queue::{Queue, QueueName, client};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::timeout;

use super::names::checksum;
use super::vigil::InUse;

/// Longest one exchange with Redis may take in a reconcile, the connection included.
pub const REDIS_TIMEOUT: Duration = Duration::from_secs(5);

/// Why Redis could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// It refused or could not be reached.
    #[error(transparent)]
    Queue(#[from] client::Error),
    /// No answer in time.
    #[error("no answer within {REDIS_TIMEOUT:?}")]
    Timeout,
}

impl RedisError {
    /// The server answered and said no (a missing right, an unknown command): trying again will not help
    /// until someone changes something.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Queue(client::Error::Redis(error)) => {
                let away = error.is_io_error() || error.is_timeout() || error.is_connection_dropped();
                let passing = matches!(error.code(), Some("LOADING" | "BUSY" | "READONLY" | "MASTERDOWN"));
                !away && !passing
            }
            Self::Queue(_) => true,
            Self::Timeout => false,
        }
    }
}

/// Makes an exchange with Redis, for at most [`REDIS_TIMEOUT`].
///
/// # Errors
/// When Redis refuses, cannot be reached or does not answer in time.
pub async fn exchange<T, E>(future: impl Future<Output = Result<T, E>>) -> Result<T, RedisError>
where
    client::Error: From<E>,
{
    match timeout(REDIS_TIMEOUT, future).await {
        Ok(done) => Ok(done.map_err(client::Error::from)?),
        Err(_) => Err(RedisError::Timeout),
    }
}

type Cell = Arc<OnceCell<Queue>>;

/// Open connections by server and credentials.
#[derive(Default)]
pub struct Connections {
    open: Mutex<HashMap<String, (Cell, HashSet<QueueName>)>>,
}

impl Connections {
    /// The queue, over the connection its Redis already has, or a new one.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn queue(&self, options: &RedisOptions, name: &QueueName) -> Result<Queue, RedisError> {
        let cell = self.cell(options, name).await;
        let first = cell.get_or_try_init(|| exchange(Queue::connect(options, name.clone()))).await?;
        Ok(first.with_name(name.clone()))
    }

    /// A connection that a queue used before, whatever its spec says now.
    pub async fn last(&self, name: &QueueName) -> Option<Queue> {
        let open = self.open.lock().await;
        let (cell, _) = open.values().find(|(_, users)| users.contains(name))?;
        cell.get().map(|queue| queue.with_name(name.clone()))
    }

    /// Every open connection, and who uses it.
    pub(super) async fn in_use(&self) -> Vec<InUse> {
        let open = self.open.lock().await;
        let connected = open.iter().filter_map(|(server, (cell, users))| {
            let queue = cell.get()?.clone();
            Some(InUse { server: server.clone(), queue, users: users.iter().cloned().collect() })
        });
        connected.collect()
    }

    /// The queue is gone; a connection nobody uses is closed.
    pub async fn forget(&self, name: &QueueName) {
        let mut open = self.open.lock().await;
        open.retain(|_, (_, users)| {
            users.remove(name);
            !users.is_empty()
        });
    }

    async fn cell(&self, options: &RedisOptions, name: &QueueName) -> Cell {
        let key = fingerprint(options);
        let mut open = self.open.lock().await;
        open.retain(|other, (_, users)| {
            if *other != key {
                users.remove(name);
            }
            *other == key || !users.is_empty()
        });
        let (cell, users) = open.entry(key).or_default();
        users.insert(name.clone());
        cell.clone()
    }
}

/// Tells servers and credentials apart. The URL itself, with its password, is not kept as a key that might be logged.
fn fingerprint(options: &RedisOptions) -> String {
    let ca = options.ca_pem.as_deref().map(checksum).unwrap_or_default();
    format!("{}/{}/{ca}", checksum(options.url.as_bytes()), options.url.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> RedisOptions {
        RedisOptions { url: url.to_owned(), ca_pem: None }
    }

    #[tokio::test]
    async fn queues_of_one_server_share_and_the_last_one_closes() {
        let (connections, one, two) =
            (Connections::default(), QueueName::new("a", "one"), QueueName::new("a", "two"));
        let first = connections.cell(&options("redis://a"), &one).await;
        let second = connections.cell(&options("redis://a"), &two).await;
        assert!(Arc::ptr_eq(&first, &second));
        connections.forget(&one).await;
        assert_eq!(connections.open.lock().await.len(), 1);
        connections.forget(&two).await;
        assert_eq!(connections.open.lock().await.len(), 0);
    }

    #[tokio::test]
    async fn a_queue_that_moves_leaves_its_old_server() {
        let (connections, name) = (Connections::default(), QueueName::new("a", "one"));
        connections.cell(&options("redis://a"), &name).await;
        connections.cell(&options("redis://b"), &name).await;
        assert_eq!(connections.open.lock().await.len(), 1);
    }
}
