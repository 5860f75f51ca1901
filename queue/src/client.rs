//! The typed side of the function library.

use std::sync::Arc;

use redis::aio::ConnectionManager;
use redis::{Cmd, Value};

use crate::connection::Link;
use crate::gather::Gather;
use crate::library::is_function_missing;
use crate::name::QueueName;

pub use crate::acl::worker_acl;
pub use crate::connection::RedisOptions;
pub use crate::error::{Error, Result};
pub use crate::library::install_library;
pub use crate::safety::{Safety, safety};
pub use crate::wake::Waker;

/// A client for subscriptions and the like, with TLS and CA as the options say; connects nowhere yet.
///
/// # Errors
/// When the options are unusable.
pub fn open(options: &RedisOptions) -> Result<redis::Client> {
    options.client()
}

/// The queues that have a policy in this Redis, by name. Walks over all keys of the Redis, a bounded step at a time.
///
/// # Errors
/// When Redis cannot be reached or denies `SCAN`.
pub async fn queues(conn: &mut ConnectionManager) -> Result<Vec<QueueName>> {
    let mut found = std::collections::BTreeSet::new();
    let mut cursor = 0u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(QueueName::POLICY_KEYS).arg("COUNT").arg(1000);
        let (next, keys): (u64, Vec<String>) = scan.query_async(conn).await.map_err(Error::from_redis)?;
        found.extend(keys.iter().filter_map(|key| QueueName::from_policy_key(key)));
        cursor = next;
        if cursor == 0 {
            return Ok(found.into_iter().collect());
        }
    }
}

/// One queue in one Redis. Cheap to clone; every clone shares one reconnecting connection.
#[derive(Clone)]
pub struct Queue {
    name: QueueName,
    root: Arc<str>,
    link: Link,
    gather: Arc<Gather>,
}

impl Queue {
    /// Connects to the Redis of the queue. Needs neither library nor policy there yet.
    ///
    /// # Errors
    /// When the options are unusable or Redis cannot be reached.
    pub async fn connect(options: &RedisOptions, name: QueueName) -> Result<Self> {
        Ok(Self::linked(Link::connect(options).await?, name))
    }

    /// A queue on a connection that exists. It comes back after I/O errors only; `connect` makes one that comes back
    /// after every failure of a connection.
    #[must_use]
    pub fn on(conn: ConnectionManager, name: QueueName) -> Self {
        Self::linked(Link::on(conn), name)
    }

    fn linked(link: Link, name: QueueName) -> Self {
        Self { root: name.root().into(), name, link, gather: Arc::default() }
    }

    /// The queue's name.
    #[must_use]
    pub fn name(&self) -> &QueueName {
        &self.name
    }

    /// The same connection, another queue.
    #[must_use]
    pub fn with_name(&self, name: QueueName) -> Self {
        Self::linked(self.link.clone(), name)
    }

    /// The present shared connection; ask anew after a failure.
    #[must_use]
    pub fn connection(&self) -> ConnectionManager {
        self.link.get().0
    }

    pub(crate) fn gather(&self) -> &Gather {
        &self.gather
    }

    /// A field of one of the queue's hashes, where no function of the library tells it.
    pub(crate) async fn field(&self, hash: &str, field: &str) -> Result<Option<String>> {
        let (mut conn, number) = self.link.get();
        redis::cmd("HGET").arg(hash).arg(field).query_async(&mut conn).await.map_err(|error| {
            self.link.failed(number, &error);
            Error::from_redis(error)
        })
    }

    /// Starts a call of a function that writes.
    pub(crate) fn call(&self, function: &'static str) -> Call<'_> {
        Call::new(self, "FCALL", function)
    }

    /// Starts a call of a function that only reads.
    pub(crate) fn read(&self, function: &'static str) -> Call<'_> {
        Call::new(self, "FCALL_RO", function)
    }
}

/// One function call being put together.
pub(crate) struct Call<'a> {
    queue: &'a Queue,
    function: &'static str,
    cmd: Cmd,
}

impl<'a> Call<'a> {
    fn new(queue: &'a Queue, verb: &str, function: &'static str) -> Self {
        let mut cmd = redis::cmd(verb);
        cmd.arg(function).arg(1).arg(queue.root.as_bytes());
        Self { queue, function, cmd }
    }

    pub(crate) fn arg(mut self, value: impl redis::ToRedisArgs) -> Self {
        self.cmd.arg(value);
        self
    }

    /// Runs the call. Where the library is missing (a flushed or fresh Redis) it is loaded, when this user may, and the
    /// call runs again: nothing has happened the first time.
    pub(crate) async fn run(self) -> Result<Value> {
        let (mut conn, number) = self.queue.link.get();
        let first: redis::RedisResult<Value> = self.cmd.query_async(&mut conn).await;
        let outcome = match first {
            Err(error) if is_function_missing(&error) => {
                if install_library(&mut conn).await.map_err(|_| Error::NoLibrary)? {
                    tracing::info!(queue = %self.queue.name, "loaded the function library");
                }
                self.cmd.query_async(&mut conn).await
            }
            outcome => outcome,
        };
        outcome.map_err(|error| {
            self.queue.link.failed(number, &error);
            match error.code() {
                Some("NOPOLICY") => Error::NoPolicy(self.queue.name.clone()),
                Some("BADPOLICY") => Error::BadPolicy {
                    queue: self.queue.name.clone(),
                    why: error.detail().unwrap_or_default().to_owned(),
                },
                _ => Error::from_redis(error),
            }
        })
    }

    pub(crate) fn function(&self) -> &'static str {
        self.function
    }
}
