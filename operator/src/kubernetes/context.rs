//! What reconciles share: clients, caches, settings, and what they remember between two runs.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;
use lanekeeper_queue::QueueName;
use lanekeeper_queue::client::RedisOptions;

use super::events::Events;
use super::platform::Kubernetes;
use super::redis::Connections;
use super::stores::Stores;
use crate::autoscale::fleet::Fleet;
use crate::platform::PoolRef;
use crate::worker_pool::build::WorkerImage;

/// What the operator was started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Owner of every policy this operator writes: `kubernetes:<uid of kube-system>`.
    pub owner: String,
    /// The Redis of JobQueues without one of their own.
    pub default_redis: DefaultRedis,
    /// The generic worker image.
    pub worker_image: WorkerImage,
}

/// The Redis of JobQueues without one of their own.
#[derive(Debug, Clone, Default)]
pub struct DefaultRedis {
    /// Its admin URL, as given.
    pub url: Option<String>,
    /// A file with its admin URL.
    pub url_file: Option<PathBuf>,
    /// A file with its certificate authority.
    pub ca_file: Option<PathBuf>,
    /// Accept that it may lose jobs.
    pub allow_unsafe: bool,
}

impl DefaultRedis {
    /// How to reach it; `None` where the operator has none. Files are read anew, so that a rotated Secret counts.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub async fn options(&self) -> Result<Option<RedisOptions>, std::io::Error> {
        let url = match (&self.url, &self.url_file) {
            (Some(url), _) => url.trim().to_owned(),
            (None, Some(file)) => tokio::fs::read_to_string(file).await?.trim().to_owned(),
            (None, None) => return Ok(None),
        };
        let ca_pem = match &self.ca_file {
            Some(file) => Some(tokio::fs::read(file).await?),
            None => None,
        };
        Ok(Some(RedisOptions { url, ca_pem }))
    }
}

/// What reconciles share.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Writes Events.
    pub events: Events,
    /// What the operator was started with.
    pub settings: Settings,
    /// Caches.
    pub stores: Stores,
    /// Connections to Redis.
    pub connections: Connections,
    /// Runs of Redis whose files were seen to.
    pub restarts: lanekeeper_queue::Restarts,
    /// Scales Deployments.
    pub platform: Arc<Kubernetes>,
    /// The autoscaler's loops.
    pub fleet: Arc<Fleet<Kubernetes>>,
    /// What the fleet was told of.
    pub known: Known,
    /// When each object's status was last written, monotonic ms, by uid.
    pub written: Memory<u64>,
    /// Attempts to clean up, by uid of the JobQueue.
    pub cleanups: Memory<u32>,
    /// What was last applied for a pool, by its uid.
    pub applied: Memory<crate::worker_pool::apply::Applied>,
}

/// What the fleet was told of, so that it can be told when something is gone: a pool has no finalizer, and a watch
/// that was interrupted tells of no deletion.
#[derive(Debug, Default)]
pub struct Known {
    queues: Mutex<HashSet<QueueName>>,
    pools: Mutex<HashSet<PoolRef>>,
}

impl Known {
    /// The fleet knows this queue.
    pub fn queue(&self, name: &QueueName) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
    }

    /// The fleet knows this pool.
    pub fn pool(&self, pool: &PoolRef) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).insert(pool.clone());
    }

    /// The queues the fleet knows.
    pub fn queues(&self) -> Vec<QueueName> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Takes out the queues that `exists` does not know.
    pub fn take_gone_queues(&self, exists: impl Fn(&QueueName) -> bool) -> Vec<QueueName> {
        take_gone(&self.queues, exists)
    }

    /// Takes out the pools that `exists` does not know.
    pub fn take_gone_pools(&self, exists: impl Fn(&PoolRef) -> bool) -> Vec<PoolRef> {
        take_gone(&self.pools, exists)
    }
}

fn take_gone<T: Clone + Eq + Hash>(known: &Mutex<HashSet<T>>, exists: impl Fn(&T) -> bool) -> Vec<T> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let gone: Vec<T> = known.iter().filter(|item| !exists(item)).cloned().collect();
    for item in &gone {
        known.remove(item);
    }
    gone
}

/// What is remembered of objects between reconciles, by uid. Losing it costs a write too many, nothing else.
#[derive(Debug)]
pub struct Memory<T>(Mutex<HashMap<String, T>>);

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Memory<T> {
    /// What is known of an object.
    pub fn get(&self, uid: &str) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// Remembers.
    pub fn set(&self, uid: &str, value: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), value);
    }

    /// Forgets.
    pub fn remove(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_told_once() {
        let known = Known::default();
        known.pool(&PoolRef::new("apps", "a"));
        known.pool(&PoolRef::new("apps", "b"));
        let gone = known.take_gone_pools(|pool| pool.name == "a");
        assert_eq!(gone, [PoolRef::new("apps", "b")]);
        assert!(known.take_gone_pools(|pool| pool.name == "a").is_empty());
    }

    #[tokio::test]
    async fn a_rotated_url_file_is_read_anew() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let redis = DefaultRedis { url_file: Some(file.path().to_owned()), ..DefaultRedis::default() };
        for url in ["redis://a", "redis://b"] {
            std::fs::write(file.path(), format!("{url}\n")).unwrap();
            assert_eq!(redis.options().await.unwrap().unwrap().url, url);
        }
        assert!(DefaultRedis::default().options().await.unwrap().is_none());
    }
}
