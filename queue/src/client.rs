//! The typed side of the function library.

use crate::name::QueueName;
use crate::types::*;
use lanekeeper_api::policy::QueuePolicy;

/// Errors of queue calls.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis answered with an error or could not be reached.
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// The queue has no policy yet.
    #[error("queue {0} has no policy in this Redis: apply a JobQueue first")]
    NoPolicy(QueueName),
    /// A reply that this version does not understand.
    #[error("unexpected reply of {function}: {what}")]
    Reply {
        /// The function.
        function: &'static str,
        /// What was wrong with it.
        what: String,
    },
}
/// Result of queue calls.
pub type Result<T> = std::result::Result<T, Error>;

/// How to reach a Redis.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// `redis://` or `rediss://`.
    pub url: String,
    /// PEM bundle that signs the server, for `rediss://`; absent: the web's roots.
    pub ca_pem: Option<Vec<u8>>,
}

/// One queue in one Redis. Cheap to clone; every clone shares one reconnecting connection.
#[derive(Clone)]
pub struct Queue {
    name: QueueName,
    conn: redis::aio::ConnectionManager,
}

#[allow(clippy::todo, missing_docs, unused_variables, clippy::unused_async)]
impl Queue {
    pub async fn connect(options: &RedisOptions, name: QueueName) -> Result<Self> { todo!() }
    pub fn name(&self) -> &QueueName { &self.name }
    /// The same connection, another queue.
    pub fn with_name(&self, name: QueueName) -> Self { Self { name, conn: self.conn.clone() } }
    pub fn connection(&self) -> redis::aio::ConnectionManager { self.conn.clone() }
    /// At most 200 jobs or 1 MiB a call; `enqueue_all` splits.
    pub async fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>> { todo!() }
    /// Settle what is done and take new jobs in one call. Either list may be empty.
    pub async fn settle_and_claim(&self, worker: &WorkerIdentity, done: &[Settlement], want: &ClaimRequest) -> Result<(Vec<Settled>, ClaimReply)> { todo!() }
    pub async fn settle(&self, worker: &WorkerIdentity, done: &[Settlement]) -> Result<Vec<Settled>> { todo!() }
    /// Heartbeat: shows the worker alive and extends its leases by the policy's lease.
    pub async fn extend(&self, worker: &WorkerInfo, held: &[Held]) -> Result<HeartbeatReply> { todo!() }
    /// The worker is gone: forget its heartbeat.
    pub async fn leave(&self, worker: &WorkerIdentity) -> Result<()> { todo!() }
    pub async fn sweep(&self, sweeper: &WorkerIdentity, limit: u32) -> Result<SweepReply> { todo!() }
    pub async fn configure(&self, policy: &QueuePolicy, adopt: bool) -> Result<Configured> { todo!() }
    /// The stored policy and its version.
    pub async fn policy(&self) -> Result<Option<(QueuePolicy, u64)>> { todo!() }
    pub async fn stats(&self) -> Result<Stats> { todo!() }
    pub async fn get(&self, ids: &[String], with_payload: bool) -> Result<Vec<Option<Job>>> { todo!() }
    pub async fn find(&self, find: &Find) -> Result<Page> { todo!() }
    pub async fn cancel(&self, ids: &[String]) -> Result<Vec<Acted>> { todo!() }
    /// Newest first.
    pub async fn dead_list(&self, job_type: Option<&str>, limit: u32, cursor: Option<&str>) -> Result<Page> { todo!() }
    pub async fn dead_replay(&self, ids: &[String], by: &str) -> Result<Vec<Acted>> { todo!() }
    pub async fn dead_delete(&self, ids: &[String], by: &str) -> Result<Vec<Acted>> { todo!() }
    /// Delete everything the queue has in Redis, in bounded steps (`deletionPolicy: Delete`).
    pub async fn destroy(&self) -> Result<u64> { todo!() }
}

// Blocks on a connection of its own (BLPOP), at most `timeout`: true when a token for one of `lanes` was taken.
// pub struct Waker; impl Waker { connect(options, name) ; async fn wait(&mut self, lanes, timeout) -> Result<bool> }
// pub async fn install_library(conn) -> Result<bool>   // loads or upgrades the function library
// pub async fn safety(conn) -> Result<Safety>          // persistence and maxmemory-policy: Safe | Unsafe{why} | Unknown{why}
// pub fn worker_acl(name, user, password) -> Vec<String> // ACL SETUSER arguments
// pub mod retry { pub fn next_retry(policy, tries, jitter: f64 in 0..1) -> u64; pub fn verdict(policy, job, error, now) -> Outcome }
